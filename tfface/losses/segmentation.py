"""A segmentation loss that gives weight to small classes."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfface.data.label_maps import CLASSES_19


@keras.saving.register_keras_serializable("tfface")
def entropy_and_dice(
    truth: tf.Tensor, logits: tf.Tensor, axes: tuple[int, ...] = (0, 1, 2)
) -> tf.Tensor:
    """Class-weighted cross-entropy + 2 (1 - mean Dice coefficient).

    A class of n pixels gets the weight n^(3/4) in the cross-entropy, and all classes that occur
    count equally in the mean Dice coefficient. Otherwise brows and jewellery would hardly count.

    Args:
        truth: Class ids [N,S,S].
        logits: [N,S,S,19].
        axes: Axes over which the pixels of a class are counted: (0, 1, 2) for the whole batch,
            (1, 2) for each image.

    Returns:
        A scalar for (0, 1, 2), one value per image [N] for (1, 2).
    """

    def by_class(values):
        return tf.reduce_sum(values, axes)

    true = tf.one_hot(tf.cast(truth, tf.int32), len(CLASSES_19))
    log_probabilities = tf.nn.log_softmax(logits)
    pixels, entropies = by_class(true), -by_class(true * log_probabilities)
    entropy = tf.reduce_sum(entropies / tf.maximum(pixels, 1.0) ** 0.25, -1)
    entropy /= tf.reduce_sum(pixels**0.75, -1)
    predicted = tf.exp(log_probabilities)
    # Adding 1 smooths the coefficient of classes with very few pixels.
    dice = (2.0 * by_class(true * predicted) + 1.0) / (pixels + by_class(predicted) + 1.0)
    occurs = tf.cast(pixels > 0, tf.float32)
    dice = tf.reduce_sum(occurs * dice, -1) / tf.reduce_sum(occurs, -1)
    return entropy + 2.0 * (1.0 - dice)
