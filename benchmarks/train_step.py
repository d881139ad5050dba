"""Speed of training and inference: `python benchmarks/train_step.py`.

Every variant of a case is a process of its own; they take turns, the others are stopped meanwhile,
and the fastest turn of each counts, so that ratios are valid on a busy machine too.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tfface.cli import Parser, aligned, command
from tfface.errors import UserError
from tfface.methods import METHODS
from tfface.progress import progress

ROOT = Path(__file__).parents[1]
CASES = [f"demo/{name}" for name in METHODS]
PRECISIONS = ("float32", "mixed_bfloat16")


class Child:
    """A process that runs units of a case when told to, and is stopped in between.

    Args:
        name: Name of the variant.
        case: Arguments of the process, see `step_worker.py`.
        package: The working copy whose tfface it imports.

    Attributes:
        units: Weight of each unit, by name.
        notes: What else the process reports about itself.
        seconds: Seconds of the turns so far, by unit.
    """

    def __init__(self, name: str, case: dict, package: Path = ROOT):
        self.name, self._errors = name, tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, ROOT / "benchmarks" / "step_worker.py", json.dumps(case)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONPATH": str(package)},
        )
        self.notes = json.loads(self._answer())
        self.units: dict[str, float] = self.notes.pop("units")
        self.seconds: dict[str, list[float]] = {unit: [] for unit in self.units}
        self._process.send_signal(signal.SIGSTOP)

    def run(self, unit: str) -> float:
        """Runs a unit once; returns its seconds."""
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(f"{unit}\n")
            self._process.stdin.flush()
            return float(self._answer())
        except BrokenPipeError:
            return float(self._answer())  # Raises.
        finally:
            self._process.send_signal(signal.SIGSTOP)

    def _answer(self) -> str:
        if line := self._process.stdout.readline():
            return line
        self._process.wait()
        self._errors.seek(0)
        last = "".join(self._errors.readlines()[-20:])
        raise UserError(f"the process of {self.name!r} ended:\n{last}")

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()


@dataclass
class Result:
    """Seconds of a case.

    Attributes:
        weights: Weight of each unit, by name.
        seconds: Seconds of the fastest turn, by variant and unit.
        spread: Median over fastest turn, the largest of all variants and units.
    """

    weights: dict[str, float]
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    spread: float = 1.0


def measure(case: str, variants: list[tuple[str, dict, Path]], repeats: int) -> Result:
    """Runs the variants of a case in turns.

    Args:
        case: Name of the case.
        variants: Name, arguments and working copy of each, as for `Child`.
        repeats: Turns, after a first one that compiles and is not counted.
    """
    children: list[Child] = []
    try:
        with progress() as bar:
            task = bar.add_task(f"{case}: start", total=None)
            for variant in variants:
                children.append(Child(*variant))
            units = children[0].units
            total = (1 + repeats) * len(units) * len(children)
            bar.update(task, total=total, description=case)
            for turn in range(1 + repeats):
                for unit in units:
                    for child in children:
                        seconds = child.run(unit)
                        bar.advance(task)
                        if turn:
                            child.seconds[unit].append(seconds)
    finally:
        for child in children:
            child.close()
    fastest = {c.name: {unit: min(times) for unit, times in c.seconds.items()} for c in children}
    spread = max(statistics.median(t) / min(t) for c in children for t in c.seconds.values())
    return Result(units, fastest, spread)


def demo_table(case: str, result: Result) -> list[list[str]]:
    """Seconds a step by stage, of the whole training, and ratios to the last variant."""
    names = list(result.seconds)
    ratios = [f"{names[-1]} / {name}" for name in names[:-1]]
    rows = [[case, *names, *ratios]]
    weights = result.weights
    whole = {
        name: sum(weights[unit] * t for unit, t in seconds.items())
        for name, seconds in result.seconds.items()
    }
    for unit in weights:
        times = [result.seconds[name][unit] for name in names]
        rows.append([unit, *(f"{t:.4f} s" for t in times), *_ratios(times)])
    times = list(whole.values())
    rows.append(["all steps", *(f"{t / 60:.2f} min" for t in times), *_ratios(times)])
    return rows


def _ratios(times: list[float]) -> list[str]:
    return [f"{times[-1] / t:.2f}" for t in times[:-1]]


@command
def main(argv: list[str] | None = None) -> int:
    """Runs the cases; returns the exit status."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--cases", nargs="+", choices=CASES, default=CASES, metavar="CASE", help=", ".join(CASES)
    )
    parser.add_argument("--repeats", type=int, default=3, help="turns of each (%(default)s)")
    parser.add_argument(
        "--steps", type=int, default=30, help="steps in a turn of demo presets (%(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="precision of demo presets (default: that of the preset)",
    )
    parser.add_argument(
        "--against", metavar="FOLDER", help="another working copy of the repository to compare with"
    )
    arguments = parser.parse_args(argv)
    copies = {"tfface": ROOT}
    if arguments.against:
        other = Path(arguments.against).resolve()
        if not (other / "tfface" / "__init__.py").exists():
            raise UserError(f"--against {other}: expected a working copy with a folder tfface")
        copies[other.name] = other
    for case in arguments.cases:
        options = {"case": case, "precision": arguments.precision or "", "steps": arguments.steps}
        result = measure(
            case, [(n, options, path) for n, path in copies.items()], arguments.repeats
        )
        print(aligned(demo_table(case, result)), flush=True)
        print(f"median over fastest turn: at most {result.spread:.2f}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
