"""The feature network of the perceptual losses."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from tfface.errors import UserError

_BLOCKS = 5
_RANDOM_WIDTHS = (16, 32, 64, 64, 64)
# ImageNet means in BGR, 0 to 255, as VGG19's weights expect (Caffe).
_MEANS = (103.939, 116.779, 123.68)


def perceptual_network(kind: str, size: int, weights: str = "") -> keras.Model:
    """A frozen network that maps images [B,S,S,3] in [-1,1] to the features relu{1..5}_2.

    Args:
        kind: "vgg19" from keras.applications, or "random": narrow blocks of two convolutions like
            VGG19's, with seeded random weights. Random features distinguish textures, but carry no
            semantics; they are for tests and for trials without a download.
        size: Side S of the images.
        weights: File with VGG19's weights without the top layers, in Keras's layout; "": Keras
            downloads them.

    Returns:
        A model with five outputs, of sides S to S/16.

    Raises:
        UserError: The file is missing or has other contents, or the weights cannot be downloaded.
    """
    if kind == "random":
        body = _random_network(size)
    else:
        body = _vgg19(size, weights)
    body.trainable = False
    taps = [body.get_layer(f"block{i + 1}_conv2").output for i in range(_BLOCKS)]
    features = keras.Model(body.inputs, taps)

    images = keras.Input((size, size, 3), name="images")
    scaled = keras.layers.Rescaling(127.5, 127.5, name="to_255")(images)
    bgr = scaled[..., ::-1] - tf.constant(_MEANS)
    return keras.Model(images, features(bgr), name=f"perceptual_{kind}")


def _vgg19(size: int, weights: str) -> keras.Model:
    if weights and not Path(weights).is_file():
        raise UserError(f"vgg_weights is {weights!r}: no such file")
    try:
        return keras.applications.VGG19(
            include_top=False, weights=weights or "imagenet", input_shape=(size, size, 3)
        )
    except Exception as error:
        # Readers and downloads raise many kinds of errors, even a bare Exception.
        if weights:
            message = (
                f"vgg_weights is {weights!r}: expected VGG19's weights without the top layers, in "
                "Keras's layout"
            )
        else:
            message = (
                f"VGG19's weights cannot be downloaded ({error}); pass their file as vgg_weights, "
                "or use random features: perceptual=random"
            )
        raise UserError(message) from error


def _random_network(size: int) -> keras.Model:
    x = inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 127.5)(x)
    for i, width in enumerate(_RANDOM_WIDTHS):
        if i:
            x = keras.layers.AveragePooling2D(2)(x)
        for j in (1, 2):
            x = keras.layers.Conv2D(
                width,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=keras.initializers.HeNormal(seed=10 * i + j),
                name=f"block{i + 1}_conv{j}",
            )(x)
    return keras.Model(inputs, x)
