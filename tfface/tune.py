"""`python -m tfface.tune METHOD --study FILE`: searches for the best options of a method."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from tfface.cli import Parser, command, import_tensorflow
from tfface.errors import UserError
from tfface.tuning.study import Plan, read_plan
from tfface.tuning.trials import Trial, read_trials


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "tune",
        description="Search for the best options of a method with Keras Tuner, as a study says: "
        "each trial is a run folder, of which a measure is the objective. The same command goes "
        "on with a study that was interrupted. Writes OUT/report.html, OUT/best.yaml (for "
        "tfface.train METHOD --config), OUT/results.json, and OUT/trials.",
    )
    add = parser.add_argument
    add("method", metavar="METHOD", help="the method")
    add("--study", required=True, metavar="FILE", help="what is searched and how; see tuning/")
    add("--out", metavar="FOLDER", help="folder of the study (runs/tune-STUDY)")
    add("--trials", type=int, metavar="N", help="at most so many (those of the study)")
    add(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="so many trials at once on this machine, in processes of their own (%(default)s); "
        "for several machines see tuning/README.md",
    )
    add("--attached", action="store_true", help=argparse.SUPPRESS)  # Ends with its parent.
    arguments = parser.parse_args(argv)
    if arguments.workers < 1:
        raise UserError(f"--workers is {arguments.workers}: expected at least 1")
    if arguments.workers > 1 and "KERASTUNER_ORACLE_IP" in os.environ:
        raise UserError(
            f"--workers is {arguments.workers}, but KERASTUNER_ORACLE_IP makes this process one of "
            f"several already: expected 1"
        )
    return arguments


def run_study(method: str, study: str | Path, out: str | Path) -> list[Trial]:
    """Searches as a study says, or goes on with it; from Python what the command `tune` does.

    Args:
        method: The method's name.
        study: The file of the study.
        out: Its folder; made if missing.

    Returns:
        The trials: `id`, `values`, `status`, and `value`, the objective. The run folder of each is
        `out/trials/ID`.

    Raises:
        UserError: An unknown method, a mistake in the study, a folder of another study, three
            failed trials in a row, or Keras Tuner is missing.
        KeyboardInterrupt: Ctrl-C, or a notebook's stop button; the same call goes on.
    """
    plan, out = _plan(method, Path(study)), Path(out)
    with _opened(out, plan, alone=True):
        import_tensorflow()
        from tfface.tuning.search import search

        search(plan, out)
    return read_trials(out)


def _plan(method: str, study: Path, trials: int | None = None) -> Plan:
    from tfface.data import check_paths
    from tfface.methods import get_config

    plan = read_plan(study, method, get_config(method), trials)
    check_paths(plan.base)
    if importlib.util.find_spec("keras_tuner") is None:
        raise UserError("this needs Keras Tuner: pip install 'tfface[tuning]'")
    return plan


@command
def main(argv: list[str] | None = None) -> int:
    """Searches; returns the exit status."""
    arguments = _parse(argv)
    study = Path(arguments.study)
    plan = _plan(arguments.method, study, arguments.trials)
    out = Path(arguments.out or f"runs/tune-{study.stem}")
    chief = "chief" in os.environ.get("KERASTUNER_TUNER_ID", "chief")
    try:
        with _opened(out, plan, alone=chief and arguments.workers == 1):
            _run(arguments, plan, out)
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on with {out}", file=sys.stderr)
        return 130
    return 0


def _run(arguments: argparse.Namespace, plan: Plan, out: Path) -> None:
    if arguments.attached:
        from tfface.tuning.workers import stop_with_parent

        stop_with_parent()
    if arguments.workers > 1:
        from tfface.tuning.workers import run_workers

        words = [arguments.method, "--study", arguments.study, "--out", str(out)]
        trials = ["--trials", str(arguments.trials)] if arguments.trials else []
        run_workers(plan, out, [*words, *trials], arguments.workers)
    else:
        import_tensorflow()
        from tfface.tuning.search import search

        search(plan, out)


@contextlib.contextmanager
def _opened(out: Path, plan: Plan, alone: bool) -> Iterator[None]:
    """Makes the study's folder, or opens it again; `alone`: for one process at a time."""
    from tfface.engine.run import write_text

    file = out / "tune.yaml"
    values = {"method": plan.method, **dataclasses.asdict(plan.study)}
    if (out / "oracle" / "oracle.json").exists():  # Trials have begun.
        before = yaml.safe_load(file.read_text())
        # More trials may be wanted, or more of what is known of them.
        free = ("trials", "also")
        changed = [k for k, v in values.items() if k not in free and before.get(k) != v]
        if changed:
            told = "; ".join(f"{k} was {before.get(k)!r}, is {values[k]!r}" for k in changed)
            raise UserError(f"{out} is of another study: {told}; another --out begins anew")
    elif out.exists() and any(out.iterdir()) and not file.exists():
        raise UserError(f"{out} exists, and is no study: it has no tune.yaml")
    out.mkdir(parents=True, exist_ok=True)
    write_text(file, yaml.safe_dump(values, sort_keys=False))
    with open(out / ".lock", "w") as lock:
        if alone:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{out} is in use by another process; for several trials at once see --workers"
                ) from None
        yield


if __name__ == "__main__":
    sys.exit(main())
