"""Attributes exchanged between faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfface import html
from tfface.data.base import Source
from tfface.data.synthetic import ATTRIBUTES, render, with_attribute
from tfface.evaluation.base import Classified
from tfface.evaluation.classifier import Classifier
from tfface.evaluation.real_images import ENOUGH, evaluate_pairs, exchange_rows, swapped
from tfface.evaluation.synthetic_truth import (
    BATCH,
    ERROR,
    chunks,
    draw,
    held_out,
    kept_person,
    verdicts,
)
from tfface.metrics.bootstrap import (
    RANGE,
    Roles,
    Tally,
    Watch,
    compared,
    joined,
    means,
    ratio,
    unwatched,
)
from tfface.metrics.tables import EDITED, KINDS, SEED, rows_of

Transfer = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]

_KINDS = {**KINDS, "unchanged": "input, decoded from its own code"}
_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LEVEL = RANGE / 255  # Of an 8-bit colour.


class Attributes(Classified):
    """Of methods that give a face an attribute as another one has it."""

    counts = 96, 4
    table = (
        tuple(_KINDS.values()),
        rows_of(
            _KINDS,
            {
                "right": ("exchanged attribute right", "share"),
                "second/right": ("exchanged attribute right, by a second judge", "share"),
                "others": ("other attributes kept", "share"),
                "all_others": ("all others kept", "share"),
                **EDITED,
            },
        )
        + rows_of(
            {f"several/{kind}": title for kind, title in _KINDS.items()},
            {
                "all_right": ("all exchanged at once: all of them right", "share"),
                "improved_over_input": (
                    "all right, and nearer to the truth than the input",
                    "share",
                ),
            },
        ),
    )
    baselines = (
        "Copying the input shows what doing nothing scores, the true render what could be reached "
        "at best. The input decoded from its own, unchanged code (strength 0) shows which "
        "exchanges are only damage: none of it is asked for."
    )

    @property
    def attributes(self) -> tuple[str, ...]:
        """Those that are exchanged."""
        return self.method.labels

    def against_truth(
        self, judges: Sequence[Classifier], count: int, seed: int, watch: Watch = unwatched
    ) -> dict[str, Any]:
        """As of `evaluate_exchange`, with `unchanged`: strength 0.

        Of two attributes or more also those of `evaluate_several`.
        """
        first, *second = judges
        options = self.method.labels, self.method.config.data.size, count, seed, first

        def unchanged(source, reference, attribute):
            return self._transfer(source, reference, attribute, np.zeros(len(source), np.float32))

        figures = evaluate_exchange(self._transfer, *options, watch, *second)
        baseline = evaluate_exchange(unchanged, *options, unwatched, *second)
        intervals = {"unchanged": baseline["intervals"]["edited"]}
        figures = joined(figures, {"unchanged": baseline["edited"], "intervals": intervals})
        if len(self.method.labels) < 2:
            return figures
        return joined(figures, evaluate_several(self._transfer_all, *options))

    def without_truth(
        self,
        judge: Classifier,
        source: Source,
        count: int | None,
        split: str,
        watch: Watch = unwatched,
    ) -> dict[str, Any]:
        """As of `evaluate_pairs`."""
        return evaluate_pairs(self._transfer, source, split, count or ENOUGH, judge, watch)

    def _transfer(self, source, reference, attribute, strength=None):
        inputs = {
            "source": source,
            "reference": reference,
            "attribute": np.array(self.method.labels, object)[attribute],
            "strength": np.ones(len(source), np.float32) if strength is None else strength,
        }
        return self.client.predict(inputs)["image"]

    def _transfer_all(self, source, reference):
        names = self.method.labels
        shape = len(source), len(names)
        inputs = {
            "source": source,
            "reference": np.repeat(reference[:, None], shape[1], 1),
            "attribute": np.tile(np.array(names, object), (shape[0], 1)),
            "strength": np.ones(shape, np.float32),
        }
        return self.client.predict(inputs, "several")["image"]

    def show(self) -> list[str]:
        """Exchanges both ways, and strengths between."""
        names, size = self.method.labels, self.method.config.data.size
        rows, steps = [], []
        for i, name in enumerate(names):
            pairs = zip(
                draw(held_out(2, SEED + 2 * i, names, (name, True)), size),
                draw(held_out(2, SEED + 2 * i + 1, names, (name, False)), size),
                strict=True,
            )
            for has, lacks in pairs:
                exchanged = self.client.transfer_attribute([has, lacks], [lacks, has], name)
                rows.append((name, [has, lacks, *exchanged]))
                blended = self.client.transfer_attribute(lacks, has, name, list(_STRENGTHS))
                steps.append((name, [has, lacks, *blended]))
        columns = ("A (has it)", "B (lacks it)")
        return [
            html.section(
                "Exchanged attributes",
                html.text(
                    "People that were not in training. A and B were sent as PNGs to the server and "
                    "came back with each other's attribute.",
                    soft=True,
                ),
                html.faces((*columns, "C: A with B's", "D: B with A's"), rows, group=2),
            ),
            html.section(
                "Interpolation",
                html.text("From B as it is to B with all of A's attribute.", soft=True),
                html.faces((*columns, *(f"{s:.0%}" for s in _STRENGTHS)), steps, group=2),
            ),
        ]


def evaluate_exchange(
    transfer: Transfer,
    attributes: tuple[str, ...],
    size: int,
    count: int,
    seed: int,
    classifier: Classifier,
    watch: Watch = unwatched,
    second: Classifier | None = None,
) -> dict[str, Any]:
    """Exchanges each attribute between held-out people who have it (A) and who lack it (B).

    Args:
        transfer: From sources float32 [N,S,S,3] in [-1,1], references of the same kind and indices
            int32 [N] into the attributes to the sources with the references' attribute.
        attributes: Names.
        size: Side of the images, in pixels.
        count: How many pairs per attribute; each is exchanged both ways.
        seed: Which people.
        classifier: Of the same size, that tells these attributes (and others, if it may).
        watch: Is shown the exchanged images.
        second: Another judge, of the same kind.

    Returns:
        `pairs`; and for `edited`, and the baselines `copy` (the source) and `target` (the source's
        true render with and without the attribute), over all and by attribute (`by_attribute`):
        `right`, the share in which the classifier sees the exchanged attribute as it should be;
        `improved_over_input`, the share in which it does, and which have a higher PSNR than the
        source; `improved_by_half_db`, the same by at least 0.5 dB; these three by the second judge
        in `second`; `identity`, the mean cosine of the person with the source's, if the classifier
        knows people; `others`, the share of the other attributes that it sees as they were;
        `all_others`, the share of images in which all of them are so; `error`, `error_outside`
        and `error_inside` the pixels that the true render changes, and `psnr`, as of `compared`.
        `intervals` as of `Tally.result`, over pairs.
    """
    tally = Tally()
    judges = [classifier, *([second] if second else [])]
    columns = [[judge.names.index(name) for name in attributes] for judge in judges]
    for i, name in enumerate(attributes):
        have = held_out(count, seed + 2 * i, attributes, (name, True))
        lack = held_out(count, seed + 2 * i + 1, attributes, (name, False))
        both = {k: tf.stack([have[k], lack[k]], 1) for k in have}  # [pairs, A and B]
        for some in chunks(both, count, BATCH // 2, f"exchanging {name}"):
            source = {k: tf.reshape(v, [-1]) for k, v in some.items()}
            drawn = render(source, size, ("image", "attributes"))
            image = drawn["image"].numpy()
            truth = drawn["attributes"].numpy()[:, [ATTRIBUTES.index(n) for n in attributes]]
            truth[:, i] = 1 - truth[:, i]
            reference = swapped(image)
            target = render(with_attribute(source, name, truth[:, i] == 1), size)["image"].numpy()
            edited = np.asarray(transfer(image, reference, np.full(len(image), i, np.int32)))
            changed = np.abs(target - image).max(-1) > _LEVEL
            made = {"edited": edited, "copy": image, "target": target}
            errors = {kind: compared(images, target, changed) for kind, images in made.items()}
            for kind, images in made.items():
                right = [
                    judge.attributes(images)[:, own] == (truth == 1)
                    for judge, own in zip(judges, columns, strict=True)
                ]
                rows = {**exchange_rows(right[0], i), **errors[kind]}
                rows |= kept_person(classifier, images, image)
                rows |= verdicts("right", [r[:, i] for r in right], errors[kind], errors["copy"])
                for group in (kind, f"{kind}/by_attribute/{name}"):
                    tally.add(group, rows, per=2)
            shown = {"input": image, "reference": reference}
            shown |= {"edited": edited, "true render": target}
            names = [f"{'with' if value else 'without'} {name}" for value in truth[:, i]]
            roles = Roles(("edited",), "input", "true render", per=2)
            watch(ERROR, names, shown, ratio(errors["edited"]["error"]), roles)
    return {"pairs": count, **tally.result()}


def evaluate_several(
    transfer: Callable[[np.ndarray, np.ndarray], Any],
    attributes: tuple[str, ...],
    size: int,
    count: int,
    seed: int,
    classifier: Classifier,
) -> dict[str, Any]:
    """Gives held-out people who have none of some attributes all of another person's at once.

    Of attributes that exclude each other the reference has the last.

    Args:
        transfer: From sources float32 [N,S,S,3] in [-1,1] and references of the same kind to the
            sources with all attributes of the references.
        attributes: Names.
        size: Side of the images, in pixels.
        count: How many pairs of a source and a reference.
        seed: Which people; none of those of `evaluate_exchange`.
        classifier: Of the same size, that tells these attributes.

    Returns:
        `several`: for `edited`, and the baselines `copy` (the source) and `target` (the source's
        true render with the attributes), `all_right`, the share in which the classifier sees every
        attribute as it should be; `improved_over_input`, the share in which it does, and which have
        a higher PSNR than the source; `error`, and `psnr`, as of `compared`. `intervals` as of
        `Tally.result`.
    """
    tally, first = Tally(), seed + 2 * len(attributes)
    source, reference = (held_out(count, first + i, attributes) for i in (0, 1))
    for name in attributes:
        source = with_attribute(source, name, False)
    target = source
    for name in attributes:
        reference, target = (with_attribute(some, name, True) for some in (reference, target))
    people = {k: tf.stack([source[k], reference[k], target[k]], 1) for k in source}
    seen = [classifier.names.index(name) for name in attributes]
    for some in chunks(people, count, BATCH, "exchanging all attributes"):
        image, other, drawn = (
            render({k: v[:, i] for k, v in some.items()}, size, ("image", "attributes"))
            for i in range(3)
        )
        image, other, truth = (faces["image"].numpy() for faces in (image, other, drawn))
        asked = tf.gather(drawn["attributes"], [ATTRIBUTES.index(n) for n in attributes], axis=1)
        made = {"edited": np.asarray(transfer(image, other)), "copy": image, "target": truth}
        errors = {kind: compared(images, truth) for kind, images in made.items()}
        before = ratio(errors["copy"]["psnr"])
        for kind, images in made.items():
            right = (classifier.attributes(images)[:, seen] == (asked.numpy() == 1)).all(1)
            rows = {"all_right": means(right), **errors[kind]}
            nearer = ratio(errors[kind]["psnr"]) < before  # In mean squared errors.
            rows["improved_over_input"] = means(right & nearer, before > 0)
            tally.add(f"several/{kind}", rows)
    return tally.result()
