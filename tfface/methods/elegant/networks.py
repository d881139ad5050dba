"""Networks of ELEGANT, tested against the outputs of the authors' networks (`tests/golden`)."""

from __future__ import annotations

import keras
from keras import ops

from tfface.layers import (
    ConcatLabel,
    Network,
    UpConv2D,
    precision,
    to_float32,
    torch_default,
)
from tfface.layers.projected import projected_logits

DEPTH = 5  # Convolutions of the encoder and of the decoder; paper, supplementary table.
WEIGHTS = 0.02  # Standard deviation of the initial weights; authors' code.


def _widths(width: int) -> list[int]:
    """Channels of the encoder's outputs; 64, 128, 256, 512, 512 at the published width."""
    return [width * 2 ** min(i, 3) for i in range(DEPTH)]


@keras.saving.register_keras_serializable("tfface.elegant")
class ChannelNormalization(keras.layers.Layer):
    """Each pixel's features divided by their L2 norm over channels, times a gain, plus a shift.

    Gain and shift are one learned scalar each. Norm and affine transform are float32 under any
    precision policy. Input and output: [B,H,W,C].
    """

    def build(self, input_shape):
        """Creates gain and shift."""
        self.alpha = self.add_weight(shape=(1,), initializer="ones", name="alpha", autocast=False)
        self.beta = self.add_weight(shape=(1,), initializer="zeros", name="beta", autocast=False)

    def call(self, inputs):
        """Normalises."""
        x = ops.cast(inputs, "float32")
        # max(norm, 1e-12) of PyTorch's `normalize`, in a form whose gradient at 0 is finite.
        scale = ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-24))
        return ops.cast(x * (scale * self.alpha) + self.beta, self.compute_dtype)


def _normalization(kind: str, name: str) -> keras.layers.Layer:
    """A layer of a kind from `ElegantConfig.normalization`."""
    if kind == "channel":
        return ChannelNormalization(name=name)
    return keras.layers.GroupNormalization(groups=1, epsilon=1e-5, name=name)


def _down(x, filters: int, name: str, normalization: str = "channel"):
    """3x3 convolution of stride 2 with symmetric padding, normalisation, LeakyReLU."""
    x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    x = keras.layers.Conv2D(
        filters,
        3,
        strides=2,
        name=f"{name}_conv",
        kernel_initializer=keras.initializers.RandomNormal(0.0, WEIGHTS),
    )(x)
    x = _normalization(normalization, f"{name}_norm")(x)
    return keras.layers.LeakyReLU(0.2, name=f"{name}_relu")(x)


@keras.saving.register_keras_serializable("tfface.elegant")
class Encoder(Network):
    """Face to latent code and skip features.

    Args:
        size: Side of the images, a multiple of 32.
        width: Channels of the first convolution.
        normalization: As in `ElegantConfig`.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Input: [B,S,S,3] in [-1,1]. Outputs, in the policy's compute dtype: the skips, from
    [B,S/2,S/2,w] to [B,S/16,S/16,8w], and last the latent code [B,S/32,S/32,8w].

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.elegant import Encoder
        >>> *skips, code = Encoder(size=32, width=4)(tf.zeros([2, 32, 32, 3]))
        >>> code.shape, len(skips)
        (TensorShape([2, 1, 1, 32]), 4)
    """

    def __init__(
        self,
        size: int,
        width: int = 64,
        normalization: str = "channel",
        dtype=None,
        name: str = "encoder",
    ):
        arguments = {"size": size, "width": width, "normalization": normalization}
        with precision(dtype):
            image = x = keras.Input((size, size, 3), name="image")
            outputs = []
            for i, filters in enumerate(_widths(width)):
                x = _down(x, filters, f"down{i + 1}", normalization)
                outputs.append(x)
            super().__init__(image, outputs, arguments=arguments, name=name)


@keras.saving.register_keras_serializable("tfface.elegant")
class Decoder(Network):
    """Decodes two latent codes and the edited image's skip features to a residual in [-2,2].

    Args:
        size: Side of the images, a multiple of 32.
        width: Channels of the encoder's first convolution.
        normalization: As in `ElegantConfig`.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Inputs: the new latent code and the image's own, both [B,S/32,S/32,8w]; then the encoder's
    four skips, in its order. Output: [B,S,S,3] float32.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.elegant import Decoder, Encoder
        >>> *skips, code = Encoder(size=32, width=4)(tf.zeros([2, 32, 32, 3]))
        >>> Decoder(size=32, width=4)([tf.zeros_like(code), code, *skips]).shape
        TensorShape([2, 32, 32, 3])
    """

    def __init__(
        self,
        size: int,
        width: int = 64,
        normalization: str = "channel",
        dtype=None,
        name: str = "decoder",
    ):
        arguments = {"size": size, "width": width, "normalization": normalization}
        with precision(dtype):
            widths = _widths(width)
            code_shape = (size // 2**DEPTH, size // 2**DEPTH, widths[-1])
            new, own = keras.Input(code_shape, name="new"), keras.Input(code_shape, name="own")
            skips = [
                keras.Input(
                    (size // 2 ** (i + 1), size // 2 ** (i + 1), filters), name=f"skip{i + 1}"
                )
                for i, filters in enumerate(widths[:-1])
            ]
            x = keras.layers.Concatenate(name="codes")([new, own])
            normal = keras.initializers.RandomNormal
            for i, skip in enumerate(reversed(skips)):
                name_i = f"up{i + 1}"
                x = UpConv2D(
                    skip.shape[-1], name=f"{name_i}_conv", kernel_initializer=normal(0.0, WEIGHTS)
                )(x)
                x = _normalization(normalization, f"{name_i}_norm")(x)
                x = keras.layers.ReLU(name=f"{name_i}_relu")(x)
                x = keras.layers.Add(name=f"{name_i}_skip")([x, skip])
            x = UpConv2D(3, name=f"up{DEPTH}_conv", kernel_initializer=normal(0.0, WEIGHTS))(x)
            x = keras.layers.Activation("tanh", dtype="float32", name="tanh")(x)
            x = keras.layers.Rescaling(2.0, dtype="float32", name="residual")(x)
            super().__init__([new, own, *skips], x, arguments=arguments, name=name)


@keras.saving.register_keras_serializable("tfface.elegant")
class Discriminator(Network):
    """Discriminates a face together with its attributes, as in the paper.

    Args:
        size: Side of the images, a multiple of 16.
        attributes: Number of attributes.
        width: Channels of the first convolution.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Inputs: images [B,S,S,3] in [-1,1]; attributes [B,N] of 0 and 1. Output: logits [B,1] float32;
    the authors' sigmoid is part of the loss here.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.elegant import Discriminator
        >>> discriminator = Discriminator(size=32, attributes=3, width=4)
        >>> discriminator([tf.zeros([2, 32, 32, 3]), tf.ones([2, 3])]).shape
        TensorShape([2, 1])
    """

    def __init__(
        self, size: int, attributes: int, width: int = 64, dtype=None, name: str = "discriminator"
    ):
        arguments = {"size": size, "attributes": attributes, "width": width}
        with precision(dtype):
            image = keras.Input((size, size, 3), name="image")
            label = keras.Input((attributes,), name="label")
            x = ConcatLabel(name="concat_label")(image, label)
            for i, filters in enumerate(_widths(width)[:4]):
                x = _down(x, filters, f"down{i + 1}")
            # PyTorch's flatten order.
            x = keras.layers.Permute((3, 1, 2), name="channels_first")(x)
            x = keras.layers.Flatten(name="flatten")(x)
            x = keras.layers.Dense(
                1,
                dtype="float32",
                name="logit",
                kernel_initializer=keras.initializers.RandomNormal(0.0, WEIGHTS),
            )(x)
            super().__init__([image, label], x, arguments=arguments, name=name)


@keras.saving.register_keras_serializable("tfface.elegant")
class MultitaskDiscriminator(Network):
    """Discriminates a face for each attribute, with it and without it (ours).

    It has StarGAN's convolutions and no normalisation, as channel normalisation would hide the
    magnitude of features; or heads on pretrained features (`tfface.layers.projected`).

    Args:
        size: Side of the images, a multiple of 16.
        attributes: Number of attributes.
        width: Channels of the first convolution; each further one doubles them.
        projected: Whether to use pretrained features.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Input: images [B,S,S,3] in [-1,1]. Output: logits [B,N,2] float32 for "real and lacks it" and
    "real and has it"; with pretrained features [B,4,N,2], of four heads.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.elegant import MultitaskDiscriminator
        >>> MultitaskDiscriminator(size=32, attributes=3, width=4)(tf.zeros([2, 32, 32, 3])).shape
        TensorShape([2, 3, 2])
    """

    def __init__(
        self,
        size: int,
        attributes: int,
        width: int = 32,
        projected: bool = False,
        dtype=None,
        name: str = "discriminator",
    ):
        arguments = {"size": size, "attributes": attributes, "width": width, "projected": projected}
        with precision(dtype):
            image = keras.Input((size, size, 3), name="image")
            if projected:
                x = projected_logits(image, 2 * attributes, width)
            else:
                x = _strided_logits(image, 2 * attributes, width)
            x = keras.layers.Reshape((*x.shape[1:-1], attributes, 2), name="by_attribute")(x)
            super().__init__(image, to_float32(x, "logits_float32"), arguments=arguments, name=name)


def _strided_logits(x, logits: int, width: int):
    """Logits [B,logits] by StarGAN's convolutions."""
    for i in range(4):
        x = keras.layers.Conv2D(
            width * 2**i,
            4,
            strides=2,
            padding="same",
            kernel_initializer=torch_default(),
            name=f"down{i + 1}_conv",
        )(x)
        x = keras.layers.LeakyReLU(0.01, name=f"down{i + 1}_relu")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    return keras.layers.Dense(logits, kernel_initializer=torch_default(), name="logits")(x)
