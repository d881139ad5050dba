"""Metrics over a sample of people, with bootstrap confidence intervals."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tfface.metrics.segmentation import summary

RANGE = 2.0
"""Width of the pixel value range: images are in [-1,1]."""

LEVEL = 0.95
"""Confidence level of the intervals."""

_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class ImageRoles:
    """The role of each image shown to an `Observer`, by caption.

    Attributes:
        generated: Captions of the generated images; empty: there are none.
        source: Caption of the input images.
        ground_truth: Caption of the ground truth; "": there is none.
        reference: Caption of the images that the edits take their target from; "": from their name.
        alternatives: Whether the generated images are several results for the same input.
        per_person: How many consecutive examples belong to one person.
        own: The class of each input, as an index into `generated`, int [N]; None: it is not known.
        right: Whether the judge sees the target in each generated image, bool [N]; None: the
            observer has to see for itself.
    """

    generated: tuple[str, ...] = ()
    source: str = ""
    ground_truth: str = ""
    reference: str = ""
    alternatives: bool = False
    per_person: int = 1
    own: np.ndarray | None = None
    right: np.ndarray | None = None


NO_ROLES = ImageRoles()


class Observer(Protocol):
    """Called with the images and scores of each evaluated batch."""

    def __call__(
        self,
        metric: str,
        names: list[str],
        images: dict[str, Any],
        scores: np.ndarray,
        roles: ImageRoles = NO_ROLES,
    ) -> None:
        """Receives a batch of examples.

        Args:
            metric: Name of the metric.
            names: Name of each example.
            images: By caption, [N,S,S,3] in [-1,1].
            scores: Metric value of each example, float [N]; lower is better.
            roles: Roles of the images.
        """


def no_observer(*_: Any) -> None:
    """An `Observer` that does nothing."""


def ratio(sums: np.ndarray) -> np.ndarray:
    """The ratio of the first to the second of two sums [...,2]; NaN if the second is 0."""
    return sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan)


def _decibels(sums: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of mean squared errors; NaN if the error is 0."""
    squared = ratio(sums)
    return -10.0 * np.log10(np.where(squared > 0, squared, np.nan))


def _of_counts(name: str) -> Callable[[np.ndarray], np.ndarray]:
    return lambda sums: summary(sums)[name]


_STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "psnr": _decibels,
    **{name: _of_counts(name) for name in ("pixel_accuracy", "miou", "mean_f1")},
}


def means(values: Any, where: Any = True) -> np.ndarray:
    """Sum and count, float64 [N,2], of the values [N,...] of each example where `where` is true."""
    values = np.asarray(values, np.float64)
    where = np.broadcast_to(where, values.shape)
    axes = tuple(range(1, values.ndim))
    return np.stack([np.where(where, values, 0.0).sum(axes), where.sum(axes)], 1)


def image_errors(
    images: Any, ground_truth: Any, inside: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Errors of images with respect to the ground truth, for `Measurements.add`.

    Args:
        images: [N,S,S,3] in [-1,1].
        ground_truth: The same shape.
        inside: bool [N,S,S] or [S,S], the region that the edit should change.

    Returns:
        By metric, float64 [N,2] as from `means`: `error`, the mean absolute difference as a share
        of the pixel value range; with `inside` also `error_inside` and `error_outside` that region;
        `psnr`, the mean squared error, which `Measurements.result` converts to dB.
    """
    difference = (np.asarray(images, np.float64) - np.asarray(ground_truth, np.float64)) / RANGE
    absolute = np.abs(difference)
    rows = {"error": means(absolute), "psnr": means(np.square(difference))}
    if inside is not None:
        for name, region in (("error_outside", ~inside), ("error_inside", inside)):
            rows[name] = means(absolute, region[..., None])
    return rows


class Measurements:
    """Collects sums per person and computes metrics from them.

    A metric is the ratio of two sums, unless the last part of its name is `psnr` (such a ratio in
    decibels) or `pixel_accuracy`, `miou` or `mean_f1` (computed from confusion matrices).
    """

    def __init__(self):
        self._rows: dict[str, list[np.ndarray]] = {}

    def add(self, kind: str, rows: dict[str, np.ndarray], per_person: int = 1) -> None:
        """Adds a batch of examples.

        Args:
            kind: Prefix of the metric names, such as "edited"; may contain slashes.
            rows: By metric, [N,2] as from `means` or [N,19,19] as from `confusions`.
            per_person: How many consecutive examples belong to one person.
        """
        for name, values in rows.items():
            people = values.reshape(-1, per_person, *values.shape[1:]).sum(1, dtype=np.float64)
            self._rows.setdefault(f"{kind}/{name}", []).append(people)

    def result(self) -> dict[str, Any]:
        """All metrics as a nested dict, by the parts of their names; None where undefined.

        `intervals` has the same structure with the 95 % confidence intervals [low, high], by
        percentile bootstrap over people (Efron 1979); the same people give the same intervals.
        """
        metrics: dict[str, Any] = {}
        intervals: dict[str, Any] = {}
        for name, parts in self._rows.items():
            rows = np.concatenate(parts)
            statistic = _STATISTICS.get(name.rpartition("/")[2], ratio)
            _put(metrics, name, _number(statistic(rows.sum(0))))
            resampled = statistic(np.tensordot(_resamples(len(rows)), rows, 1))
            resampled = resampled[np.isfinite(resampled)]
            tails = 100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2
            _put(intervals, name, [float(p) for p in np.percentile(resampled, tails)]
                 if len(resampled) else None)  # fmt: skip
        return {**metrics, "intervals": intervals}


def merge_results(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Merges two results, including their intervals."""
    intervals = {**first["intervals"], **second["intervals"]}
    return {**first, **second, "intervals": intervals}


@functools.lru_cache(maxsize=1)
def _resamples(people: int) -> np.ndarray:
    """How often each person occurs in each bootstrap sample, float64 [samples,people]."""
    random = np.random.default_rng(people)
    drawn = random.multinomial(people, np.full(people, 1.0 / people), _RESAMPLES)
    return drawn.astype(np.float64)


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *folders, last = name.split("/")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[last] = value
