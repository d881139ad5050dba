"""Whether edits of photographs succeed, by networks that others trained (`face_api`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfface.evaluation.face_api import SAME_PERSON, FaceApi
from tfface.metrics.bootstrap import (
    NO_ROLES,
    ImageRoles,
    Measurements,
    Observer,
    image_errors,
    means,
    no_observer,
    ratio,
)
from tfface.metrics.tables import Row, Table

HAPPY = 0.5
OPEN = 0.095
"""`FaceApi.opening` from which on a mouth is open: the best balanced accuracy on 3,000 images of
CelebA (86 %; on 710 others 84 %)."""

MOST_CHANGE = 0.01
"""Mean absolute change outside the face up to which it counts as unchanged, as a share of the value
range (ours)."""

# What the judges should see, by the name of the class: whether happy, whether the mouth is open.
_SEEN: dict[str, tuple[bool | None, bool | None]] = {
    **dict.fromkeys(("happy", "smiling", "has"), (True, None)),
    "laughing": (True, True),
    **dict.fromkeys(("neutral", "nes"), (False, None)),
    "open": (None, True),
}
_METRICS = {
    "all": "all three for the same edit",
    "seen": "what was asked is seen",
    "identity": f"identity kept (distance below {SAME_PERSON})",
    "outside": f"unchanged outside the face (by at most {MOST_CHANGE:.0%})",
}


class PhotoEdits:
    """An `Observer` that judges edits of photographs.

    An edit counts if the judges see what was asked, the person is the same, and what lies outside
    the face has not changed, all three. Edits of images that show what is asked already are left
    out. Whether an attribute is seen is told by the classifier of the evaluation
    (`ImageRoles.right`). Of other edits whose names the judges do not know, only identity and what
    lies outside are judged, and they are not part of the mean. An edit that takes an attribute from
    a reference should show it if the judges see it in the reference, and not show it otherwise.

    Args:
        judges: The networks.
        observer: Another observer to pass everything on to.
    """

    def __init__(self, judges: FaceApi, observer: Observer = no_observer):
        self._judges, self._observer = judges, observer
        self._measurements = Measurements()

    def __call__(
        self,
        metric: str,
        names: list[str],
        images: dict[str, Any],
        scores: np.ndarray,
        roles: ImageRoles = NO_ROLES,
    ) -> None:
        """Judges a batch."""
        self._observer(metric, names, images, scores, roles)
        if not (roles.generated and roles.source):
            return
        source = np.asarray(images[roles.source])
        person, before = self._judges.descriptors(source), self._shown(source)
        shown = self._shown(np.asarray(images[roles.reference])) if roles.reference else None
        inside = ~self._judges.outside(source.shape[1])
        for name in roles.generated:
            edited = np.asarray(images[name])
            distance = np.linalg.norm(self._judges.descriptors(edited) - person, axis=1)
            change = ratio(image_errors(edited, source, inside)["error_outside"])
            found = {"identity": distance < SAME_PERSON, "outside": change <= MOST_CHANGE}
            if roles.right is not None:
                self._add_attributes(names, {**found, "seen": roles.right})
                continue
            wanted = _SEEN.get(name.lower())
            if wanted is None:
                rows = {key: means(values) for key, values in found.items()}
                self._measurements.add(f"photographs/{name}", rows)
                continue
            asked = True if shown is None else _agrees(shown, wanted)
            found["seen"] = _agrees(self._shown(edited), wanted) == asked
            found["all"] = np.all([*found.values()], 0)
            new = _agrees(before, wanted) != asked
            rows = {key: means(values, new) for key, values in found.items()}
            rows["already"] = means(~new)
            if roles.own is not None:
                index = roles.generated.index(name)
                rows["real"] = means(_agrees(before, wanted), roles.own == index)
            self._measurements.add(f"photographs/{name}", rows)
            self._measurements.add("photographs/mean", rows)

    def _add_attributes(self, names: list[str], found: dict[str, np.ndarray]) -> None:
        """Adds exchanges of an attribute, named "with ..." and "without ..."."""
        found["all"] = np.all([*found.values()], 0)
        rows = {key: means(values) for key, values in found.items()}
        self._measurements.add("photographs/mean", rows, per_person=2)
        for label in sorted(set(names)):
            of_label = np.array(names) == label
            rows = {key: means(values[of_label]) for key, values in found.items()}
            self._measurements.add(f"photographs/{label}", rows)

    def _shown(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._judges.happiness(images) > HAPPY, self._judges.opening(images) > OPEN

    def result(self) -> dict[str, Any]:
        """`photographs`: by class or attribute, and their `mean` where known, shares of edits.

        `identity` and `outside`; where it is known what should be seen also `seen` and `all`, and
        for classes `already`, the share of images that are as asked before the edit, and for images
        with labels `real`, the share of the images of the class in which the judges see it: what a
        perfect edit would reach; `intervals`, see `Measurements.result`.
        """
        return self._measurements.result()


def _agrees(
    shown: tuple[np.ndarray, np.ndarray], wanted: tuple[bool | None, bool | None]
) -> np.ndarray:
    return np.all([s == w for s, w in zip(shown, wanted, strict=True) if w is not None], 0)


def table(result: dict[str, Any]) -> Table:
    """Column titles and rows of a table of `PhotoEdits.result`."""
    columns = sorted(result["photographs"], key="mean".__eq__)  # The mean is last.
    rows = {**_METRICS, "already": "inputs that are as asked already (left out above)"}
    if any("real" in values for values in result["photographs"].values()):
        rows["real"] = "real images of the class in which it is seen"
    return tuple(columns), tuple(
        Row(title, tuple(f"photographs/{name}/{metric}" for name in columns))
        for metric, title in rows.items()
    )
