"""`python -m tfface.demo`: trains on built-in faces, exports, serves, edits, and reports."""

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

from tfface.cli import Parser, command, import_tensorflow
from tfface.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from tfface.client import FaceClient
    from tfface.engine.load import Trained

SEED = 1  # Of the people shown and measured.
_PEOPLE = {"demo": 64, "tiny": 4}
_PAIRS = {"demo": 96, "tiny": 4}
_CLASSIFIER_STEPS = {"demo": None, "tiny": 5}
_SHOWN = 6
_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_CURVES = {
    "sargan": ("generator/cls", "generator/rec", "discriminator/cls"),
    "elegant": ("generator/reconstruction", "generator/adv1", "discriminator/disc1"),
}


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "demo",
        description="Train a method on built-in faces, export it, serve it over gRPC, edit "
        "held-out faces through the client, measure them against the truth, and write a report. "
        "What a run before has trained is used again.",
    )
    add = parser.add_argument
    add("--method", default="sargan", choices=sorted(_CURVES), help="what to train (%(default)s)")
    add("--out", default="runs/demo", metavar="FOLDER", help="folder for all (%(default)s)")
    add("--steps", type=int, metavar="N", help="training steps (those of the preset)")
    add("--preset", default="demo", choices=sorted(_PEOPLE), help="size of all (%(default)s)")
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

    try:
        trained = _train(arguments.method, arguments.preset, arguments.steps, out / "run")
    except Interrupted as stopped:
        print(f"{stopped}\ncontinue with the same command", file=sys.stderr)
        return 130
    clock.lap("training")
    classifier = _classifier(trained, arguments.preset, out.parent / ".cache")
    clock.lap("classifier")
    figures, sections = _serve_and_edit(trained, arguments.preset, classifier, out, clock)
    figures = {
        "method": trained.name,
        "preset": arguments.preset,
        "steps": trained.step,
        "seconds": clock.seconds,
        "classifier": classifier.accuracy,
        **figures,
    }
    write_text(out / "figures.json", json.dumps(figures, indent=1) + "\n")
    write_text(out / "report.html", _page(trained, figures, sections))
    print(f"\n{_summary(figures)}\nlook at {(out / 'report.html').resolve()}")
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


def _train(name: str, preset: str, steps: int | None, path: Path) -> Trained:
    import tfface
    from tfface.config import parse_training
    from tfface.engine.run import Run
    from tfface.engine.trainer import Trainer
    from tfface.methods import get_config, get_method

    words = [name, "--preset", preset] + (["--train.steps", str(steps)] if steps else [])
    _, config, _ = parse_training(words, {name: get_config(name)})
    method, source = get_method(name).open(config)
    run = Run.create(name, method.config, str(path))
    Trainer(method, source, run).train()
    return tfface.load(str(run.path))


def _classifier(trained: Trained, preset: str, cache: Path):
    from tfface.metrics.classifier import STEPS, train_classifier

    config = trained.method.config
    attributes = getattr(config, "attributes", ())
    steps = _CLASSIFIER_STEPS[preset] or STEPS
    return train_classifier(config.data.size, attributes, steps=steps, cache=cache)


def _serve_and_edit(
    trained: Trained, preset: str, classifier, out: Path, clock: _Clock
) -> tuple[dict[str, Any], list[str]]:
    """Figures, and the report's sections with pictures."""
    from tfface.client import FaceClient
    from tfface.export import export_run

    version = export_run(trained, out / "model")
    clock.lap("export")
    evaluate, show = {
        "sargan": (_evaluate_expressions, _show_expressions),
        "elegant": (_evaluate_exchange, _show_exchange),
    }[trained.name]
    with serving(version.parent, trained.name, out / "server.log") as target:
        clock.lap("server start")
        with FaceClient(target, trained.name) as client:
            client.wait_until_ready()
            sections = show(trained, client)
            clock.lap("pictures")
            figures = evaluate(trained, preset, classifier, client)
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


def _evaluate_expressions(trained, preset: str, classifier, client: FaceClient) -> dict[str, Any]:
    import numpy as np

    from tfface.data.synthetic import EXPRESSIONS
    from tfface.metrics.synthetic_truth import evaluate_expressions

    def edit(images, asked):
        names = np.array(EXPRESSIONS, object)[asked]
        return client.predict({"image": images, "expression": names})["image"]

    size = trained.method.config.data.size
    return evaluate_expressions(edit, size, _PEOPLE[preset], SEED, classifier)


def _evaluate_exchange(trained, preset: str, classifier, client: FaceClient) -> dict[str, Any]:
    import numpy as np

    from tfface.metrics.synthetic_truth import evaluate_exchange

    config = trained.method.config

    def transfer(source, reference, attribute):
        inputs = {
            "source": source,
            "reference": reference,
            "attribute": np.array(config.attributes, object)[attribute],
            "strength": np.ones(len(source), np.float32),
        }
        return client.predict(inputs)["image"]

    return evaluate_exchange(
        transfer, config.attributes, config.data.size, _PAIRS[preset], SEED, classifier
    )


def _show_expressions(trained: Trained, client: FaceClient) -> list[str]:
    from tfface import report
    from tfface.data.synthetic import EXPRESSIONS, with_expression
    from tfface.metrics.synthetic_truth import INTENSITY, held_out

    size = trained.method.config.data.size
    people = held_out(_SHOWN, SEED)
    truth = [
        _draw(with_expression(people, index, INTENSITY), size) for index in range(len(EXPRESSIONS))
    ]
    rows = []
    for i, picture in enumerate(_draw(people, size)):
        edited = client.change_expression(_png(picture), list(EXPRESSIONS))
        rows.append(("edited", [picture, *edited]))
        rows.append(("truth", [None, *(faces[i] for faces in truth)]))
    return [
        report.section(
            "Held-out faces",
            report.text(
                "People that were not in training. Each was sent as a PNG to the server and came "
                "back with the expression asked for. The truth is what the renderer draws for "
                "the same person with that expression.",
                soft=True,
            ),
            report.faces(("input", *EXPRESSIONS), rows, group=2),
        )
    ]


def _show_exchange(trained: Trained, client: FaceClient) -> list[str]:
    from tfface import report
    from tfface.metrics.synthetic_truth import held_out

    config = trained.method.config
    rows, steps = [], []
    for i, name in enumerate(config.attributes):
        pairs = zip(
            _draw(held_out(2, SEED + 2 * i, config.attributes, (name, True)), config.data.size),
            _draw(
                held_out(2, SEED + 2 * i + 1, config.attributes, (name, False)), config.data.size
            ),
            strict=True,
        )
        for has, lacks in pairs:
            a, b = _png(has), _png(lacks)
            rows.append((name, [has, lacks, *client.transfer_attribute([a, b], [b, a], name)]))
            blended = client.transfer_attribute(b, a, name, list(_STRENGTHS))
            steps.append((name, [has, lacks, *blended]))
    columns = ("A (has it)", "B (lacks it)")
    return [
        report.section(
            "Exchanged attributes",
            report.text(
                "People that were not in training. A and B were sent as PNGs to the server and "
                "came back with each other's attribute.",
                soft=True,
            ),
            report.faces((*columns, "C: A with B's", "D: B with A's"), rows, group=2),
        ),
        report.section(
            "Interpolation",
            report.text("From B as it is to B with all of A's attribute.", soft=True),
            report.faces((*columns, *(f"{s:.0%}" for s in _STRENGTHS)), steps, group=2),
        ),
    ]


def _draw(factors: dict, size: int) -> list[Image]:
    from tfface.data.pictures import to_picture
    from tfface.data.synthetic import render

    return [to_picture(array) for array in render(factors, size)["image"].numpy()]


def _png(picture: Image) -> bytes:
    import io

    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _page(trained: Trained, figures: dict[str, Any], sections: list[str]) -> str:
    from tfface import report

    labels = {"sargan": "an expression", "elegant": "an attribute"}[trained.name]
    seconds = figures["seconds"]
    others = sum(value for name, value in seconds.items() if name != "training")
    accuracy = ", ".join(f"{name} {value:.1%}" for name, value in figures["classifier"].items())
    header, rows = _rows(figures)
    return report.page(
        f"{trained.name.upper()}: changing {labels} of a face",
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
                report.table(header, rows),
                report.text(
                    "The classifier has seen real renders only. On held-out renders it is right "
                    f"in: {accuracy}. Copying the input shows what doing nothing scores, the true "
                    "render what could be reached at best.",
                    soft=True,
                ),
            ),
            report.section("Training", *report.training(trained.path, _CURVES[trained.name])),
        ],
    )


def _rows(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table of figures: edited faces, then the baselines."""
    kinds = {"edited": "edited", "copy": "copy of the input", "target": "true render"}
    if "people" in figures:
        header = ["", "asked expression seen", "error outside", "error inside", "PSNR"]
        return header, [
            [
                title,
                f"{f['accuracy']:.1%}",
                f"{f['error_outside']:.2%}",
                f"{f['error_inside']:.2%}",
                "exact" if f["psnr"] is None else f"{f['psnr']:.1f} dB",
            ]
            for f, title in ((figures[kind], title) for kind, title in kinds.items())
        ]
    names = list(figures["edited"]["by_attribute"])
    header = ["", "exchanged attribute right", *names, "other attributes kept", "all others kept"]
    return header, [
        [
            title,
            f"{f['right']:.1%}",
            *(f"{f['by_attribute'][name]['right']:.1%}" for name in names),
            f"{f['others']:.1%}",
            f"{f['all_others']:.1%}",
        ]
        for f, title in ((figures[kind], title) for kind, title in kinds.items())
    ]


def _summary(figures: dict[str, Any]) -> str:
    header, rows = _rows(figures)
    cells = [[cell or figures["method"].upper() for cell in header], *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


if __name__ == "__main__":
    sys.exit(main())
