"""Faces made from label maps in many styles, judged on built-in faces."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from tfface.data.label_maps import CLASSES_19
from tfface.data.synthetic import render, with_factors
from tfface.metrics.classifier import progress
from tfface.metrics.segmentation import Confusion
from tfface.metrics.segmenter import Segmenter
from tfface.metrics.synthetic_truth import decibels, held_out

REGIONS = ("hair", "skin", "cloth", "background")
"""Classes whose mean colours are compared."""

_BATCH = 16
_RANGE = 2.0  # Pictures are in [-1,1].
_FEWEST = 8  # Pixels of a region whose mean colour is taken.

OfSeed = Callable[[np.ndarray, int], np.ndarray]
OfFace = Callable[[np.ndarray, np.ndarray], np.ndarray]


def evaluate_synthesis(
    of_seed: OfSeed,
    untrained: OfSeed,
    of_face: OfFace,
    size: int,
    count: int,
    styles: int,
    seed: int,
    segmenter: Segmenter,
) -> dict[str, Any]:
    """Makes faces from held-out people's label maps in several styles, and in others' styles.

    Colours and errors are absolute differences as a share of the range of the pixels' values.

    Args:
        of_seed: From label maps int32 [N,S,S] and the number of a style to faces float32 [N,S,S,3]
            in [-1,1].
        untrained: The same with random weights, a baseline.
        of_face: From label maps and reference faces float32 [N,S,S,3] to faces.
        size: Side of the pictures, in pixels.
        count: How many label maps.
        styles: How many styles of each; numbers from 1 on.
        seed: Which people.
        segmenter: Of the same size.

    Returns:
        `maps` and `styles`, as asked for; `segmentation`, for what was `made`, the `untrained` and
        the `real` renders of the same maps what the segmenter finds of the maps, as of
        `Confusion.result`; `diversity`, for `made` and `real` the mean difference of two faces of
        one map in two styles, and their `ratio`; `colours`, for each of REGIONS how far its mean
        colour differs between two maps in the `same_style` and two styles of the `same_map`;
        `palette`, how far from the reference's it is in the face `made` in its style, in the `true`
        render of the map's person in the reference's colours, and in a face made in the style of an
        `other` reference; `reference`, for `made` and `copy` (the reference itself) the `error` and
        `psnr` in dB to this true render.
    """
    kinds = ("made", "untrained", "real")
    confusions = {kind: Confusion() for kind in kinds}
    spreads: dict[str, list] = {"made": [], "real": []}
    means: list[np.ndarray] = []  # Of each batch [styles, N, regions, 3].
    palettes: dict[str, list] = {"made": [], "true": [], "other": []}
    errors: dict[str, list] = {"made": [], "copy": []}
    shapes = held_out(count, seed)
    others = [held_out(count, seed + 1 + k) for k in range(styles)]
    with progress() as bar:
        for start in bar.track(range(0, count, _BATCH), description="painting held-out faces"):
            shape, *colours = (
                {k: v[start : start + _BATCH] for k, v in factors.items()}
                for factors in (shapes, *others)
            )
            labels = render(shape, size, ("label_map",))["label_map"].numpy()
            real = [_drawn(with_factors(shape, colours=other), size) for other in colours]
            numbers = range(1, styles + 1)
            faces = {
                "made": [of_seed(labels, n) for n in numbers],
                "untrained": [untrained(labels, n) for n in numbers],
                "real": real,
            }
            for kind, some in faces.items():
                for pictures in some:
                    confusions[kind].add(segmenter.label_maps(pictures), labels)
            for kind, found in spreads.items():
                pairs = combinations(faces[kind], 2)
                found += [np.abs(a - b).mean(dtype=np.float64) / _RANGE for a, b in pairs]
            means.append(np.stack([region_means(p, labels) for p in faces["made"]]))

            drawn = render(colours[0], size, ("image", "label_map"))
            reference = drawn["image"].numpy()
            wanted = region_means(reference, drawn["label_map"].numpy())
            made = of_face(labels, reference)
            found = region_means(made, labels)
            palettes["made"].append(_far(found, wanted))
            palettes["other"].append(_far(found, np.roll(wanted, 1, axis=0)))
            palettes["true"].append(_far(region_means(real[0], labels), wanted))
            for kind, pictures in (("made", made), ("copy", reference)):
                errors[kind].append((pictures - real[0]).astype(np.float64) / _RANGE)

    spread = {kind: float(np.mean(found)) for kind, found in spreads.items()}
    return {
        "maps": count,
        "styles": styles,
        "segmentation": {kind: confusion.result() for kind, confusion in confusions.items()},
        "diversity": {**spread, "ratio": spread["made"] / spread["real"]},
        "colours": _constancy(np.concatenate(means, 1)),
        "palette": {kind: _by_region(np.concatenate(found)) for kind, found in palettes.items()},
        "reference": {
            kind: {
                "error": float(np.abs(found).mean()),
                "psnr": decibels(float(np.square(found).mean())),
            }
            for kind, found in ((k, np.concatenate(v)) for k, v in errors.items())
        },
    }


def _drawn(factors: dict, size: int) -> np.ndarray:
    return render(factors, size, ("image",))["image"].numpy()


def region_means(pictures: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean colours [N,regions,3] of REGIONS in pictures [N,S,S,3] with label maps [N,S,S].

    NaN where a region has fewer than 8 pixels.
    """
    inside = np.stack([labels == CLASSES_19.index(name) for name in REGIONS], 1)
    inside = inside.astype(np.float64)
    total = np.einsum("nrhw,nhwc->nrc", inside, pictures.astype(np.float64))
    pixels = inside.sum((2, 3))[..., None]
    return np.where(pixels >= _FEWEST, total / np.maximum(pixels, 1), np.nan)


def _far(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mean difference of colours [...,3], as a share of the range."""
    return np.abs(found - wanted).mean(-1) / _RANGE


def _by_region(values: np.ndarray) -> dict[str, float | None]:
    """Means over all but the last axis, of what there is; None where there is nothing."""
    columns = values.reshape(-1, len(REGIONS)).T
    return {
        name: float(np.nanmean(column)) if np.isfinite(column).any() else None
        for name, column in zip(REGIONS, columns, strict=True)
    }


def _constancy(means: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Differences of mean colours [styles,maps,regions,3] between maps, and between styles."""
    same_style = _by_region(_far(means, np.roll(means, 1, axis=1)))
    same_map = _by_region(_far(means, np.roll(means, 1, axis=0)))
    return {name: {"same_style": same_style[name], "same_map": same_map[name]} for name in REGIONS}
