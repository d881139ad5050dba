"""Segmentation networks BiSeNet and U-Net, which output logits of the 19 classes for every pixel.

Group normalisation replaces the authors' batch normalisation, so that the result of an image does
not depend on the other images of its batch or on the number of devices.
"""

from __future__ import annotations

import keras

from tfface.data.label_maps import CLASSES_19
from tfface.layers import Network, precision, to_float32

_GROUPS = 32  # Default of Wu and He 2018.
# Ours: with a single group of 16 channels at full size, a U-Net of that width learned more slowly.
_MIN_GROUP_CHANNELS = 4
_EPSILON = 1e-5  # PyTorch's default, which the authors of both networks use.


def _norm(x, name: str):
    _, height, width, channels = x.shape
    most = min(_GROUPS, channels // _MIN_GROUP_CHANNELS)
    if height * width == 1:
        most = 1  # One group of all channels, as a small group has too few values.
    groups = next((n for n in range(most, 1, -1) if channels % n == 0), 1)
    return keras.layers.GroupNormalization(groups, epsilon=_EPSILON, name=name)(x)


def _conv(x, filters: int, kernel: int, name: str, stride: int = 1, relu: bool = True):
    """Convolution without bias, group normalisation, ReLU."""
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = _norm(x, f"{name}_norm")
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _logits(x, size: int, name: str):
    """A 1x1 convolution to class logits, up-sampled to the image's size, float32."""
    x = keras.layers.Conv2D(len(CLASSES_19), 1, use_bias=False, name=f"{name}_classes")(x)
    x = to_float32(x, f"{name}_float32")
    factor = size // x.shape[1]
    up = keras.layers.UpSampling2D(
        factor, interpolation="bilinear", dtype="float32", name=f"{name}_logits"
    )
    return up(x) if factor > 1 else x


@keras.saving.register_keras_serializable("tfface.seg_hierarchical")
class UNet(Network):
    """U-Net for faces, as in CelebAMask-HQ's code: five levels of two convolutions.

    Args:
        size: Side of the images, a multiple of 16.
        width: Channels of the first level, doubled by each further one; 16 in that code.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Input: [B,S,S,3] in [-1,1]. Output: a list of logits float32 [B,S,S,19].

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.seg_hierarchical import UNet
        >>> [logits] = tf.nest.flatten(UNet(size=32, width=4)(tf.zeros([1, 32, 32, 3])))
        >>> logits.shape
        TensorShape([1, 32, 32, 19])
    """

    def __init__(self, size: int, width: int = 16, dtype=None, name: str = "segmenter"):
        with precision(dtype):
            image = x = keras.Input((size, size, 3), name="image")
            skips = []
            for level in range(5):
                if level:
                    skips.append(x)
                    x = keras.layers.MaxPooling2D(2, name=f"down{level}")(x)
                x = _conv(x, width * 2**level, 3, f"encode{level}a")
                x = _conv(x, width * 2**level, 3, f"encode{level}b")
            for level in (3, 2, 1, 0):
                filters = width * 2**level
                x = keras.layers.Conv2DTranspose(filters, 2, strides=2, name=f"up{level}")(x)
                x = keras.layers.Concatenate(name=f"skip{level}")([skips[level], x])
                x = _conv(x, filters, 3, f"decode{level}a")
                x = _conv(x, filters, 3, f"decode{level}b")
            outputs = [_logits(x, size, "main")]
            super().__init__(image, outputs, arguments={"size": size, "width": width}, name=name)


@keras.saving.register_keras_serializable("tfface.seg_hierarchical")
class BiSeNet(Network):
    """BiSeNet for faces: a ResNet-18 context path with attention, and its 1/8 features for details.

    As in face-parsing.PyTorch, which omits the spatial path of Yu et al. 2018, but with random
    initial weights instead of ImageNet's.

    Args:
        size: Side of the images, a multiple of 32.
        width: Channels of ResNet's first stage; 64 in ResNet-18.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Input: [B,S,S,3] in [-1,1]. Output: a list of logits float32 [B,S,S,19]: the main output, from
    features of 1/8 of the image's side, and two auxiliary outputs for training, from 1/8 and 1/16.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.methods.seg_hierarchical import BiSeNet
        >>> [logits.shape for logits in BiSeNet(size=32, width=4)(tf.zeros([1, 32, 32, 3]))]
        [TensorShape([1, 32, 32, 19]), TensorShape([1, 32, 32, 19]), TensorShape([1, 32, 32, 19])]
    """

    def __init__(self, size: int, width: int = 64, dtype=None, name: str = "segmenter"):
        with precision(dtype):
            image = keras.Input((size, size, 3), name="image")
            x = _conv(image, width, 7, "stem", stride=2)
            x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
            features = []
            for stage in range(4):
                for block, stride in enumerate((2 if stage else 1, 1)):
                    x = _basic_block(x, width * 2**stage, stride, f"stage{stage + 1}{'ab'[block]}")
                features.append(x)
            _, fine, middle, coarse = features
            context = _conv(_mean(coarse, "tail"), 2 * width, 1, "tail")
            coarse = _attend(coarse, 2 * width, "coarse")
            coarse = _refine(keras.layers.Add(name="coarse_add")([coarse, context]), "coarse_up")
            middle = _attend(middle, 2 * width, "middle")
            middle = _refine(keras.layers.Add(name="middle_add")([middle, coarse]), "middle_up")
            fused = _fuse(fine, middle, 4 * width)
            heads = (("main", fused, 4 * width), ("aux8", middle, width), ("aux16", coarse, width))
            outputs = [_logits(_conv(x, w, 3, f"{n}_head"), size, n) for n, x, w in heads]
            super().__init__(image, outputs, arguments={"size": size, "width": width}, name=name)


def _basic_block(x, filters: int, stride: int, name: str):
    """ResNet's block of two 3x3 convolutions."""
    y = _conv(x, filters, 3, f"{name}_1", stride)
    y = _conv(y, filters, 3, f"{name}_2", relu=False)
    if stride > 1 or x.shape[-1] != filters:
        x = _conv(x, filters, 1, f"{name}_shortcut", stride, relu=False)
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([x, y]))


def _mean(x, name: str):
    """The mean over all positions, [B,1,1,C]."""
    return keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)


def _attend(x, filters: int, name: str):
    """Attention refinement module: channels weighted by global context."""
    x = _conv(x, filters, 3, f"{name}_arm")
    weight = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_arm_weight")
    weight = _norm(weight(_mean(x, f"{name}_arm")), f"{name}_weight_norm")
    weight = keras.layers.Activation("sigmoid", name=f"{name}_arm_sigmoid")(weight)
    return keras.layers.Multiply(name=f"{name}_arm_multiply")([x, weight])


def _refine(x, name: str):
    """Up-sampling by 2 (nearest), and a 3x3 convolution."""
    return _conv(keras.layers.UpSampling2D(2, name=name)(x), x.shape[-1], 3, name)


def _fuse(fine, context, filters: int):
    """Feature fusion module: x + x * weight for concatenated details and context."""
    x = keras.layers.Concatenate(name="fuse_concat")([fine, context])
    x = _conv(x, filters, 1, "fuse")
    weight = _mean(x, "fuse")
    for name, channels, activation in (("1", filters // 4, "relu"), ("2", filters, "sigmoid")):
        weight = keras.layers.Conv2D(
            channels, 1, use_bias=False, activation=activation, name=f"fuse_weight{name}"
        )(weight)
    weighted = keras.layers.Multiply(name="fuse_multiply")([x, weight])
    return keras.layers.Add(name="fuse_add")([x, weighted])
