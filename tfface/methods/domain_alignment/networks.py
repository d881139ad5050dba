"""Networks of domain alignment, modelled on its relatives CoCosNet and RABIT.

The paper's (CVIU 2023) are not public. All normalisation statistics are per image (instance and
positional normalisation), so that results do not depend on the batch or on the number of devices.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from tfface.layers import (
    AdaptiveFusion,
    InstanceNormalization,
    Network,
    ReflectionPadding2D,
    Spade,
    SpectralConv2D,
    precision,
    to_float32,
)

_SLOPE = 0.2
_COARSEST = 8  # Side of the generator's first feature map; CoCosNet.
_WIDEST = 16  # Maximum channels of a block relative to the last one; CoCosNet.


def _act(x):
    return keras.layers.LeakyReLU(_SLOPE)(x)


def _spade_block(x, condition, filters: int, width: int, name: str):
    """Residual block of two times SPADE, LeakyReLU, convolution; CoCosNet, SPADE."""
    middle = min(x.shape[-1], filters)
    shortcut = x
    if x.shape[-1] != filters:
        shortcut = Spade(width, name=f"{name}_spade_s")(x, condition)
        shortcut = SpectralConv2D(filters, 1, use_bias=False, name=f"{name}_conv_s")(shortcut)
    for i, channels in enumerate((middle, filters)):
        x = _act(Spade(width, name=f"{name}_spade_{i}")(x, condition))
        x = SpectralConv2D(channels, 3, padding="same", name=f"{name}_conv_{i}")(x)
    return keras.layers.Add(name=f"{name}_add")([shortcut, x])


def _norm_conv(x, filters: int, kernel: int, stride: int, name: str):
    """Convolution with spectral normalisation, then instance norm without weights; CoCosNet."""
    x = SpectralConv2D(
        filters, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    return InstanceNormalization(affine=False, name=f"{name}_norm")(x)


@keras.saving.register_keras_serializable("tfface.domain_alignment")
class Encoder(Network):
    """Features of a condition or of an exemplar, for matching and for generation.

    CoCosNet's feature generator, up-sampled to half the image's side like RABIT's, but with a skip
    connection in place of dilated convolutions.

    Args:
        size: Side S of the images, a multiple of 32.
        channels: Channels of the input.
        width: Channels w of the first convolution.
        blocks: Number of SPADE blocks, conditioned on the input, at the coarsest side S/4.
        spade_width: As in `Spade`.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Input: [B,S,S,channels]. Outputs, float32, side S/2: [..,2w] and [..,4w] for the generator, and
    [..,4w] for matching.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.domain_alignment import Encoder
        >>> encoder = Encoder(size=32, channels=19, width=4, blocks=1, spade_width=8)
        >>> [features.shape[1:] for features in encoder(tf.zeros([1, 32, 32, 19]))]
        [TensorShape([16, 16, 8]), TensorShape([16, 16, 16]), TensorShape([16, 16, 16])]
    """

    def __init__(
        self,
        size: int,
        channels: int,
        width: int = 64,
        blocks: int = 3,
        spade_width: int = 128,
        dtype=None,
        name: str = "encoder",
    ):
        arguments = {
            "size": size,
            "channels": channels,
            "width": width,
            "blocks": blocks,
            "spade_width": spade_width,
        }
        with precision(dtype):
            inputs = keras.Input((size, size, channels), name="inputs")
            pooled = keras.layers.AveragePooling2D(4, name="small")(inputs) if blocks else None
            fine = _norm_conv(_act(_norm_conv(inputs, width, 3, 1, "c1")), 2 * width, 4, 2, "c2")
            middle = _norm_conv(_act(fine), 4 * width, 3, 1, "c3")
            x = _norm_conv(_act(middle), 8 * width, 4, 2, "c4")
            for i in range(blocks):
                x = _spade_block(x, pooled, 8 * width, spade_width, f"block{i}")
            x = _norm_conv(_act(x), 4 * width, 3, 1, "c5")
            x = keras.layers.UpSampling2D(2, name="up")(x)
            x = keras.layers.Add(name="skip")([x, middle])
            compared = _norm_conv(_act(x), 4 * width, 3, 1, "c6")
            ends = [to_float32(x, n) for x, n in ((fine, "f2"), (middle, "f3"), (compared, "f6"))]
            super().__init__(inputs, ends, arguments=arguments, name=name)


@keras.saving.register_keras_serializable("tfface.domain_alignment")
class AddCoordinates(keras.layers.Layer):
    """Concatenates x and y of each position, in [-1,1], and its distance from the centre."""

    def call(self, inputs):
        """[B,H,W,C] to [B,H,W,C+3]."""
        _, height, width, _ = inputs.shape
        y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
        coordinates = ops.cast(np.stack([x, y, np.hypot(x, y)], -1)[None], inputs.dtype)
        coordinates = ops.repeat(coordinates, ops.shape(inputs)[0], 0)
        return ops.concatenate([inputs, coordinates], -1)

    def compute_output_shape(self, input_shape):
        """The input's shape with three more channels."""
        return (*input_shape[:-1], input_shape[-1] + 3)


@keras.saving.register_keras_serializable("tfface.domain_alignment")
class Correspondence(Network):
    """Projects features of both domains into one space; CoCosNet, with two residual blocks.

    The trunk is shared by the domains and gets the coordinates of positions (CoCosNet's option
    `use_coordconv`); the last 1x1 convolution is separate for each domain.

    Args:
        side: Side of the features.
        inputs: Channels of the features.
        channels: Channels of the projections.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Input: [B,side,side,inputs]. Outputs, float32: query (used for conditions) and key (used for
    exemplars), [B,side,side,channels] each.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.domain_alignment import Correspondence
        >>> query, key = Correspondence(side=16, inputs=8, channels=4)(tf.zeros([1, 16, 16, 8]))
        >>> query.shape, key.shape
        (TensorShape([1, 16, 16, 4]), TensorShape([1, 16, 16, 4]))
    """

    def __init__(
        self, side: int, inputs: int, channels: int = 256, dtype=None, name: str = "correspondence"
    ):
        arguments = {"side": side, "inputs": inputs, "channels": channels}
        with precision(dtype):
            features = keras.Input((side, side, inputs), name="features")
            x = AddCoordinates(name="places")(features)
            width = x.shape[-1]
            for i in range(2):
                skip = x
                for j in range(2):
                    x = ReflectionPadding2D(1, name=f"block{i}_pad{j}")(x)
                    x = keras.layers.Conv2D(width, 3, use_bias=False, name=f"block{i}_conv{j}")(x)
                    x = InstanceNormalization(affine=False, name=f"block{i}_norm{j}")(x)
                    if j == 1:
                        x = keras.layers.Add(name=f"block{i}_add")([x, skip])
                    x = _prelu(f"block{i}_prelu{j}")(x)
            ends = [
                to_float32(keras.layers.Conv2D(channels, 1, name=f"{n}_conv")(x), n)
                for n in ("query", "key")
            ]
            super().__init__(features, ends, arguments=arguments, name=name)


@keras.saving.register_keras_serializable("tfface.domain_alignment")
class Generator(Network):
    """Generates a face from a condition and the features aligned to it by SPADE blocks.

    The order of the features in the blocks is RABIT's: coarse blocks are conditioned on the fused
    4w features, the block at half the image's side on the fused 2w and 4w features, the last block
    on the condition itself and the warped exemplar. CoCosNet's non-local block is left out.

    Args:
        size: Side S of the images, a multiple of 32.
        condition: Channels of the condition.
        width: Channels w of the encoders' first convolution.
        gen_width: Channels of the last block, doubled each time the side is halved, up to 16 times.
        spade_width: As in `Spade`.
        channels: As in `AdaptiveFusion`.
        fusion_side: `side` of `AdaptiveFusion`.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Inputs: condition [B,S,S,condition]; its features [B,S/2,S/2,2w] and [B,S/2,S/2,4w]; the aligned
    exemplar image [B,S/2,S/2,3] and the aligned exemplar features of the same two shapes. Outputs,
    float32: image [B,S,S,3] in [-1,1]; fusion weight [B,S/2,S/2,1] in [0,1], where 1 uses only the
    exemplar.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.domain_alignment import Generator
        >>> widths = {"width": 4, "gen_width": 4, "spade_width": 8, "channels": 8}
        >>> generator = Generator(size=32, condition=19, fusion_side=8, **widths)
        >>> image, weight = generator([tf.zeros([1, *i.shape[1:]]) for i in generator.inputs])
        >>> image.shape, weight.shape
        (TensorShape([1, 32, 32, 3]), TensorShape([1, 16, 16, 1]))
    """

    def __init__(
        self,
        size: int,
        condition: int,
        width: int = 64,
        gen_width: int = 64,
        spade_width: int = 128,
        channels: int = 256,
        fusion_side: int = 32,
        dtype=None,
        name: str = "generator",
    ):
        arguments = {
            "size": size,
            "condition": condition,
            "width": width,
            "gen_width": gen_width,
            "spade_width": spade_width,
            "channels": channels,
            "fusion_side": fusion_side,
        }
        side = size // 2
        with precision(dtype):
            condition_map = keras.Input((size, size, condition), name="condition")
            own = [keras.Input((side, side, n * width), name=f"condition_{n}w") for n in (2, 4)]
            warped = keras.Input((side, side, 3), name="warped")
            aligned = [keras.Input((side, side, n * width), name=f"aligned_{n}w") for n in (2, 4)]
            weight = AdaptiveFusion(channels, fusion_side, name="fusion")(own[1], aligned[1])
            fine, middle = (
                Blend(name=f"blend_{n}w")([weight, other, mine])
                for n, other, mine in zip((2, 4), aligned, own, strict=True)
            )
            colours = keras.layers.Multiply(name="trusted")([weight, warped])
            colours = keras.layers.UpSampling2D(2, name="trusted_up")(colours)
            finest = keras.layers.Concatenate(name="finest")([condition_map, colours])
            both = keras.layers.Concatenate(name="both")([fine, middle])

            x = None
            for n in _sides(size):
                if n < side:
                    modulation = keras.layers.AveragePooling2D(side // n, name=f"middle_{n}")(
                        middle
                    )
                else:
                    modulation = both if n == side else finest
                filters = gen_width * min(_WIDEST, size // n)
                if x is None:
                    x = keras.layers.Conv2D(filters, 3, padding="same", name="start")(modulation)
                else:
                    x = keras.layers.UpSampling2D(2, name=f"up_{n}")(x)
                x = _spade_block(x, modulation, filters, spade_width, f"block_{n}")
            # LeakyReLU, written out: TensorFlow's graph optimiser logs errors for the gradient of
            # the operation after the addition of a residual block.
            x = ops.maximum(x, _SLOPE * x)
            x = keras.layers.Conv2D(3, 3, padding="same", name="image_conv")(x)
            image = keras.layers.Activation("tanh", dtype="float32", name="image")(x)
            super().__init__(
                [condition_map, *own, warped, *aligned],
                [image, to_float32(weight, "weight")],
                arguments=arguments,
                name=name,
            )


@keras.saving.register_keras_serializable("tfface.domain_alignment")
class Blend(keras.layers.Layer):
    """Maps [weight, a, b] to weight * a + (1 - weight) * b."""

    def call(self, inputs):
        """Blends."""
        weight, a, b = inputs
        return b + weight * (a - b)


@keras.saving.register_keras_serializable("tfface.domain_alignment")
class Discriminator(Network):
    """Two patch discriminators, for images at full and half size; CoCosNet, pix2pixHD.

    Args:
        size: Side S of the images.
        condition: Channels of the condition.
        width: Channels of the first convolution; each further one doubles them.
        layers: Number of convolutions before the last one; all but the last of these have stride 2.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Inputs: condition [B,S,S,condition], images [B,S,S,3]. Outputs, float32: the feature maps of all
    convolutions of the first discriminator, then of the second; the last map of each, with one
    channel, holds the logits.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.domain_alignment import Discriminator
        >>> discriminator = Discriminator(size=32, condition=19, width=4, layers=3)
        >>> maps = discriminator([tf.zeros([1, 32, 32, 19]), tf.zeros([1, 32, 32, 3])])
        >>> len(maps), maps[-1].shape[-1]
        (8, 1)
    """

    scales = 2

    def __init__(
        self,
        size: int,
        condition: int,
        width: int = 64,
        layers: int = 4,
        dtype=None,
        name: str = "discriminator",
    ):
        arguments = {"size": size, "condition": condition, "width": width, "layers": layers}
        with precision(dtype):
            condition_map = keras.Input((size, size, condition), name="condition")
            image = keras.Input((size, size, 3), name="image")
            x = keras.layers.Concatenate(name="both")([condition_map, image])
            ends = []
            for scale in range(self.scales):
                ends += _patches(x, width, layers, f"d{scale}")
                x = keras.layers.AveragePooling2D(3, 2, "same", name=f"half{scale}")(x)
            super().__init__([condition_map, image], ends, arguments=arguments, name=name)


def _patches(x, width: int, layers: int, name: str) -> list:
    maps = []
    for i in range(layers):
        if i == 0:
            x = keras.layers.Conv2D(width, 4, strides=2, padding="same", name=f"{name}_conv0")(x)
        else:
            stride = 2 if i < layers - 1 else 1
            x = _norm_conv(x, width * 2**i, 4, stride, f"{name}_c{i}")
        x = _act(x)
        maps.append(to_float32(x, f"{name}_map{i}"))
    logits = keras.layers.Conv2D(1, 4, padding="same", name=f"{name}_logits")(x)
    return [*maps, to_float32(logits, f"{name}_realness")]


def _prelu(name: str):
    """PReLU with a single parameter, initially 0.25, as in PyTorch."""
    return keras.layers.PReLU(
        alpha_initializer=keras.initializers.Constant(0.25), shared_axes=(1, 2, 3), name=name
    )


def _sides(size: int) -> list[int]:
    """Sides of the generator's feature maps, from the coarsest to the image's, each doubled."""
    sides = [size]
    while sides[0] % 2 == 0 and sides[0] > _COARSEST:
        sides.insert(0, sides[0] // 2)
    return sides
