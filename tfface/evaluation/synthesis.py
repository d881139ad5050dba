"""Metrics of faces generated from the label maps of built-in faces, in many styles."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from tfface.data.label_map_ops import colour_labels
from tfface.data.label_maps import CLASSES_19
from tfface.data.synthetic import render, with_factors
from tfface.evaluation.segmenter import Segmenter
from tfface.evaluation.synthetic_truth import held_out
from tfface.metrics.bootstrap import (
    RANGE,
    ImageRoles,
    Measurements,
    Observer,
    image_errors,
    means,
    no_observer,
    ratio,
)
from tfface.metrics.segmentation import confusions, summary
from tfface.progress import progress

REGIONS = ("hair", "skin", "cloth", "background")
"""Classes whose colours and diversity are measured."""

_BATCH = 16
_FEWEST = 8  # Minimum number of pixels in a region for its mean colour.
_CAPTIONS = "reference", "ground truth"

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
    observer: Observer = no_observer,
) -> dict[str, Any]:
    """Generates faces from held-out label maps with style seeds and in the styles of other faces.

    Colour differences and errors are absolute differences as a share of the pixel value range.

    Args:
        of_seed: From label maps int32 [N,S,S] and a style seed to faces float32 [N,S,S,3] in
            [-1,1].
        untrained: The same with random weights, a baseline.
        of_face: From label maps and reference faces float32 [N,S,S,3] to faces.
        size: Side of the images, in pixels.
        count: Number of label maps.
        styles: Number of styles for each map; their seeds start at 1.
        seed: Seed that selects the people.
        segmenter: The judge, for images of the same size.
        observer: Receives the generated faces.

    Returns:
        `maps` and `styles`, the numbers of each; `segmentation`, for the `generated` faces, those
        of the `untrained` network and `real` renders of the same maps: `miou`, `mean_f1` and
        `pixel_accuracy` (see `Confusion.result`) between the segmenter's output and the input map;
        `diversity`, for `generated` and `real` the mean difference of two faces of one map in two
        styles, and their `ratio`; `diversity_by_region`, the same inside each of REGIONS;
        `grid`, for `generated` and `real` the mean `grid_power`, and their `ratio`;
        `colours`, for each of REGIONS the difference of its mean colour between two maps in the
        `same_style` and between two styles on the `same_map`; `palette`, for each of REGIONS the
        difference of its mean colour from the reference's, in the face `generated` in its style, in
        the `true` render (the ground truth: the person of the map in the reference's colours), and
        in a face generated in the style of an `other` reference; `reference`, for `generated` and
        `copy` (the reference itself) the `error` and `psnr` in dB to this ground truth;
        `intervals` over maps, see `Measurements.result`.
    """
    measurements = Measurements()
    shapes = held_out(count, seed)
    others = [held_out(count, seed + 1 + k) for k in range(styles)]
    with progress() as bar:
        for start in bar.track(range(0, count, _BATCH), description="generating held-out faces"):
            shape, *colours = (
                {k: v[start : start + _BATCH] for k, v in factors.items()}
                for factors in (shapes, *others)
            )
            labels = render(shape, size, ("label_map",))["label_map"].numpy()
            numbers = range(1, styles + 1)
            faces = {
                "generated": [of_seed(labels, n) for n in numbers],
                "untrained": [untrained(labels, n) for n in numbers],
                "real": [_drawn(with_factors(shape, colours=other), size) for other in colours],
            }
            wrong = _add_segmentation(measurements, faces, labels, segmenter)
            _add_diversity(measurements, faces, labels)
            _add_colours(measurements, faces["generated"], labels)
            shown = {"label map": colour_labels(labels).numpy()}
            styled = {f"style {n}": p for n, p in zip(numbers, faces["generated"], strict=True)}
            nameless, roles = [""] * len(labels), ImageRoles(tuple(styled), alternatives=True)
            observer(
                "pixels that differ from the label map", nameless, shown | styled, wrong, roles
            )

            drawn = render(colours[0], size, ("image", "label_map"))
            reference, its_labels = drawn["image"].numpy(), drawn["label_map"].numpy()
            generated, truth = of_face(labels, reference), faces["real"][0]
            _add_reference(measurements, generated, truth, labels, reference, its_labels)
            scores = ratio(image_errors(generated, truth)["error"])
            roles = ImageRoles(("generated",), *_CAPTIONS)
            shown |= dict(
                zip(("generated", *_CAPTIONS), (generated, reference, truth), strict=True)
            )
            observer("error in the style of a reference", nameless, shown, scores, roles)

    result = measurements.result()
    for spread in (result["diversity"], result["grid"], *result["diversity_by_region"].values()):
        generated, real = spread["generated"], spread["real"]
        spread["ratio"] = None if generated is None else generated / real
    return {"maps": count, "styles": styles, **result}


Faces = dict[str, list[np.ndarray]]
"""The "generated", "untrained" and "real" faces, a list with one array for each style."""


def _add_segmentation(
    measurements: Measurements, faces: Faces, labels: np.ndarray, segmenter: Segmenter
) -> np.ndarray:
    """Compares the segmented faces with the label maps; returns the share [N] of wrong pixels."""
    counts: dict[str, np.ndarray] = {}
    for kind, batches in faces.items():
        counts[kind] = sum(confusions(segmenter.label_maps(images), labels) for images in batches)
        rows = dict.fromkeys(("miou", "mean_f1", "pixel_accuracy"), counts[kind])
        measurements.add(f"segmentation/{kind}", rows)
    return 1.0 - summary(counts["generated"])["pixel_accuracy"]


def _add_diversity(measurements: Measurements, faces: Faces, labels: np.ndarray) -> None:
    """Differences between faces of one map, whole and by region, and their grid power."""
    for kind in ("generated", "real"):
        pairs = combinations(faces[kind], 2)
        differences = np.stack([np.abs(a - b).mean(-1, np.float64) / RANGE for a, b in pairs], 1)
        measurements.add("diversity", {kind: means(differences)})
        for region in REGIONS:
            inside = (labels == CLASSES_19.index(region))[:, None]
            measurements.add(f"diversity_by_region/{region}", {kind: means(differences, inside)})
        power = sum(grid_power(p) for p in faces[kind]) / len(faces[kind])
        measurements.add("grid", {kind: means(power)})


def _add_colours(
    measurements: Measurements, generated: list[np.ndarray], labels: np.ndarray
) -> None:
    """Colour differences of regions between maps in one style, and between styles on one map."""
    colours = np.stack([region_means(images, labels) for images in generated])
    for name, axis in (("same_style", 1), ("same_map", 0)):
        difference = _difference(colours, _next(colours, axis)).swapaxes(0, 1)
        for i, region in enumerate(REGIONS):
            measurements.add(f"colours/{region}", {name: _defined(difference[..., i])})


def _add_reference(
    measurements: Measurements,
    generated: np.ndarray,
    truth: np.ndarray,
    labels: np.ndarray,
    reference: np.ndarray,
    reference_labels: np.ndarray,
) -> None:
    """Faces in the styles of references: colour differences, and errors to the ground truth."""
    colours = region_means(generated, labels)
    expected = region_means(reference, reference_labels)
    for kind, difference in (
        ("generated", _difference(colours, expected)),
        ("other", _difference(colours, _next(expected, 0))),
        ("true", _difference(region_means(truth, labels), expected)),
    ):
        rows = {region: _defined(difference[:, i]) for i, region in enumerate(REGIONS)}
        measurements.add(f"palette/{kind}", rows)
    for kind, images in (("generated", generated), ("copy", reference), ("true", truth)):
        measurements.add(f"reference/{kind}", image_errors(images, truth))


def _drawn(factors: dict, size: int) -> np.ndarray:
    return render(factors, size, ("image",))["image"].numpy()


def region_means(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean colours [N,regions,3] of REGIONS in images [N,S,S,3] with label maps [N,S,S].

    NaN where a region has fewer than 8 pixels.
    """
    inside = np.stack([labels == CLASSES_19.index(name) for name in REGIONS], 1)
    inside = inside.astype(np.float64)
    total = np.einsum("nrhw,nhwc->nrc", inside, images.astype(np.float64))
    pixels = inside.sum((2, 3))[..., None]
    return np.where(pixels >= _FEWEST, total / np.maximum(pixels, 1), np.nan)


def grid_power(images: np.ndarray) -> np.ndarray:
    """Spectral power [N] at horizontal or vertical periods of 2 and 4 pixels, of [N,S,S,3].

    It detects grid artefacts of upsampling: the part of the variance of the channel mean that has
    exactly these periods. S must be a multiple of 4.
    """
    side = images.shape[1]
    spectrum = np.abs(np.fft.fft2(np.asarray(images, np.float64).mean(-1)) / side**2) ** 2
    lines = np.isin(np.arange(side), [side // 4, side // 2, side - side // 4])
    return (spectrum * (lines[:, None] | lines[None])).sum((1, 2))


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean absolute difference of colours [...,3], as a share of the pixel value range."""
    return np.abs(a - b).mean(-1) / RANGE


def _next(values: np.ndarray, axis: int) -> np.ndarray:
    """The neighbours along an axis, cyclically; NaN if the axis has length 1."""
    alone = values.shape[axis] == 1
    return np.full_like(values, np.nan) if alone else np.roll(values, 1, axis)


def _defined(values: np.ndarray) -> np.ndarray:
    """Rows, as from `means`, of the finite values in [N,...]."""
    return means(np.nan_to_num(values), np.isfinite(values))
