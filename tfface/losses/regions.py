"""Image distances, optionally balanced over the regions of a label map."""

from __future__ import annotations

import tensorflow as tf


def distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference of each example, [B]."""
    return tf.reduce_mean(tf.abs(a - b), axis=tuple(range(1, a.shape.rank)))


def region_distance(
    a: tf.Tensor, b: tf.Tensor, label_map: tf.Tensor, classes: int, balance: float
) -> tf.Tensor:
    """Mean absolute difference of each example, partly averaged over regions, [B] (ours).

    Eyes are a hundredth of a face's pixels, so they hardly count in a mean over pixels.

    Args:
        a: Images [B,S,S,C].
        b: Images [B,S,S,C].
        label_map: Label map of both images, int32 [B,S,S].
        classes: Number of classes.
        balance: Weight, 0 to 1, of the mean over the regions that are present, in which each region
            counts equally; the mean over pixels has weight 1 - balance.
    """
    if not balance:
        return distance(a, b)
    differences = tf.reduce_mean(tf.abs(a - b), -1)
    inside = tf.one_hot(label_map, classes)
    pixels = tf.reduce_sum(inside, (1, 2))
    sums = tf.einsum("bhw,bhwc->bc", differences, inside)
    present = tf.cast(pixels > 0, tf.float32)
    region_mean = tf.reduce_sum(sums / tf.maximum(pixels, 1.0), -1) / tf.reduce_sum(present, -1)
    return balance * region_mean + (1.0 - balance) * tf.reduce_mean(differences, (1, 2))
