"""The best, the median and the worst of what was measured, for a report."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from tfface import report

_EACH = 2  # Examples of each.


@dataclasses.dataclass
class _Shown:
    names: list[str] = dataclasses.field(default_factory=list)
    scores: list[float] = dataclasses.field(default_factory=list)
    pictures: list[list[np.ndarray]] = dataclasses.field(default_factory=list)
    captions: tuple[str, ...] = ()


class Gallery:
    """A `tfface.metrics.tally.Watch` that keeps all pictures, with 8 bits for a colour."""

    def __init__(self):
        self._shown: dict[str, _Shown] = {}

    def __call__(
        self, measure: str, names: list[str], pictures: dict[str, Any], scores: np.ndarray
    ) -> None:
        """Keeps some examples."""
        shown = self._shown.setdefault(measure, _Shown())
        shown.captions = tuple(pictures)
        shown.names += names
        shown.scores += [float(score) for score in scores]
        kept = [_levels(some) for some in pictures.values()]
        shown.pictures += [list(row) for row in zip(*kept, strict=True)]

    def sections(self) -> list[str]:
        """Parts of a report, one for each measure."""
        return [
            report.section(
                f"Best, median and worst: {measure}",
                report.faces(shown.captions, _chosen(shown), group=_EACH),
            )
            for measure, shown in self._shown.items()
        ]


def _chosen(shown: _Shown) -> list[tuple[str, list[Image.Image]]]:
    order = np.argsort(shown.scores, kind="stable")
    each = min(_EACH, len(order))
    middle = (len(order) - each) // 2
    rows = []
    for title, some in (
        ("best", order[:each]),
        ("median", order[middle : middle + each]),
        ("worst", order[-each:]),
    ):
        for i in some:
            name = " ".join(filter(None, (title, shown.names[i], f"{shown.scores[i]:.2%}")))
            rows.append((name, [Image.fromarray(picture) for picture in shown.pictures[i]]))
    return rows


def _levels(pictures: Any) -> np.ndarray:
    """Pictures in [-1,1] as uint8."""
    values = (np.clip(np.asarray(pictures, np.float32), -1, 1) + 1) * 127.5
    return np.rint(values).astype(np.uint8)
