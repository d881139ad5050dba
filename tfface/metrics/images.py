"""Image similarity (SSIM, MS-SSIM, mean absolute error) and diversity."""

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


def psnr(images: np.ndarray, others: np.ndarray) -> float:
    """PSNR in dB of arrays of any shape with values in [-1,1]; equal ones have 120 dB."""
    squared = np.mean(np.square(images - others)) / RANGE**2
    return float(-10 * np.log10(max(squared, 1e-12)))


def checked(images: Any, rank: int = 4) -> np.ndarray:
    """Images as a float32 array.

    Args:
        images: [N,H,W,3] in [-1,1], or with more leading axes.
        rank: Expected number of axes.

    Raises:
        ValueError: The shape is wrong, there are no images, or values are far from [-1,1].
        UserError: There are NaN or infinite values.
    """
    images = np.asarray(images, np.float32)
    if images.ndim != rank or images.shape[-1] != 3 or not images.size:
        raise ValueError(f"images are {images.shape}: expected {rank} axes, the last of 3")
    bad = ~np.isfinite(images).reshape(len(images), -1).all(axis=1)
    if bad.any():
        raise UserError(
            f"{bad.sum()} of {len(bad)} images contain NaN or infinite values: "
            "did the training diverge?"
        )
    if np.abs(images).max() > 1.01:
        raise ValueError(
            f"images have values from {images.min()} to {images.max()}: expected [-1,1]"
        )
    return images


def levels(images: Any) -> np.ndarray:
    """Images [N,H,W,3] in [-1,1] as uint8, rounded and clipped, as an image file stores them."""
    return np.rint((checked(images) + 1) * 127.5).clip(0, 255).astype(np.uint8)


def ssim(images: Any, ground_truth: Any) -> np.ndarray:
    """Structural similarity of each image, averaged over the three channels.

    Args:
        images: float32 [N,H,W,3] in [-1,1]; H and W at least 11.
        ground_truth: The same shape.

    Returns:
        float64 [N], at most 1.
    """
    images, ground_truth = _unit_pair(images, ground_truth)
    return tf.image.ssim(images, ground_truth, 1.0, _WINDOW).numpy().astype(np.float64)


def ms_ssim(images: Any, ground_truth: Any) -> np.ndarray:
    """Multi-scale structural similarity of each image; see `ms_ssim_name`.

    Args:
        images: float32 [N,H,W,3] in [-1,1]; H and W at least 11.
        ground_truth: The same shape.

    Returns:
        float64 [N] in [0,1].
    """
    images, ground_truth = _unit_pair(images, ground_truth)
    weights = np.array(_SCALES[: _scales(min(images.shape[1:3]))])
    if len(weights) < len(_SCALES):  # The published weights sum to 1.0001.
        weights /= weights.sum()
    similarity = tf.image.ssim_multiscale(images, ground_truth, 1.0, weights, _WINDOW)
    return similarity.numpy().astype(np.float64)


def ms_ssim_name(size: int) -> str:
    """The name of `ms_ssim` at an image size, which depends on how many scales fit.

    Images of 161 pixels or more have the five published scales: "ms_ssim". Smaller images have
    fewer, with the weights of the finest scales normalised to a sum of 1: "ms_ssim_3scales" at 64
    pixels. Values with different names are not comparable.

    Args:
        size: The shorter side, in pixels.
    """
    count = _scales(size)
    return "ms_ssim" if count == len(_SCALES) else f"ms_ssim_{count}scales"


def mean_absolute(a: Any, b: Any) -> np.ndarray:
    """Mean absolute differences [N] of images [N,H,W,3], as shares of the pixel value range."""
    a, b = _pair(a, b)
    return np.abs(a - b).mean(axis=(1, 2, 3), dtype=np.float64) / RANGE


def diversity(images: Any, distance: Distance = mean_absolute) -> np.ndarray:
    """Mean pairwise distance of the images generated for the same input.

    Args:
        images: float32 [N,K,H,W,3] in [-1,1]: K >= 2 images for each of N inputs.
        distance: From two arrays of images [N,H,W,3] to their distances [N], for example a
            `tfface.evaluation.lpips.Lpips`.

    Returns:
        float64 [N], the mean over the K (K - 1) / 2 pairs of each input.
    """
    images = checked(images, rank=5)
    count = images.shape[1]
    if count < 2:
        raise ValueError(f"images are {images.shape}: expected at least two for each input")
    pairs = combinations(range(count), 2)
    distances = [np.asarray(distance(images[:, i], images[:, j]), np.float64) for i, j in pairs]
    return np.mean(distances, axis=0)


def _pair(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = checked(a), checked(b)
    if a.shape != b.shape:
        raise ValueError(f"images are {a.shape} and {b.shape}: expected the same shape")
    return a, b


def _unit_pair(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both in [0,1]: SSIM compares means and is defined for non-negative values."""
    a, b = _pair(a, b)
    if min(a.shape[1:3]) < _WINDOW:
        raise ValueError(f"images are {a.shape}: expected sides of at least {_WINDOW}")
    return (a + 1) / RANGE, (b + 1) / RANGE


def _scales(size: int) -> int:
    """Number of scales at which the window fits the image."""
    return min(((size - 1) // (_WINDOW - 1)).bit_length(), len(_SCALES))
