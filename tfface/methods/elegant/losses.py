"""Losses of ELEGANT: binary cross entropy and mean squared error, as in the authors' code."""

from __future__ import annotations

import tensorflow as tf


def bce(logits: tf.Tensor, real: bool) -> tf.Tensor:
    """Mean binary cross entropy of logits against 1 (real) or 0; paper equations 5 and 6."""
    labels = tf.ones_like(logits) if real else tf.zeros_like(logits)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))


def mse(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean squared error; the paper's equation 4 writes a norm, the authors' code takes this."""
    return tf.reduce_mean(tf.math.squared_difference(a, b))
