"""Speed of training and inference: `python benchmarks/train_step.py`.

Cases `paper/...` compare a step of the published networks on a fixed batch, and inference, with
PyTorch, in an environment that is created under `build`. Cases `demo/...` time the training of the
`demo` presets, data included. Every variant of a case is a process of its own; they take turns, the
others are stopped meanwhile, and the fastest turn of each counts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import Cells, block, markdown, processor, replace_block, threads
from step_worker import PEAK, SIDE, UNITS

from tfface.cli import Parser, aligned, command
from tfface.engine.run import write_text
from tfface.errors import UserError
from tfface.methods import METHODS
from tfface.progress import progress

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
TORCH = ROOT / "build" / "torch-venv"
MARK = "<!-- train-step -->"
CASES = [*(f"paper/{name}" for name in UNITS), *(f"demo/{name}" for name in METHODS)]
PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16"}  # Policies, and their names here.
Record = dict[str, Any]
"""A measured case: `commit`, `processor`, `versions`; `weights` of the units; `seconds` of the
fastest turn by variant and unit; `spread`, the largest median over fastest turn; and for `paper`
cases `flop` by unit and `difference`, the relative one between the losses of both sides."""


@dataclass(frozen=True)
class Variant:
    """What a child process runs.

    Attributes:
        name: Its name; the last word is the precision.
        command: The command line.
        environment: Environment variables.
    """

    name: str
    command: list[str | Path]
    environment: dict[str, str]


class Child:
    """A process that runs units of a case when told to, and is stopped in between.

    Attributes:
        name: Name of the variant.
        notes: What the process reports about itself; `units` are the weights of the units.
        seconds: Seconds of the turns so far, by unit.
    """

    def __init__(self, variant: Variant):
        self.name, self._errors = variant.name, tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            variant.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **variant.environment},
        )
        try:
            self.notes = json.loads(self._answer())
        except BaseException:
            self.close()
            raise
        self.seconds: dict[str, list[float]] = {unit: [] for unit in self.notes["units"]}
        self._process.send_signal(signal.SIGSTOP)

    def run(self, unit: str) -> float:
        """Runs a unit once; returns its seconds."""
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(f"{unit}\n")
        self._process.stdin.flush()
        seconds = float(self._answer())
        self._process.send_signal(signal.SIGSTOP)
        return seconds

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
        for file in (self._process.stdin, self._process.stdout, self._errors):
            file.close()


def measure(case: str, variants: list[Variant], repeats: int) -> Record:
    """Runs the variants of a case in turns.

    Args:
        case: Name of the case.
        variants: The variants.
        repeats: Turns, after a first one that compiles and is not counted.
    """
    children: list[Child] = []
    try:
        with progress() as bar:
            task = bar.add_task("", total=None)
            for variant in variants:
                bar.update(task, description=f"{case}: start {variant.name}")
                children.append(Child(variant))
            units = children[0].notes["units"]
            bar.update(task, total=(1 + repeats) * len(units) * len(children))
            for turn in range(1 + repeats):
                for unit in units:
                    for child in children:
                        bar.update(task, description=f"{case}: {child.name}, {unit}")
                        seconds = child.run(unit)
                        bar.advance(task)
                        if turn:
                            child.seconds[unit].append(seconds)
    finally:
        for child in children:
            child.close()
    notes = {name: value for child in children for name, value in child.notes.items()}
    return {
        "commit": commit(ROOT),
        "processor": processor(),
        "versions": {name: notes[name] for name in ("tensorflow", "torch") if name in notes},
        "weights": units,
        "seconds": {
            child.name: {unit: min(times) for unit, times in child.seconds.items()}
            for child in children
        },
        "spread": max(statistics.median(t) / min(t) for c in children for t in c.seconds.values()),
        **{name: notes[name] for name in ("flop", "difference") if name in notes},
    }


def commit(folder: Path) -> str:
    """The commit of a working copy, with "-dirty" if it has changes but for the results."""
    git = ["git", "-C", str(folder)]
    found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    files = ["--", ":/", ":(top,exclude)docs/performance.md"]
    files.append(":(top,exclude)benchmarks/performance.json")
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", *files], capture_output=True)
    name = found.stdout.strip() or "unknown"
    return f"{name}-dirty" if changed.returncode == 1 else name


def torch_python() -> Path:
    """Python of the environment with PyTorch, which is created at first."""
    python = TORCH / "bin" / "python"
    if not (TORCH / ".ready").exists():
        print(f"creating {TORCH} with PyTorch ...", flush=True)
        venv.create(TORCH, clear=True, with_pip=True)
        words = [python, "-m", "pip", "install", "--disable-pip-version-check", "torch", "numpy"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"PyTorch cannot be installed in {TORCH}:\n{done.stderr[-2000:]}")
        (TORCH / ".ready").touch()
    return python


def demo_variants(case: str, copies: dict[str, Path], precision: str, steps: int) -> list[Variant]:
    """The working copies by name."""
    options = json.dumps({"case": case, "precision": precision, "steps": steps})
    words = [sys.executable, HERE / "step_worker.py", options]
    return [Variant(name, words, {"PYTHONPATH": str(p)}) for name, p in copies.items()]


def paper_variants(
    case: str, copies: dict[str, Path], precisions: list[str], exchange: str
) -> list[Variant]:
    """The working copies, then PyTorch, as it is and compiled, in each precision."""
    variants = []
    for precision in precisions:
        for name, folder in copies.items():
            options = {"case": case, "precision": precision, "exchange": exchange}
            options["writes"] = not variants
            words = [sys.executable, HERE / "step_worker.py", json.dumps(options)]
            environment = {"PYTHONPATH": str(folder)}
            variants.append(Variant(f"{name} {PRECISIONS[precision]}", words, environment))
    forms = {"PyTorch": "eager", "compiled PyTorch": "compile"}
    if not shutil.which("g++"):
        print("compiled PyTorch is left out: torch.compile needs g++")
        del forms["compiled PyTorch"]
    for precision in precisions:
        for name, form in forms.items():
            options = {"case": case, "precision": precision, "exchange": exchange}
            options |= {"form": form, "threads": threads()}
            options["checks"] = precision == "float32" and form == "eager"
            words = [torch_python(), HERE / "torch_networks.py", json.dumps(options)]
            environment = {"TORCHINDUCTOR_CACHE_DIR": str(ROOT / "build" / "torch-cache")}
            variants.append(Variant(f"{name} {PRECISIONS[precision]}", words, environment))
    return variants


def merged(old: Record | None, new: Record) -> Record:
    """A new record with the variants of an old one of the same commit, processor and versions."""
    same = ("commit", "processor", "weights")
    if not old or any(old[name] != new[name] for name in same):
        return new
    return {
        **old,
        **new,
        "versions": {**old["versions"], **new["versions"]},
        "seconds": {**old["seconds"], **new["seconds"]},
        "spread": max(old["spread"], new["spread"]),
    }


def table(case: str, record: Record) -> Cells:
    """The table of a case."""
    return (demo_table if case.startswith("demo") else paper_table)(case, record)


def demo_table(case: str, record: Record) -> Cells:
    """Seconds a step by stage, of the whole training, and ratios to the other variants."""
    weights, seconds = record["weights"], record["seconds"]
    rows = [[case, *seconds, *(f"ratio to {name}" for name in [*seconds][1:])]]
    for unit in weights:
        times = [values[unit] for values in seconds.values()]
        rows.append([unit, *(f"{t:.4f} s" for t in times), *_ratios(times)])
    times = [sum(w * values[unit] for unit, w in weights.items()) for values in seconds.values()]
    rows.append(["all steps", *(f"{t / 60:.2f} min" for t in times), *_ratios(times)])
    return rows


def _ratios(times: list[float]) -> list[str]:
    """How many times as fast the first is as each of the others."""
    return [f"{t / times[0]:.2f}" for t in times[1:]]


def paper_table(case: str, record: Record) -> Cells:
    """Seconds by unit and variant, and how many times as fast tfface is as the fastest PyTorch."""
    seconds = {name: rows(record["weights"], s) for name, s in record["seconds"].items()}
    precisions = [p for p in PRECISIONS.values() if f"tfface {p}" in seconds]
    lines = [[case, *seconds, *(f"ratio {p}" for p in precisions)]]
    for unit in next(iter(seconds.values())):
        cells = [f"{values[unit]:.4g} s" for values in seconds.values()]
        for p in precisions:
            other = fastest_torch(seconds, p, unit)
            cells.append(f"{other / seconds[f'tfface {p}'][unit]:.2f}" if other else "")
        lines.append([unit, *cells])
    return lines


def fastest_torch(seconds: dict[str, dict[str, float]], precision: str, unit: str) -> float:
    """Seconds of the fastest PyTorch variant; 0 if there is none."""
    names = [n for n in seconds if n.endswith(f"PyTorch {precision}")]
    return min((seconds[name][unit] for name in names), default=0.0)


def rows(weights: dict[str, float], values: dict[str, float]) -> dict[str, float]:
    """Seconds or FLOP as they are shown: without the matrix product, and with an iteration.

    Args:
        weights: Weight of each unit in an iteration.
        values: Values by unit; of two training steps, the second contains the first.
    """
    steps = [unit for unit, weight in weights.items() if weight]
    shown = {unit: values[unit] for unit in weights if unit != PEAK}
    if len(steps) < 2:
        return shown
    first, both = steps
    iteration = sum(weights[unit] * values[unit] for unit in steps)
    ratio = f"{sum(weights.values()):.0f} : {weights[both]:.0f}"
    generator = {"generator step": shown.pop(both) - shown[first]}
    return {first: shown.pop(first), **generator, f"iteration, {ratio}": iteration, **shown}


def roofline(records: dict[str, Record]) -> Cells:
    """Share of the peak by case, unit and precision; the peak is that of a matrix product."""
    names = [f"{who} {p}" for p in PRECISIONS.values() for who in ("tfface", "PyTorch")]
    lines = [["case, unit", "GFLOP", *names]]
    for case, record in records.items():
        if "flop" not in record:  # Only bfloat16 was measured.
            continue
        seconds = record["seconds"]
        shown = {name: rows(record["weights"], values) for name, values in seconds.items()}
        peaks = {p: peak(seconds, p) for p in PRECISIONS.values()}
        cells = [f"{peaks[name.split()[1]] / 1e9:.0f}" for name in names]
        lines.append([f"{case}, peak in GFLOP/s", "", *cells])
        for unit, count in rows(record["weights"], record["flop"]).items():
            cells = []
            for name in names:
                who, precision = name.split()
                time = (
                    fastest_torch(shown, precision, unit)
                    if who == "PyTorch"
                    else shown.get(name, {}).get(unit)
                )
                cells.append(f"{100 * count / time / peaks[precision]:.0f} %" if time else "")
            lines.append([f"{case}, {unit}", f"{count / 1e9:.1f}", *cells])
    return lines


def peak(seconds: dict[str, dict[str, float]], precision: str) -> float:
    """FLOP per second of the fastest matrix product in a precision; 0 if there is none."""
    times = [v[PEAK] for name, v in seconds.items() if name.split()[-1] == precision]
    return 2 * SIDE**3 / min(times) if times else 0.0


def tables(records: dict[str, Record]) -> str:
    """The tables of all records, in Markdown."""
    paper = {case: record for case, record in records.items() if case.startswith("paper")}
    demo = {case: record for case, record in records.items() if case.startswith("demo")}
    parts = []
    if paper:
        parts += ["## Beside PyTorch", *(_section(case, record) for case, record in paper.items())]
        if any("flop" in record for record in paper.values()):
            parts += ["## Share of the roofline", markdown(roofline(paper))]
    if demo:
        parts += ["## Training of `demo` presets"]
        parts += [_section(case, record) for case, record in demo.items()]
    return "\n\n".join(parts)


def _section(case: str, record: Record) -> str:
    versions = {"tensorflow": "TensorFlow", "torch": "PyTorch"}
    used = [f"{versions[name]} {version}" for name, version in record["versions"].items()]
    facts = [f"Commit {record['commit']}", record["processor"], *used]
    facts.append(
        f"the median turn takes at most {record['spread']:.2f} times as long as the fastest"
    )
    if "difference" in record:
        facts.append(f"losses of both sides differ by {record['difference']:.1e}")
    return f"{markdown(table(case, record))}\n\n{'; '.join(facts)}."


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
        choices=[*PRECISIONS],
        help="one precision (default: both; of demo presets that of the preset)",
    )
    parser.add_argument(
        "--against", metavar="FOLDER", help="another working copy of the repository to compare with"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="update benchmarks/performance.json and docs/performance.md",
    )
    arguments = parser.parse_args(argv)
    for name in ("repeats", "steps"):
        if (value := getattr(arguments, name)) < 1:
            raise UserError(f"--{name} is {value}: expected at least 1")
    copies = {"tfface": ROOT}
    if arguments.against:
        other = Path(arguments.against).resolve()
        if not (other / "tfface" / "__init__.py").exists():
            raise UserError(f"--against {other}: expected a working copy with a folder tfface")
        copies[commit(other)] = other
    # Children that are stopped would otherwise outlive the command.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    page, file = ROOT / "docs" / "performance.md", HERE / "performance.json"
    if arguments.write:
        block(page, MARK)  # Raises before the work begins.
    for case in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            if case.startswith("demo"):
                variants = demo_variants(case, copies, arguments.precision or "", arguments.steps)
            else:
                precisions = [arguments.precision] if arguments.precision else [*PRECISIONS]
                variants = paper_variants(case, copies, precisions, f"{folder}/exchange.npz")
            record = measure(case, variants, arguments.repeats)
        print(aligned(table(case, record)), flush=True)
        print(f"median over fastest turn: at most {record['spread']:.2f}\n", flush=True)
        if arguments.write:
            _save(file, page, case, record)
    return 0


def _save(file: Path, page: Path, case: str, record: Record) -> None:
    records = json.loads(file.read_text()) if file.exists() else {}
    records[case] = merged(records.get(case), record)
    records = {name: records[name] for name in CASES if name in records}
    write_text(file, json.dumps(records, indent=1) + "\n")
    replace_block(page, MARK, tables(records))


if __name__ == "__main__":
    sys.exit(main())
