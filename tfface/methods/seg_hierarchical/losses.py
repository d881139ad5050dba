"""Losses of the segmentation network, and sums of GANs' terms.

Those of the GANs are SARGAN's, which are StarGAN's: `tfface.losses.expressions`.
"""

from __future__ import annotations

import math

import tensorflow as tf

from tfface.losses.segmentation import entropy_and_dice

# face-parsing.PyTorch: pixels with a probability below 0.7 are hard; at least so many are counted.
_HARD = -math.log(0.7)
_AT_LEAST = 1 / 16

WHOLE = "global"
"""Stands beside the regions in names, for what concerns the whole picture."""


def segmentation(
    label_map: tf.Tensor, heads: list[tf.Tensor], kind: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross entropy of label maps and logits.

    Args:
        label_map: int32 [B,S,S] of 0 to 18.
        heads: Logits [B,S,S,19], the result first.
        kind: "ce": the mean over all pixels; "ohem": over the hard pixels of each picture (in the
            original those of the batch), but over no fewer than 1/16 of all; "dice": cross entropy
            in which small classes count for more, and the Dice measure of each picture (ours).

    Returns:
        The sum over all heads, and the share of pixels in which the result's largest logit is that
        of the label.
    """

    def loss(logits):
        if kind == "dice":
            return tf.reduce_mean(entropy_and_dice(label_map, logits, (1, 2)))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(label_map, logits)
        return tf.reduce_mean(losses) if kind == "ce" else _hard_mean(losses)

    total = tf.add_n([loss(logits) for logits in heads])
    right = tf.equal(tf.argmax(heads[0], -1, tf.int32), label_map)
    return total, tf.reduce_mean(tf.cast(right, tf.float32))


def _hard_mean(losses: tf.Tensor) -> tf.Tensor:
    """The mean over pictures of the mean over hard pixels, of losses [B,S,S]."""
    count = int(losses.shape[1] * losses.shape[2] * _AT_LEAST)
    losses = tf.reshape(losses, (-1, losses.shape[1] * losses.shape[2]))
    hard = tf.cast(losses > _HARD, losses.dtype)
    number = tf.reduce_sum(hard, 1)
    mean = tf.reduce_sum(hard * losses, 1) / tf.maximum(number, 1.0)
    worst = tf.reduce_mean(tf.math.top_k(losses, count, sorted=False).values, 1)
    return tf.reduce_mean(tf.where(number > count, mean, worst))


def total_of(
    by_kind: dict[str, dict[str, tf.Tensor]], weights: dict[str, float], local_weight: float
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The weighted sum of the terms of all discriminators, as APDrawingGAN's code has it.

    Args:
        by_kind: Terms by their names, of the global discriminator (WHOLE) and of each region's.
        weights: Of the terms.
        local_weight: Of a region's terms beside the global ones.

    Returns:
        The sum; and the terms, those of a region as "REGION_TERM".
    """
    total, named = 0.0, {}
    for kind, terms in by_kind.items():
        for name, value in terms.items():
            weight = weights[name] * (1.0 if kind == WHOLE else local_weight)
            total += weight * value
            named[name if kind == WHOLE else f"{kind}_{name}"] = value
    return total, named
