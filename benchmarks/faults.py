"""What faults do to runs and studies: `python benchmarks/faults.py`, or `make faults`.

Breaks small trainings in every way listed, continues them, and compares them with trainings that
nothing has happened to. Writes `docs/faults.md`. Takes about an hour on two CPU cores.
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
# Lines of metrics are means over 4 steps, and checkpoints are between them.
OPTIONS = {"train.steps": STEPS, "train.log_every": 4, "train.save_every": 3}
TOLERANCE = 1e-3
SEEDS = random.Random(0)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
Row = tuple[str, str, str]  # The fault, what happened, what was lost.


class Training:
    """A training of a tiny preset in a process of its own.

    Args:
        method: The method's name.
        path: The run folder.
        **options: Those of `train`, with `_` for the first dot.
    """

    def __init__(self, method: str, path: Path, **options: object):
        values = {**OPTIONS, **{k.replace("_", ".", 1): v for k, v in options.items()}}
        words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
        self.path, self.log = path, path.parent / f"{path.name}.log"
        self._words = [sys.executable, "-m", "tfface.train", method, "--preset", "tiny", *words]

    def start(self, *words: str) -> subprocess.Popen:
        """Starts or continues it."""
        with open(self.log, "w") as log:
            return subprocess.Popen(
                [*self._words, "--run", str(self.path), *words], stdout=log, stderr=log, cwd=ROOT
            )

    def finish(self, *words: str) -> int:
        """Lets it come to its end; returns the exit status."""
        return self.start(*words).wait()

    def wait(self, step: int, process: subprocess.Popen) -> None:
        """Waits until a step has been reported, or the process has ended."""
        while process.poll() is None and self.steps()[-1:] < [step]:
            time.sleep(0.01)

    def metrics(self) -> list[dict]:
        """Its lines of metrics but for its speed."""
        file = self.path / "metrics.jsonl"
        found = []
        for line in file.read_text().splitlines() if file.exists() else []:
            with contextlib.suppress(ValueError):  # A line that is being written.
                found.append({k: v for k, v in json.loads(line).items() if "per_second" not in k})
        return found

    def steps(self) -> list[int]:
        """Steps that metrics were written of."""
        return [line["step"] for line in self.metrics()]

    def checkpoints(self) -> list[int]:
        """Steps of its checkpoints."""
        return sorted(checkpoint_files(self.path / "checkpoints"))

    def told(self, pattern: str) -> str:
        """What it said that matches, without its folder; else the last line."""
        text = self.log.read_text()
        found = re.search(pattern, text)
        said = found[0] if found else (text.strip().splitlines() or ["nothing"])[-1]
        return said.replace(str(self.path.parent) + "/", "")


def compared(found: Training, whole: Training) -> str:
    """How the metrics of two trainings differ."""
    a, b = found.metrics(), whole.metrics()
    if a == b:
        return "nothing: all metrics are those of the undisturbed run, to the last bit"
    if [line.keys() for line in a] != [line.keys() for line in b]:
        return f"**metrics are missing**: {len(a)} lines of {len(b)}"
    pairs = [(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x]
    greatest = max(abs(x - y) / max(abs(x), abs(y), 1e-3) for x, y in pairs)
    if greatest > TOLERANCE:
        return f"**metrics differ** by {greatest:.1e} at most, none is missing"
    return f"nothing: all metrics are there; they differ by {greatest:.1e} at most"


def kills(method: str, folder: Path, deterministic: bool) -> Row:
    """`kill -9` at random moments, each time continued."""
    options = {"train_deterministic": deterministic}
    whole, run = (Training(method, folder / name, **options) for name in ("whole", "killed"))
    begin = time.monotonic()
    process = whole.start()
    whole.wait(4, process)
    startup = time.monotonic() - begin
    process.wait()
    met = []
    for _ in range(KILLS):
        process = run.start()
        # Imports and tracing take most of the time: half of the kills meet the loop.
        loop = SEEDS.random() < 0.5
        if loop:
            before = run.steps()[-1:] or [0]
            run.wait(min(before[0] + 4, STEPS), process)
            time.sleep(SEEDS.uniform(0.0, 0.5))
        else:
            time.sleep(SEEDS.uniform(0.0, startup))
        process.kill()
        process.wait()
        met.append((run.checkpoints() or [0])[-1])
    status = run.finish()
    mode = "`--train.deterministic true`" if deterministic else "as it comes"
    happened = f"{KILLS} kills, at checkpoints {', '.join(map(str, met))}; then status {status}"
    return f"`kill -9`, {method}, {mode}", happened, compared(run, whole)


def signals(folder: Path, whole: Training) -> list[Row]:
    """Signals that ask to stop."""
    rows = []
    for number in SIGNALS:
        run = Training("sargan", folder / number.name)
        process = run.start()
        run.wait(8, process)
        process.send_signal(number)
        status, step = process.wait(), run.checkpoints()[-1]
        said = run.told(r"stopped at step \d+")
        run.finish()
        happened = f"status {status}, «{said}», checkpoint of step {step}"
        stopped = status == 128 + number
        rows.append((number.name, happened, compared(run, whole) if stopped else "**not stopped**"))
    return rows


def full_disk(folder: Path, whole: Training) -> list[Row]:
    """A file system that fills up, made larger afterwards."""
    rows = []
    for what, options, filler in (
        ("saving", {"train_keep": 99}, False),
        ("logging and previewing", {"train_preview_every": 2, "train_save_every": 1000}, True),
    ):
        place = folder / what.replace(" ", "-")
        place.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)])
        if mounted.returncode:
            rows.append((f"disk full while {what}", "not run: file systems cannot be mounted", ""))
            continue
        try:
            run = Training("sargan", place / "run", **options)
            run.log = folder / f"{place.name}.log"
            process = run.start()
            run.wait(8, process)
            if filler:
                with contextlib.suppress(OSError), open(place / "filler", "wb") as file:
                    file.write(b"x" * 2**22)
            status, said = process.wait(), run.told(r"cannot be written: [^/]*?(saved yet|kept)")
            warned = run.told(r"the preview of step \d+ failed") if filler else ""
            subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
            run.finish()
            happened = f"status {status}, «{said}»" + (f", before «{warned}»" if warned else "")
            rows.append((f"disk full while {what}", happened, compared(run, whole)))
        finally:
            subprocess.run(["umount", str(place)], check=True)
    return rows


def damaged(folder: Path, whole: Training) -> list[Row]:
    """Newest checkpoints that are not whole."""
    rows = []
    for how in ("cut in half", "one byte changed", "overwritten"):
        run = Training("sargan", folder / how.replace(" ", "-"))
        shutil.copytree(whole.path, run.path)
        file = run.path / "checkpoints" / f"step-{run.checkpoints()[-1]}.npz"
        held = bytearray(file.read_bytes())
        if how == "one byte changed":
            held[held.index(b"nets/generator/0.npy") + 250] ^= 255
        file.write_bytes(
            {"cut in half": held[: len(held) // 2], "overwritten": b"?"}.get(how, held)
        )
        status = run.finish()
        happened = f"status {status}, «{run.told('the checkpoint of step .* is taken instead')}»"
        rows.append((f"newest checkpoint {how}", happened, compared(run, whole)))
    return rows


def not_finite(folder: Path) -> Row:
    """A loss that is not a number."""
    run = Training("sargan", folder / "nan", adam_learning_rate=1e30)
    status = run.finish()
    said = run.told(r"training diverged at step \d+: term '\w+' of phase '\w+' is \w+")
    again = run.log.read_text().strip().rpartition("to repeat it: ")[2]
    repeated = subprocess.run(again, shell=True, cwd=ROOT, capture_output=True, text=True)
    first = repeated.stdout.splitlines()[0].split() if repeated.stdout else ["nothing"]
    kept = ", ".join(map(str, run.checkpoints())) or "none: it was step 2"
    happened = f"status {status}, «{said}»; the printed command repeats it: {' '.join(first)}"
    return "a loss that is not finite", happened, f"checkpoints: {kept}; the step is in a file"


def vanished(folder: Path) -> Row:
    """Images that are deleted during a training, and come back."""
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
    said = run.told(r"\d+ of the \d+ images are missing or cannot be read")
    away.rename(faces)
    run.finish()
    happened = f"status {status}, «{said}», checkpoint of step {step}"
    return "images that vanish", happened, compared(run, whole)


def twice(folder: Path, whole: Training) -> Row:
    """Two processes on one run folder."""
    run = Training("sargan", folder / "twice")
    process = run.start()
    run.wait(4, process)
    second = Training("sargan", run.path)
    second.log = folder / "second.log"
    status = second.finish()
    process.wait()
    said = second.told("another process is training this run")
    return "two processes, one run", f"the second: status {status}, «{said}»", compared(run, whole)


def elsewhere(folder: Path, whole: Training) -> list[Row]:
    """A run folder that was stopped, and moved or copied."""
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
    """A run whose name, as a pattern, is that of another."""
    beside = folder / "x1"
    shutil.copytree(whole.path, beside)
    before = {p: p.read_bytes() for p in sorted(beside.rglob("*")) if p.is_file()}
    run = Training("sargan", folder / "x[1]", train_keep=1)
    status = run.finish()
    same = before == {p: p.read_bytes() for p in sorted(beside.rglob("*")) if p.is_file()}
    lost = compared(run, whole) if same else "**files of the neighbour**"
    return "a run `x[1]` beside a run `x1`", f"status {status}; `x1` is as it was", lost


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
        happened = f"status {status}; {_completed(out)} of 6 trials completed so far"
        lost = "the trial that it was at" if victim else "nothing"
        rows.append((f"`kill -9` of {victim}" if victim else "the same command", happened, lost))
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
    """Breaks things; returns the exit status."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=sorted(METHODS))
    arguments = parser.parse_args(argv)
    rows: list[Row] = []
    for number in SIGNALS:
        # Trainings inherit what is ignored, as SIGHUP is under nohup.
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)

    def add(find: Callable[[], Row | list[Row]]) -> None:
        found = find()
        for row in found if isinstance(found, list) else [found]:
            rows.append(row)
            print(" | ".join(row), flush=True)

    with tempfile.TemporaryDirectory(prefix="tfface-faults-") as name:
        folder = Path(name)
        whole = Training("sargan", folder / "whole")
        whole.finish()
        places = iter(range(100))

        def place() -> Path:
            made = folder / str(next(places))
            made.mkdir()
            return made

        add(lambda: neighbour(place(), whole))
        add(lambda: signals(place(), whole))
        add(lambda: full_disk(place(), whole))
        add(lambda: damaged(place(), whole))
        add(lambda: not_finite(place()))
        add(lambda: vanished(place()))
        add(lambda: twice(place(), whole))
        add(lambda: elsewhere(place(), whole))
        add(lambda: studies(place()))
        for method in arguments.methods:
            add(lambda method=method: kills(method, place(), True))
        add(lambda: kills("sargan", place(), False))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    write_text(ROOT / "docs" / "faults.md", _PAGE.format(table=table))
    return 1 if any("**" in lost for _, _, lost in rows) else 0


_PAGE = """# Faults

Written by `make faults`: small trainings are broken, continued with the same command, and compared
with trainings that nothing has happened to. Without `--train.deterministic true` sums are added up
in the order in which threads end, so that last bits may differ between any two trainings: up to
1e-3 of a value is taken for the same.

| fault | what happened | what was lost |
|---|---|---|
{table}

A checkpoint is one file with checksums, written under another name, flushed to the disk and
renamed. What is computed between two checkpoints is computed again; `train.save_every` says how
much that is. Metrics, previews and weights of the continued run are those of the whole one.

A second signal ends the process at once, without saving. `history.jsonl` in the run folder tells
which options have changed since the run began, and whose weights it began with.
"""


if __name__ == "__main__":
    sys.exit(main())
