"""Networks of SARGAN, tested against the outputs of the authors' networks (`tests/golden`)."""

from __future__ import annotations

import keras
from keras import ops

from tfface.layers import (
    ConcatLabel,
    InstanceNormalization,
    Network,
    ReflectionPadding2D,
    precision,
    torch_default,
)

SEDN_DEPTH = 2  # Levels of the attention branch; authors' code.


def _conv(x, filters: int, kernel: int, stride: int, name: str, layer=keras.layers.Conv2D):
    """Convolution without bias, instance norm, ReLU."""
    x = layer(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=torch_default(),
        name=f"{name}_conv",
    )(x)
    x = InstanceNormalization(name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _up(x, filters: int, upsampling: str, name: str):
    """Doubles the side."""
    if upsampling == "transposed":
        return _conv(x, filters, 4, 2, name, keras.layers.Conv2DTranspose)
    x = keras.layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_resize")(x)
    return _conv(x, filters, 3, 1, name)


def _reflect_conv(x, filters: int, name: str, stride: int = 1, relu: bool = True):
    """Reflection-padded 3x3 convolution without bias, instance norm, ReLU."""
    x = ReflectionPadding2D(1, name=f"{name}_pad")(x)
    x = keras.layers.Conv2D(
        filters,
        3,
        strides=stride,
        use_bias=False,
        kernel_initializer=torch_default(),
        name=f"{name}_conv",
    )(x)
    x = InstanceNormalization(name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _sedn(x, width: int, level: int, name: str):
    """Symmetric encoder-decoder of the attention branch: sum of full-size and half-size paths."""
    full = _reflect_conv(x, width, f"{name}_b1_{level}")
    low = _reflect_conv(x, width, f"{name}_b2_{level}", stride=2)
    if level > 1:
        low = _sedn(low, width, level - 1, name)
    else:
        low = _reflect_conv(low, width, f"{name}_b2_plus_{level}")
    low = keras.layers.UpSampling2D(2, name=f"{name}_up_{level}")(low)
    low = _reflect_conv(low, width, f"{name}_b3_{level}")
    return keras.layers.Add(name=f"{name}_add_{level}")([full, low])


def _sarb(x, attention_width: int, name: str = "sarb"):
    """Spatial-attention residual block: x + sigmoid(SEDN(r)) * r with r = conv(conv(x))."""
    channels = x.shape[-1]
    residual = _reflect_conv(x, channels, f"{name}_conv1")
    residual = _reflect_conv(residual, channels, f"{name}_conv2", relu=False)
    attention = _sedn(residual, attention_width, SEDN_DEPTH, f"{name}_sedn")
    attention = ReflectionPadding2D(1, name=f"{name}_out_pad")(attention)
    attention = keras.layers.Conv2D(
        1, 3, activation="sigmoid", kernel_initializer=torch_default(), name="attention"
    )(attention)
    residual = keras.layers.Multiply(name=f"{name}_attend")([residual, attention])
    return keras.layers.Add(name=f"{name}_add")([x, residual])


@keras.saving.register_keras_serializable("tfface.sargan")
class Generator(Network):
    """Maps a face and an expression to the edited face: the input plus a residual in [-1,1].

    The output is not clipped, as in the authors' code: values may reach [-2,2].

    Args:
        size: Side of the images, a multiple of 16, at least 32.
        classes: Number of expressions.
        width: Channels of the first convolution.
        attention_width: Channels of the attention branch.
        residual_init: Factor on the initial weights of the last convolution; with smaller values
            the untrained generator's output is closer to its input.
        upsampling: "transposed" convolutions, or "bilinear" interpolation and a 3x3 convolution.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Inputs: images [B,S,S,3] in [-1,1]; one-hot expressions [B,classes]. Output: [B,S,S,3]
    float32. The layer "attention" outputs the attention map [B,S/4,S/4,1] in [0,1].

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.sargan import Generator
        >>> generator = Generator(size=32, classes=3, width=4, attention_width=4)
        >>> faces, happy = tf.zeros([2, 32, 32, 3]), tf.one_hot([1, 1], 3)
        >>> generator([faces, happy]).shape
        TensorShape([2, 32, 32, 3])
    """

    def __init__(
        self,
        size: int,
        classes: int,
        width: int = 64,
        attention_width: int = 64,
        residual_init: float = 1.0,
        upsampling: str = "transposed",
        dtype=None,
        name: str = "generator",
    ):
        arguments = {
            "size": size,
            "classes": classes,
            "width": width,
            "attention_width": attention_width,
            "residual_init": residual_init,
            "upsampling": upsampling,
        }
        with precision(dtype):
            image = keras.Input((size, size, 3), name="image")
            label = keras.Input((classes,), name="label")
            x = ConcatLabel(name="concat_label")(image, label)
            x = _conv(x, width, 7, 1, "head")
            x = _conv(x, 2 * width, 4, 2, "down1")
            x = _conv(x, 4 * width, 4, 2, "down2")
            x = _sarb(x, attention_width)
            x = _up(x, 2 * width, upsampling, "up1")
            x = _up(x, width, upsampling, "up2")
            x = keras.layers.Conv2D(
                3,
                7,
                padding="same",
                use_bias=False,
                kernel_initializer=torch_default(residual_init),
                name="tail_conv",
            )(x)
            residual = keras.layers.Activation("tanh", dtype="float32", name="residual")(x)
            output = keras.layers.Add(dtype="float32", name="edited")([image, residual])
            super().__init__([image, label], output, arguments=arguments, name=name)


def attention_maps(generator: Generator) -> keras.Model:
    """A model from the generator's inputs to its attention map [B,S/4,S/4,1] in [0,1]."""
    return keras.Model(
        generator.inputs, ops.cast(generator.get_layer("attention").output, "float32")
    )
