"""Losses that several methods have."""

from __future__ import annotations

import tensorflow as tf


def distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference of each example, [B]."""
    return tf.reduce_mean(tf.abs(a - b), axis=tuple(range(1, a.shape.rank)))


def region_distance(
    a: tf.Tensor, b: tf.Tensor, label_map: tf.Tensor, classes: int, balance: float
) -> tf.Tensor:
    """Mean absolute difference of each example, in part a mean over regions, [B] (ours).

    Eyes are a hundredth of a face's pixels, and as much of a mean over pixels.

    Args:
        a: Images [B,S,S,C].
        b: Images [B,S,S,C].
        label_map: Of both, int32 [B,S,S].
        classes: Number of classes.
        balance: Share of the mean over the regions that there are, each of which counts as much as
            any other; the rest is that over pixels.
    """
    if not balance:
        return distance(a, b)
    differences = tf.reduce_mean(tf.abs(a - b), -1)
    inside = tf.one_hot(label_map, classes)
    pixels = tf.reduce_sum(inside, (1, 2))
    sums = tf.einsum("bhw,bhwc->bc", differences, inside)
    there = tf.cast(pixels > 0, tf.float32)
    of_regions = tf.reduce_sum(sums / tf.maximum(pixels, 1.0), -1) / tf.reduce_sum(there, -1)
    return balance * of_regions + (1.0 - balance) * tf.reduce_mean(differences, (1, 2))
