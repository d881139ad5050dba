"""Losses of ELEGANT: binary cross entropy and mean squared error, as in the authors' code.

And those of the discriminator "multitask", which are ours.
"""

from __future__ import annotations

import tensorflow as tf


def bce(logits: tf.Tensor, real: bool) -> tf.Tensor:
    """Mean binary cross entropy of logits against 1 (real) or 0; paper equations 5 and 6."""
    labels = tf.ones_like(logits) if real else tf.zeros_like(logits)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))


def mse(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean squared error; the paper's equation 4 writes a norm, the authors' code takes this."""
    return tf.reduce_mean(tf.math.squared_difference(a, b))


def logits_of(logits: tf.Tensor, attribute: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Of logits [B,N,2] those of an attribute [B] with the value that labels [B,N] give it: [B]."""
    value = tf.gather(tf.cast(labels, tf.int32), attribute, batch_dims=1)
    return tf.gather_nd(logits, tf.stack([attribute, value], 1), batch_dims=1)


def classification(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Mean cross entropy of logits [B,N,2] with labels [B,N] of 0 and 1."""
    labels = tf.cast(labels, tf.int32)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def multitask(
    discriminator, real: tf.Tensor, labels: tf.Tensor, fake: tf.Tensor, attribute: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Losses of the discriminator "multitask" with regard to one attribute.

    Args:
        discriminator: Pictures [B,S,S,3] to logits [B,N,2].
        real: Pictures [B,S,S,3].
        labels: Their attributes [B,N].
        fake: `real` with the attribute exchanged.
        attribute: Indices [B].

    Returns:
        `real`, of real faces as they are; `wrong`, of real faces taken for what they would be with
        the attribute exchanged; `fake`, of the exchanges; `r1`, half the squared length of the
        gradient at real faces (Mescheder et al. 2018).
    """
    exchanged = 1.0 - labels  # Of which only the attribute's own entry is asked for.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(real)
        logits = discriminator(real, training=True)
        own = logits_of(logits, attribute, labels)
    gradient = tape.gradient(own, real)
    wrong = logits_of(logits, attribute, exchanged)
    made = logits_of(discriminator(fake, training=True), attribute, exchanged)
    return {
        "real": tf.reduce_mean(tf.nn.softplus(-own)),
        "wrong": tf.reduce_mean(tf.nn.softplus(wrong)),
        "fake": tf.reduce_mean(tf.nn.softplus(made)),
        "r1": 0.5 * tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3))),
    }
