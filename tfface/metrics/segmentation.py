"""How well label maps agree with the true ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfface.data.label_maps import CLASSES_19

_KINDS = len(CLASSES_19)


class Confusion:
    """Counts the pixels of label maps by true and found class, over a whole set.

    With t the pixels of a class in the truth, f those found and b those that are both, its IoU is
    b / (t + f - b) and its F1 (Dice) 2 b / (t + f). All counts are sums over the set, so that large
    areas weigh more than small ones and the order and size of batches do not matter.

    Attributes:
        counts: int64 [19,19] of pixels; rows are true classes, columns found ones.
    """

    def __init__(self):
        self.counts = np.zeros((_KINDS, _KINDS), np.int64)

    def add(self, found: Any, truth: Any) -> None:
        """Counts a batch.

        Args:
            found: Integers [N,H,W] of 0 to 18, indices into CLASSES_19.
            truth: The true ones, of the same shape.

        Raises:
            ValueError: Not integers, of another shape, or with ids outside 0 to 18.
        """
        self.counts += confusions(found, truth).sum(0)

    def result(self) -> dict[str, Any]:
        """The measures of all that was added; shares from 0 to 1.

        Returns:
            `pixel_accuracy`, the share of the pixels that have their true class; `miou`, the mean
            IoU of the classes that occur in the truth; `mean_f1`, the mean F1 of those without the
            background (None if there are none); and by name of CLASSES_19 `iou_by_class`,
            `f1_by_class` and `share_by_class`, of the truth's pixels. A class that occurs in what
            was found only has IoU, F1 and share 0; one that occurs in neither has None for each.

        Raises:
            ValueError: Nothing was added.
        """
        total = self.counts.sum()
        if not total:
            raise ValueError("no pixels were added")
        truth = self.counts.sum(axis=1)
        either = truth + self.counts.sum(axis=0)
        means = {name: float(value) for name, value in summary(self.counts).items()}
        iou, f1 = _by_class_of(self.counts)
        return {
            **{name: value if np.isfinite(value) else None for name, value in means.items()},
            "iou_by_class": _by_class(iou, either),
            "f1_by_class": _by_class(f1, either),
            "share_by_class": _by_class(truth / total, either),
        }


def confusions(found: Any, truth: Any) -> np.ndarray:
    """Counts the pixels of each label map; arguments and errors as of `Confusion.add`.

    Returns:
        int64 [N,19,19]; rows are true classes, columns found ones.
    """
    found, truth = _checked("found", found), _checked("truth", truth)
    if found.shape != truth.shape:
        raise ValueError(f"found is {found.shape}, truth {truth.shape}: expected one shape")
    pairs = truth.astype(np.int64) * _KINDS + found
    counts = [np.bincount(pair.ravel(), minlength=_KINDS**2) for pair in pairs]
    return np.reshape(counts, (-1, _KINDS, _KINDS)).astype(np.int64)


def summary(counts: np.ndarray) -> dict[str, np.ndarray]:
    """`pixel_accuracy`, `miou` and `mean_f1` [...] of counts [...,19,19], as of `Confusion.result`.

    NaN where there is nothing to measure.
    """
    iou, f1 = _by_class_of(counts)
    truth = counts.sum(-1)
    both, occurs = np.trace(counts, axis1=-2, axis2=-1), truth > 0
    return {
        "pixel_accuracy": _share(both, truth.sum(-1)),
        "miou": _share((iou * occurs).sum(-1), occurs.sum(-1)),
        "mean_f1": _share((f1 * occurs)[..., 1:].sum(-1), occurs[..., 1:].sum(-1)),
    }


def _by_class_of(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU and F1 [...,19]; 0 for a class without pixels."""
    both = np.diagonal(counts, axis1=-2, axis2=-1)
    either = counts.sum(-1) + counts.sum(-2)
    return both / np.maximum(either - both, 1), 2 * both / np.maximum(either, 1)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.where(whole > 0, whole, np.nan)


def _checked(name: str, labels: Any) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name} is {labels.dtype} {labels.shape}: expected integers [N,H,W]")
    if labels.size and (labels.min() < 0 or labels.max() >= _KINDS):
        raise ValueError(
            f"{name} has ids {labels.min()} to {labels.max()}: expected 0 to {_KINDS - 1}"
        )
    return labels


def _by_class(values: np.ndarray, either: np.ndarray) -> dict[str, float | None]:
    return {
        name: float(value) if pixels else None
        for name, value, pixels in zip(CLASSES_19, values, either, strict=True)
    }
