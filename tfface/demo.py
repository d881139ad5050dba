"""`python -m tfface.demo`: trains on built-in faces, exports, serves, edits, and reports.

What it measures and shows of a method is in `tfface.methods.METHOD.demo`: `TITLE` of the report;
`CURVES`, the metrics it plots; `YARDSTICK`, a "classifier" or a "segmenter" of real renders that
judges the results, or ""; `BASELINES`, what they are compared with; `evaluate(trained, client,
yardstick, small)`, a dict of figures; `show(trained, client)`, sections of pictures;
`table(figures)`, a header and rows.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tfface.cli import Parser, aligned, command, import_tensorflow
from tfface.errors import UserError
from tfface.methods import METHODS

if TYPE_CHECKING:
    from PIL.Image import Image

    from tfface.engine.load import Trained

SEED = 1  # Of the people shown and measured.
SHOWN = 6  # Rows of pictures, about.
KINDS = {"edited": "edited", "copy": "copy of the input", "target": "true render"}
_YARDSTICK_STEPS = {"demo": None, "tiny": 5}


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
        choices=sorted(_YARDSTICK_STEPS),
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
    from tfface.engine.trainer import Interrupted
    from tfface.train import train_run

    try:
        trained = train_run(
            arguments.method,
            preset=arguments.preset,
            run=out / "run",
            options={"train.steps": arguments.steps} if arguments.steps else None,
        )
    except Interrupted as stopped:
        print(f"{stopped}\ncontinue with the same command", file=sys.stderr)
        return 130
    clock.lap("training")
    parts = importlib.import_module(f"tfface.methods.{trained.name}.demo")
    yardstick = None
    if parts.YARDSTICK:
        cache = out.parent / ".cache"
        yardstick = _yardstick(parts.YARDSTICK, trained, arguments.preset, cache)
        clock.lap(parts.YARDSTICK)
    figures, sections = _serve_and_edit(trained, parts, arguments.preset, yardstick, out, clock)
    figures = {
        "method": trained.name,
        "preset": arguments.preset,
        "steps": trained.step,
        "seconds": clock.seconds,
        **({parts.YARDSTICK: yardstick.accuracy} if yardstick else {}),
        **figures,
    }
    header, rows = parts.table(figures)
    write_text(out / "figures.json", json.dumps(figures, indent=1) + "\n")
    write_text(out / "report.html", _page(trained, parts, figures, sections))
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


def _yardstick(kind: str, trained: Trained, preset: str, cache: Path):
    from tfface.metrics import classifier, segmenter

    config, steps = trained.method.config, _YARDSTICK_STEPS[preset]
    if kind == "segmenter":
        steps = steps or segmenter.STEPS
        return segmenter.train_segmenter(config.data.size, steps=steps, cache=cache)
    attributes = getattr(config, "attributes", ())
    steps = steps or classifier.STEPS
    return classifier.train_classifier(config.data.size, attributes, steps=steps, cache=cache)


def _serve_and_edit(
    trained: Trained, parts: ModuleType, preset: str, yardstick, out: Path, clock: _Clock
) -> tuple[dict[str, Any], list[str]]:
    """Figures, and the report's sections with pictures."""
    from tfface.client import FaceClient
    from tfface.export import export_run

    version = export_run(trained, out / "model")
    clock.lap("export")
    with serving(version.parent, trained.name, out / "server.log") as target:
        clock.lap("server start")
        with FaceClient(target, trained.name) as client:
            client.wait_until_ready()
            sections = parts.show(trained, client)
            clock.lap("pictures")
            figures = parts.evaluate(trained, client, yardstick, small=preset == "tiny")
            clock.lap("evaluation")
    return figures, sections


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


def draw(factors: dict, size: int) -> list[Image]:
    """Built-in faces as pictures."""
    from tfface.data.pictures import to_picture
    from tfface.data.synthetic import render

    return [to_picture(array) for array in render(factors, size)["image"].numpy()]


def _page(trained: Trained, parts: ModuleType, figures: dict[str, Any], sections: list[str]) -> str:
    from tfface import report

    seconds = figures["seconds"]
    others = sum(value for name, value in seconds.items() if name != "training")
    notes = []
    if kind := parts.YARDSTICK:
        accuracy = ", ".join(f"{name} {share:.1%}" for name, share in figures[kind].items())
        notes.append(
            f"The {kind} has seen real renders only. On held-out renders it reaches: {accuracy}."
        )
    notes.append(parts.BASELINES)
    return report.page(
        parts.TITLE,
        [
            report.text(
                f"Trained on built-in faces for {figures['steps']:,} steps (preset "
                f"{figures['preset']}), exported as a SavedModel, served over gRPC, and called "
                f"with the pictures below. Training took {seconds['training']:.0f} s this time, "
                f"all else {others:.0f} s."
            ),
            *sections,
            report.section(
                "Figures",
                report.table(*parts.table(figures)),
                report.text(" ".join(notes), soft=True),
            ),
            report.section("Training", *report.training(trained.path, parts.CURVES)),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
