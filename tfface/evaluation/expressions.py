"""What is measured and shown of SARGAN, by `tfface.evaluate` and `tfface.demo`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfface import html
from tfface.client import FaceClient
from tfface.data.base import Source
from tfface.data.synthetic import EXPRESSIONS, with_expression
from tfface.evaluation.classifier import Classifier
from tfface.evaluation.real_pictures import (
    COLUMNS,
    ENOUGH,
    ROWS,
    evaluate_classes,
    held_out_batches,
)
from tfface.evaluation.synthetic_truth import (
    INTENSITY,
    SHOWN,
    ExpressionEdit,
    draw,
    evaluate_expressions,
    held_out,
)
from tfface.methods.trained import Trained
from tfface.metrics.figures import EDITED, KINDS, SEED, rows_of
from tfface.metrics.tally import Watch, unwatched

TITLE = "SARGAN: changing an expression of a face"
CURVES = (
    "generator/fake",
    "generator/rec",
    "generator/cls",
    "discriminator/wrong",
    "discriminator/cls",
)
YARDSTICK = "classifier"
COUNTS = 64, 4
TABLE = (
    tuple(KINDS.values()),
    rows_of(
        KINDS,
        {
            "accuracy": ("asked expression seen", "share"),
            "second/accuracy": ("asked expression seen, by a second judge", "share"),
            **EDITED,
        },
    ),
)
REAL_TABLE = COLUMNS, ROWS
BASELINES = (
    "Copying the input shows what doing nothing scores, the true render what could be reached at "
    "best."
)


def evaluate(
    trained: Trained,
    client: FaceClient,
    yardstick: Classifier,
    count: int,
    seed: int,
    watch: Watch = unwatched,
    second: Classifier | None = None,
) -> dict[str, Any]:
    """Figures of held-out people; as of `evaluate_expressions`."""
    config, edit = trained.method.config, editor(client, EXPRESSIONS)
    options = count, seed, yardstick, watch, config.classes, second
    return evaluate_expressions(edit, config.data.size, *options)


def evaluate_real(
    trained: Trained,
    client: FaceClient,
    source: Source,
    yardstick: Classifier,
    count: int | None,
    split: str,
    watch: Watch,
) -> dict[str, Any]:
    """Figures of a split of another data set; as of `evaluate_classes`."""
    classes = trained.method.config.classes
    batches = held_out_batches(source, split, count or ENOUGH, "editing pictures")
    return evaluate_classes(editor(client, classes), batches, classes, yardstick, watch)


def editor(client: FaceClient, classes: Sequence[str]) -> ExpressionEdit:
    """Gives pictures the expressions that indices into `classes` name."""

    def edit(images, asked):
        names = np.array(classes, object)[asked]
        return client.predict({"image": images, "expression": names})["image"]

    return edit


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
        html.section(
            "Held-out faces",
            html.text(
                "People that were not in training. Each was sent as a PNG to the server and came "
                "back with the expression asked for. The truth is what the renderer draws for "
                "the same person with that expression.",
                soft=True,
            ),
            html.faces(("input", *EXPRESSIONS), rows, group=2),
        )
    ]
