"""Segmentation, and edits of expressions that come with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL.Image import Image

from tfface import html
from tfface.client import FaceClient
from tfface.data import open_source
from tfface.data.base import Source
from tfface.data.files import user_errors
from tfface.data.images import to_image
from tfface.data.label_map_ops import colour_labels
from tfface.data.synthetic import EXPRESSIONS, render
from tfface.errors import UserError
from tfface.evaluation.base import Evaluation
from tfface.evaluation.classifier import Classifier
from tfface.evaluation.expressions import Expressions
from tfface.evaluation.real_images import Batches, evaluate_segments, held_out_batches
from tfface.evaluation.synthetic_truth import SHOWN, draw, held_out
from tfface.metrics.bootstrap import Watch, joined, unwatched
from tfface.metrics.tables import SEED, Row

_AT_ONCE = 32
_ROWS = (
    Row("parts found: mIoU", ("segmentation/miou", "", ""), "number"),
    Row("parts found: F1", ("segmentation/mean_f1", "", ""), "number"),
    Row("parts found: pixels", ("segmentation/pixel_accuracy", "", "")),
)


class Segmentation(Evaluation):
    """Of networks that find the parts of a face, and do nothing else."""

    counts = 256, 16
    table = Evaluation.real_table
    baselines = unmeasured = "Label maps are compared with the true ones."

    def against_truth(
        self, judges: Sequence[Any], count: int, seed: int, watch: Watch = unwatched
    ) -> dict[str, Any]:
        """The `segmentation` of held-out people."""
        batches = _faces(self.method.config.data.size, count, seed)
        return evaluate_segments(_segment(self.client), batches, watch)

    def without_truth(
        self, judge: None, source: Source, count: int | None, split: str, watch: Watch = unwatched
    ) -> dict[str, Any]:
        """As of `evaluate_segments`."""
        return _segments(self.client, source, count, split, watch)

    def show(self) -> list[str]:
        """Held-out people, and their label maps."""
        people = held_out(SHOWN, SEED)
        images = draw(people, self.method.config.data.size)
        columns = "input", "found", "truth"
        rows = [("", [p, *maps]) for p, maps in _shown(self.client, people, images)]
        return [html.section("Held-out faces", html.faces(columns, rows))]


class SegmentedExpressions(Expressions):
    """Of methods that give a face another expression, and find its parts."""

    table = Expressions.table[0], (*Expressions.table[1], *_ROWS)
    baselines = (
        f"{Expressions.baselines} The regions outside and inside are those that expressions move."
    )

    def against_truth(
        self, judges: Sequence[Classifier], count: int, seed: int, watch: Watch = unwatched
    ) -> dict[str, Any]:
        """Those of `Expressions`, and the `segmentation` of four times as many people.

        With a data set of label maps apart, the `segmentation` is that of its split "test", and of
        all images unless it is a small sample.
        """
        if self._labelled is not None:
            most = None if count >= self.counts[0] else 4 * count
            found = _segments(self.client, self._labelled, most, "test", watch)
        else:
            batches = _faces(self.method.config.data.size, 4 * count, seed)
            found = evaluate_segments(_segment(self.client), batches, watch)
        return joined(super().against_truth(judges, count, seed, watch), found)

    def without_truth(
        self,
        judge: Classifier,
        source: Source,
        count: int | None,
        split: str,
        watch: Watch = unwatched,
    ) -> dict[str, Any]:
        """Those of `Expressions`, and of `evaluate_segments` on the data set with label maps."""
        figures = _segments(self.client, self._labelled or source, count, split, watch)
        return joined(super().without_truth(judge, source, count, split, watch), figures)

    @property
    def _labelled(self) -> Source | None:
        data = self.method.config.datasets().get("labelled")
        return data and open_source(data, fields=("label_map",))

    def show_beside(self, other: Evaluation, name: str) -> list[str]:
        """Below each other: a row has the label maps as well."""
        return Evaluation.show_beside(self, other, name)

    def show(self) -> list[str]:
        """Held-out people with their label maps and each expression; edited parts."""
        people, regions = held_out(SHOWN, SEED), self.method.config.regions
        images = draw(people, self.method.config.data.size)
        faces, parts = [], []
        for image, maps in _shown(self.client, people, images):
            edited = self.client.change_expression(image, list(EXPRESSIONS))
            faces.append(("", [image, *maps, *edited]))
        for name in ("happy", "surprised"):
            kinds = (*regions, None)
            shown = [self.client.change_expression(images[:2], name, part) for part in kinds]
            for i in range(2):
                parts.append((name, [images[i], *(column[i] for column in shown)]))
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
                html.faces(("input", *regions, "fused"), parts),
            ),
        ]


def _faces(size: int, count: int, seed: int) -> Batches:
    people = held_out(count, seed)
    for start in range(0, count, _AT_ONCE):
        some = {name: value[start : start + _AT_ONCE] for name, value in people.items()}
        drawn = render(some, size, ("image", "label_map"))
        yield {name: value.numpy() for name, value in drawn.items()}


def _segments(
    client: FaceClient, source: Source, count: int | None, split: str, watch: Watch
) -> dict[str, Any]:
    if source.count(split) == 0:
        raise UserError(f"the data set {source.data.name!r} has no images in the split {split!r}")
    batches = held_out_batches(source, split, count, "finding face parts")
    with user_errors(source):
        return evaluate_segments(_segment(client), batches, watch)


def _segment(client: FaceClient) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: client.predict({"image": image}, "segment")["label_map"]


def _shown(
    client: FaceClient, people: dict, images: list[Image]
) -> list[tuple[Image, list[Image]]]:
    """Images of built-in faces, and their label maps: found and true."""
    truths = render(people, images[0].size[0], ("label_map",))["label_map"]
    found = client.segment(images)
    return [
        (image, [_coloured(labels), _coloured(truth)])
        for image, labels, truth in zip(images, found, truths, strict=True)
    ]


def _coloured(labels: Any) -> Image:
    return to_image(colour_labels(tf.cast(labels, tf.int32)).numpy())
