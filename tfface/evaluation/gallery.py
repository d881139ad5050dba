"""The best, the median and the worst of what was measured, for a report."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from tfface import html
from tfface.metrics.bootstrap import NOTHING_MADE, Roles

_EACH = 2  # Examples of each.
_MOST = 512  # Examples of a measure whose images are kept.

_Example = tuple[float, str, list[np.ndarray]]  # Score, name, images.


@dataclasses.dataclass
class _Shown:
    captions: tuple[str, ...]
    scores: list[float] = dataclasses.field(default_factory=list)
    kept: list[_Example] = dataclasses.field(default_factory=list)

    def median(self, count: int) -> list[_Example]:
        """Those kept that are nearest to the median of all, from low to high."""
        middle = np.median(self.scores)
        nearest = sorted(self.kept, key=lambda example: abs(example[0] - middle))[:count]
        return sorted(nearest, key=_score)

    def prune(self) -> None:
        """Forgets images that are neither among the best, the worst nor near the median."""
        if len(self.kept) > _MOST:
            self.kept.sort(key=_score)
            ends = self.kept[:_EACH] + self.kept[-_EACH:]
            del self.kept[:_EACH], self.kept[-_EACH:]
            self.kept = ends + self.median(_MOST // 2)


def _score(example: _Example) -> float:
    return example[0]


class Gallery:
    """A `tfface.metrics.bootstrap.Watch` that keeps images, with 8 bits for a colour.

    Of more than 512 examples of a measure it keeps the best, the worst, and those near the median.
    """

    def __init__(self):
        self._shown: dict[str, _Shown] = {}

    def __call__(
        self,
        measure: str,
        names: list[str],
        images: dict[str, Any],
        scores: np.ndarray,
        roles: Roles = NOTHING_MADE,
    ) -> None:
        """Keeps some examples."""
        shown = self._shown.setdefault(measure, _Shown(tuple(images)))
        rows = zip(*(_levels(some) for some in images.values()), strict=True)
        for score, name, row in zip(scores, names, rows, strict=True):
            shown.scores.append(float(score))
            # Copies: a view would keep its whole batch.
            shown.kept.append((float(score), name, [image.copy() for image in row]))
        shown.prune()

    def sections(self) -> list[str]:
        """Parts of a report, one for each measure."""
        return [
            html.section(
                f"Best, median and worst: {measure}",
                html.faces(shown.captions, _chosen(shown), group=_EACH),
            )
            for measure, shown in self._shown.items()
        ]


def _chosen(shown: _Shown) -> list[tuple[str, list[Image.Image]]]:
    order = sorted(shown.kept, key=_score)
    each = min(_EACH, len(order))
    groups = {"best": order[:each], "median": shown.median(each), "worst": order[-each:]}
    return [
        (
            " ".join(filter(None, (title, name, f"{score:.2%}"))),
            [Image.fromarray(image) for image in images],
        )
        for title, group in groups.items()
        for score, name, images in group
    ]


def _levels(images: Any) -> np.ndarray:
    """Images in [-1,1] as uint8."""
    values = (np.clip(np.asarray(images, np.float32), -1, 1) + 1) * 127.5
    return np.rint(values).astype(np.uint8)
