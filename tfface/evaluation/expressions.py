"""Evaluation of expression edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfface import html
from tfface.data.base import Source
from tfface.data.synthetic import EXPRESSIONS, moving_mask, render, with_expression
from tfface.evaluation.base import Classified, Evaluation
from tfface.evaluation.classifier import Classifier
from tfface.evaluation.real_images import ENOUGH, evaluate_classes, held_out_batches
from tfface.evaluation.synthetic_truth import (
    BATCH,
    ERROR,
    INTENSITY,
    SHOWN,
    chunks,
    draw,
    held_out,
    identity_rows,
    success_rows,
)
from tfface.metrics.bootstrap import (
    ImageRoles,
    Measurements,
    Observer,
    image_errors,
    means,
    no_observer,
    ratio,
)
from tfface.metrics.tables import EDITED, KINDS, SEED, rows_of

ExpressionEdit = Callable[[np.ndarray, np.ndarray], Any]


class Expressions(Classified):
    """Evaluation of methods that change a face's expression."""

    counts = 64, 4
    table = (
        tuple(KINDS.values()),
        rows_of(
            KINDS,
            {
                "accuracy": ("target-expression accuracy", "share"),
                "second/accuracy": ("target-expression accuracy, second judge", "share"),
                **EDITED,
            },
        ),
    )
    baselines = (
        "Baselines: a copy of the input (no edit at all), and the ground truth, the best possible "
        "result: the same person drawn with the target expression."
    )

    def against_truth(
        self, judges: Sequence[Classifier], count: int, seed: int, observer: Observer = no_observer
    ) -> dict[str, Any]:
        """See `evaluate_expressions`."""
        size, classes = self.method.config.data.size, self.method.labels
        first, *second = judges
        options = count, seed, first, observer, classes, *second
        return evaluate_expressions(self.editor(EXPRESSIONS), size, *options)

    def without_truth(
        self,
        judge: Classifier,
        source: Source,
        count: int | None,
        split: str,
        observer: Observer = no_observer,
    ) -> dict[str, Any]:
        """See `evaluate_classes`."""
        classes = self.method.labels
        batches = held_out_batches(source, split, count or ENOUGH, "editing images")
        return evaluate_classes(self.editor(classes), batches, classes, judge, observer)

    def editor(self, classes: Sequence[str]) -> ExpressionEdit:
        """A function that gives images the expressions with the given indices into `classes`."""

        def edit(images, targets):
            names = np.array(classes, object)[targets]
            return self.client.predict({"image": images, "expression": names})["image"]

        return edit

    def show(self) -> list[str]:
        """Held-out people edited to each expression, with the ground truth below."""
        return self._show({"edited": self})

    def show_beside(self, other: Evaluation, name: str) -> list[str]:
        """The same, with a row for each model."""
        return self._show({"edited": self, name: other})

    def _show(self, models: dict[str, Evaluation]) -> list[str]:
        size = self.method.config.data.size
        people = held_out(SHOWN, SEED)
        truth = [
            draw(with_expression(people, index, INTENSITY), size)
            for index in range(len(EXPRESSIONS))
        ]
        rows = []
        for i, image in enumerate(draw(people, size)):
            for j, (name, model) in enumerate(models.items()):
                edited = model.client.change_expression(image, list(EXPRESSIONS))
                rows.append((name, [None if j else image, *edited]))
            rows.append(("ground truth", [None, *(faces[i] for faces in truth)]))
        return [
            html.section(
                "Held-out faces",
                html.text(
                    "People not seen in training. Each was sent to the server as a PNG and edited "
                    "to each expression. The ground truth is the same person, re-rendered with the "
                    "target expression.",
                    soft=True,
                ),
                html.faces(("input", *EXPRESSIONS), rows, group=len(models) + 1),
            )
        ]


def evaluate_expressions(
    edit: ExpressionEdit,
    size: int,
    count: int,
    seed: int,
    classifier: Classifier,
    observer: Observer = no_observer,
    classes: tuple[str, ...] = EXPRESSIONS,
    second: Classifier | None = None,
) -> dict[str, Any]:
    """Edits held-out people to each expression and compares the results with the ground truth.

    The ground truth is a render of the same person with the target expression at intensity 0.85,
    the mean of the training faces. Errors are absolute differences as a share of the pixel value
    range.

    Args:
        edit: From images float32 [N,S,S,3] in [-1,1] and indices int32 [N] into EXPRESSIONS to
            edited images of the same shape and range.
        size: Side of the images, in pixels.
        count: Number of people; each is edited once for each expression.
        seed: Seed that selects the people.
        classifier: The judge, for images of the same size.
        observer: Receives the edited images.
        classes: The target expressions, from EXPRESSIONS.
        second: The second judge.

    Returns:
        `people`; and for `edited` and the baselines `copy` (the input) and `target` (the ground
        truth): `accuracy`, the share of images in which the classifier sees the target expression;
        `improved_over_input`, the share in which it does and whose PSNR is above the input's, of
        the inputs with another expression (one that shows the target already differs from its
        ground truth only in intensity, at some 60 dB); `improved_by_half_db`, the same with a
        margin of at least 0.5 dB; these three according to the second judge in `second`;
        `identity`, the mean cosine similarity to the input person, if the classifier has an
        identity head; `accuracy_by_expression`; `confusion`, with target expressions as rows and
        predicted ones as columns, as shares of the row; `error`, also inside and outside the
        regions that expressions move (`error_inside`, `error_outside`); `psnr` in dB of the mean
        squared error (None if it is 0); `intervals`, see `Measurements.result`.
    """
    measurements, kinds, judges = (
        Measurements(),
        len(classes),
        [classifier, *([second] if second else [])],
    )
    wanted = np.array([EXPRESSIONS.index(name) for name in classes], np.int32)
    seen: dict[str, np.ndarray] = {}
    people = held_out(count, seed)
    for batch in chunks(people, count, BATCH // kinds, "editing held-out faces"):
        factors = {name: tf.repeat(value, kinds) for name, value in batch.items()}
        expected = np.tile(wanted, len(factors["identity"]) // kinds)
        other = factors["expression"].numpy() != expected
        image = render(factors, size)["image"].numpy()
        target = render(with_expression(factors, expected, INTENSITY), size)["image"].numpy()
        moving = moving_mask(factors, size).numpy()
        results = {"edited": np.asarray(edit(image, expected)), "copy": image, "target": target}
        errors = {kind: image_errors(images, target, moving) for kind, images in results.items()}
        for kind, images in results.items():
            predicted = [judge.expressions(images) for judge in judges]
            counts = seen.setdefault(kind, np.zeros((kinds, len(EXPRESSIONS))))
            np.add.at(counts, (np.arange(len(expected)) % kinds, predicted[0]), 1)
            right = [expressions == expected for expressions in predicted]
            rows = {**errors[kind], **identity_rows(classifier, images, image)}
            rows |= success_rows("accuracy", right, errors[kind], errors["copy"], other)
            for i, name in zip(wanted, classes, strict=True):
                rows[f"accuracy_by_expression/{name}"] = means(right[0], expected == i)
            measurements.add(kind, rows, per_person=kinds)
        names = [EXPRESSIONS[i] for i in expected]
        shown = {"input": image, "edited": results["edited"], "ground truth": target}
        roles = ImageRoles(("edited",), "input", "ground truth", per_person=kinds)
        observer(ERROR, names, shown, ratio(errors["edited"]["error"]), roles)
    metrics = {"people": count, **measurements.result()}
    for kind, counts in seen.items():
        metrics[kind]["confusion"] = (counts / count).tolist()
    return metrics
