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


def scale_gradient(x: tf.Tensor, factor: float) -> tf.Tensor:
    """Returns the tensor unchanged and multiplies its gradient by `factor`."""

    @tf.custom_gradient
    def run(x):
        return tf.identity(x), lambda upstream: factor * upstream

    return run(x)
