"""Effects of faults on runs and studies: `python benchmarks/faults.py`, or `make faults`.

Interrupts small trainings with every listed fault, continues them, and compares them with
undisturbed trainings. Writes `docs/faults.md`. Takes about an hour on two CPU cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tfface.cli import Parser, command
from tfface.engine.run import checkpoint_files, write_text
from tfface.methods import METHODS

ROOT = Path(__file__).parents[1]
KILLS = 20
STEPS = 200
# Metrics are averaged over 4 steps, and checkpoints fall between these intervals.
OPTIONS = {"train.steps": STEPS, "train.log_every": 4, "train.save_every": 3}
TOLERANCE = 1e-3
SEEDS = random.Random(0)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
Row = tuple[str, str, str]  # fault, behaviour, data loss


class Training:
    """A training of a tiny preset in its own process.

    Args:
        method: The method's name.
        path: The run folder.
        **options: Training options, with `_` in place of the first dot.
    """

    def __init__(self, method: str, path: Path, **options: object):
        values = {**OPTIONS, **{k.replace("_", ".", 1): v for k, v in options.items()}}
        words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
        self.path, self.log = path, path.parent / f"{path.name}.log"
        self._words = [sys.executable, "-m", "tfface.train", method, "--preset", "tiny", *words]

    def start(self, *words: str) -> subprocess.Popen:
        """Starts or continues the training."""
        with open(self.log, "w") as log:
            return subprocess.Popen(
                [*self._words, "--run", str(self.path), *words], stdout=log, stderr=log, cwd=ROOT
            )

    def finish(self, *words: str) -> int:
        """Runs the training to its end; returns the exit status."""
        return self.start(*words).wait()

    def wait(self, step: int, process: subprocess.Popen) -> None:
        """Waits until a step has been logged, or the process has ended."""
        while process.poll() is None and self.steps()[-1:] < [step]:
            time.sleep(0.01)

    def metrics(self) -> list[dict]:
        """The logged metrics, without the speed."""
        file = self.path / "metrics.jsonl"
        rows = []
        for line in file.read_text().splitlines() if file.exists() else []:
            with contextlib.suppress(ValueError):  # a line that is being written
                rows.append({k: v for k, v in json.loads(line).items() if "per_second" not in k})
        return rows

    def steps(self) -> list[int]:
        """Steps with logged metrics."""
        return [line["step"] for line in self.metrics()]

    def checkpoints(self) -> list[int]:
        """Steps with checkpoints."""
        return sorted(checkpoint_files(self.path / "checkpoints"))

    def message(self, pattern: str) -> str:
        """The part of the log that matches, without the folder; if none does, the last line."""
        text = self.log.read_text()
        match = re.search(pattern, text)
        message = match[0] if match else (text.strip().splitlines() or ["nothing"])[-1]
        return message.replace(str(self.path.parent) + "/", "")


def compared(continued: Training, undisturbed: Training) -> str:
    """Describes how the metrics of two trainings differ."""
    a, b = continued.metrics(), undisturbed.metrics()
    if a == b:
        return "nothing: all metrics are bit-identical to the undisturbed run"
    if [line.keys() for line in a] != [line.keys() for line in b]:
        return f"**metrics are missing**: {len(a)} lines of {len(b)}"
    pairs = [(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x]
    greatest = max(abs(x - y) / max(abs(x), abs(y), 1e-3) for x, y in pairs)
    if greatest > TOLERANCE:
        return f"**metrics differ** by at most {greatest:.1e}, none is missing"
    return f"nothing: no metrics are missing; they differ by at most {greatest:.1e}"


def kills(method: str, folder: Path, deterministic: bool) -> Row:
    """`kill -9` at random moments, followed by a continuation each time."""
    options = {"train_deterministic": deterministic}
    whole, run = (Training(method, folder / name, **options) for name in ("whole", "killed"))
    begin = time.monotonic()
    process = whole.start()
    whole.wait(4, process)
    startup = time.monotonic() - begin
    process.wait()
    reached = []
    for _ in range(KILLS):
        process = run.start()
        # Imports and tracing take most of the time; half of the kills aim at the training loop.
        loop = SEEDS.random() < 0.5
        if loop:
            before = run.steps()[-1:] or [0]
            run.wait(min(before[0] + 4, STEPS), process)
            time.sleep(SEEDS.uniform(0.0, 0.5))
        else:
            time.sleep(SEEDS.uniform(0.0, startup))
        process.kill()
        process.wait()
        reached.append((run.checkpoints() or [0])[-1])
    status = run.finish()
    mode = "`--train.deterministic true`" if deterministic else "not deterministic"
    steps = ", ".join(map(str, reached))
    behaviour = f"{KILLS} kills, at checkpoints {steps}; then status {status}"
    return f"`kill -9`, {method}, {mode}", behaviour, compared(run, whole)


def signals(folder: Path, whole: Training) -> list[Row]:
    """Signals that request a stop."""
    rows = []
    for number in SIGNALS:
        run = Training("sargan", folder / number.name)
        process = run.start()
        run.wait(8, process)
        process.send_signal(number)
        status, step = process.wait(), run.checkpoints()[-1]
        message = run.message(r"stopped at step \d+")
        run.finish()
        behaviour = f'status {status}, "{message}", checkpoint of step {step}'
        stopped = status == 128 + number
        lost = compared(run, whole) if stopped else "**not stopped**"
        rows.append((number.name, behaviour, lost))
    return rows


def full_disk(folder: Path, whole: Training) -> list[Row]:
    """A file system that becomes full, and is enlarged afterwards."""
    rows = []
    for what, options, filler in (
        ("saving", {"train_keep": 99}, False),
        ("logging and previewing", {"train_preview_every": 2, "train_save_every": 1000}, True),
    ):
        disk = folder / what.replace(" ", "-")
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)])
        if mounted.returncode:
            rows.append((f"disk full while {what}", "not run: file systems cannot be mounted", ""))
            continue
        try:
            run = Training("sargan", disk / "run", **options)
            run.log = folder / f"{disk.name}.log"
            process = run.start()
            run.wait(8, process)
            if filler:
                with contextlib.suppress(OSError), open(disk / "filler", "wb") as file:
                    file.write(b"x" * 2**22)
            status = process.wait()
            message = run.message(r"cannot be written: [^/]*?(no checkpoint|kept)")
            warned = run.message(r"the preview at step \d+ failed") if filler else ""
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            run.finish()
            behaviour = f'status {status}, "{message}"' + (f', after "{warned}"' if warned else "")
            rows.append((f"disk full while {what}", behaviour, compared(run, whole)))
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return rows


def damaged(folder: Path, whole: Training) -> list[Row]:
    """Damaged newest checkpoints."""
    rows = []
    for how in ("cut in half", "one byte changed", "overwritten"):
        run = Training("sargan", folder / how.replace(" ", "-"))
        shutil.copytree(whole.path, run.path)
        file = run.path / "checkpoints" / f"step-{run.checkpoints()[-1]}.npz"
        data = bytearray(file.read_bytes())
        if how == "one byte changed":
            data[data.index(b"nets/generator/0.npy") + 250] ^= 255
        file.write_bytes(
            {"cut in half": data[: len(data) // 2], "overwritten": b"?"}.get(how, data)
        )
        status = run.finish()
        message = run.message(r"using the checkpoint of step \d+ instead")
        behaviour = f'status {status}, "{message}"'
        rows.append((f"newest checkpoint {how}", behaviour, compared(run, whole)))
    return rows


def not_finite(folder: Path) -> Row:
    """A loss that becomes NaN or infinite."""
    run = Training("sargan", folder / "nan", adam_learning_rate=1e30)
    status = run.finish()
    message = run.message(r"training diverged at step \d+: term '\w+' of phase '\w+' is \w+")
    command_line = run.log.read_text().strip().rpartition("to repeat the step: ")[2]
    repeated = subprocess.run(command_line, shell=True, cwd=ROOT, capture_output=True, text=True)
    first = repeated.stdout.splitlines()[0].split() if repeated.stdout else ["nothing"]
    kept = ", ".join(map(str, run.checkpoints())) or "none: it was step 2"
    behaviour = f'status {status}, "{message}"; the printed command repeats it: {" ".join(first)}'
    return "a loss that is not finite", behaviour, f"checkpoints: {kept}; the step is in a file"


def vanished(folder: Path) -> Row:
    """Images that are removed during a training and restored afterwards."""
    from PIL import Image

    faces, away = folder / "faces", folder / "away"
    for i in range(60):
        (faces / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        colour = (4 * i, 255 - 4 * i, 90)
        Image.new("RGB", (40, 40), colour).save(faces / "ab"[i % 2] / f"{i}.png")
    where = {"data_name": "folder", "data_path": faces}
    whole, run = (Training("sargan", folder / name, **where) for name in ("whole", "run"))
    whole.finish()
    process = run.start()
    run.wait(8, process)
    faces.rename(away)
    status, step = process.wait(), run.checkpoints()[-1]
    message = run.message(r"\d+ of the \d+ images are missing or cannot be read")
    away.rename(faces)
    run.finish()
    behaviour = f'status {status}, "{message}", checkpoint of step {step}'
    return "images removed", behaviour, compared(run, whole)


def twice(folder: Path, whole: Training) -> Row:
    """Two processes on one run folder."""
    run = Training("sargan", folder / "twice")
    process = run.start()
    run.wait(4, process)
    second = Training("sargan", run.path)
    second.log = folder / "second.log"
    status = second.finish()
    process.wait()
    message = second.message("another process is training this run")
    behaviour = f'the second: status {status}, "{message}"'
    return "two processes, one run", behaviour, compared(run, whole)


def elsewhere(folder: Path, whole: Training) -> list[Row]:
    """A run that is stopped, moved or copied, and continued."""
    rows = []
    for verb, move in (("moved", shutil.move), ("copied", shutil.copytree)):
        before = Training("sargan", folder / f"before-{verb}")
        process = before.start()
        before.wait(8, process)
        process.kill()
        process.wait()
        after = Training("sargan", folder / f"run {verb} [2]")
        move(before.path, after.path)
        status = after.finish()
        rows.append((f"run folder {verb}", f"status {status}", compared(after, whole)))
    return rows


def neighbour(folder: Path, whole: Training) -> Row:
    """A run whose name, read as a glob pattern, matches another run."""
    other = folder / "x1"
    shutil.copytree(whole.path, other)
    before = {p: p.read_bytes() for p in sorted(other.rglob("*")) if p.is_file()}
    run = Training("sargan", folder / "x[1]", train_keep=1)
    status = run.finish()
    same = before == {p: p.read_bytes() for p in sorted(other.rglob("*")) if p.is_file()}
    lost = compared(run, whole) if same else "**files of the neighbour**"
    return "a run `x[1]` next to a run `x1`", f"status {status}; `x1` is unchanged", lost


def studies(folder: Path) -> list[Row]:
    """`kill -9` of the processes of a study."""
    file, out, rows, kept = folder / "study.yaml", folder / "study", [], 0
    values = "weights.reconstruction: {low: 0.1, high: 10, log: true}"
    file.write_text(
        f"objective: {{measure: edited/accuracy, direction: max}}\nparameters: {{{values}}}\n"
        "steps: 20\npreset: tiny\ntrials: 6\nimages: 4\n"
    )
    words = [sys.executable, "-m", "tfface.tune", "sargan", "--study", str(file), "--out", str(out)]
    for victim in ("worker1", "chief", ""):
        with open(folder / "study.log", "w") as log:
            process = subprocess.Popen([*words, "--workers", "2"], stdout=log, stderr=log, cwd=ROOT)
        while victim and process.poll() is None and _completed(out) <= kept:
            time.sleep(0.05)
        if victim and (found := _child(process.pid, victim)):
            os.kill(found, signal.SIGKILL)
        status = process.wait()
        kept = max(kept, _completed(out))
        behaviour = f"status {status}; {_completed(out)} of 6 trials completed so far"
        lost = "its current trial" if victim else "nothing"
        rows.append((f"`kill -9` of {victim}" if victim else "the same command", behaviour, lost))
    return rows


def _completed(out: Path) -> int:
    count = 0
    for file in (out / "trials").glob("*/trial.json"):
        with contextlib.suppress(ValueError):
            count += json.loads(file.read_text())["status"] == "completed"
    return count


def _child(parent: int, name: str) -> int | None:
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with contextlib.suppress(OSError):
            if f"KERASTUNER_TUNER_ID={name}\0" in Path(f"/proc/{child}/environ").read_text():
                return int(child)
    return None


@command
def main(argv: list[str] | None = None) -> int:
    """Runs all faults; returns the exit status."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=sorted(METHODS))
    arguments = parser.parse_args(argv)
    rows: list[Row] = []
    for number in SIGNALS:
        # Trainings inherit ignored signals, such as SIGHUP under nohup.
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)

    def add(fault: Callable[[], Row | list[Row]]) -> None:
        result = fault()
        for row in result if isinstance(result, list) else [result]:
            rows.append(row)
            print(" | ".join(row), flush=True)

    with tempfile.TemporaryDirectory(prefix="tfface-faults-") as name:
        folder = Path(name)
        whole = Training("sargan", folder / "whole")
        whole.finish()
        numbers = iter(range(100))

        def new_folder() -> Path:
            path = folder / str(next(numbers))
            path.mkdir()
            return path

        add(lambda: neighbour(new_folder(), whole))
        add(lambda: signals(new_folder(), whole))
        add(lambda: full_disk(new_folder(), whole))
        add(lambda: damaged(new_folder(), whole))
        add(lambda: not_finite(new_folder()))
        add(lambda: vanished(new_folder()))
        add(lambda: twice(new_folder(), whole))
        add(lambda: elsewhere(new_folder(), whole))
        add(lambda: studies(new_folder()))
        for method in arguments.methods:
            add(lambda method=method: kills(method, new_folder(), True))
        add(lambda: kills("sargan", new_folder(), False))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    write_text(ROOT / "docs" / "faults.md", _PAGE.format(table=table))
    return 1 if any("**" in lost for _, _, lost in rows) else 0


_PAGE = """# Faults

Written by `make faults`: small trainings are interrupted by a fault, continued with the same
command, and compared with undisturbed trainings. Without `--train.deterministic true` the order of
additions depends on the timing of threads, so any two trainings may differ slightly: relative
differences up to 1e-3 count as equal.

| fault | behaviour | lost |
|---|---|---|
{table}

A checkpoint is a single file with checksums, which is written under a temporary name, flushed to
disk and renamed. A continued run repeats the steps since the last checkpoint, at most
`train.save_every`. Its metrics, previews and weights are those of an uninterrupted run.

A second signal ends the process at once, without saving. `history.jsonl` in the run folder records
which options have changed since the run began, and which run its initial weights came from.
"""


if __name__ == "__main__":
    sys.exit(main())
