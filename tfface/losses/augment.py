"""Differentiable augmentation (DiffAugment), Zhao et al., NeurIPS 2020, for small data sets.

What a discriminator sees, real or generated, is augmented at random, and the gradient of the
generator passes through the augmentation. The discriminator then cannot learn the few real images
by heart, and the generator does not learn the augmentations. The kinds and their ranges are those
of the authors' code (github.com/mit-han-lab/data-efficient-gans).
"""

from __future__ import annotations

import tensorflow as tf

KINDS = ("colour", "translation", "cutout")
NUMBERS = 7
"""Random numbers that an image needs."""
SHIFT = 1 / 8
"""Largest translation, as a share of the side."""
CUT = 1 / 2
"""Side of the part that is cut out, as a share of the image's side."""


def diff_augment(images: tf.Tensor, kinds: tuple[str, ...], numbers: tf.Tensor) -> tf.Tensor:
    """Augments images at random.

    Args:
        images: [B,S,S,3] in [-1,1].
        kinds: Kinds of augmentation, from `KINDS`. "colour": brightness, saturation and contrast;
            "translation": by up to an eighth of the side, 0 outside; "cutout": a square of half the
            side becomes 0.
        numbers: float32 [B,NUMBERS] in [0,1).

    Returns:
        Images of the same shape; with "colour" also outside of [-1,1].

    Example:
        >>> import tensorflow as tf
        >>> from tfface.losses.augment import NUMBERS, diff_augment
        >>> images = tf.zeros([2, 32, 32, 3])
        >>> numbers = tf.random.stateless_uniform([2, NUMBERS], (1, 2))
        >>> diff_augment(images, ("colour", "translation"), numbers).shape
        TensorShape([2, 32, 32, 3])
    """
    column = tf.split(tf.cast(numbers, images.dtype)[:, None, None, :], NUMBERS, -1)
    if "colour" in kinds:
        images += column[0] - 0.5
        grey = tf.reduce_mean(images, -1, keepdims=True)
        images = (images - grey) * (2.0 * column[1]) + grey
        mean = tf.reduce_mean(images, (1, 2, 3), keepdims=True)
        images = (images - mean) * (column[2] + 0.5) + mean
    if "translation" in kinds:
        images = _translate(images, numbers[:, 3], numbers[:, 4])
    if "cutout" in kinds:
        images *= _cut(images, numbers[:, 5], numbers[:, 6])
    return images


def _translate(images: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Shifts images by whole pixels; y and x in [0,1) are from the top to the bottom and so on."""
    side = images.shape[1]
    most = int(side * SHIFT + 0.5)

    def selection(number):  # A matrix of 0 and 1, with a zero row for each pixel from outside.
        shift = tf.cast(tf.floor(number * (2 * most + 1)), tf.int32) - most
        return tf.one_hot(tf.range(side) - shift[:, None], side, dtype=images.dtype)

    images = tf.einsum("bij,bjwc->biwc", selection(y), images)
    return tf.einsum("bij,bhjc->bhic", selection(x), images)


def _cut(images: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Mask [B,S,S,1], 0 in a square around a random pixel, which may reach over the edge."""
    side = images.shape[1]
    half = int(side * CUT + 0.5) // 2

    def inside(number):
        begin = tf.cast(tf.floor(number * side), tf.int32) - half
        position = tf.range(side)
        return (position >= begin[:, None]) & (position < begin[:, None] + 2 * half)

    square = inside(y)[:, :, None] & inside(x)[:, None, :]
    return 1.0 - tf.cast(square, images.dtype)[..., None]
