"""How alike images are, pixel by pixel; and how different from each other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import tensorflow as tf

from tfface.errors import UserError

RANGE = 2.0  # Images are in [-1,1].
_WINDOW = 11  # Side of SSIM's Gaussian window, Wang et al. 2004, section III-C.
# Of the scales of MS-SSIM, finest first: Wang, Simoncelli, Bovik 2003, section 3.2.
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

Distance = Callable[[np.ndarray, np.ndarray], Any]


def checked(images: Any, rank: int = 4) -> np.ndarray:
    """Images as a float32 array.

    Args:
        images: [N,H,W,3] in [-1,1]; of another rank, with more axes before H.
        rank: Number of axes.

    Raises:
        ValueError: Another shape, no images, or values far from [-1,1].
        UserError: Values that are no finite numbers.
    """
    images = np.asarray(images, np.float32)
    if images.ndim != rank or images.shape[-1] != 3 or not images.size:
        raise ValueError(f"images are {images.shape}: expected {rank} axes, the last of 3")
    bad = ~np.isfinite(images).reshape(len(images), -1).all(axis=1)
    if bad.any():
        raise UserError(
            f"{bad.sum()} of {len(bad)} images hold values that are no finite numbers: "
            "did the training diverge?"
        )
    if np.abs(images).max() > 1.01:
        raise ValueError(
            f"images have values from {images.min()} to {images.max()}: expected [-1,1]"
        )
    return images


def levels(images: Any) -> np.ndarray:
    """Images [N,H,W,3] in [-1,1] as they are stored: uint8, rounded and clipped to 0 to 255."""
    return np.rint((checked(images) + 1) * 127.5).clip(0, 255).astype(np.uint8)


def ssim(found: Any, truth: Any) -> np.ndarray:
    """Structural similarity of each image, the mean of its three channels.

    Args:
        found: float32 [N,H,W,3] in [-1,1]; H and W at least 11.
        truth: Of the same shape.

    Returns:
        float64 [N], at most 1.
    """
    found, truth = _unit_pair(found, truth)
    return tf.image.ssim(found, truth, 1.0, _WINDOW).numpy().astype(np.float64)


def ms_ssim(found: Any, truth: Any) -> np.ndarray:
    """Structural similarity over several scales, of each image; see `ms_ssim_name`.

    Args:
        found: float32 [N,H,W,3] in [-1,1]; H and W at least 11.
        truth: Of the same shape.

    Returns:
        float64 [N] in [0,1].
    """
    found, truth = _unit_pair(found, truth)
    weights = np.array(_SCALES[: _scales(min(found.shape[1:3]))])
    if len(weights) < len(_SCALES):  # The published ones have a sum of 1.0001.
        weights /= weights.sum()
    similar = tf.image.ssim_multiscale(found, truth, 1.0, weights, _WINDOW)
    return similar.numpy().astype(np.float64)


def ms_ssim_name(size: int) -> str:
    """What `ms_ssim` is called for images of a size, by the scales that fit.

    Five fit images of 161 pixels and more: "ms_ssim", as published. Smaller ones have fewer, with
    the weights of the finest ones, scaled to a sum of 1: "ms_ssim_3scales" at 64 pixels. Figures of
    different names cannot be compared.

    Args:
        size: The shorter side, in pixels.
    """
    count = _scales(size)
    return "ms_ssim" if count == len(_SCALES) else f"ms_ssim_{count}scales"


def mean_absolute(a: Any, b: Any) -> np.ndarray:
    """Mean absolute differences [N] of images [N,H,W,3], as shares of the range of the values."""
    a, b = _pair(a, b)
    return np.abs(a - b).mean(axis=(1, 2, 3), dtype=np.float64) / RANGE


def diversity(images: Any, distance: Distance = mean_absolute) -> np.ndarray:
    """How different the images are that were made for one and the same input.

    Args:
        images: float32 [N,K,H,W,3] in [-1,1]: K >= 2 images for each of N inputs.
        distance: From two arrays of images [N,H,W,3] to their distances [N]; for instance
            `tfface.evaluation.lpips.Lpips`.

    Returns:
        float64 [N], the mean distance of the K (K - 1) / 2 pairs of each input.
    """
    images = checked(images, rank=5)
    count = images.shape[1]
    if count < 2:
        raise ValueError(f"images are {images.shape}: expected at least two for each input")
    pairs = combinations(range(count), 2)
    found = [np.asarray(distance(images[:, i], images[:, j]), np.float64) for i, j in pairs]
    return np.mean(found, axis=0)


def _pair(found: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    found, truth = checked(found), checked(truth)
    if found.shape != truth.shape:
        raise ValueError(f"images are {found.shape} and {truth.shape}: expected one shape")
    return found, truth


def _unit_pair(found: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """In [0,1]: SSIM compares means, and is defined for values that are not negative."""
    found, truth = _pair(found, truth)
    if min(found.shape[1:3]) < _WINDOW:
        raise ValueError(f"images are {found.shape}: expected sides of at least {_WINDOW}")
    return (found + 1) / RANGE, (truth + 1) / RANGE


def _scales(size: int) -> int:
    """How many scales there are at which the window has room to move, or fits exactly."""
    return min(((size - 1) // (_WINDOW - 1)).bit_length(), len(_SCALES))
