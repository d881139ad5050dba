"""What is measured and shown of seg_hierarchical, by `tfface.evaluate` and `tfface.demo`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfface import html
from tfface.client import FaceClient
from tfface.data import open_source
from tfface.data.base import Source
from tfface.data.files import user_errors
from tfface.data.label_map_ops import colour_labels
from tfface.data.pictures import to_picture
from tfface.data.synthetic import EXPRESSIONS, render
from tfface.errors import UserError
from tfface.evaluation import expressions as sargan
from tfface.evaluation.classifier import Classifier
from tfface.evaluation.real_pictures import (
    COLUMNS,
    ROWS,
    Batches,
    evaluate_segments,
    held_out_batches,
)
from tfface.evaluation.synthetic_truth import SHOWN, draw, held_out
from tfface.methods.seg_hierarchical.config import SegHierarchicalConfig
from tfface.methods.trained import Trained
from tfface.metrics.figures import SEED, Row
from tfface.metrics.tally import Watch, joined, unwatched

TITLE = "Segmentation with hierarchical GANs: face parts, and another expression"
CURVES = (
    "segmentation/seg",
    "generator/fake",
    "generator/cls",
    "joint/fake",
    "joint/cls",
    "joint/seg",
    "joint/rec",
)
YARDSTICK = "classifier"
COUNTS = sargan.COUNTS
TABLE = (
    sargan.TABLE[0],
    (
        *sargan.TABLE[1],
        Row("parts found: mIoU", ("segmentation/miou", "", ""), "number"),
        Row("parts found: F1", ("segmentation/mean_f1", "", ""), "number"),
        Row("parts found: pixels", ("segmentation/pixel_accuracy", "", "")),
    ),
)
REAL_TABLE = COLUMNS, ROWS
BASELINES = (
    "Copying the input shows what doing nothing scores, the true render what could be reached at "
    "best. The regions outside and inside are those that expressions move."
)
_AT_ONCE = 32


def evaluate(
    trained: Trained,
    client: FaceClient,
    yardstick: Classifier,
    count: int,
    seed: int,
    watch: Watch = unwatched,
    second: Classifier | None = None,
) -> dict[str, Any]:
    """Figures of held-out people: SARGAN's, and the `segmentation` of four times as many.

    With a data set of label maps apart, the `segmentation` is that of its split "test", and of all
    pictures unless it is a small sample.
    """
    config = trained.method.config
    if config.labelled:
        most = None if count >= COUNTS[0] else 4 * count
        found = _segments(client, _labelled(config), most, "test", watch)
    else:
        batches = _faces(config.data.size, 4 * count, seed)
        found = evaluate_segments(_segment(client), batches, watch)
    edits = sargan.evaluate(trained, client, yardstick, count, seed, watch, second)
    return joined(edits, found)


def _faces(size: int, count: int, seed: int) -> Batches:
    people = held_out(count, seed)
    for start in range(0, count, _AT_ONCE):
        some = {name: value[start : start + _AT_ONCE] for name, value in people.items()}
        drawn = render(some, size, ("image", "label_map"))
        yield {name: value.numpy() for name, value in drawn.items()}


def evaluate_real(
    trained: Trained,
    client: FaceClient,
    source: Source,
    yardstick: Classifier | None,
    count: int | None,
    split: str,
    watch: Watch,
) -> dict[str, Any]:
    """Figures of a split of another data set, or of a segmentation network alone.

    As of `evaluate_segments`, on the data set with label maps, and of `evaluate_classes`.
    """
    config = trained.method.config
    labelled = _labelled(config) if config.labelled else source
    figures = _segments(client, labelled, count, split, watch)
    if config.only_segmenter:
        return figures
    edits = sargan.evaluate_real(trained, client, source, yardstick, count, split, watch)
    return joined(edits, figures)


def _labelled(config: SegHierarchicalConfig) -> Source:
    return open_source(config.labelled, fields=("label_map",))


def _segments(
    client: FaceClient, source: Source, count: int | None, split: str, watch: Watch
) -> dict[str, Any]:
    if source.count(split) == 0:
        raise UserError(f"the data set {source.data.name!r} has no pictures in the split {split!r}")
    batches = held_out_batches(source, split, count, "finding face parts")
    with user_errors(source):
        return evaluate_segments(_segment(client), batches, watch)


def _segment(client: FaceClient) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: client.predict({"image": image}, "segment")["label_map"]


def show(trained: Trained, client: FaceClient) -> list[str]:
    """The report's sections with pictures."""
    method, people = trained.method, held_out(SHOWN, SEED)
    size = method.config.data.size
    pictures = draw(people, size)
    truths = render(people, size, ("label_map",))["label_map"]
    found = client.segment(pictures)
    faces, parts = [], []
    for picture, labels, truth in zip(pictures, found, truths, strict=True):
        maps = [_coloured(labels), _coloured(truth)]
        edited = client.change_expression(picture, list(EXPRESSIONS))
        faces.append(("", [picture, *maps, *edited]))
    for name in ("happy", "surprised"):
        kinds = (*method.config.regions, None)
        shown = [client.change_expression(pictures[:2], name, part) for part in kinds]
        for i in range(2):
            parts.append((name, [pictures[i], *(column[i] for column in shown)]))
    return [
        html.section(
            "Held-out faces",
            html.text(
                "People that were not in training, sent as PNGs to the server. Beside each the "
                "parts that the segmentation network found, and the true ones.",
                soft=True,
            ),
            html.faces(("input", "found", "truth", *EXPRESSIONS), faces),
        ),
        html.section(
            "Parts",
            html.text("What the local generators made, and the face fused from it.", soft=True),
            html.faces(("input", *method.config.regions, "fused"), parts),
        ),
    ]


def _coloured(labels: Any):
    return to_picture(colour_labels(tf.cast(labels, tf.int32)).numpy())
