"""Losses that several methods have."""

from __future__ import annotations

import tensorflow as tf


def distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference of each example, [B]."""
    return tf.reduce_mean(tf.abs(a - b), axis=tuple(range(1, a.shape.rank)))
