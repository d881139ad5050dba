"""What can be measured on photographs, which nobody has seen edited in truth."""

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
    NOTHING_MADE,
    RANGE,
    Roles,
    Tally,
    Watch,
    compared,
    means,
    ratio,
    unwatched,
)
from tfface.metrics.segmentation import Confusion, confusions, summary
from tfface.metrics.tables import Row
from tfface.progress import progress

ENOUGH = 512
"""How many images, at most, edits are measured on, and of a data set without an end all is."""

UNKNOWN = (
    "Not measured: errors inside and outside the region that should change, PSNR of edits, and "
    "whether hidden parts are guessed right, because nobody has a photograph of the same person "
    "with the edit; and whether the person is kept, unless there is a network that tells people "
    "apart (--embedding)."
)
"""What a report says of photographs."""

COLUMNS = "edited or made", "copy of the input", "real images"
ROWS = (
    *(
        Row(title, tuple(f"{kind}/{measure}" for kind in ("edited", "copy", "real")))
        for measure, title in (
            ("accuracy", "asked expression seen"),
            ("right", "exchanged attribute right"),
            ("others", "other attributes kept"),
            ("all_others", "all others kept"),
        )
    ),
    Row("change of the image", ("edited/change", "copy/change", ""), "error"),
    Row("error of an image made again", ("reconstruction/error", "", ""), "error"),
    Row("its PSNR", ("reconstruction/psnr", "", ""), "dB"),
    Row("difference of two styles on one map", ("diversity/made", "", "")),
    Row("parts found: mIoU", ("segmentation/miou", "", ""), "number"),
    Row("parts found: F1", ("segmentation/mean_f1", "", ""), "number"),
    Row("parts found: pixels", ("segmentation/pixel_accuracy", "", "")),
)
"""Of the table of what this module measures."""

_BATCH = 32
_AGAIN = "error of an image made again"

Batches = Iterator[dict[str, np.ndarray]]


def held_out_batches(
    source: Source, split: str, count: int | None, title: str, where: Any = None
) -> Batches:
    """A split's first images, with a progress bar on a terminal.

    Args:
        source: The data set.
        split: Of it.
        count: How many; None, or more than there are: all, or 512 if there is no end.
        title: Of the progress bar.
        where: As of `Source.batches`.

    Yields:
        Batches as of `Source.batches`.
    """
    there = source.count(split)
    count = count or there or ENOUGH
    count, seen = count if there is None else min(count, there), 0
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
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Gives images each of the classes, and their own.

    Args:
        edit: From images and indices into the classes to edited images.
        batches: With `image` and `expression`.
        classes: Names of the expressions.
        classifier: Trained on images of this data set.
        watch: Is shown the edits.

    Returns:
        `people`, the number of images; for `edited` and `copy` (the input) the `accuracy`, the
        share in which the classifier sees what was asked for, and the `change` to the input, as a
        share of the range; `real/accuracy` of the images as they are and with their own class;
        `reconstruction`, as of `compared`, of images given the class that they have.
    """
    tally, people, kinds = Tally(), 0, len(classes)
    for batch in batches:
        image, own = batch["image"], batch["expression"]
        people += len(image)
        asked = np.tile(np.arange(kinds, dtype=np.int32), len(image))
        given = np.repeat(image, kinds, axis=0)
        made = np.asarray(edit(given, asked))
        for kind, images in (("edited", made), ("copy", given)):
            right = classifier.expressions(images) == asked
            change = compared(images, given)["error"]
            tally.add(kind, {"accuracy": means(right), "change": change}, per=kinds)
        tally.add("real", {"accuracy": means(classifier.expressions(image) == own)})
        again = made[np.arange(len(image)) * kinds + own]
        _add_again(tally, again, image, watch)
        others = {name: made[i::kinds] for i, name in enumerate(classes)}
        change = np.abs(made - given).mean((1, 2, 3)).reshape(-1, kinds).mean(1) / RANGE
        roles, shown = Roles(tuple(others), "input"), {"input": image, **others}
        watch("change of the image", [""] * len(image), shown, change, roles)
    return {"people": people, **tally.result()}


def evaluate_pairs(
    transfer: Callable[..., np.ndarray],
    source: Source,
    split: str,
    count: int | None,
    classifier: Classifier,
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Exchanges each attribute between images that have it and that lack it.

    Args:
        transfer: From sources, references, indices of attributes and strengths float32 [N] to
            edited images.
        source: A data set opened with the attributes.
        split: Of it.
        count: The most pairs for each attribute; None: all.
        classifier: Trained on images of this data set.
        watch: Is shown the edits.

    Returns:
        `pairs` in all; for `edited` and `copy` (the source) `right`, `others` and `all_others` as
        of `evaluate_exchange`, and the `change` to the source; `real/right` and `real/others` of
        the images as they are; `reconstruction`, as of `compared`, of a strength of 0.
    """
    tally, number = Tally(), 0
    for i, name in enumerate(source.attributes):
        sides = (
            held_out_batches(source, split, count, f"{how} {name}", (name, value))
            for how, value in (("with", True), ("without", False))
        )
        for pair in zip(*sides, strict=False):
            there = min(len(side["image"]) for side in pair)
            number += there
            image, truth = (
                np.stack([side[field][:there] for side in pair], 1).reshape(
                    -1, *pair[0][field].shape[1:]
                )
                for field in ("image", "attributes")
            )
            index = np.full(len(image), i, np.int32)
            strengths = np.ones(len(image), np.float32)
            reference = swapped(image)
            asked = truth == 1
            real = exchange_rows(classifier.attributes(image) == asked, i)
            tally.add("real", {name: real[name] for name in ("right", "others")}, per=2)
            asked[:, i] = ~asked[:, i]
            edited = np.asarray(transfer(image, reference, index, strengths))
            for kind, images in (("edited", edited), ("copy", image)):
                rows = exchange_rows(classifier.attributes(images) == asked, i)
                rows["change"] = compared(images, image)["error"]
                for group in (kind, f"{kind}/by_attribute/{name}"):
                    tally.add(group, rows, per=2)
            names = [f"{'with' if value else 'without'} {name}" for value in asked[:, i]]
            shown = {"input": image, "reference": reference, "edited": edited}
            roles, change = Roles(("edited",), "input", per=2), compared(edited, image)["error"]
            watch("change of the image", names, shown, ratio(change), roles)
            again = np.asarray(transfer(image, reference, index, 0 * strengths))
            _add_again(tally, again, image, watch, per=2)
    return {"pairs": number, **tally.result()}


def evaluate_maps(
    of_seed: Callable[[np.ndarray, int], np.ndarray],
    of_face: Callable[[np.ndarray, np.ndarray], np.ndarray],
    batches: Batches,
    styles: int,
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Makes images again from their label maps and their own styles, and in other styles.

    Args:
        of_seed: From label maps and the number of a style to faces.
        of_face: From label maps and images whose style they are to have to faces.
        batches: With `image` and `label_map`.
        styles: How many other styles.
        watch: Is shown the faces.

    Returns:
        `maps`; `diversity/made`, the mean difference of two styles on one map; `reconstruction`,
        as of `compared`.
    """
    tally, maps = Tally(), 0
    for batch in batches:
        image, labels = batch["image"], batch["label_map"]
        maps += len(image)
        made = {f"style {n}": of_seed(labels, n) for n in range(1, styles + 1)}
        pairs = combinations(made.values(), 2)
        differences = [np.abs(a - b).mean((1, 2, 3), np.float64) / RANGE for a, b in pairs]
        tally.add("diversity", {"made": means(np.stack(differences, 1))})
        again = of_face(labels, image)
        also = {"label map": colour_labels(labels), **made}
        _add_again(tally, again, image, watch, also, Roles(tuple(made), answers=True))
    return {"maps": maps, **tally.result()}


def evaluate_segments(
    segment: Callable[[np.ndarray], np.ndarray], batches: Batches, watch: Watch = unwatched
) -> dict[str, Any]:
    """Compares the label maps found in images with the true ones.

    Args:
        segment: From images to class ids [N,S,S].
        batches: With `image` and `label_map`.
        watch: Is shown the label maps.

    Returns:
        `segmentation`: `images`, and the measures of `Confusion.result`; their `intervals`.
    """
    tally, total, images = Tally(), Confusion(), 0
    for batch in batches:
        image, truth = batch["image"], batch["label_map"]
        found = segment(image)
        counts = confusions(found, truth)
        total.add(found, truth)
        images += len(image)
        measures = summary(counts)
        tally.add("segmentation", dict.fromkeys(measures, counts))
        shown = {"input": image, "found": colour_labels(found), "truth": colour_labels(truth)}
        watch("pixels of other parts", [""] * len(image), shown, 1.0 - measures["pixel_accuracy"])
    intervals = tally.result()["intervals"]
    segmentation = {"images": images, **total.result()}
    return {"segmentation": segmentation, "intervals": intervals}


def _add_again(
    tally: Tally,
    again: Any,
    image: np.ndarray,
    watch: Watch,
    also: dict[str, tf.Tensor] | None = None,
    roles: Roles = NOTHING_MADE,
    per: int = 1,
) -> None:
    rows = compared(again, image)
    tally.add("reconstruction", rows, per)
    shown = {"input": image, "made again": again, **(also or {})}
    watch(_AGAIN, [""] * len(image), shown, ratio(rows["error"]), roles)


def swapped(values: np.ndarray) -> np.ndarray:
    """Of pairs that follow each other, each one's other: [2N,...] to [2N,...]."""
    return values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)


def exchange_rows(right: np.ndarray, exchanged: int) -> dict[str, np.ndarray]:
    """Rows, for `Tally.add`, of what is right, bool [N,A], after an attribute was exchanged."""
    others = np.delete(right, exchanged, axis=1)
    return {
        "right": means(right[:, exchanged]),
        "others": means(others) if others.size else means(np.ones(len(right))),
        "all_others": means(others.all(axis=1)),
    }
