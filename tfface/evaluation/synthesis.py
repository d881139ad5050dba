"""Faces made from label maps in many styles, judged on built-in faces."""

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
from tfface.metrics.bootstrap import RANGE, Roles, Tally, Watch, compared, means, ratio, unwatched
from tfface.metrics.segmentation import confusions, summary
from tfface.progress import progress

REGIONS = ("hair", "skin", "cloth", "background")
"""Classes whose mean colours are compared."""

_BATCH = 16
_FEWEST = 8  # Pixels of a region whose mean colour is taken.
_CAPTIONS = "reference", "true render"

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
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Makes faces from held-out people's label maps in several styles, and in others' styles.

    Colours and errors are absolute differences as a share of the range of the pixels' values.

    Args:
        of_seed: From label maps int32 [N,S,S] and the number of a style to faces float32 [N,S,S,3]
            in [-1,1].
        untrained: The same with random weights, a baseline.
        of_face: From label maps and reference faces float32 [N,S,S,3] to faces.
        size: Side of the images, in pixels.
        count: How many label maps.
        styles: How many styles of each; numbers from 1 on.
        seed: Which people.
        segmenter: Of the same size.
        watch: Is shown the faces made.

    Returns:
        `maps` and `styles`, as asked for; `segmentation`, for what was `made`, the `untrained` and
        the `real` renders of the same maps what the segmenter finds of the maps: `miou`, `mean_f1`
        and `pixel_accuracy` as of `Confusion.result`; `diversity`, for `made` and `real` the mean
        difference of two faces of one map in two styles, and their `ratio`; `grid`, for `made` and
        `real` the mean `grid_power`, and their `ratio`;
        `colours`, for each of REGIONS how far its mean colour differs between two maps in the
        `same_style` and two styles of the `same_map`; `palette`, how far from the reference's it is
        in the face `made` in its style, in the `true` render of the map's person in the reference's
        colours, and in a face made in the style of an `other` reference; `reference`, for `made`
        and `copy` (the reference itself) the `error` and `psnr` in dB to this true render;
        `intervals` as of `Tally.result`, over maps.
    """
    tally = Tally()
    shapes = held_out(count, seed)
    others = [held_out(count, seed + 1 + k) for k in range(styles)]
    with progress() as bar:
        for start in bar.track(range(0, count, _BATCH), description="painting held-out faces"):
            shape, *colours = (
                {k: v[start : start + _BATCH] for k, v in factors.items()}
                for factors in (shapes, *others)
            )
            labels = render(shape, size, ("label_map",))["label_map"].numpy()
            numbers = range(1, styles + 1)
            faces = {
                "made": [of_seed(labels, n) for n in numbers],
                "untrained": [untrained(labels, n) for n in numbers],
                "real": [_drawn(with_factors(shape, colours=other), size) for other in colours],
            }
            wrong = _add_segmentation(tally, faces, labels, segmenter)
            _add_diversity(tally, faces)
            _add_colours(tally, faces["made"], labels)
            shown = {"label map": colour_labels(labels).numpy()}
            styled = {f"style {n}": p for n, p in zip(numbers, faces["made"], strict=True)}
            nameless, roles = [""] * len(labels), Roles(tuple(styled), answers=True)
            watch("pixels that do not fit the label map", nameless, shown | styled, wrong, roles)

            drawn = render(colours[0], size, ("image", "label_map"))
            reference, its_labels = drawn["image"].numpy(), drawn["label_map"].numpy()
            made, truth = of_face(labels, reference), faces["real"][0]
            _add_reference(tally, made, truth, labels, reference, its_labels)
            scores, roles = ratio(compared(made, truth)["error"]), Roles(("made",), *_CAPTIONS)
            shown |= dict(zip(("made", *_CAPTIONS), (made, reference, truth), strict=True))
            watch("error in the style of a reference", nameless, shown, scores, roles)

    figures = tally.result()
    for spread in (figures["diversity"], figures["grid"]):
        spread["ratio"] = None if spread["made"] is None else spread["made"] / spread["real"]
    return {"maps": count, "styles": styles, **figures}


Faces = dict[str, list[np.ndarray]]
"""Of "made", "untrained" and "real" faces those in each style."""


def _add_segmentation(
    tally: Tally, faces: Faces, labels: np.ndarray, segmenter: Segmenter
) -> np.ndarray:
    """What the segmenter finds of the maps; returns the share [N] of pixels that it does not."""
    fit: dict[str, np.ndarray] = {}
    for kind, some in faces.items():
        fit[kind] = sum(confusions(segmenter.label_maps(p), labels) for p in some)
        measures = dict.fromkeys(("miou", "mean_f1", "pixel_accuracy"), fit[kind])
        tally.add(f"segmentation/{kind}", measures)
    return 1.0 - summary(fit["made"])["pixel_accuracy"]


def _add_diversity(tally: Tally, faces: Faces) -> None:
    """How far faces of one map are apart; and what repeats in them."""
    for kind in ("made", "real"):
        pairs = combinations(faces[kind], 2)
        differences = [np.abs(a - b).mean((1, 2, 3), np.float64) for a, b in pairs]
        tally.add("diversity", {kind: means(np.stack(differences, 1) / RANGE)})
        power = sum(grid_power(p) for p in faces[kind]) / len(faces[kind])
        tally.add("grid", {kind: means(power)})


def _add_colours(tally: Tally, made: list[np.ndarray], labels: np.ndarray) -> None:
    """Mean colours of regions between maps in one style, and between styles of one map."""
    found = np.stack([region_means(p, labels) for p in made])
    for name, axis in (("same_style", 1), ("same_map", 0)):
        far = _far(found, _next(found, axis)).swapaxes(0, 1)
        for i, region in enumerate(REGIONS):
            tally.add(f"colours/{region}", {name: _known(far[..., i])})


def _add_reference(
    tally: Tally,
    made: np.ndarray,
    truth: np.ndarray,
    labels: np.ndarray,
    reference: np.ndarray,
    its_labels: np.ndarray,
) -> None:
    """Faces made in references' styles: their colours, and their errors to the true renders."""
    found, wanted = region_means(made, labels), region_means(reference, its_labels)
    for kind, far in (
        ("made", _far(found, wanted)),
        ("other", _far(found, _next(wanted, 0))),
        ("true", _far(region_means(truth, labels), wanted)),
    ):
        rows = {region: _known(far[:, i]) for i, region in enumerate(REGIONS)}
        tally.add(f"palette/{kind}", rows)
    for kind, images in (("made", made), ("copy", reference), ("true", truth)):
        tally.add(f"reference/{kind}", compared(images, truth))


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
    """Power [N] of what repeats every 2 or 4 pixels, across or down, in images [N,S,S,3].

    What up-sampling leaves behind: the part of the variance of the mean over colours with these
    periods exactly, S a multiple of 4.
    """
    side = images.shape[1]
    spectrum = np.abs(np.fft.fft2(np.asarray(images, np.float64).mean(-1)) / side**2) ** 2
    lines = np.isin(np.arange(side), [side // 4, side // 2, side - side // 4])
    return (spectrum * (lines[:, None] | lines[None])).sum((1, 2))


def _far(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mean difference of colours [...,3], as a share of the range."""
    return np.abs(found - wanted).mean(-1) / RANGE


def _next(values: np.ndarray, axis: int) -> np.ndarray:
    """The neighbours along an axis; NaN where there is none."""
    alone = values.shape[axis] == 1
    return np.full_like(values, np.nan) if alone else np.roll(values, 1, axis)


def _known(far: np.ndarray) -> np.ndarray:
    """Rows of differences [N,...], of those that there are."""
    return means(np.nan_to_num(far), np.isfinite(far))
