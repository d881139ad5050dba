"""Evaluation of attribute transfer between faces."""

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
    identity_rows,
    success_rows,
)
from tfface.metrics.bootstrap import (
    RANGE,
    ImageRoles,
    Measurements,
    Observer,
    image_errors,
    means,
    merge_results,
    no_observer,
    ratio,
)
from tfface.metrics.tables import EDITED, KINDS, SEED, rows_of

Transfer = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]

_KINDS = {**KINDS, "unchanged": "input, decoded from its own code"}
_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LEVEL = RANGE / 255  # One level of an 8-bit colour.


class Attributes(Classified):
    """Evaluation of methods that transfer an attribute from one face to another."""

    counts = 96, 4
    table = (
        tuple(_KINDS.values()),
        rows_of(
            _KINDS,
            {
                "right": ("target-attribute accuracy", "share"),
                "second/right": ("target-attribute accuracy, second judge", "share"),
                "others": ("other attributes preserved", "share"),
                "all_others": ("all other attributes preserved", "share"),
                **EDITED,
            },
        )
        + rows_of(
            {f"several/{kind}": title for kind, title in _KINDS.items()},
            {
                "all_right": ("all attributes at once: all shown", "share"),
                "improved_over_input": (
                    "all shown, and closer to the ground truth than the input",
                    "share",
                ),
            },
        ),
    )
    baselines = (
        "Baselines: a copy of the input (no edit at all), and the ground truth, the best possible "
        "result: the same person drawn with the target attribute. The input decoded from its own, "
        "unchanged code (strength 0) shows which changes are mere reconstruction errors."
    )

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that the method transfers."""
        return self.method.labels

    def against_truth(
        self, judges: Sequence[Classifier], count: int, seed: int, observer: Observer = no_observer
    ) -> dict[str, Any]:
        """The results of `evaluate_exchange`, with `unchanged` for strength 0.

        For two or more attributes also those of `evaluate_several`.
        """
        first, *second = judges
        options = self.method.labels, self.method.config.data.size, count, seed, first

        def unchanged(source, reference, attribute):
            return self.transfer(source, reference, attribute, np.zeros(len(source), np.float32))

        result = evaluate_exchange(self.transfer, *options, observer, *second)
        baseline = evaluate_exchange(unchanged, *options, no_observer, *second)
        intervals = {"unchanged": baseline["intervals"]["edited"]}
        result = merge_results(result, {"unchanged": baseline["edited"], "intervals": intervals})
        if len(self.method.labels) < 2:
            return result
        return merge_results(result, evaluate_several(self._transfer_all, *options))

    def without_truth(
        self,
        judge: Classifier,
        source: Source,
        count: int | None,
        split: str,
        observer: Observer = no_observer,
    ) -> dict[str, Any]:
        """See `evaluate_pairs`."""
        return evaluate_pairs(self.transfer, source, split, count or ENOUGH, judge, observer)

    def transfer(
        self,
        source: np.ndarray,
        reference: np.ndarray,
        attribute: np.ndarray,
        strength: np.ndarray | None = None,
    ) -> np.ndarray:
        """Gives sources [N,S,S,3] their references' attributes, by index int32 [N]."""
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
        """Exchanges in both directions, and interpolation by strength."""
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
                    "People not seen in training. A and B were sent to the server as PNGs and "
                    "edited to have each other's attribute.",
                    soft=True,
                ),
                html.faces((*columns, "C: A with B's", "D: B with A's"), rows, group=2),
            ),
            html.section(
                "Interpolation",
                html.text(
                    "From the unchanged B to B with A's attribute at full strength.", soft=True
                ),
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
    observer: Observer = no_observer,
    second: Classifier | None = None,
) -> dict[str, Any]:
    """Exchanges each attribute between held-out people who have it (A) and who lack it (B).

    Args:
        transfer: From sources float32 [N,S,S,3] in [-1,1], references of the same shape and indices
            int32 [N] into the attributes to the sources with the references' attribute.
        attributes: Names of the attributes.
        size: Side of the images, in pixels.
        count: Number of pairs for each attribute; each is exchanged in both directions.
        seed: Seed that selects the people.
        classifier: The judge, for images of the same size; it may predict further attributes.
        observer: Receives the edited images.
        second: The second judge.

    Returns:
        `pairs`; and for `edited` and the baselines `copy` (the source) and `target` (the ground
        truth: the source re-rendered with the attribute changed), over all and by attribute
        (`by_attribute`):
        `right`, the share of images in which the classifier sees the target value of the attribute;
        `improved_over_input`, the share in which it does and whose PSNR is above the source's;
        `improved_by_half_db`, the same with a margin of at least 0.5 dB; these three according to
        the second judge in `second`; `identity`, the mean cosine similarity to the source person,
        if the classifier has an identity head; `others`, the share of the other attributes that
        the classifier sees unchanged; `all_others`, the share of images in which all of them are;
        `error`, also inside and outside the pixels that differ in the ground truth
        (`error_inside`, `error_outside`), and `psnr`, see `image_errors`.
        `intervals` over pairs, see `Measurements.result`.
    """
    measurements = Measurements()
    judges = [classifier, *([second] if second else [])]
    columns = [[judge.names.index(name) for name in attributes] for judge in judges]
    for i, name in enumerate(attributes):
        have = held_out(count, seed + 2 * i, attributes, (name, True))
        lack = held_out(count, seed + 2 * i + 1, attributes, (name, False))
        both = {k: tf.stack([have[k], lack[k]], 1) for k in have}  # [pairs, A and B]
        for batch in chunks(both, count, BATCH // 2, f"exchanging {name}"):
            source = {k: tf.reshape(v, [-1]) for k, v in batch.items()}
            drawn = render(source, size, ("image", "attributes"))
            image = drawn["image"].numpy()
            wanted = drawn["attributes"].numpy()[:, [ATTRIBUTES.index(n) for n in attributes]]
            wanted[:, i] = 1 - wanted[:, i]
            reference = swapped(image)
            target = render(with_attribute(source, name, wanted[:, i] == 1), size)["image"].numpy()
            edited = np.asarray(transfer(image, reference, np.full(len(image), i, np.int32)))
            changed = np.abs(target - image).max(-1) > _LEVEL
            results = {"edited": edited, "copy": image, "target": target}
            errors = {
                kind: image_errors(images, target, changed) for kind, images in results.items()
            }
            differs = (image != target).any((1, 2, 3))
            for kind, images in results.items():
                right = [
                    judge.attributes(images)[:, own] == (wanted == 1)
                    for judge, own in zip(judges, columns, strict=True)
                ]
                rows = {**exchange_rows(right[0], i), **errors[kind]}
                rows |= identity_rows(classifier, images, image)
                verdicts = [r[:, i] for r in right]
                rows |= success_rows("right", verdicts, errors[kind], errors["copy"], differs)
                for group in (kind, f"{kind}/by_attribute/{name}"):
                    measurements.add(group, rows, per_person=2)
            shown = {"input": image, "reference": reference}
            shown |= {"edited": edited, "ground truth": target}
            names = [f"{'with' if value else 'without'} {name}" for value in wanted[:, i]]
            roles = ImageRoles(("edited",), "input", "ground truth", per_person=2)
            observer(ERROR, names, shown, ratio(errors["edited"]["error"]), roles)
    return {"pairs": count, **measurements.result()}


def without_and_with_all(
    attributes: tuple[str, ...], count: int, seed: int
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Held-out people with none of the attributes, others with all, and the former with all.

    If attributes exclude each other, the people with all have the last one.

    Args:
        attributes: Names of the attributes.
        count: Number of people.
        seed: Seed that selects the former; the next one selects the others.

    Returns:
        The factors of the sources, of the references, and of the ground truth.
    """
    source, reference = (held_out(count, seed + i, attributes) for i in (0, 1))
    for name in attributes:
        source = with_attribute(source, name, False)
    target = source
    for name in attributes:
        reference, target = (with_attribute(faces, name, True) for faces in (reference, target))
    return source, reference, target


def evaluate_several(
    transfer: Callable[[np.ndarray, np.ndarray], Any],
    attributes: tuple[str, ...],
    size: int,
    count: int,
    seed: int,
    classifier: Classifier,
) -> dict[str, Any]:
    """Transfers all attributes at once to held-out people who have none of them.

    If attributes exclude each other, the reference has the last one.

    Args:
        transfer: From sources float32 [N,S,S,3] in [-1,1] and references of the same shape to the
            sources with all attributes of the references.
        attributes: Names of the attributes.
        size: Side of the images, in pixels.
        count: Number of pairs of a source and a reference.
        seed: Seed that selects the people, who differ from those of `evaluate_exchange`.
        classifier: The judge, for images of the same size.

    Returns:
        `several`: for `edited` and the baselines `copy` (the source) and `target` (the ground
        truth: the source re-rendered with the attributes), `all_right`, the share of images in
        which the classifier sees the target value of every attribute; `improved_over_input`, the
        share in which it does and whose PSNR is above the source's; `error` and `psnr`, see
        `image_errors`. `intervals`, see `Measurements.result`.
    """
    measurements, first = Measurements(), seed + 2 * len(attributes)
    source, reference, target = without_and_with_all(attributes, count, first)
    people = {k: tf.stack([source[k], reference[k], target[k]], 1) for k in source}
    seen = [classifier.names.index(name) for name in attributes]
    for batch in chunks(people, count, BATCH, "exchanging all attributes"):
        image, other, drawn = (
            render({k: v[:, i] for k, v in batch.items()}, size, ("image", "attributes"))
            for i in range(3)
        )
        image, other, truth = (faces["image"].numpy() for faces in (image, other, drawn))
        wanted = tf.gather(drawn["attributes"], [ATTRIBUTES.index(n) for n in attributes], axis=1)
        results = {"edited": np.asarray(transfer(image, other)), "copy": image, "target": truth}
        errors = {kind: image_errors(images, truth) for kind, images in results.items()}
        before = ratio(errors["copy"]["psnr"])
        for kind, images in results.items():
            right = (classifier.attributes(images)[:, seen] == (wanted.numpy() == 1)).all(1)
            rows = {"all_right": means(right), **errors[kind]}
            closer = ratio(errors[kind]["psnr"]) < before  # Mean squared errors, not yet in dB.
            rows["improved_over_input"] = means(right & closer, before > 0)
            measurements.add(f"several/{kind}", rows)
    return measurements.result()
