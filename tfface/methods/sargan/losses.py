"""Losses of SARGAN: StarGAN's WGAN-GP with classification and cycle reconstruction."""

from __future__ import annotations

import tensorflow as tf


def classification(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean cross entropy of expression logits [B,N] with class indices [B]."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def gradient_penalty(
    discriminator, real: tf.Tensor, fake: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """E[(|grad D(x_hat)|_2 - 1)^2] on x_hat = alpha * real + (1 - alpha) * fake.

    Args:
        discriminator: Returns (realness, logits); the realness map is summed, as the authors do.
        real: Pictures [B,S,S,3].
        fake: Pictures [B,S,S,3].
        alpha: Mixing weights [B,1,1,1] in [0,1].
    """
    mixed = alpha * real + (1.0 - alpha) * fake
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(mixed)
        realness, _ = discriminator(mixed, training=True)
    gradient = tape.gradient(realness, mixed)
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3)) + 1e-12)
    return tf.reduce_mean(tf.square(norm - 1.0))
