"""Losses of domain alignment: those of its relatives CoCosNet (its code) and RABIT.

The paper's abstract names none of its own; `method.py` says how they are put together.
"""

from __future__ import annotations

import tensorflow as tf

_BANDWIDTH = 0.1  # h of the contextual loss; CoCosNet's code, as the 1e-3 below.


def hinge_discriminator(real: list[tf.Tensor], fake: list[tf.Tensor]) -> tf.Tensor:
    """Mean over scales of E[relu(1 - D(real))] + E[relu(1 + D(fake))]; logits of each scale."""
    terms = [
        tf.reduce_mean(tf.nn.relu(1.0 - r)) + tf.reduce_mean(tf.nn.relu(1.0 + f))
        for r, f in zip(real, fake, strict=True)
    ]
    return tf.add_n(terms) / len(terms)


def hinge_generator(fake: list[tf.Tensor]) -> tf.Tensor:
    """Mean over scales of -E[D(fake)]."""
    return -tf.add_n([tf.reduce_mean(f) for f in fake]) / len(fake)


def feature_matching(fake: list[tf.Tensor], real: list[tf.Tensor], scales: int) -> tf.Tensor:
    """Sum over feature maps of the mean absolute difference, over the number of scales."""
    terms = [tf.reduce_mean(tf.abs(f - r)) for f, r in zip(fake, real, strict=True)]
    return tf.add_n(terms) / scales


def pair_weights(paired: tf.Tensor) -> tf.Tensor:
    """Weights [B] with which a mean over a whole batch is the mean over its pairs.

    0 for the others, and for all if there is no pair. (CoCosNet's code divides by the number of
    pairs and by that of the batch.)

    Args:
        paired: float32 [B] of 0 and 1.
    """
    count = tf.cast(tf.size(paired), tf.float32)
    return paired * count / tf.maximum(tf.reduce_sum(paired), 1.0)


def domain_alignment(condition: tf.Tensor, picture: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference of features [B,H,W,C], of length 1, of a condition and its picture.

    CoCosNet's code, `novgg_featpair`.
    """
    return tf.reduce_mean(tf.abs(_directions(condition) - _directions(picture)))


def _directions(x: tf.Tensor) -> tf.Tensor:
    """Features [...,C] at length 1; not centred, unlike `tfface.layers.attention.unit`."""
    return x * tf.math.rsqrt(tf.reduce_sum(x * x, -1, keepdims=True) + 1e-12)


def warped_mask(warped: tf.Tensor, condition: tf.Tensor, exemplar: tf.Tensor) -> tf.Tensor:
    """Negative log-likelihood of the condition's classes in the exemplar's warped label map.

    Places whose class the exemplar does not have count nothing. CoCosNet leaves the background out
    always; here it is left out only if the exemplar has none. The mean is over the places of an
    example, then over examples, so that it is the same on any number of devices.

    Args:
        warped: Shares of the classes [B,H,W,19], each place's sum is 1.
        condition: Shares of the classes [B,H,W,19] in the condition's label map.
        exemplar: The same of the exemplar's.
    """
    there = tf.cast(tf.reduce_max(exemplar, (1, 2), keepdims=True) > 0, warped.dtype)
    weight = condition * there
    likelihood = -tf.reduce_sum(weight * tf.math.log(warped + 1e-10), (1, 2, 3))
    return tf.reduce_mean(likelihood / (tf.reduce_sum(weight, (1, 2, 3)) + 1e-5))


def contextual(made: tf.Tensor, exemplar: tf.Tensor) -> tf.Tensor:
    """Contextual loss (Mechrez et al. 2018) of features [B,H,W,C], in CoCosNet's form.

    Each of `made`'s features shall be like one of the exemplar's, wherever that is.

    Returns:
        [], the mean over examples of -log CX.
    """
    _, height, width, channels = made.shape
    x, y = (tf.reshape(f, (-1, height * width, channels)) for f in (made, exemplar))
    mean = tf.reduce_mean(y, -1, keepdims=True)  # PONO: of the exemplar, at the same place.
    x, y = (_directions(f - mean) for f in (x, y))
    distance = tf.maximum(1.0 - tf.matmul(x, y, transpose_b=True), 0.0)
    relative = distance / (tf.reduce_min(distance, -1, keepdims=True) + 1e-3)
    alike = tf.nn.softmax((1.0 - relative) / _BANDWIDTH)
    return tf.reduce_mean(-tf.math.log(tf.reduce_mean(tf.reduce_max(alike, -1), -1)))
