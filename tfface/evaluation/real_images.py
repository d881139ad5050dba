"""Metrics on photographs, where the ground truth of an edit is unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import tensorflow as tf

from tfface.data.base import Source
from tfface.data.label_map_ops import colour_labels
from tfface.evaluation.classifier import Classifier
from tfface.metrics.bootstrap import (
    NO_ROLES,
    RANGE,
    ImageRoles,
    Measurements,
    Observer,
    image_errors,
    means,
    no_observer,
    ratio,
)
from tfface.metrics.segmentation import Confusion, confusions, summary
from tfface.metrics.tables import Row
from tfface.progress import progress

ENOUGH = 512
"""Default number of images for edits, and for everything on an endless data set."""

UNKNOWN = (
    "Not measured: errors inside and outside the region that should change, PSNR of edits, and "
    "whether occluded parts are filled in correctly, because there is no photograph of the same "
    "person with the edit; and whether the identity is preserved, unless an embedding network is "
    "given (--embedding)."
)
"""Text for reports on photographs."""

COLUMNS = "edited or generated", "copy of the input", "real images"
ROWS = (
    *(
        Row(title, tuple(f"{kind}/{metric}" for kind in ("edited", "copy", "real")))
        for metric, title in (
            ("accuracy", "target-expression accuracy"),
            ("right", "target-attribute accuracy"),
            ("others", "other attributes preserved"),
            ("all_others", "all other attributes preserved"),
        )
    ),
    Row("change of the image", ("edited/change", "copy/change", ""), "error"),
    Row("reconstruction error", ("reconstruction/error", "", ""), "error"),
    Row("reconstruction PSNR", ("reconstruction/psnr", "", ""), "dB"),
    Row("difference between two styles on one map", ("diversity/generated", "", "")),
    Row("segmentation mIoU", ("segmentation/miou", "", ""), "number"),
    Row("segmentation F1", ("segmentation/mean_f1", "", ""), "number"),
    Row("segmentation pixel accuracy", ("segmentation/pixel_accuracy", "", "")),
)
"""Rows of the table of this module's metrics."""

_BATCH = 32
_RECONSTRUCTION = "reconstruction error"

Batches = Iterator[dict[str, np.ndarray]]


def held_out_batches(
    source: Source, split: str, count: int | None, title: str, where: Any = None
) -> Batches:
    """The first images of a split, with a progress bar on a terminal.

    Args:
        source: The data set.
        split: Split of the data set.
        count: Number of images; None, or more than available: all, or 512 of an endless data set.
        title: Title of the progress bar.
        where: As for `Source.batches`.

    Yields:
        Batches of NumPy arrays, with the fields of `Source.batches`.
    """
    available = source.count(split)
    count = count or available or ENOUGH
    count, seen = count if available is None else min(count, available), 0
    with progress() as bar:
        task = bar.add_task(title, total=count)
        for batch in source.batches(split, _BATCH, where=where):
            yield {name: value.numpy()[: count - seen] for name, value in batch.items()}
            seen += len(batch["image"])
            bar.update(task, completed=seen)
            if seen >= count:
                return


def evaluate_classes(
    edit: Callable[[np.ndarray, np.ndarray], np.ndarray],
    batches: Batches,
    classes: tuple[str, ...],
    classifier: Classifier,
    observer: Observer = no_observer,
) -> dict[str, Any]:
    """Edits images to each expression class, including their own.

    Args:
        edit: From images and indices into the classes to edited images.
        batches: Batches with `image` and `expression`.
        classes: Names of the expressions.
        classifier: The judge, trained on images of this data set.
        observer: Receives the edited images.

    Returns:
        `people`, the number of images; for `edited` and `copy` (the input) `accuracy`, the share
        of images in which the classifier sees the target expression, and `change`, the mean
        absolute difference to the input as a share of the pixel value range; `real/accuracy`, the
        accuracy on the unedited images; `reconstruction`, the `image_errors` of images edited to
        their own class.
    """
    measurements, people, kinds = Measurements(), 0, len(classes)
    for batch in batches:
        image, own = batch["image"], batch["expression"]
        people += len(image)
        targets = np.tile(np.arange(kinds, dtype=np.int32), len(image))
        inputs = np.repeat(image, kinds, axis=0)
        edited = np.asarray(edit(inputs, targets))
        for kind, images in (("edited", edited), ("copy", inputs)):
            right = classifier.expressions(images) == targets
            change = image_errors(images, inputs)["error"]
            measurements.add(kind, {"accuracy": means(right), "change": change}, per_person=kinds)
        measurements.add("real", {"accuracy": means(classifier.expressions(image) == own)})
        reconstruction = edited[np.arange(len(image)) * kinds + own]
        _add_reconstruction(measurements, reconstruction, image, observer)
        by_class = {name: edited[i::kinds] for i, name in enumerate(classes)}
        change = np.abs(edited - inputs).mean((1, 2, 3)).reshape(-1, kinds).mean(1) / RANGE
        roles, shown = ImageRoles(tuple(by_class), "input", own=own), {"input": image, **by_class}
        observer("change of the image", [""] * len(image), shown, change, roles)
    return {"people": people, **measurements.result()}


def evaluate_pairs(
    transfer: Callable[..., np.ndarray],
    source: Source,
    split: str,
    count: int | None,
    classifier: Classifier,
    observer: Observer = no_observer,
) -> dict[str, Any]:
    """Exchanges each attribute between images that have it and images that lack it.

    Args:
        transfer: From sources, references, indices of attributes and strengths float32 [N] to
            edited images.
        source: A data set opened with the attributes.
        split: Split of the data set.
        count: Maximum number of pairs for each attribute; None: all.
        classifier: The judge, trained on images of this data set.
        observer: Receives the edited images.

    Returns:
        `pairs`, the total number; for `edited` and `copy` (the source) `right`, `others` and
        `all_others` as in `evaluate_exchange`, and `change`, the mean absolute difference to the
        source; `real/right` and `real/others`, the accuracy on the unedited images;
        `reconstruction`, the `image_errors` at strength 0.
    """
    measurements, number = Measurements(), 0
    for i, name in enumerate(source.attributes):
        sides = (
            held_out_batches(source, split, count, f"{how} {name}", (name, value))
            for how, value in (("with", True), ("without", False))
        )
        for pair in zip(*sides, strict=False):
            common = min(len(side["image"]) for side in pair)
            number += common
            image, labels = (
                np.stack([side[field][:common] for side in pair], 1).reshape(
                    -1, *pair[0][field].shape[1:]
                )
                for field in ("image", "attributes")
            )
            index = np.full(len(image), i, np.int32)
            strengths = np.ones(len(image), np.float32)
            reference = swapped(image)
            wanted = labels == 1
            real = exchange_rows(classifier.attributes(image) == wanted, i)
            measurements.add(
                "real", {name: real[name] for name in ("right", "others")}, per_person=2
            )
            wanted[:, i] = ~wanted[:, i]
            edited = np.asarray(transfer(image, reference, index, strengths))
            for kind, images in (("copy", image), ("edited", edited)):
                seen = classifier.attributes(images) == wanted
                rows = exchange_rows(seen, i)
                rows["change"] = image_errors(images, image)["error"]
                for group in (kind, f"{kind}/by_attribute/{name}"):
                    measurements.add(group, rows, per_person=2)
            names = [f"{'with' if value else 'without'} {name}" for value in wanted[:, i]]
            shown = {"input": image, "reference": reference, "edited": edited}
            roles, change = (
                ImageRoles(("edited",), "input", per_person=2, right=seen[:, i]),
                image_errors(edited, image)["error"],
            )
            observer("change of the image", names, shown, ratio(change), roles)
            reconstruction = np.asarray(transfer(image, reference, index, 0 * strengths))
            _add_reconstruction(measurements, reconstruction, image, observer, per_person=2)
    return {"pairs": number, **measurements.result()}


def evaluate_maps(
    of_seed: Callable[[np.ndarray, int], np.ndarray],
    of_face: Callable[[np.ndarray, np.ndarray], np.ndarray],
    batches: Batches,
    styles: int,
    observer: Observer = no_observer,
) -> dict[str, Any]:
    """Generates faces from label maps in several styles, and reconstructs the images.

    Args:
        of_seed: From label maps and a style seed to faces.
        of_face: From label maps and images with the desired style to faces.
        batches: Batches with `image` and `label_map`.
        styles: Number of style seeds.
        observer: Receives the generated faces.

    Returns:
        `maps`, the number of label maps; `diversity/generated`, the mean difference between two
        styles on one map; `reconstruction`, the `image_errors` of faces generated from the label
        map and style of the same image.
    """
    measurements, maps = Measurements(), 0
    for batch in batches:
        image, labels = batch["image"], batch["label_map"]
        maps += len(image)
        styled = {f"style {n}": of_seed(labels, n) for n in range(1, styles + 1)}
        pairs = combinations(styled.values(), 2)
        differences = [np.abs(a - b).mean((1, 2, 3), np.float64) / RANGE for a, b in pairs]
        measurements.add("diversity", {"generated": means(np.stack(differences, 1))})
        reconstruction = of_face(labels, image)
        also = {"label map": colour_labels(labels), **styled}
        roles = ImageRoles(tuple(styled), alternatives=True)
        _add_reconstruction(measurements, reconstruction, image, observer, also, roles)
    return {"maps": maps, **measurements.result()}


def evaluate_segments(
    segment: Callable[[np.ndarray], np.ndarray], batches: Batches, observer: Observer = no_observer
) -> dict[str, Any]:
    """Compares predicted label maps with the ground truth.

    Args:
        segment: From images to class ids [N,S,S].
        batches: Batches with `image` and `label_map`.
        observer: Receives the label maps.

    Returns:
        `segmentation`, with the number of `images` and the metrics of `Confusion.result`; and their
        `intervals`.
    """
    measurements, total, images = Measurements(), Confusion(), 0
    for batch in batches:
        image, truth = batch["image"], batch["label_map"]
        predicted = segment(image)
        counts = confusions(predicted, truth)
        total.add(predicted, truth)
        images += len(image)
        metrics = summary(counts)
        measurements.add("segmentation", dict.fromkeys(metrics, counts))
        shown = {"input": image, "segmentation": colour_labels(predicted)}
        shown["ground truth"] = colour_labels(truth)
        scores = 1.0 - metrics["pixel_accuracy"]
        observer("wrongly segmented pixels", [""] * len(image), shown, scores)
    intervals = measurements.result()["intervals"]
    segmentation = {"images": images, **total.result()}
    return {"segmentation": segmentation, "intervals": intervals}


def _add_reconstruction(
    measurements: Measurements,
    reconstruction: Any,
    image: np.ndarray,
    observer: Observer,
    also: dict[str, tf.Tensor] | None = None,
    roles: ImageRoles = NO_ROLES,
    per_person: int = 1,
) -> None:
    rows = image_errors(reconstruction, image)
    measurements.add("reconstruction", rows, per_person)
    shown = {"input": image, "reconstruction": reconstruction, **(also or {})}
    observer(_RECONSTRUCTION, [""] * len(image), shown, ratio(rows["error"]), roles)


def swapped(values: np.ndarray) -> np.ndarray:
    """Swaps the two members of each consecutive pair, [2N,...]."""
    return values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)


def exchange_rows(right: np.ndarray, exchanged: int) -> dict[str, np.ndarray]:
    """Rows, for `Measurements.add`, after an attribute was exchanged.

    Args:
        right: Whether each attribute has the expected value, bool [N,A].
        exchanged: Index of the exchanged attribute.
    """
    others = np.delete(right, exchanged, axis=1)
    return {
        "right": means(right[:, exchanged]),
        "others": means(others) if others.size else means(np.ones(len(right))),
        "all_others": means(others.all(axis=1)),
    }
