"""A discriminator on features of a pretrained network, for small sets of photographs.

Sauer et al., "Projected GANs Converge Faster" (NeurIPS 2021): the discriminator sees images through
a frozen network that was trained on ImageNet, and is made of several heads, one per resolution of
its features. Such features cannot be fitted to a few thousand images, and what differs in them is
visible. As in that paper the network is an EfficientNet without squeeze-and-excitation (theirs is
Lite1) and there are four resolutions. Without their random mixing of channels and resolutions; the
heads' widths and their expression logits are ours.
"""

from __future__ import annotations

import itertools

import keras
import tensorflow as tf

from tfface.layers import efficientnet
from tfface.layers.network import Network, precision, to_float32

_TAPS = efficientnet.TAPS[1:]  # Of strides 4, 8, 16 and 32, as in Projected GAN.
_SLOPE = 0.2  # Of the leaky ReLUs; Projected GAN.
_LAST = 4  # Side of the last feature map of a head; Projected GAN.
_WIDEST = 4  # Most channels of a head, relative to its width.


@keras.saving.register_keras_serializable("tfface")
class ProjectedDiscriminator(Network):
    """Expression logits from each resolution of frozen ImageNet features.

    It has no weights for the realness alone: it is a multi-task discriminator, see
    `tfface.losses.expressions.multitask_discriminator`. Images are enlarged to at least 128 pixels,
    as smaller ones have too few features.

    Args:
        size: Side of the images, at least 32.
        classes: Number of expressions.
        width: Channels of the first convolution of each head.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Input: [B,S,S,3] in [-1,1]. Output, float32: logits [B,4,classes], of one head each.

    Raises:
        UserError: The package with the weights is not installed.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.layers.projected import ProjectedDiscriminator
        >>> discriminator = ProjectedDiscriminator(size=64, classes=3, width=8)
        >>> discriminator(tf.zeros([2, 64, 64, 3])).shape
        TensorShape([2, 4, 3])
    """

    def __init__(
        self,
        size: int,
        classes: int,
        width: int = 48,
        dtype=None,
        name: str = "discriminator",
    ):
        arguments = {"size": size, "classes": classes, "width": width}
        with precision(dtype):
            image = keras.Input((size, size, 3), name="image")
            logits = to_float32(projected_logits(image, classes, width), "logits")
            super().__init__(image, logits, arguments=arguments, name=name)


@keras.saving.register_keras_serializable("tfface")
class Enlarge(keras.layers.Layer):
    """Bilinear interpolation to a multiple of the side.

    The same as `keras.layers.UpSampling2D`, but as matrix products: TensorFlow's own operation has
    no second derivative, which the gradient penalty needs, and counts it as 0 without a word.

    Args:
        times: The factor.
        **options: Options of `keras.layers.Layer`.

    Input: [B,S,S,C]. Output: [B,times*S,times*S,C].
    """

    def __init__(self, times: int, **options):
        super().__init__(**options)
        self._times = times

    def call(self, images):
        """Enlarges."""
        side = images.shape[1]
        matrix = tf.image.resize(tf.eye(side)[..., None], [self._times * side, side])[..., 0]
        matrix = tf.cast(matrix, images.dtype)
        return tf.einsum("ij,bjkc,lk->bilc", matrix, images, matrix)

    def compute_output_shape(self, shape):
        """[B,times*S,times*S,C]."""
        return (shape[0], self._times * shape[1], self._times * shape[2], shape[3])


def projected_logits(image, logits: int, width: int):
    """Logits [B,4,logits] of a Keras tensor of images [B,S,S,3]; see `ProjectedDiscriminator`."""
    heads = [_head(x, logits, width, f"head{i + 1}") for i, x in enumerate(_features(image))]
    return keras.layers.Concatenate(axis=1, name="heads")(heads)


def _features(image) -> list:
    """Feature maps of a frozen EfficientNet-Lite0."""
    size = image.shape[1]
    times = -(-128 // size)
    inputs = keras.Input(image.shape[1:])
    x = Enlarge(times, name="enlarge")(inputs) if times > 1 else inputs
    network = efficientnet.build(inputs, x)
    network.set_weights(efficientnet.pretrained().get_weights())
    features = keras.Model(
        inputs, [network.get_layer(name).output for name in _TAPS], name="features"
    )
    features.trainable = False
    return features(image)


def _head(x, logits: int, width: int, name: str):
    """Logits [B,1,logits] of a feature map."""
    x = keras.layers.Conv2D(width, 1, use_bias=False, name=f"{name}_in")(x)
    x = keras.layers.LeakyReLU(_SLOPE, name=f"{name}_in_relu")(x)
    for i in itertools.count(1):
        kernel, stride = (4, 2) if x.shape[1] > _LAST else (3, 1)
        filters = width * min(2**i, _WIDEST)
        x = keras.layers.Conv2D(filters, kernel, stride, "same", name=f"{name}_conv{i}")(x)
        x = keras.layers.LeakyReLU(_SLOPE, name=f"{name}_relu{i}")(x)
        if x.shape[1] <= _LAST:
            break
    x = keras.layers.Conv2D(logits, x.shape[1], name=f"{name}_logits")(x)
    return keras.layers.Reshape((1, logits), name=f"{name}_flatten")(x)
