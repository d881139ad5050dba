"""Distances between two sets of images, as distributions of features (FID, KID) or patches (SWD).

Results do not depend on the order of the images or the batch size: random choices are seeded by
the content of each image.
"""

from __future__ import annotations

import hashlib

import numpy as np
import scipy.linalg
from scipy.ndimage import correlate1d

KEPT = 10_000  # Feature vectors kept for each set, for KID.
SUBSETS, SUBSET_SIZE = 100, 1000  # Binkowski et al. 2018, section 4; torch-fidelity's defaults.
_SEED = 2020  # As in torch-fidelity.

# Karras et al. 2018, section 5 and the authors' `sliced_wasserstein.py`.
_PATCH = 7
_PATCHES = 128  # For each image and level.
_COARSEST = 16  # Side of the coarsest level, in pixels.
_REPEATS, _DIRECTIONS = 4, 128
_KERNEL = np.float32([1, 4, 6, 4, 1]) / 16  # Burt and Adelson 1983.


def image_keys(levels: np.ndarray) -> np.ndarray:
    """Hashes, uint64 [N], of the content of images, uint8 [N,H,W,3]."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in levels]
    return np.frombuffer(b"".join(digests), np.uint64)


class Statistics:
    """Count, mean, covariance and a sample of the features of a set of images, in one pass.

    Attributes:
        count: Number of images N.
        mean: float64 [D].
        scatter: float64 [D,D], the covariance times N - 1.
        keys: uint64 [K], keys of the images in the sample, in ascending order.
        sample: float32 or float64 [K,D], features of the KEPT images with the smallest keys.
    """

    def __init__(self, dimensions: int):
        self.count = 0
        self.mean = np.zeros(dimensions)
        self.scatter = np.zeros((dimensions, dimensions))
        self.keys = np.zeros(0, np.uint64)
        self.sample = np.zeros((0, dimensions), np.float32)

    def add(self, features: np.ndarray, keys: np.ndarray) -> None:
        """Adds a batch.

        Args:
            features: Finite values [N,D].
            keys: uint64 [N], as from `image_keys`.

        Raises:
            ValueError: The shape is wrong, or there are NaN or infinite values.
        """
        features = np.asarray(features)
        expected = (len(keys), len(self.mean))
        if features.shape != expected or not np.isfinite(features).all():
            raise ValueError(f"features are {features.shape}: expected {expected}, all finite")
        # Chan et al. 1979: sums about the means keep precision that sums of squares would lose.
        count, batch = self.count + len(features), features.astype(np.float64)
        mean = batch.mean(axis=0)
        batch -= mean
        step = mean - self.mean
        self.scatter += batch.T @ batch
        self.scatter += np.outer(step, step) * (self.count * len(features) / count)
        self.mean += step * (len(features) / count)
        self.count = count
        keys = np.concatenate([self.keys, keys])
        first = np.argsort(keys, kind="stable")[:KEPT]
        self.keys, self.sample = keys[first], np.concatenate([self.sample, features])[first]

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariance float64 [D,D]; raises ValueError for fewer than two images."""
        if self.count < 2:
            raise ValueError(f"{self.count} images were added: expected at least 2")
        return self.scatter / (self.count - 1)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Frechet distance of Gaussians fitted to two feature sets (FID, Heusel et al. 2017, eq. 6).

    It depends on the number of images: compare only values for the same number.
    """
    # With covariances F F' and G G', the trace of (F F' G G')^(1/2) is the sum of the singular
    # values of F' G. Unlike a root of the product, it stays exact where a covariance is singular.
    first, second = _factor(a.covariance), _factor(b.covariance)
    shared = np.linalg.svd(first.T @ second, compute_uv=False).sum()
    spread = np.square(first).sum() + np.square(second).sum() - 2 * shared
    return float(np.square(a.mean - b.mean).sum() + max(spread, 0.0))


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F [D,R] with F F' = covariance, of rank R up to rounding."""
    values, vectors = scipy.linalg.eigh(covariance)
    # Smaller eigenvalues are rounding errors, in sets with fewer images than features.
    kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def kernel_distance(a: Statistics, b: Statistics, size: int | None = None) -> dict[str, float]:
    """KID: squared maximum mean discrepancy of features, Binkowski et al. 2018, section 3.

    The unbiased estimate with the kernel (x'y / D + 1)^3 over 100 random subsets, drawn as in
    torch-fidelity.

    Args:
        a: Statistics of the first set.
        b: Statistics of the second set.
        size: Images in each subset; None: 1000, or half of the smaller set if that is less.

    Returns:
        `mean` and `std` over the subsets, and their `size`.

    Raises:
        ValueError: A set is smaller than the subsets, or the subsets have fewer than two images.
    """
    least = min(len(a.sample), len(b.sample))
    size = min(SUBSET_SIZE, least // 2) if size is None else size
    if not 2 <= size <= least:
        raise ValueError(f"subsets of {size} out of {least} images: expected 2 to {least}")
    random = np.random.RandomState(_SEED)
    values = []
    for _ in range(SUBSETS):
        x = a.sample[random.choice(len(a.sample), size, replace=False)].astype(np.float64)
        y = b.sample[random.choice(len(b.sample), size, replace=False)].astype(np.float64)
        values.append(_pairs(x) + _pairs(y) - 2 * _kernel(x, y).mean())
    return {"mean": float(np.mean(values)), "std": float(np.std(values)), "size": size}


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _pairs(x: np.ndarray) -> float:
    """Mean of the kernel over all pairs of different rows."""
    kernel = _kernel(x, x)
    return (kernel.sum() - kernel.trace()) / (len(x) * (len(x) - 1))


class Patches:
    """7x7-pixel patches of the Laplacian pyramids of a set of images, for `swd`.

    Each image takes 75 kB per level. Levels have sides S, S/2, ... down to 16 pixels.

    Args:
        seed: Seed of the patch positions.
    """

    def __init__(self, seed: int = 0):
        self._seed = seed
        self._levels: dict[int, list[np.ndarray]] = {}

    def add(self, levels: np.ndarray) -> None:
        """Adds a batch of square images, uint8 [N,S,S,3] with S >= 16."""
        if levels.shape[1] != levels.shape[2] or levels.shape[1] < _COARSEST:
            raise ValueError(
                f"images are {levels.shape}: expected square ones of at least {_COARSEST} pixels"
            )
        randoms = [np.random.default_rng([self._seed, int(key)]) for key in image_keys(levels)]
        for level in _pyramid(levels.astype(np.float32)):
            windows = np.lib.stride_tricks.sliding_window_view(level, (_PATCH, _PATCH), (1, 2))
            positions = [
                random.integers(windows.shape[1], size=(2, _PATCHES)) for random in randoms
            ]
            patches = [window[y, x] for window, (y, x) in zip(windows, positions, strict=True)]
            self._levels.setdefault(level.shape[1], []).extend(patches)

    def descriptors(self) -> dict[int, np.ndarray]:
        """By level side: float32 [patches,147], with mean 0 and std 1 in each colour channel."""
        return {
            side: _normalised(np.concatenate(patches)) for side, patches in self._levels.items()
        }


def _pyramid(images: np.ndarray) -> list[np.ndarray]:
    """Laplacian pyramid of [N,S,S,3], finest level first; the last level is the coarse image."""
    levels = [images]
    while levels[-1].shape[1] % 2 == 0 and levels[-1].shape[1] // 2 >= _COARSEST:
        fine = levels[-1]
        coarse = _smooth(fine)[:, ::2, ::2]
        wide = np.zeros_like(fine)
        wide[:, ::2, ::2] = 4 * coarse
        levels[-1] = fine - _smooth(wide)
        levels.append(coarse)
    return levels


def _smooth(images: np.ndarray) -> np.ndarray:
    return correlate1d(correlate1d(images, _KERNEL, 1, mode="mirror"), _KERNEL, 2, mode="mirror")


def _normalised(patches: np.ndarray) -> np.ndarray:
    """Normalises and flattens [patches,3,7,7]; a constant channel becomes 0."""
    axes = (0, 2, 3)
    patches = patches - patches.mean(axis=axes, keepdims=True, dtype=np.float64)
    spread = patches.std(axis=axes, keepdims=True)
    return np.float32(patches / np.where(spread > 0, spread, 1)).reshape(len(patches), -1)


def swd(a: Patches, b: Patches, seed: int = 0) -> dict[str, float]:
    """Sliced Wasserstein distance of patches, times 1000: Karras et al. 2018, section 5.

    Unlike in the paper, the positions of an image's patches depend on its content, not its order.

    Args:
        a: Patches of the first set.
        b: Patches of the second set, with the same number and size of images.
        seed: Seed of the projection directions.

    Returns:
        "swd_64", "swd_32", ... for each level, finest first, and their mean "swd".

    Raises:
        ValueError: There are no images, or the sets differ in number or size.
    """
    first, second = a.descriptors(), b.descriptors()
    shapes = [{side: len(rows) for side, rows in levels.items()} for levels in (first, second)]
    if shapes[0] != shapes[1] or not first:
        raise ValueError(
            f"sets have {shapes[0]} and {shapes[1]} patches: expected the same number in both"
        )
    levels = {
        f"swd_{side}": 1e3 * sliced_wasserstein(first[side], second[side], seed) for side in first
    }
    return {**levels, "swd": float(np.mean(list(levels.values())))}


def sliced_wasserstein(a: np.ndarray, b: np.ndarray, seed: int = 0) -> float:
    """Mean Wasserstein-1 distance of rows [N,D] and [N,D], projected on 512 random directions."""
    random = np.random.default_rng(seed)
    distances = []
    for _ in range(_REPEATS):
        directions = random.standard_normal((a.shape[1], _DIRECTIONS))
        directions = np.float32(directions / np.linalg.norm(directions, axis=0))
        # One row per direction: sorting contiguous memory is several times faster.
        sorted_a, sorted_b = (np.sort(directions.T @ rows.T, axis=1) for rows in (a, b))
        distances.append(np.abs(sorted_a - sorted_b).mean(dtype=np.float64))
    return float(np.mean(distances))
