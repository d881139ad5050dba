"""What training batches of methods that change expressions have beside faces."""

from __future__ import annotations

import tensorflow as tf

from tfface.config import ClassifierOptions


def with_targets(
    data: tf.data.Dataset,
    seed: int | None,
    start: int,
    options: ClassifierOptions,
    begin: int = 0,
) -> tf.data.Dataset:
    """Adds what the losses need, from (seed, number of the batch).

    `target` [B], a permutation of the batch's expressions; `alpha` [B,1,1,1] in [0,1), of the
    gradient penalty; and, if the options say so, `noise` [B,S,S,3] and the length of the `attack`
    [B,1,1,1].

    Args:
        data: Batches with `image` and `expression`.
        seed: As of `Source.batches`.
        start: Number of the first batch.
        options: How the discriminator learns the expressions.
        begin: The first of the steps in which it learns nothing else.
    """

    @tf.autograph.experimental.do_not_convert
    def add(number, batch):
        key = tf.stack([tf.constant(seed or 0, tf.int64), number])
        target = tf.random.experimental.stateless_shuffle(batch["expression"], key)
        alpha = tf.random.stateless_uniform([tf.shape(target)[0], 1, 1, 1], key)
        made = {**batch, "target": target, "alpha": alpha}
        if options.noise:
            noise = tf.random.stateless_normal(tf.shape(batch["image"]), key)
            made["noise"] = options.noise * noise
        if options.attack:
            made["attack"] = attack_lengths(number - begin, options.attack, options.steps, alpha)
        return made

    return data.enumerate(start).map(add)


def attack_lengths(number: tf.Tensor, length: float, first: int, like: tf.Tensor) -> tf.Tensor:
    """Lengths of `tfface.losses.expressions.fast_gradient` for a batch, of the shape of `like`.

    Nothing in the first quarter of the steps in which the discriminator learns the expressions
    alone, or it would never begin to; from then on more, up to `length` after five eighths of them.

    Args:
        number: The step, counted from the first of these steps, int64 [].
        length: The full length.
        first: How many such steps there are; 0: the length is full from the beginning.
        like: Any tensor.
    """
    share = (8.0 * tf.cast(number, tf.float32) / first - 2.0) / 3.0 if first else tf.constant(1.0)
    return tf.fill(tf.shape(like), length * tf.clip_by_value(share, 0.0, 1.0))
