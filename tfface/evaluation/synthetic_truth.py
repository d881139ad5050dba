"""Held-out built-in faces, whose edits are compared with the ground truth.

The renderer can draw the same person with another expression or attribute, so the ground truth of
an edit is known.
"""

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

INTENSITY = 0.85
"""Expression intensity of the ground truth: the mean of the training faces, uniform in [0.7, 1]."""

BATCH = 32
SHOWN = 6
"""Approximate number of image rows in a report."""

_HALF = 0.5  # Decibels.
ERROR = "error to the ground truth"


def held_out(count: int, seed: int, attributes: tuple[str, ...] = (), where=None) -> dict:
    """Factors of people in the split "test", different ones for each seed.

    With attributes, the faces are neutral and Smiling and Mouth_Slightly_Open are independent of
    the expression.

    Args:
        count: Number of people.
        seed: Seed that selects the people.
        attributes: As for `SyntheticFaces`.
        where: (attribute, value) that every face gets.

    Returns:
        Factors, as from `sample_factors`.
    """
    first = first_face(seed, "held out")
    return SyntheticFaces(Data(), attributes).factors("test", first, count, where)


def draw(factors: dict, size: int) -> list[Image.Image]:
    """Built-in faces as images."""
    return [to_image(array) for array in render(factors, size)["image"].numpy()]


def chunks(factors: dict, count: int, chunk: int, title: str) -> Iterator[dict]:
    """Yields the factors in chunks, with a progress bar on a terminal."""
    with progress() as bar:
        for start in bar.track(range(0, count, chunk), description=title):
            yield {name: value[start : start + chunk] for name, value in factors.items()}


def success_rows(
    name: str,
    verdicts: Sequence[np.ndarray],
    edited: dict[str, np.ndarray],
    inputs: dict[str, np.ndarray],
    counted: np.ndarray,
) -> dict[str, np.ndarray]:
    """Rows, for `Measurements.add`, of edits that show the target and that improve over the input.

    A caricature shows the target and a copy of the input has a small error; a successful edit must
    show the target and be closer to the ground truth than the input.

    Args:
        name: Name of the share of edits that show the target.
        verdicts: For one or two judges, whether each edit shows the target, bool [N].
        edited: Errors of the edits, from `image_errors`.
        inputs: Errors of the inputs.
        counted: Which edits count as improved or not, bool [N]: those whose input does not show the
            target already.
    """
    before = ratio(inputs["psnr"])
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = 10 * np.log10(before / ratio(edited["psnr"]))  # In dB.
    rows = {}
    for prefix, shows in zip(("", "second/"), verdicts, strict=False):
        rows[f"{prefix}{name}"] = means(shows)
        rows[f"{prefix}improved_over_input"] = means(shows & (gain > 0), counted)
        rows[f"{prefix}improved_by_half_db"] = means(shows & (gain >= _HALF), counted)
    return rows


def identity_rows(
    judge: Classifier, edited: np.ndarray, source: np.ndarray
) -> dict[str, np.ndarray]:
    """Rows, for `Measurements.add`, of the identity similarity of edits to their inputs."""
    return {"identity": means(judge.similarity(edited, source))} if judge.has_identity else {}
