"""Held-out built-in faces, whose edits are compared with their true renders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from tfface.config import Data
from tfface.data.images import to_image
from tfface.data.synthetic import SyntheticFaces, render
from tfface.evaluation.classifier import Classifier, first_face
from tfface.metrics.bootstrap import means, ratio
from tfface.progress import progress

# Training faces have intensities uniform in [0.7, 1]; an edit is asked for a name only.
INTENSITY = 0.85
BATCH = 32
SHOWN = 6
"""Rows of images in a report, about."""

_HALF = 0.5  # Decibels.
ERROR = "error to the true render"


def held_out(count: int, seed: int, attributes: tuple[str, ...] = (), where=None) -> dict:
    """Factors of people of the split "test": others for every seed.

    With attributes, Smiling and Mouth_Slightly_Open are drawn on their own, on neutral faces.

    Args:
        count: How many people.
        seed: Which ones.
        attributes: As of `SyntheticFaces`.
        where: (attribute, value) to put on every face.

    Returns:
        Factors, as from `sample_factors`.
    """
    first = first_face(seed, "held out")
    return SyntheticFaces(Data(), attributes).factors("test", first, count, where)


def draw(factors: dict, size: int) -> list[Image.Image]:
    """Built-in faces as images."""
    return [to_image(array) for array in render(factors, size)["image"].numpy()]


def chunks(factors: dict, count: int, chunk: int, title: str) -> Iterator[dict]:
    """Some faces at a time, with a progress bar on a terminal."""
    with progress() as bar:
        for start in bar.track(range(0, count, chunk), description=title):
            yield {name: value[start : start + chunk] for name, value in factors.items()}


def verdicts(
    asked: str,
    verdicts: Sequence[np.ndarray],
    rows: dict[str, np.ndarray],
    copied: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Rows of edits that show what was asked, and of those that are nearer to the truth as well.

    A caricature shows it, and a copy has a small error: it takes both to have done what was asked.

    Args:
        asked: What the share of those that show it is called.
        verdicts: Of one judge or two, which show it, bool [N].
        rows: Of the edits, as of `compared`.
        copied: Of the inputs. Those that are their own true render are left out.
    """
    before = ratio(copied["psnr"])
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = 10 * np.log10(before / ratio(rows["psnr"]))  # In dB.
    found = {}
    for prefix, shows in zip(("", "second/"), verdicts, strict=False):
        found[f"{prefix}{asked}"] = means(shows)
        found[f"{prefix}improved_over_input"] = means(shows & (gain > 0), before > 0)
        found[f"{prefix}improved_by_half_db"] = means(shows & (gain >= _HALF), before > 0)
    return found


def kept_person(judge: Classifier, made: np.ndarray, source: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of how like the person in images is to the one in those that they were made of."""
    return {"identity": means(judge.similarity(made, source))} if judge.knows_people else {}
