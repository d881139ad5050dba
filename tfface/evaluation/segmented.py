"""Evaluation of segmentation, alone and together with expression edits."""

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
from tfface.metrics.bootstrap import Observer, merge_results, no_observer
from tfface.metrics.tables import SEED, Row

_AT_ONCE = 32
_ROWS = (
    Row("segmentation mIoU", ("segmentation/miou", "", ""), "number"),
    Row("segmentation F1", ("segmentation/mean_f1", "", ""), "number"),
    Row("segmentation pixel accuracy", ("segmentation/pixel_accuracy", "", "")),
)


class Segmentation(Evaluation):
    """Evaluation of networks that only segment faces."""

    counts = 256, 16
    table = Evaluation.real_table
    baselines = unmeasured = "Predicted label maps are compared with the ground truth."

    def against_truth(
        self, judges: Sequence[Any], count: int, seed: int, observer: Observer = no_observer
    ) -> dict[str, Any]:
        """The `segmentation` metrics on held-out people."""
        batches = _faces(self.method.config.data.size, count, seed)
        return evaluate_segments(_segment(self.client), batches, observer)

    def without_truth(
        self,
        judge: None,
        source: Source,
        count: int | None,
        split: str,
        observer: Observer = no_observer,
    ) -> dict[str, Any]:
        """See `evaluate_segments`."""
        return _segments(self.client, source, count, split, observer)

    def show(self) -> list[str]:
        """Held-out people, and their label maps."""
        people = held_out(SHOWN, SEED)
        images = draw(people, self.method.config.data.size)
        columns = "input", "segmentation", "ground truth"
        rows = [("", [p, *maps]) for p, maps in _shown(self.client, people, images)]
        return [html.section("Held-out faces", html.faces(columns, rows))]


class SegmentedExpressions(Expressions):
    """Evaluation of methods that change a face's expression and segment it."""

    table = Expressions.table[0], (*Expressions.table[1], *_ROWS)
    baselines = f"{Expressions.baselines} The edited region is the one that expressions move."

    def against_truth(
        self, judges: Sequence[Classifier], count: int, seed: int, observer: Observer = no_observer
    ) -> dict[str, Any]:
        """The metrics of `Expressions`, and `segmentation` for four times as many people.

        With a separate data set of label maps, `segmentation` is computed on its split "test": on
        the whole split unless the sample is small.
        """
        if self._labelled is not None:
            most = None if count >= self.counts[0] else 4 * count
            segmentation = _segments(self.client, self._labelled, most, "test", observer)
        else:
            batches = _faces(self.method.config.data.size, 4 * count, seed)
            segmentation = evaluate_segments(_segment(self.client), batches, observer)
        return merge_results(super().against_truth(judges, count, seed, observer), segmentation)

    def without_truth(
        self,
        judge: Classifier,
        source: Source,
        count: int | None,
        split: str,
        observer: Observer = no_observer,
    ) -> dict[str, Any]:
        """The metrics of `Expressions`, and `evaluate_segments` on the data set with label maps."""
        segmentation = _segments(self.client, self._labelled or source, count, split, observer)
        edits = super().without_truth(judge, source, count, split, observer)
        return merge_results(edits, segmentation)

    @property
    def _labelled(self) -> Source | None:
        data = self.method.config.datasets().get("labelled")
        return data and open_source(data, fields=("label_map",))

    def show_beside(self, other: Evaluation, name: str) -> list[str]:
        """The sections of both models one after the other, as their rows are too long to align."""
        return Evaluation.show_beside(self, other, name)

    def show(self) -> list[str]:
        """Held-out people with their label maps and each expression, and edited face parts."""
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
                    "People not seen in training, sent to the server as PNGs. Beside each face its "
                    "segmentation by the network, and the ground truth.",
                    soft=True,
                ),
                html.faces(("input", "segmentation", "ground truth", *EXPRESSIONS), faces),
            ),
            html.section(
                "Face parts",
                html.text("The outputs of the local generators, and the fused face.", soft=True),
                html.faces(("input", *regions, "fused"), parts),
            ),
        ]


def _faces(size: int, count: int, seed: int) -> Batches:
    people = held_out(count, seed)
    for start in range(0, count, _AT_ONCE):
        factors = {name: value[start : start + _AT_ONCE] for name, value in people.items()}
        drawn = render(factors, size, ("image", "label_map"))
        yield {name: value.numpy() for name, value in drawn.items()}


def _segments(
    client: FaceClient, source: Source, count: int | None, split: str, observer: Observer
) -> dict[str, Any]:
    if source.count(split) == 0:
        raise UserError(f"the data set {source.data.name!r} has no images in the split {split!r}")
    batches = held_out_batches(source, split, count, "segmenting faces")
    with user_errors(source):
        return evaluate_segments(_segment(client), batches, observer)


def _segment(client: FaceClient) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: client.predict({"image": image}, "segment")["label_map"]


def _shown(
    client: FaceClient, people: dict, images: list[Image]
) -> list[tuple[Image, list[Image]]]:
    """Images of built-in faces with their label maps: predicted and ground truth."""
    truths = render(people, images[0].size[0], ("label_map",))["label_map"]
    predictions = client.segment(images)
    return [
        (image, [_coloured(labels), _coloured(truth)])
        for image, labels, truth in zip(images, predictions, truths, strict=True)
    ]


def _coloured(labels: Any) -> Image:
    return to_image(colour_labels(tf.cast(labels, tf.int32)).numpy())
