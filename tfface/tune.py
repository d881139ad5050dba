"""`python -m tfface.tune METHOD --study FILE`: searches hyperparameters of a method."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from tfface.cli import Parser, command, import_tensorflow
from tfface.errors import UserError
from tfface.tuning.folder import check_same, keep, locked
from tfface.tuning.stopping import StopSignal, stop_signals
from tfface.tuning.study import Plan, Study, read_plan
from tfface.tuning.trials import Trial, read_trials


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "tune",
        description="Search for the best hyperparameters of a method with Keras Tuner, as "
        "specified in a study file: each trial is a run folder, and one of its metrics is the "
        "objective. The same command continues an interrupted study. Writes OUT/report.html, "
        "OUT/best.yaml (for tfface.train METHOD --config), OUT/results.json, and OUT/trials.",
    )
    add = parser.add_argument
    add("method", metavar="METHOD", help="name of the method")
    add("--study", required=True, metavar="FILE", help="study file; see tuning/")
    add("--out", metavar="FOLDER", help="output folder (default: runs/tune-STUDY)")
    add(
        "--trials",
        type=int,
        metavar="N",
        help=f"number of trials (default: that of the study file, or {Study.trials})",
    )
    add(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="number of trials to run in parallel on this machine, one process each (default: "
        "%(default)s); for several machines see tuning/README.md",
    )
    add("--attached", action="store_true", help=argparse.SUPPRESS)  # Stop when the parent ends.
    arguments = parser.parse_args(argv)
    if arguments.workers < 1:
        raise UserError(f"--workers is {arguments.workers}: expected at least 1")
    if arguments.workers > 1 and "KERASTUNER_ORACLE_IP" in os.environ:
        raise UserError(
            f"--workers is {arguments.workers}, but KERASTUNER_ORACLE_IP is set, which makes this "
            f"process one of several workers: expected 1"
        )
    return arguments


def run_study(method: str, study: str | Path, out: str | Path) -> list[Trial]:
    """Runs or continues a study, like the command `tune`.

    Args:
        method: Name of the method.
        study: The study file.
        out: Folder of the study; created if missing.

    Returns:
        The trials, with `id`, `values`, `status`, and `value` (the objective). The run folder of a
        trial is `out/trials/ID`.

    Raises:
        UserError: An unknown method, a mistake in the study, a folder of another study, three
            failed trials in a row, or Keras Tuner is missing.
        KeyboardInterrupt: Ctrl-C, or a notebook's stop button; the same call continues.
    """
    plan, out = _plan(method, Path(study)), Path(out)
    with locked(out):
        keep(plan, out)
        _search(plan, out)
    return read_trials(out)


def _plan(method: str, study: Path, trials: int | None = None) -> Plan:
    from tfface.data import check_paths
    from tfface.methods import get_config

    plan = read_plan(study, method, get_config(method), trials)
    check_paths(plan.base)
    if importlib.util.find_spec("keras_tuner") is None:
        raise UserError("tuning needs Keras Tuner: pip install 'tfface[tuning]'")
    return plan


@command
def main(argv: list[str] | None = None) -> int:
    """Searches; returns the exit status."""
    arguments = _parse(argv)
    study = Path(arguments.study)
    plan = _plan(arguments.method, study, arguments.trials)
    out = Path(arguments.out or f"runs/tune-{study.stem}")
    try:
        with stop_signals():
            _run(arguments, plan, out)
    except KeyboardInterrupt as stopped:
        print(f"interrupted; the same command continues {out}", file=sys.stderr)
        return stopped.status if isinstance(stopped, StopSignal) else 130
    return 0


def _run(arguments: argparse.Namespace, plan: Plan, out: Path) -> None:
    if arguments.attached:
        from tfface.tuning.workers import stop_with_parent

        stop_with_parent()
    if arguments.workers > 1:
        from tfface.tuning.workers import run_workers

        with locked(out):
            keep(plan, out)  # The chief acquires the lock later.
        words = [arguments.method, "--study", arguments.study, "--out", str(out)]
        trials = ["--trials", str(arguments.trials)] if arguments.trials else []
        run_workers(plan, out, [*words, *trials], arguments.workers)
    elif "chief" in os.environ.get("KERASTUNER_TUNER_ID", "chief"):
        with locked(out):
            keep(plan, out)
            _search(plan, out)
    else:
        check_same(plan, out)
        _search(plan, out)


def _search(plan: Plan, out: Path) -> None:
    import_tensorflow()
    from tfface.tuning.search import search

    search(plan, out)


if __name__ == "__main__":
    sys.exit(main())
