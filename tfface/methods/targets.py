"""Targets and random numbers in the training batches of methods that edit expressions."""

from __future__ import annotations

import tensorflow as tf

from tfface.config import ClassifierOptions
from tfface.losses.augment import NUMBERS


def with_targets(
    data: tf.data.Dataset,
    seed: int | None,
    start: int,
    options: ClassifierOptions,
    begin: int = 0,
    augment: bool = False,
) -> tf.data.Dataset:
    """Adds inputs of the losses that depend on (seed, number of the batch).

    `target` [B], a permutation of the batch's expressions; `alpha` [B,1,1,1] in [0,1), for the
    gradient penalty; and, if enabled, `noise` [B,S,S,3], the length of the `attack` [B,1,1,1], and
    `augment` [B,2,NUMBERS] in [0,1), for `tfface.losses.augment` of real and generated images.

    Args:
        data: Batches with `image` and `expression`.
        seed: As for `Source.batches`.
        start: Number of the first batch.
        options: How the discriminator learns the expressions.
        begin: The first step in which the discriminator only learns the expressions.
        augment: Whether to add `augment`.
    """

    @tf.autograph.experimental.do_not_convert
    def add(number, batch):
        key = tf.stack([tf.constant(seed or 0, tf.int64), number])
        target = tf.random.experimental.stateless_shuffle(batch["expression"], key)
        alpha = tf.random.stateless_uniform([tf.shape(target)[0], 1, 1, 1], key)
        batch = {**batch, "target": target, "alpha": alpha}
        if options.noise:
            noise = tf.random.stateless_normal(tf.shape(batch["image"]), key)
            batch["noise"] = options.noise * noise
        if options.attack:
            batch["attack"] = attack_lengths(number - begin, options.attack, options.steps, alpha)
        if augment:
            shape = [tf.shape(target)[0], 2, NUMBERS]
            batch["augment"] = tf.random.stateless_uniform(shape, key + [0, 1 << 40])
        return batch

    return data.enumerate(start).map(add)


def attack_lengths(number: tf.Tensor, length: float, first: int, like: tf.Tensor) -> tf.Tensor:
    """Step lengths for `tfface.losses.expressions.fast_gradient`, in the shape of `like`.

    In the steps in which the discriminator only learns the expressions, the length is 0 in the
    first quarter, as it would not start to learn otherwise, then grows linearly to `length` after
    five eighths of these steps.

    Args:
        number: The step, counted from the first of these steps, int64 [].
        length: The full length.
        first: Number of these steps; 0: the length is full from the beginning.
        like: A tensor of the wanted shape.
    """
    share = (8.0 * tf.cast(number, tf.float32) / first - 2.0) / 3.0 if first else tf.constant(1.0)
    return tf.fill(tf.shape(like), length * tf.clip_by_value(share, 0.0, 1.0))
