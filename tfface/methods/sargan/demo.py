"""The demonstration of SARGAN: what `tfface.demo` measures and shows of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfface import report
from tfface.client import FaceClient
from tfface.data.synthetic import EXPRESSIONS, with_expression
from tfface.demo import KINDS, SEED, SHOWN, draw
from tfface.engine.load import Trained
from tfface.metrics.classifier import Classifier
from tfface.metrics.synthetic_truth import INTENSITY, evaluate_expressions, held_out

TITLE = "SARGAN: changing an expression of a face"
CURVES = ("generator/cls", "generator/rec", "discriminator/cls")
YARDSTICK = "classifier"
COUNTS = 64, 4
BASELINES = (
    "Copying the input shows what doing nothing scores, the true render what could be reached at "
    "best."
)


def evaluate(
    trained: Trained, client: FaceClient, yardstick: Classifier, count: int, seed: int
) -> dict[str, Any]:
    """Figures of held-out people; as of `evaluate_expressions`."""

    def edit(images, asked):
        names = np.array(EXPRESSIONS, object)[asked]
        return client.predict({"image": images, "expression": names})["image"]

    size = trained.method.config.data.size
    return evaluate_expressions(edit, size, count, seed, yardstick)


def show(trained: Trained, client: FaceClient) -> list[str]:
    """The report's sections with pictures."""
    size = trained.method.config.data.size
    people = held_out(SHOWN, SEED)
    truth = [
        draw(with_expression(people, index, INTENSITY), size) for index in range(len(EXPRESSIONS))
    ]
    rows = []
    for i, picture in enumerate(draw(people, size)):
        edited = client.change_expression(picture, list(EXPRESSIONS))
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


def table(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Edited faces, then the baselines."""
    header = ["SARGAN", "asked expression seen", "error outside", "error inside", "PSNR"]
    return header, rows(figures)


def rows(figures: dict[str, Any]) -> list[list[str]]:
    """Edited faces, then the baselines, as figures of `evaluate_expressions`."""
    return [
        [
            title,
            f"{f['accuracy']:.1%}",
            f"{f['error_outside']:.2%}",
            f"{f['error_inside']:.2%}",
            "exact" if f["psnr"] is None else f"{f['psnr']:.1f} dB",
        ]
        for f, title in ((figures[kind], title) for kind, title in KINDS.items())
    ]
