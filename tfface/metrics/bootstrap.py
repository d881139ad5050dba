"""Figures of a sample of people, with their confidence intervals."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tfface.metrics.segmentation import summary

RANGE = 2.0
"""Of the pixels' values: images are in [-1,1]."""

LEVEL = 0.95
"""Of the confidence intervals."""

_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Roles:
    """Which of some images are what, by their captions.

    Attributes:
        made: What a method made; none: nothing to judge as images.
        source: What it was made of; what a copy of the input would be.
        truth: What it should be.
        answers: Whether those that were made are several answers to one question.
        per: So many examples that follow each other are one person.
    """

    made: tuple[str, ...] = ()
    source: str = ""
    truth: str = ""
    answers: bool = False
    per: int = 1


NOTHING_MADE = Roles()


class Watch(Protocol):
    """Is shown what was measured."""

    def __call__(
        self,
        measure: str,
        names: list[str],
        images: dict[str, Any],
        scores: np.ndarray,
        roles: Roles = NOTHING_MADE,
    ) -> None:
        """Is shown some examples.

        Args:
            measure: What was measured.
            names: Of the examples.
            images: By caption, [N,S,S,3] in [-1,1].
            scores: Of the examples, float [N], the lower the better.
            roles: Which of the images are what.
        """


def unwatched(*shown: Any) -> None:
    """A `Watch` that does nothing."""


def ratio(sums: np.ndarray) -> np.ndarray:
    """Of sums [...,2] the first as a share of the second; NaN of nothing."""
    return sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan)


def _decibels(sums: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of mean squared errors; NaN without any."""
    squared = ratio(sums)
    return -10.0 * np.log10(np.where(squared > 0, squared, np.nan))


def _of_counts(name: str) -> Callable[[np.ndarray], np.ndarray]:
    return lambda sums: summary(sums)[name]


_STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "psnr": _decibels,
    **{name: _of_counts(name) for name in ("pixel_accuracy", "miou", "mean_f1")},
}


def means(values: Any, where: Any = True) -> np.ndarray:
    """Rows [N,2] of a measure that is a mean of values [N,...], of those `where` is true."""
    values = np.asarray(values, np.float64)
    where = np.broadcast_to(where, values.shape)
    axes = tuple(range(1, values.ndim))
    return np.stack([np.where(where, values, 0.0).sum(axes), where.sum(axes)], 1)


def compared(made: Any, truth: Any, inside: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Rows of the measures of images that have a true counterpart.

    Args:
        made: Images [N,S,S,3] in [-1,1].
        truth: What they should be, of the same shape.
        inside: bool [N,S,S], where they should differ from what they were made of.

    Returns:
        `error`, the mean absolute difference as a share of the range of the pixels' values, and
        with `inside` that within and without, `error_inside` and `error_outside`; `psnr`, in dB of
        the mean squared error. Each float64 [N,2], for `Tally.add`.
    """
    difference = (np.asarray(made, np.float64) - np.asarray(truth, np.float64)) / RANGE
    absolute = np.abs(difference)
    rows = {"error": means(absolute), "psnr": means(np.square(difference))}
    if inside is not None:
        for name, region in (("error_outside", ~inside), ("error_inside", inside)):
            rows[name] = means(absolute, region[..., None])
    return rows


class Tally:
    """Sums over people, and the measures that are functions of them.

    A measure is the ratio of two sums, but for those that the last part of its name says: `psnr`,
    the decibels of such a ratio, and `pixel_accuracy`, `miou` and `mean_f1` of confusions.
    """

    def __init__(self):
        self._rows: dict[str, list[np.ndarray]] = {}

    def add(self, kind: str, rows: dict[str, np.ndarray], per: int = 1) -> None:
        """Counts some examples.

        Args:
            kind: Of what, such as "edited"; may have slashes.
            rows: By measure [N,2] as of `means`, or [N,19,19] as of `confusions`.
            per: So many examples that follow each other are one person.
        """
        for name, values in rows.items():
            people = values.reshape(-1, per, *values.shape[1:]).sum(1, dtype=np.float64)
            self._rows.setdefault(f"{kind}/{name}", []).append(people)

    def result(self) -> dict[str, Any]:
        """The measures by the parts of their names; None where there is nothing to measure.

        `intervals` has those of their 95 % confidence intervals, [low, high], by bootstrap
        (Efron 1979, percentiles) over people: the same for the same people.
        """
        figures: dict[str, Any] = {}
        intervals: dict[str, Any] = {}
        for name, parts in self._rows.items():
            rows = np.concatenate(parts)
            statistic = _STATISTICS.get(name.rpartition("/")[2], ratio)
            _put(figures, name, _number(statistic(rows.sum(0))))
            found = statistic(np.tensordot(_resamples(len(rows)), rows, 1))
            found = found[np.isfinite(found)]
            tails = 100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2
            _put(intervals, name, [float(p) for p in np.percentile(found, tails)]
                 if len(found) else None)  # fmt: skip
        return {**figures, "intervals": intervals}


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two results, with the intervals of both."""
    intervals = {**first["intervals"], **second["intervals"]}
    return {**first, **second, "intervals": intervals}


@functools.lru_cache(maxsize=1)
def _resamples(people: int) -> np.ndarray:
    """How often each of the people is in each sample, float64 [samples,people]."""
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
