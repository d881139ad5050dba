"""Perceptual distance of images: LPIPS (Zhang et al. 2018), and variants under other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfface.errors import UserError
from tfface.evaluation.features import load_application
from tfface.layers.torch_weights import assign, read_checkpoint
from tfface.metrics.images import checked

_TAPS = ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3")
_LAYERS = tuple(
    f"block{block}_conv{i + 1}" for block, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(n)
)
# Indices of these layers in PyTorch's VGG16, where activations and pooling count as layers.
_POSITIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
# Mean and standard deviation of ImageNet for images in [-1,1]: `ScalingLayer` of lpips 0.1.4.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_TINY = 1e-10  # `normalize_tensor` of lpips 0.1.4.
_AT_ONCE = 32


class Lpips:
    """Distance of images in the feature space of a network, equation 1 of the paper.

    Args:
        name: Name of the metric.
        network: From images [N,S,S,3] in [-1,1] to a list of feature maps.
        heads: Channel weights of each feature map; None: all 1.
    """

    def __init__(self, name: str, network: keras.Model, heads: list[np.ndarray] | None = None):
        self.name = name
        self._network = network
        self._heads = heads or [np.ones(maps.shape[-1], np.float32) for maps in network.outputs]
        self._distance = tf.function(self._compare, reduce_retracing=True)

    def __call__(self, a: Any, b: Any) -> np.ndarray:
        """Distances float64 [N] between two arrays of images float32 [N,S,S,3] in [-1,1]."""
        a, b = checked(a), checked(b)
        if a.shape != b.shape:
            raise ValueError(f"images are {a.shape} and {b.shape}: expected the same shape")
        parts = [slice(start, start + _AT_ONCE) for start in range(0, len(a), _AT_ONCE)]
        distances = [self._distance(tf.constant(a[p]), tf.constant(b[p])).numpy() for p in parts]
        return np.concatenate(distances).astype(np.float64)

    def _compare(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        distance = 0.0
        pairs = zip(self._network(a), self._network(b), self._heads, strict=True)
        for of_a, of_b, head in pairs:
            squared = tf.square(_unit(of_a) - _unit(of_b))
            distance += tf.reduce_mean(tf.linalg.matvec(squared, head), axis=(1, 2))
        return distance


def _unit(maps: tf.Tensor) -> tf.Tensor:
    return maps / (tf.norm(maps, axis=-1, keepdims=True) + _TINY)


def lpips(size: int, vgg: str, heads: str) -> Lpips:
    """LPIPS 0.1 with VGG16, named "lpips"; needs the extra [weights].

    The published heads weight the channels of torchvision's VGG16. Keras's VGG16 was trained
    separately and has other channels, so its weights cannot be used here.

    Args:
        size: Side S of the images, in pixels, a multiple of 32.
        vgg: PyTorch file of torchvision's VGG16, "vgg16-397923af.pth".
        heads: The file "vgg.pth" in the folder `weights/v0.1` of the lpips package.

    Raises:
        UserError: A file is missing or invalid, or PyTorch is not installed.
    """
    body = keras.applications.VGG16(include_top=False, weights=None, input_shape=(size, size, 3))
    layers = {f"features.{index}": name for index, name in zip(_POSITIONS, _LAYERS, strict=True)}
    try:
        assign(body, read_checkpoint(vgg), layers.get)
    except UserError as error:
        raise UserError(f"{vgg}: expected torchvision's VGG16: {error}") from error
    images = keras.Input((size, size, 3))
    scaled = (images - tf.constant(_SHIFT)) / tf.constant(_SCALE)
    network = _features(body, images, scaled)
    return Lpips("lpips", network, _heads(read_checkpoint(heads), heads, network))


def _heads(state: Mapping[str, np.ndarray], path: str, network: keras.Model) -> list[np.ndarray]:
    heads = []
    for i, maps in enumerate(network.outputs):
        name, shape = f"lin{i}.model.1.weight", (1, maps.shape[-1], 1, 1)
        head = np.asarray(state[name]) if name in state else None
        if head is None or head.shape != shape:
            raise UserError(
                f"{path}: {name} is {'missing' if head is None else head.shape}: expected {shape}, "
                "as in the lpips package's vgg.pth"
            )
        heads.append(head.reshape(-1).astype(np.float32))
    return heads


def lpips_uniform(size: int, vgg: str = "") -> Lpips:
    """Distance in the features of Keras's VGG16 with all channel weights 1: "lpips_uniform".

    This is the paper's baseline without learned weights; its values are not comparable with LPIPS.

    Args:
        size: Side S of the images, in pixels, at least 32.
        vgg: File with VGG16's weights without the top, in Keras's layout; "": Keras downloads them.

    Raises:
        UserError: The file is missing or invalid, or the download fails.
    """
    body = load_application(
        lambda source: keras.applications.VGG16(
            include_top=False, weights=source, input_shape=(size, size, 3)
        ),
        "VGG16",
        vgg,
    )
    images = keras.Input((size, size, 3))
    scaled = keras.applications.vgg16.preprocess_input((images + 1) * 127.5)
    return Lpips("lpips_uniform", _features(body, images, scaled))


def perceptual_random(size: int) -> Lpips:
    """Stand-in that needs no files: distance in a seeded, untrained network, "perceptual_random".

    It distinguishes colours and textures, but not the content of an image.

    Args:
        size: Side S of the images, in pixels, at least 32.
    """
    from tfface.layers.perceptual import perceptual_network

    return Lpips("perceptual_random", perceptual_network("random", size))


def _features(body: keras.Model, images: Any, scaled: Any) -> keras.Model:
    taps = keras.Model(body.inputs, [body.get_layer(name).output for name in _TAPS])
    return keras.Model(images, taps(scaled))
