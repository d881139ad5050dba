"""Confidence intervals by drawing the rows anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_AT_ONCE = 2**22  # Numbers drawn at a time: 32 MiB.

Statistic = Callable[[np.ndarray], Any]


def _mean(rows: np.ndarray) -> np.ndarray:
    return rows.mean(axis=1)


def interval(
    values: Any,
    statistic: Statistic = _mean,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13) of a statistic.

    Args:
        values: [N] or [N,...], finite: one row for each picture or person, drawn as a whole.
        statistic: From sets of rows, float64 [D,N,...], to one number for each set, [D].
        confidence: Share of the statistics that the interval holds; between 0 and 1.
        draws: How many sets of N rows, drawn with replacement.
        seed: Of the draws.

    Returns:
        The lower and the upper end; the same for the same arguments.

    Raises:
        ValueError: No rows, values that are no finite numbers, or a confidence out of range.
    """
    rows = np.asarray(values, np.float64)
    if not rows.size or not np.isfinite(rows).all():
        raise ValueError(f"values are {rows.shape}: expected at least one row, all of it finite")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: expected a number between 0 and 1")
    random = np.random.default_rng(seed)
    step = max(_AT_ONCE // rows.size, 1)
    found = []
    for start in range(0, draws, step):
        drawn = random.integers(len(rows), size=(min(step, draws - start), len(rows)))
        found.append(statistic(rows[drawn]))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(found), (tail, 1 - tail))
    return float(low), float(high)
