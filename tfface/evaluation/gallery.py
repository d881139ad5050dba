"""The best, median and worst examples of each metric, for a report."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from tfface import html
from tfface.metrics.bootstrap import NO_ROLES, ImageRoles

_EACH = 2  # Examples shown of each group (best, median, worst).
_MOST = 512  # Examples of a metric whose images are kept.

_Example = tuple[float, str, list[np.ndarray]]  # Score, name, images.


@dataclasses.dataclass
class _Shown:
    captions: tuple[str, ...]
    scores: list[float] = dataclasses.field(default_factory=list)
    kept: list[_Example] = dataclasses.field(default_factory=list)

    def median(self, count: int) -> list[_Example]:
        """The kept examples nearest to the median of all scores, sorted by score."""
        middle = np.median(self.scores)
        nearest = sorted(self.kept, key=lambda example: abs(example[0] - middle))[:count]
        return sorted(nearest, key=_score)

    def prune(self) -> None:
        """Drops images that are not among the best, the worst or those near the median."""
        if len(self.kept) > _MOST:
            self.kept.sort(key=_score)
            ends = self.kept[:_EACH] + self.kept[-_EACH:]
            del self.kept[:_EACH], self.kept[-_EACH:]
            self.kept = ends + self.median(_MOST // 2)


def _score(example: _Example) -> float:
    return example[0]


class Gallery:
    """A `tfface.metrics.bootstrap.Observer` that keeps example images, in 8 bits per channel.

    Above 512 examples of a metric it keeps only the best, the worst and those near the median.
    """

    def __init__(self):
        self._shown: dict[str, _Shown] = {}

    def __call__(
        self,
        metric: str,
        names: list[str],
        images: dict[str, Any],
        scores: np.ndarray,
        roles: ImageRoles = NO_ROLES,
    ) -> None:
        """Keeps the examples of a batch."""
        shown = self._shown.setdefault(metric, _Shown(tuple(images)))
        rows = zip(*(_levels(batch) for batch in images.values()), strict=True)
        for score, name, row in zip(scores, names, rows, strict=True):
            shown.scores.append(float(score))
            # Copies: a view would keep the whole batch in memory.
            shown.kept.append((float(score), name, [image.copy() for image in row]))
        shown.prune()

    def sections(self) -> list[str]:
        """Report sections, one for each metric."""
        return [
            html.section(
                f"Best, median and worst: {metric}",
                html.faces(shown.captions, _chosen(shown), group=_EACH),
            )
            for metric, shown in self._shown.items()
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
