"""`python -m tfface.demo`: trains on built-in faces, exports, serves, edits, and reports.

Metrics and report sections come from `tfface.evaluation`; the method is evaluated through the
server.
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
        "held-out faces through the client, compare them with the ground truth, and write a "
        "report. Networks trained by an earlier run are reused.",
    )
    add = parser.add_argument
    add(
        "--method",
        default="sargan",
        choices=sorted(METHODS),
        help="method to train (default: %(default)s)",
    )
    add("--out", default="runs/demo", metavar="FOLDER", help="output folder (default: %(default)s)")
    add(
        "--steps", type=int, metavar="N", help="training steps (default: train.steps of the preset)"
    )
    add(
        "--preset",
        default="demo",
        choices=sorted(_JUDGE_STEPS),
        help="preset of the method; tiny is for a quick test (default: %(default)s)",
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
        how = "continue with the same command"
        raise Interrupted(f"{stopped}\n{how}", stopped.signal) from stopped
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
    print(f"\n{aligned([header, *rows])}\nreport: {(out / 'report.html').resolve()}")
    return 0


class _Clock:
    """Measures the seconds of each stage and prints them when it ends."""

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
    """Returns the metrics, and the report's sections with images."""
    from tfface.client import FaceClient
    from tfface.evaluation import evaluation_of
    from tfface.exporting.saved_model import export_run
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
    """Images of the trained run, next to those of the method's shipped model if there is one."""
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
        base_path: Base path of the model.
        name: Name of the model.
        log: File for the server's stderr.

    Yields:
        Address HOST:PORT.

    Raises:
        UserError: The server ends before it is ready.
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
            # Returns when the server is ready or has ended.
            line = server.stdout.readline()
            ready = re.search(r"ready at (\S+:\d+)", line)
            if ready is None:
                server.wait()
                last = (log.read_text().strip().splitlines() or ["no output"])[-1]
                raise UserError(f"the server did not start: {last}")
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
    other = sum(value for name, value in seconds.items() if name != "training")
    notes = []
    if kind := evaluation.judged_by:
        accuracy = ", ".join(f"{name} {share:.1%}" for name, share in figures[kind].items())
        notes.append(
            f"The {kind} was trained on ground-truth renders only. Its accuracy on held-out "
            f"renders: {accuracy}."
        )
    notes.append(evaluation.baselines)
    return html.page(
        evaluation.method.title,
        [
            html.text(
                f"Trained on built-in faces for {figures['steps']:,} steps (preset "
                f"{figures['preset']}), exported as a SavedModel, served over gRPC, and called "
                f"with the images below. In this run training took {seconds['training']:.0f} s, "
                f"everything else {other:.0f} s."
            ),
            *sections,
            html.section(
                "Results",
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
