"""Soft masks of facial regions from the class probabilities of a segmentation."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfface.data.label_maps import CLASSES_19
from tfface.methods.seg_hierarchical.config import REGIONS


def region_masks(probabilities: tf.Tensor, regions: tuple[str, ...]) -> tf.Tensor:
    """Probabilities of regions: sums of the probabilities of their classes.

    Args:
        probabilities: [B,S,S,19] in [0,1].
        regions: Names from REGIONS.

    Returns:
        [B,S,S,R] in [0,1].
    """
    members = np.zeros((len(CLASSES_19), len(regions)), np.float32)
    for column, region in enumerate(regions):
        for name in REGIONS[region]:
            members[CLASSES_19.index(name), column] = 1.0
    return tf.einsum("bhwc,cr->bhwr", probabilities, members)


def grow_masks(masks: tf.Tensor, grow: int, blur: int) -> tf.Tensor:
    """Grows masks by max pooling and blurs their edges by average pooling; differentiable.

    Args:
        masks: [B,S,S,R] in [0,1].
        grow: Side of the window of the maximum, odd.
        blur: Side of the window of the mean, odd.

    Returns:
        [B,S,S,R] in [0,1].
    """
    # The maximum over a square, separated into columns and rows: 2 k comparisons instead of k^2.
    for window in ((grow, 1), (1, grow)):
        masks = tf.nn.max_pool2d(masks, window, 1, "SAME")
    return tf.nn.avg_pool2d(masks, blur, 1, "SAME")


def cut(images: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Images [B,S,S,3] in [-1,1], black (-1) outside a mask [B,S,S,1] (APDrawingGAN's code)."""
    return (images + 1.0) * mask - 1.0


def corners(mask: tf.Tensor, side: int) -> tf.Tensor:
    """Where a region is: the square window around the centre of mass of its mask.

    Args:
        mask: [B,S,S,1] in [0,1].
        side: Side of the window, at most S.

    Returns:
        Row and column of the window's first pixel, int32 [B,2], so that it lies in the image; in
        its middle for an empty mask. Without a gradient.
    """
    size = mask.shape[1]
    sums = tf.stack([tf.reduce_sum(mask, (2, 3)), tf.reduce_sum(mask, (1, 3))], 1)
    sums = tf.stop_gradient(sums) + 1e-6
    centre = tf.reduce_sum(sums * (tf.range(size, dtype=tf.float32) + 0.5), -1)
    first = tf.round(centre / tf.reduce_sum(sums, -1) - 0.5 * side)
    return tf.clip_by_value(tf.cast(first, tf.int32), 0, size - side)


def crop(images: tf.Tensor, first: tf.Tensor, side: int) -> tf.Tensor:
    """Windows [B,side,side,C] of images [B,S,S,C] at `corners`."""
    if side == images.shape[1]:
        return images
    return _take(images, first[..., None] + tf.range(side))


def place(windows: tf.Tensor, first: tf.Tensor, size: int) -> tf.Tensor:
    """Windows [B,side,side,C] at `corners` in images [B,size,size,C], 0 elsewhere."""
    side = windows.shape[1]
    if side == size:
        return windows
    framed = tf.pad(windows, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return _take(framed, tf.clip_by_value(tf.range(size) - first[..., None] + 1, 0, side + 1))


def _take(images: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """The rows pixels[:, 0] and the columns pixels[:, 1] of images, int32 [B,2,N]."""
    rows = tf.gather(images, pixels[:, 0], axis=1, batch_dims=1)
    return tf.gather(rows, pixels[:, 1], axis=2, batch_dims=1)


def scale_gradient(x: tf.Tensor, factor: float) -> tf.Tensor:
    """Returns the tensor unchanged and multiplies its gradient by `factor`."""

    @tf.custom_gradient
    def run(x):
        return tf.identity(x), lambda upstream: factor * upstream

    return run(x)
