"""Losses of mask-guided synthesis: those of StarGAN v2 (its code, `core/solver.py`) and of MSGAN.

The paper's abstract names none of its own; `method.py` says how they are put together.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfface.losses.regions import distance


def adversarial(logits: tf.Tensor, real: bool) -> tf.Tensor:
    """Mean softplus of -+ logits [B]: cross entropy to "real", or to "made" (Goodfellow 2014).

    The generator's loss is that of its pictures called real (the non-saturating form).
    """
    return tf.reduce_mean(tf.nn.softplus(-logits if real else logits))


def r1_penalty(judge: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor) -> tuple:
    """Half the squared gradient of the logits on real pictures (Mescheder et al. 2018, R1).

    Args:
        judge: Pictures [B,S,S,3] to logits [B].
        real: Pictures [B,S,S,3].

    Returns:
        The penalty, summed over pixels and channels, a mean over the batch; and the logits.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(real)
        logits = judge(real)
        total = tf.reduce_sum(logits)
    gradient = tape.gradient(total, real)
    return 0.5 * tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3))), logits


def dsgan(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Less the distance of two faces of one label map (Yang et al. 2019), [B]; unbounded below."""
    return -distance(first, second)


def msgan(first: tf.Tensor, second: tf.Tensor, latents: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """The reciprocal of two faces' distance relative to that of their latents (Mao 2019), [B].

    Of each pair, where MSGAN's code divides means over the batch: the loss then does not depend on
    how a batch is spread over devices.
    """
    return 1.0 / (distance(first, second) / distance(*latents) + 1e-5)
