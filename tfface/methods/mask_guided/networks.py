"""Networks of mask-guided synthesis: those of StarGAN v2's code (`core/model.py`) for label maps.

The paper's own networks are not public. Residual blocks apply activations before convolutions, and
divide the sum by sqrt(2). All normalisation statistics are per image.
"""

from __future__ import annotations

import keras
from keras import ops

from tfface.layers import InstanceNormalization, Network, Spade, precision, to_float32

_SLOPE = 0.2
_BOTTLENECK = 16  # Side of the generator's smallest feature map; StarGAN v2.
_CORE = 2  # Residual blocks at this side, without and then with the style; StarGAN v2.


@keras.saving.register_keras_serializable("tfface.mask_guided")
class AdaIN(keras.layers.Layer):
    """Adaptive instance normalisation (Huang and Belongie 2017): IN(x)(1 + gamma(s)) + beta(s).

    Args:
        normalization: "instance", or "layer" to normalise all channels together.

    Inputs: features [B,H,W,C], style codes [B,D]. Output: [B,H,W,C].
    """

    def __init__(self, normalization: str = "instance", **kwargs):
        super().__init__(**kwargs)
        self.normalization = normalization
        self.norm = _normalization(normalization, affine=False, name="norm")

    def build(self, features_shape, style_shape):
        """Builds the affine transform."""
        self.affine = keras.layers.Dense(
            2 * features_shape[-1], kernel_initializer="he_normal", name="affine"
        )
        self.affine.build(style_shape)

    def call(self, features, style):
        """Normalises and modulates."""
        gamma, beta = ops.split(self.affine(style)[:, None, None, :], 2, axis=-1)
        return self.norm(features) * (1.0 + gamma) + beta

    def compute_output_shape(self, features_shape, style_shape):
        """As the features."""
        return features_shape

    def get_config(self) -> dict:
        """Returns the argument."""
        return {**super().get_config(), "normalization": self.normalization}


@keras.saving.register_keras_serializable("tfface.mask_guided")
class PredictedConv2D(keras.layers.Layer):
    """A convolution with kernels predicted from a label map (CC-FPSE, Liu et al. 2019).

    A depthwise 3x3 convolution with a different kernel at every position, then a 1x1 convolution,
    multiplied by a gate in [0,1]. Kernels and gate are predicted from the label map.

    Args:
        filters: Channels of the result.
        width: Channels between the label map and the kernels; 128 in CC-FPSE.

    Inputs: features [B,H,W,C], label map [B,H,W,D]. Output: [B,H,W,filters].
    """

    def __init__(self, filters: int, width: int = 128, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.width = filters, width
        self.shared = _conv(width, "shared", activation="relu")
        self.mix = _conv(filters, "mix", kernel=1)
        self.gate = _conv(filters, "gate", activation="sigmoid")

    def build(self, features_shape, label_map_shape):
        """Builds the convolutions."""
        # The predicted kernels initially have the scale of He initialisation.
        self.kernels = keras.layers.Conv2D(
            9 * features_shape[-1],
            3,
            padding="same",
            kernel_initializer=keras.initializers.VarianceScaling(2 / 9, "fan_in"),
            name="kernels",
        )
        self.shared.build(label_map_shape)
        hidden = (*label_map_shape[:-1], self.width)
        self.kernels.build(hidden)
        self.gate.build(hidden)
        self.mix.build(features_shape)

    def call(self, features, label_map):
        """Convolves."""
        _, height, width, channels = features.shape
        hidden = self.shared(label_map)
        kernels = ops.split(self.kernels(hidden), 9, axis=-1)
        padded = ops.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = (padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3))
        x = sum(k * s for k, s in zip(kernels, shifted, strict=True))
        return self.mix(x) * self.gate(hidden)

    def compute_output_shape(self, features_shape, label_map_shape):
        """The shape of the features, with `filters` channels."""
        return (*features_shape[:-1], self.filters)

    def get_config(self) -> dict:
        """Returns the arguments."""
        return {**super().get_config(), "filters": self.filters, "width": self.width}


def _conv(filters: int, name: str, kernel: int = 3, **options) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(
        filters, kernel, padding="same", kernel_initializer="he_normal", name=name, **options
    )


def _act(x):
    # LeakyReLU, written so that TensorFlow's graph optimiser does not recognise it: it logs errors
    # when it fails to fuse it with a convolution whose result is also used elsewhere.
    return 0.5 * (1.0 + _SLOPE) * x + 0.5 * (1.0 - _SLOPE) * ops.abs(x)


def _normalization(kind: str, affine: bool, name: str) -> keras.layers.Layer:
    if kind == "instance":
        return InstanceNormalization(affine=affine, name=name)
    return keras.layers.GroupNormalization(
        groups=1, epsilon=1e-5, center=affine, scale=affine, name=name
    )


def _half(x):
    return keras.layers.AveragePooling2D(2)(x)


def _shortcut(x, filters: int, name: str):
    if x.shape[-1] == filters:
        return x
    return _conv(filters, f"{name}_shortcut", kernel=1, use_bias=False)(x)


def _sum(x, shortcut, name: str):
    total = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.Rescaling(2**-0.5, name=f"{name}_scale")(total)


def _block(x, filters: int, name: str, down: bool = False, norm: bool = False):
    """Residual block, with optional normalisation and down-sampling after one convolution."""
    shortcut = _shortcut(x, filters, name)
    for i, channels in enumerate((x.shape[-1], filters)):
        if norm:
            x = InstanceNormalization(name=f"{name}_norm{i}")(x)
        x = _conv(channels, f"{name}_conv{i}")(_act(x))
        if i == 0 and down:
            x, shortcut = _half(x), _half(shortcut)
    return _sum(x, shortcut, name)


def _widths(base: int, most: int, count: int) -> list[int]:
    return [min(base * 2**i, most) for i in range(count + 1)]


@keras.saving.register_keras_serializable("tfface.mask_guided")
class StyleEncoder(Network):
    """Maps latents to style codes: the paper's style encoder, StarGAN v2's mapping network.

    Args:
        latent_dim: Dimension of a latent.
        style_dim: Dimension of a style code.
        width: Units of the hidden layers.
        layers: Number of hidden layers; StarGAN v2 has 4 shared ones and 3 for each domain.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Input: [B,latent_dim]. Output: [B,style_dim], float32.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.mask_guided import StyleEncoder
        >>> encoder = StyleEncoder(latent_dim=4, style_dim=8, width=16, layers=2)
        >>> encoder(tf.random.normal([2, 4])).shape
        TensorShape([2, 8])
    """

    def __init__(
        self,
        latent_dim: int,
        style_dim: int,
        width: int = 512,
        layers: int = 7,
        dtype=None,
        name: str = "style_encoder",
    ):
        arguments = {
            "latent_dim": latent_dim,
            "style_dim": style_dim,
            "width": width,
            "layers": layers,
        }
        with precision(dtype):
            latent = x = keras.Input((latent_dim,), name="latent")
            for i in range(layers):
                x = keras.layers.Dense(
                    width, activation="relu", kernel_initializer="he_normal", name=f"hidden{i}"
                )(x)
            x = keras.layers.Dense(style_dim, kernel_initializer="he_normal", name="code")(x)
            super().__init__(latent, to_float32(x, "style"), arguments=arguments, name=name)


@keras.saving.register_keras_serializable("tfface.mask_guided")
class ResidualEncoder(Network):
    """Maps images to vectors by residual blocks; style decoder and discriminator.

    It has no normalisation, as needed for the R1 penalty.

    Args:
        size: Side S of the images, a power of 2, at least 8.
        inputs: Channels of the input.
        outputs: Dimension of the output.
        base: Channels at the full side.
        most: Maximum number of channels.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Input: [B,S,S,inputs]. Output: [B,outputs], float32.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.mask_guided import ResidualEncoder
        >>> style_decoder = ResidualEncoder(size=32, inputs=3, outputs=8, base=4, most=8)
        >>> style_decoder(tf.zeros([2, 32, 32, 3])).shape
        TensorShape([2, 8])
    """

    def __init__(
        self,
        size: int,
        inputs: int,
        outputs: int,
        base: int = 64,
        most: int = 512,
        dtype=None,
        name: str = "encoder",
    ):
        arguments = {
            "size": size,
            "inputs": inputs,
            "outputs": outputs,
            "base": base,
            "most": most,
        }
        with precision(dtype):
            image = keras.Input((size, size, inputs), name="image")
            halvings = size.bit_length() - 3  # Down to a side of 4.
            widths = _widths(base, most, halvings)
            x = _conv(base, "start")(image)
            for i, filters in enumerate(widths[1:]):
                x = _block(x, filters, f"down{i}", down=True)
            x = keras.layers.Conv2D(x.shape[-1], 4, kernel_initializer="he_normal", name="whole")(
                _act(x)
            )
            x = keras.layers.Flatten(name="flat")(_act(x))
            x = keras.layers.Dense(outputs, kernel_initializer="he_normal", name="last")(x)
            super().__init__(image, to_float32(x, "result"), arguments=arguments, name=name)


@keras.saving.register_keras_serializable("tfface.mask_guided")
class Generator(Network):
    """Generates a face from a label map and a style code.

    The style enters by AdaIN. The label map enters as the input of an encoder (StarGAN v2 with a
    map in place of its source image), or after the AdaIN of every block, average-pooled to the
    block's side: by SPADE modulation or by predicted convolutions.

    Args:
        size: Side S of the images, a power of 2, at least 32.
        classes: Channels of the label map.
        style_dim: Dimension of a style code.
        base: Channels at the full side.
        most: Maximum number of channels.
        injection: "encoder", "spade" or "predicted".
        injection_width: Channels between the label map and its modulation or kernels.
        upsampling: "nearest" or "bilinear".
        normalization: "instance" or "layer"; an encoder of the label map always has "instance".
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Inputs: one-hot label maps [B,S,S,classes], style codes [B,style_dim]. Output: [B,S,S,3]
    float32, in about [-1,1]: like StarGAN v2's, the output is not bounded.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.mask_guided import Generator
        >>> generator = Generator(size=32, classes=19, style_dim=8, base=4, most=8)
        >>> label_map = tf.one_hot(tf.zeros([2, 32, 32], tf.int32), 19)
        >>> generator([label_map, tf.random.normal([2, 8])]).shape
        TensorShape([2, 32, 32, 3])
    """

    def __init__(
        self,
        size: int,
        classes: int,
        style_dim: int = 64,
        base: int = 64,
        most: int = 512,
        injection: str = "encoder",
        injection_width: int = 128,
        upsampling: str = "nearest",
        normalization: str = "instance",
        dtype=None,
        name: str = "generator",
    ):
        arguments = {
            "size": size,
            "classes": classes,
            "style_dim": style_dim,
            "base": base,
            "most": most,
            "injection": injection,
            "injection_width": injection_width,
            "upsampling": upsampling,
            "normalization": normalization,
        }
        with precision(dtype):
            label_map = keras.Input((size, size, classes), name="label_map")
            style = keras.Input((style_dim,), name="style")
            halvings = (size // _BOTTLENECK).bit_length() - 1
            widths = _widths(base, most, halvings)
            x = _start(label_map, widths, encode=injection == "encoder")
            maps = [label_map]
            for _ in range(halvings):
                maps.append(_half(maps[-1]))
            kinds = _injection(injection, injection_width), upsampling, normalization
            for i in range(_CORE):
                x = _styled_block(x, style, maps[-1:] * 2, widths[-1], *kinds, f"styled{i}")
            for i in reversed(range(halvings)):
                name_ = f"up{halvings - 1 - i}"
                x = _styled_block(x, style, [maps[i + 1], maps[i]], widths[i], *kinds, name_)
            x = _act(_normalization(normalization, affine=True, name="last_norm")(x))
            image = to_float32(_conv(3, "last", kernel=1)(x), "image")
            super().__init__([label_map, style], image, arguments=arguments, name=name)


def _start(label_map, widths: list[int], encode: bool):
    """The map at the bottleneck's side: encoded by blocks, or only pooled and convolved."""
    if not encode:
        factor = 2 ** (len(widths) - 1)
        return _conv(widths[-1], "start")(keras.layers.AveragePooling2D(factor)(label_map))
    x = _conv(widths[0], "start")(label_map)
    for i, filters in enumerate(widths[1:]):
        x = _block(x, filters, f"down{i}", down=True, norm=True)
    for i in range(_CORE):
        x = _block(x, widths[-1], f"core{i}", norm=True)
    return x


def _injection(kind: str, width: int):
    """A function (x, map, filters, name) for activation, convolution and injection of the map."""

    def encoder(x, label_map, filters, name):
        return _conv(filters, f"{name}_conv")(_act(x))

    def spade(x, label_map, filters, name):
        x = Spade(width, normalize=False, name=f"{name}_spade")(x, label_map)
        return _conv(filters, f"{name}_conv")(_act(x))

    def predicted(x, label_map, filters, name):
        return PredictedConv2D(filters, width, name=f"{name}_conv")(_act(x), label_map)

    return {"encoder": encoder, "spade": spade, "predicted": predicted}[kind]


def _styled_block(
    x, style, maps: list, filters: int, inject, upsampling: str, normalization: str, name: str
):
    """Residual block with AdaIN, up-sampled to the side of the second map if that is larger."""
    up = x.shape[1] != maps[1].shape[1]
    shortcut = _shortcut(x, filters, name)
    for i, label_map in enumerate(maps):
        x = AdaIN(normalization, name=f"{name}_adain{i}")(x, style)
        if i == 0 and up:
            twice = keras.layers.UpSampling2D(2, interpolation=upsampling)
            x, shortcut, label_map = twice(x), twice(shortcut), maps[1]
        x = inject(x, label_map, filters, f"{name}_{i}")
    return _sum(x, shortcut, name)
