"""`python -m tfface.demo`: trains on built-in faces, exports, serves, edits, and reports.

What it measures and shows of a method is in `tfface.evaluation`. What is measured of the method
goes through the server.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.cli import Parser, aligned, command, import_tensorflow
from tfface.errors import Interrupted, UserError
from tfface.methods import METHODS

if TYPE_CHECKING:
    from tfface.evaluation import Evaluation
    from tfface.methods.trained import Trained

_JUDGE_STEPS = {"demo": None, "tiny": 5}


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "demo",
        description="Train a method on built-in faces, export it, serve it over gRPC, edit "
        "held-out faces through the client, measure them against the truth, and write a report. "
        "What a run before has trained is used again.",
    )
    add = parser.add_argument
    add("--method", default="sargan", choices=sorted(METHODS), help="what to train (%(default)s)")
    add("--out", default="runs/demo", metavar="FOLDER", help="folder for all (%(default)s)")
    add("--steps", type=int, metavar="N", help="training steps (those of the preset)")
    add(
        "--preset",
        default="demo",
        choices=sorted(_JUDGE_STEPS),
        help="size of all (%(default)s)",
    )
    arguments = parser.parse_args(argv)
    if arguments.steps is not None and arguments.steps < 1:
        raise UserError(f"--steps is {arguments.steps}: expected at least 1")
    return arguments


@command
def main(argv: list[str] | None = None) -> int:
    """Runs the demonstration; returns the exit status."""
    arguments = _parse(argv)
    out = Path(arguments.out)
    clock = _Clock()
    import_tensorflow()

    from tfface.engine.run import write_text
    from tfface.evaluation import evaluation_of
    from tfface.train import train_run

    try:
        trained = train_run(
            arguments.method,
            preset=arguments.preset,
            run=out / "run",
            options={"train.steps": arguments.steps} if arguments.steps else None,
        )
    except Interrupted as stopped:
        again = "continue with the same command"
        raise Interrupted(f"{stopped}\n{again}", stopped.signal) from stopped
    clock.lap("training")
    evaluation = evaluation_of(trained)
    judge = evaluation.judge(out.parent / ".cache", _JUDGE_STEPS[arguments.preset])
    if judge:
        clock.lap(evaluation.judged_by)
    figures, sections = _serve_and_edit(trained, arguments.preset, judge, out, clock)
    figures = {
        "method": trained.name,
        "preset": arguments.preset,
        "steps": trained.step,
        "seconds": clock.seconds,
        **({evaluation.judged_by: judge.accuracy} if judge else {}),
        **figures,
    }
    header, rows = _table(evaluation, figures)
    write_text(out / "figures.json", json.dumps(figures, indent=1) + "\n")
    write_text(out / "report.html", _page(evaluation, figures, sections))
    print(f"\n{aligned([header, *rows])}\nlook at {(out / 'report.html').resolve()}")
    return 0


class _Clock:
    """Seconds that each part took; tells them as they end."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(now - self._last, 1)
        self._last = now
        print(f"demo: {name} took {self.seconds[name]:.0f} s", flush=True)


def _serve_and_edit(
    trained: Trained, preset: str, judge: Any, out: Path, clock: _Clock
) -> tuple[dict[str, Any], list[str]]:
    """Figures, and the report's sections with images."""
    from tfface.client import FaceClient
    from tfface.evaluation import evaluation_of
    from tfface.export import export_run
    from tfface.metrics.tables import SEED

    version = export_run(trained, out / "model")
    clock.lap("export")
    with serving(version.parent, trained.name, out / "server.log") as target:
        clock.lap("server start")
        with FaceClient(target, trained.name) as client:
            client.wait_until_ready()
            evaluation = evaluation_of(trained, client)
            sections = _show(evaluation)
            clock.lap("images")
            count = evaluation.counts[preset == "tiny"]
            figures = evaluation.against_truth([judge] if judge else [], count, SEED)
            clock.lap("evaluation")
    return figures, sections


def _show(evaluation: Evaluation) -> list[str]:
    """Images of what was trained; beside it those of the shipped model, if there is one."""
    import tfface
    from tfface.evaluation import evaluation_of
    from tfface.shipped import shipped

    method = evaluation.trained.name
    name = next((n for n in shipped() if n.partition("/")[0] == method), None)
    if name is None:
        return evaluation.show()
    return evaluation.show_beside(evaluation_of(tfface.load(name)), name)


@contextlib.contextmanager
def serving(base_path: Path, name: str, log: Path) -> Iterator[str]:
    """Runs `python -m tfface.serve` on a free port until the end of the block.

    Args:
        base_path: The model's base path.
        name: The model's name.
        log: File for what the server says.

    Yields:
        HOST:PORT.

    Raises:
        UserError: It ends before it is ready.
    """
    words = ["-m", "tfface.serve", "--port=0", f"--model_base_path={base_path.resolve()}"]
    with open(log, "w") as errors:
        server = subprocess.Popen(
            [sys.executable, *words, f"--model_name={name}"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            # Ends when the server is ready, or has ended.
            line = server.stdout.readline()
            ready = re.search(r"ready at (\S+:\d+)", line)
            if ready is None:
                server.wait()
                said = (log.read_text().strip().splitlines() or ["nothing"])[-1]
                raise UserError(f"the server did not start; it said: {said}")
            yield ready[1]
        finally:
            server.terminate()
            try:
                server.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.communicate()


def _table(evaluation: Evaluation, figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    from tfface.metrics.tables import table

    columns, rows = evaluation.table
    return [evaluation.trained.name, *columns], table(rows, figures)


def _page(evaluation: Evaluation, figures: dict[str, Any], sections: list[str]) -> str:
    from tfface import html

    seconds = figures["seconds"]
    others = sum(value for name, value in seconds.items() if name != "training")
    notes = []
    if kind := evaluation.judged_by:
        accuracy = ", ".join(f"{name} {share:.1%}" for name, share in figures[kind].items())
        notes.append(
            f"The {kind} has seen real renders only. On held-out renders it reaches: {accuracy}."
        )
    notes.append(evaluation.baselines)
    return html.page(
        evaluation.method.title,
        [
            html.text(
                f"Trained on built-in faces for {figures['steps']:,} steps (preset "
                f"{figures['preset']}), exported as a SavedModel, served over gRPC, and called "
                f"with the images below. Training took {seconds['training']:.0f} s this time, "
                f"all else {others:.0f} s."
            ),
            *sections,
            html.section(
                "Figures",
                html.table(*_table(evaluation, figures)),
                html.text(" ".join(notes), soft=True),
            ),
            html.section(
                "Training", *html.training(evaluation.trained.path, evaluation.method.curves)
            ),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
