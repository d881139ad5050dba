"""Edits of expressions."""

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
    kept_person,
    verdicts,
)
from tfface.metrics.bootstrap import Roles, Tally, Watch, compared, means, ratio, unwatched
from tfface.metrics.tables import EDITED, KINDS, SEED, rows_of

ExpressionEdit = Callable[[np.ndarray, np.ndarray], Any]


class Expressions(Classified):
    """Of methods that give a face another expression."""

    counts = 64, 4
    table = (
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
    baselines = (
        "Copying the input shows what doing nothing scores, the true render what could be reached "
        "at best."
    )

    def against_truth(
        self, judges: Sequence[Classifier], count: int, seed: int, watch: Watch = unwatched
    ) -> dict[str, Any]:
        """As of `evaluate_expressions`."""
        size, classes = self.method.config.data.size, self.method.labels
        first, *second = judges
        options = count, seed, first, watch, classes, *second
        return evaluate_expressions(self.editor(EXPRESSIONS), size, *options)

    def without_truth(
        self,
        judge: Classifier,
        source: Source,
        count: int | None,
        split: str,
        watch: Watch = unwatched,
    ) -> dict[str, Any]:
        """As of `evaluate_classes`."""
        classes = self.method.labels
        batches = held_out_batches(source, split, count or ENOUGH, "editing images")
        return evaluate_classes(self.editor(classes), batches, classes, judge, watch)

    def editor(self, classes: Sequence[str]) -> ExpressionEdit:
        """Gives images the expressions that indices into `classes` name."""

        def edit(images, asked):
            names = np.array(classes, object)[asked]
            return self.client.predict({"image": images, "expression": names})["image"]

        return edit

    def show(self) -> list[str]:
        """Held-out people with each expression, above their true renders."""
        return self._show({"edited": self})

    def show_beside(self, other: Evaluation, name: str) -> list[str]:
        """With a row for each model."""
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
            rows.append(("truth", [None, *(faces[i] for faces in truth)]))
        return [
            html.section(
                "Held-out faces",
                html.text(
                    "People that were not in training. Each was sent as a PNG to the server and "
                    "came back with the expression asked for. The truth is what the renderer draws "
                    "for the same person with that expression.",
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
    watch: Watch = unwatched,
    classes: tuple[str, ...] = EXPRESSIONS,
    second: Classifier | None = None,
) -> dict[str, Any]:
    """Gives held-out people each of some expressions, and compares with their true renders.

    The true render has the asked expression with intensity 0.85, the mean of the training faces.
    Errors are absolute differences as a share of the range of the pixels' values.

    Args:
        edit: From images float32 [N,S,S,3] in [-1,1] and indices int32 [N] into EXPRESSIONS to
            edited images of the same kind.
        size: Side of the images, in pixels.
        count: How many people; each is edited once for each expression.
        seed: Which people.
        classifier: Of the same size.
        watch: Is shown the edits.
        classes: The expressions asked for, of EXPRESSIONS.
        second: Another judge of the same size.

    Returns:
        `people`; and for `edited`, and the baselines `copy` (the input) and `target` (the true
        render): `accuracy`, the share in which the classifier sees the asked expression;
        `improved_over_input`, the share in which it does, and which have a higher PSNR than the
        input, of those whose true render is not the input; `improved_by_half_db`, the same by at
        least 0.5 dB; these three by the second judge in `second`; `identity`, the mean cosine of
        the person with the input's, if the classifier knows people;
        `accuracy_by_expression`; `confusion`, rows asked, columns seen, as shares of the row;
        `error`, and `error_outside` and `error_inside` the regions that expressions move; `psnr` in
        dB of the mean squared error (None without any error); `intervals` as of `Tally.result`.
    """
    tally, kinds, judges = Tally(), len(classes), [classifier, *([second] if second else [])]
    wanted = np.array([EXPRESSIONS.index(name) for name in classes], np.int32)
    seen: dict[str, np.ndarray] = {}
    people = held_out(count, seed)
    for some in chunks(people, count, BATCH // kinds, "editing held-out faces"):
        some = {name: tf.repeat(value, kinds) for name, value in some.items()}
        asked = np.tile(wanted, len(some["identity"]) // kinds)
        image = render(some, size)["image"].numpy()
        target = render(with_expression(some, asked, INTENSITY), size)["image"].numpy()
        moving = moving_mask(some, size).numpy()
        made = {"edited": np.asarray(edit(image, asked)), "copy": image, "target": target}
        errors = {kind: compared(images, target, moving) for kind, images in made.items()}
        for kind, images in made.items():
            found = [judge.expressions(images) for judge in judges]
            counts = seen.setdefault(kind, np.zeros((kinds, len(EXPRESSIONS))))
            np.add.at(counts, (np.arange(len(asked)) % kinds, found[0]), 1)
            right = [expressions == asked for expressions in found]
            rows = {**errors[kind], **kept_person(classifier, images, image)}
            rows |= verdicts("accuracy", right, errors[kind], errors["copy"])
            for i, name in zip(wanted, classes, strict=True):
                rows[f"accuracy_by_expression/{name}"] = means(right[0], asked == i)
            tally.add(kind, rows, per=kinds)
        names = [EXPRESSIONS[i] for i in asked]
        shown = {"input": image, "edited": made["edited"], "true render": target}
        roles = Roles(("edited",), "input", "true render", per=kinds)
        watch(ERROR, names, shown, ratio(errors["edited"]["error"]), roles)
    figures = {"people": count, **tally.result()}
    for kind, counts in seen.items():
        figures[kind]["confusion"] = (counts / count).tolist()
    return figures
