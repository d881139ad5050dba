"""Loss of label maps in which small classes count."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfface.data.label_maps import CLASSES_19


@keras.saving.register_keras_serializable("tfface")
def entropy_and_dice(
    truth: tf.Tensor, logits: tf.Tensor, axes: tuple[int, ...] = (0, 1, 2)
) -> tf.Tensor:
    """What the segmenter learns from: weighted cross-entropy, and twice one less the Dice measure.

    A class of n pixels of the batch has n^(3/4) parts of the cross-entropy, and as large a part of
    the Dice measure as any other, or brows and jewellery would hardly count.

    Args:
        truth: Class ids [N,S,S].
        logits: [N,S,S,19].
        axes: Over which pixels are counted; (1, 2): in each image, not in the batch.

    Returns:
        A scalar, or, of each image, [N].
    """

    def by_class(values):
        return tf.reduce_sum(values, axes)

    true = tf.one_hot(tf.cast(truth, tf.int32), len(CLASSES_19))
    found = tf.nn.log_softmax(logits)
    pixels, entropies = by_class(true), -by_class(true * found)
    entropy = tf.reduce_sum(entropies / tf.maximum(pixels, 1.0) ** 0.25, -1)
    entropy /= tf.reduce_sum(pixels**0.75, -1)
    found = tf.exp(found)
    # The one keeps a class of a few pixels from counting all or nothing.
    dice = (2.0 * by_class(true * found) + 1.0) / (pixels + by_class(found) + 1.0)
    occurs = tf.cast(pixels > 0, tf.float32)
    dice = tf.reduce_sum(occurs * dice, -1) / tf.reduce_sum(occurs, -1)
    return entropy + 2.0 * (1.0 - dice)
