"""Global and local generators, and the network that fuses their results.

The discriminators are StarGAN's, `tfface.layers.discriminator.Discriminator`. The trunk of the
generators is StarGAN's too, except for the input of the expression. StarGAN tiles it onto the
image, but the instance normalisation after the first convolution removes it except at the borders,
and small networks in short training hardly learn to use that. Here every residual block and every
up-sampling convolution adds a bias that depends on the expression (ours).
"""

from __future__ import annotations

import keras
from keras import ops

from tfface.layers import InstanceNormalization, Network, precision, torch_default
from tfface.methods.seg_hierarchical.masks import cut


def _conv(x, filters: int, kernel: int, name: str, stride: int = 1, label=None, relu: bool = True):
    """Convolution without bias, instance norm, optional label-dependent bias, ReLU."""
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=torch_default(),
        name=f"{name}_conv",
    )(x)
    return _norm(x, name, label, relu)


def _norm(x, name: str, label=None, relu: bool = True):
    """Instance norm, optional label-dependent bias, ReLU."""
    x = InstanceNormalization(name=f"{name}_norm")(x)
    if label is not None:
        filters = x.shape[-1]
        bias = keras.layers.Dense(filters, use_bias=False, name=f"{name}_label")(label)
        bias = keras.layers.Reshape((1, 1, filters), name=f"{name}_bias")(bias)
        x = keras.layers.Add(name=f"{name}_shift")([x, bias])
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _residual_blocks(x, blocks: int, label=None):
    for i in range(1, blocks + 1):
        y = _conv(x, x.shape[-1], 3, f"block{i}a", label=label)
        y = _conv(y, x.shape[-1], 3, f"block{i}b", relu=False)
        x = keras.layers.Add(name=f"block{i}_add")([x, y])
    return x


def _trunk(x, label, width: int, blocks: int, upsampling: str):
    """StarGAN's trunk: down to a quarter of the side, residual blocks, up to [B,S,S,width]."""
    x = _conv(x, width, 7, "head")
    x = _conv(x, 2 * width, 4, "down1", stride=2)
    x = _conv(x, 4 * width, 4, "down2", stride=2)
    x = _residual_blocks(x, blocks, label)
    for i, filters in ((1, 2 * width), (2, width)):
        if upsampling == "bilinear":
            x = keras.layers.UpSampling2D(2, interpolation="bilinear", name=f"up{i}_resize")(x)
            x = _conv(x, filters, 3, f"up{i}", label=label)
            continue
        x = keras.layers.Conv2DTranspose(
            filters,
            4,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_initializer=torch_default(),
            name=f"up{i}_conv",
        )(x)
        x = _norm(x, f"up{i}", label)
    return x


def _last(x, filters: int, activation: str, name: str, gain: float = 1.0):
    """The last convolution and its activation, float32."""
    x = keras.layers.Conv2D(
        filters,
        7,
        padding="same",
        use_bias=False,
        kernel_initializer=torch_default(gain),
        name=f"{name}_conv",
    )(x)
    return keras.layers.Activation(activation, dtype="float32", name=name)(x)


def _towards(image, x, gain: float):
    """Moves pixels a fraction |t| of the way to white (t > 0) or black (t < 0) (ours).

    The result stays in [-1,1]. For a small t this adds about t, like SARGAN's residual, which is
    learned much faster than generating all pixels.
    """
    t = _last(x, 3, "tanh", "residual", gain)
    return image + t - ops.abs(t) * image


@keras.saving.register_keras_serializable("tfface.seg_hierarchical")
class GlobalGenerator(Network):
    """Edits a face, given the target expression and the masks of its regions.

    Args:
        size: Side of the images, a multiple of 4.
        classes: Number of expressions.
        regions: Number of regions.
        width: Channels of the first convolution.
        blocks: Number of residual blocks.
        attention: Whether the output is GANimation's A * input + (1 - A) * colour, where A is the
            output of the layer "attention". Otherwise a residual is added.
        residual_init: Factor on the initial weights of the residual's convolution.
        upsampling: "transposed": StarGAN's transposed convolutions; "bilinear": bilinear
            interpolation and a 3x3 convolution.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Inputs: images [B,S,S,3] in [-1,1]; one-hot expressions [B,classes]; masks [B,S,S,regions] in
    [0,1]. Output: float32 [B,S,S,3] in [-1,1].

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.seg_hierarchical import GlobalGenerator
        >>> generator = GlobalGenerator(size=32, classes=3, regions=2, width=4, blocks=1)
        >>> faces, masks = tf.zeros([1, 32, 32, 3]), tf.zeros([1, 32, 32, 2])
        >>> generator([faces, tf.one_hot([1], 3), masks]).shape
        TensorShape([1, 32, 32, 3])
    """

    def __init__(
        self,
        size: int,
        classes: int,
        regions: int,
        width: int = 64,
        blocks: int = 6,
        attention: bool = False,
        residual_init: float = 1.0,
        upsampling: str = "transposed",
        dtype=None,
        name: str = "global_generator",
    ):
        arguments = {
            "size": size,
            "classes": classes,
            "regions": regions,
            "width": width,
            "blocks": blocks,
            "attention": attention,
            "residual_init": residual_init,
            "upsampling": upsampling,
        }
        with precision(dtype):
            image = keras.Input((size, size, 3), name="image")
            label = keras.Input((classes,), name="label")
            masks = keras.Input((size, size, regions), name="masks")
            x = keras.layers.Concatenate(name="concat")([image, masks])
            x = _trunk(x, label, width, blocks, upsampling)
            if attention:
                kept = _last(x, 1, "sigmoid", "attention")
                edited = kept * image + (1.0 - kept) * _last(x, 3, "tanh", "colour")
            else:
                edited = _towards(image, x, residual_init)
            super().__init__([image, label, masks], edited, arguments=arguments, name=name)


@keras.saving.register_keras_serializable("tfface.seg_hierarchical")
class LocalGenerator(Network):
    """Edits one region of a face, given the target expression; it sees only the region.

    Args:
        size: Side of the images or of the windows around regions, a multiple of 4.
        classes: Number of expressions.
        width: Channels of the first convolution.
        blocks: Number of residual blocks.
        residual_init: Factor on the initial weights of the residual's convolution.
        upsampling: "transposed": StarGAN's transposed convolutions; "bilinear": bilinear
            interpolation and a 3x3 convolution.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Inputs: images [B,S,S,3] in [-1,1]; one-hot expressions [B,classes]; the grown mask [B,S,S,1]
    in [0,1]. Output: float32 [B,S,S,3] in [-1,1], valid inside the mask.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.seg_hierarchical import LocalGenerator
        >>> generator = LocalGenerator(size=32, classes=3, width=4, blocks=1)
        >>> faces, mask = tf.zeros([1, 32, 32, 3]), tf.ones([1, 32, 32, 1])
        >>> generator([faces, tf.one_hot([1], 3), mask]).shape
        TensorShape([1, 32, 32, 3])
    """

    def __init__(
        self,
        size: int,
        classes: int,
        width: int = 32,
        blocks: int = 3,
        residual_init: float = 1.0,
        upsampling: str = "transposed",
        dtype=None,
        name: str = "local_generator",
    ):
        arguments = {
            "size": size,
            "classes": classes,
            "width": width,
            "blocks": blocks,
            "residual_init": residual_init,
            "upsampling": upsampling,
        }
        with precision(dtype):
            image = keras.Input((size, size, 3), name="image")
            label = keras.Input((classes,), name="label")
            mask = keras.Input((size, size, 1), name="mask")
            x = _trunk(cut(image, mask), label, width, blocks, upsampling)
            edited = _towards(image, x, residual_init)
            super().__init__([image, label, mask], edited, arguments=arguments, name=name)


@keras.saving.register_keras_serializable("tfface.seg_hierarchical")
class Combiner(Network):
    """Fusion network: combines the global result and the result with pasted regions.

    Like APDrawingGAN's, but it adds a residual to the pasted result (ours).

    Args:
        size: Side of the images.
        width: Channels of all convolutions but the last.
        blocks: Number of residual blocks.
        residual_init: Factor on the initial weights of the residual's convolution.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Inputs: global and pasted results [B,S,S,3] in [-1,1]. Output: float32 [B,S,S,3] in [-1,1].

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.seg_hierarchical import Combiner
        >>> faces = tf.zeros([1, 32, 32, 3])
        >>> Combiner(size=32, width=4, blocks=1)([faces, faces]).shape
        TensorShape([1, 32, 32, 3])
    """

    def __init__(
        self,
        size: int,
        width: int = 32,
        blocks: int = 2,
        residual_init: float = 1.0,
        dtype=None,
        name: str = "fusion",
    ):
        arguments = {
            "size": size,
            "width": width,
            "blocks": blocks,
            "residual_init": residual_init,
        }
        with precision(dtype):
            whole = keras.Input((size, size, 3), name="global")
            pasted = keras.Input((size, size, 3), name="pasted")
            x = keras.layers.Concatenate(name="concat")([whole, pasted])
            x = _residual_blocks(_conv(x, width, 7, "head"), blocks)
            fused = _towards(pasted, x, residual_init)
            super().__init__([whole, pasted], fused, arguments=arguments, name=name)
