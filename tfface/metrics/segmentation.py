"""Segmentation metrics: pixel accuracy, IoU and F1 of label maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfface.data.label_maps import CLASSES_19

_KINDS = len(CLASSES_19)


class Confusion:
    """Confusion matrix of the pixels of label maps, over a whole set.

    With t the ground-truth pixels of a class, f the predicted ones and b the intersection, the IoU
    of the class is b / (t + f - b) and its F1 (Dice) 2 b / (t + f). All counts are sums over the
    set, so large areas weigh more than small ones, and the order and size of batches do not matter.

    Attributes:
        counts: int64 [19,19], pixels by ground-truth class (rows) and predicted class (columns).
    """

    def __init__(self):
        self.counts = np.zeros((_KINDS, _KINDS), np.int64)

    def add(self, predicted: Any, ground_truth: Any) -> None:
        """Adds a batch.

        Args:
            predicted: Integers [N,H,W] from 0 to 18, indices into CLASSES_19.
            ground_truth: The same shape.

        Raises:
            ValueError: The values are not integers from 0 to 18, or the shapes differ.
        """
        self.counts += confusions(predicted, ground_truth).sum(0)

    def result(self) -> dict[str, Any]:
        """The metrics of everything added, from 0 to 1.

        Returns:
            `pixel_accuracy`, the share of pixels with the correct class; `miou`, the mean IoU of
            the classes in the ground truth; `mean_f1`, the mean F1 of the same classes without the
            background (None if there are none); and by name in CLASSES_19 `iou_by_class`,
            `f1_by_class` and `share_by_class` (share of the ground-truth pixels). A class that was
            predicted but is not in the ground truth has 0 for each; one that is in neither None.

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


def confusions(predicted: Any, ground_truth: Any) -> np.ndarray:
    """Confusion matrix of each label map; for arguments and errors see `Confusion.add`.

    Returns:
        int64 [N,19,19]; rows are ground-truth classes, columns predicted classes.
    """
    predicted = _checked("predicted", predicted)
    ground_truth = _checked("ground_truth", ground_truth)
    if predicted.shape != ground_truth.shape:
        raise ValueError(
            f"predicted is {predicted.shape}, ground_truth {ground_truth.shape}: "
            "expected the same shape"
        )
    pairs = ground_truth.astype(np.int64) * _KINDS + predicted
    counts = [np.bincount(pair.ravel(), minlength=_KINDS**2) for pair in pairs]
    return np.reshape(counts, (-1, _KINDS, _KINDS)).astype(np.int64)


def summary(counts: np.ndarray) -> dict[str, np.ndarray]:
    """`pixel_accuracy`, `miou` and `mean_f1` [...] of counts [...,19,19]; see `Confusion.result`.

    NaN where undefined.
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
    """IoU and F1 [...,19] by class; 0 for a class without pixels."""
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
