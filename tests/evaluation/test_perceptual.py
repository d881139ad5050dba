"""LPIPS and its stand-ins."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfface.errors import UserError
from tfface.evaluation import lpips as module
from tfface.evaluation.lpips import Lpips, lpips, lpips_uniform, perceptual_random
from tfface.metrics.images import diversity

SIZE = 32
CHANNELS = (64, 128, 256, 512, 512)


def images(seed, count=2):
    random = np.random.default_rng(seed)
    return random.uniform(-1, 1, (count, SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoints():
    """By file name, the contents of PyTorch's files of VGG16 and of the heads."""
    random = np.random.default_rng(0)
    vgg, before = {"classifier.0.weight": np.zeros((3, 5), np.float32)}, 3
    for index, layer in zip(module._POSITIONS, module._LAYERS, strict=True):
        width = CHANNELS[int(layer[5]) - 1]
        kernel = random.standard_normal((width, before, 3, 3), np.float32)
        vgg[f"features.{index}.weight"] = kernel * np.sqrt(2 / (9 * before))
        vgg[f"features.{index}.bias"] = random.uniform(-0.1, 0.1, width).astype(np.float32)
        before = width
    heads = {
        f"lin{i}.model.1.weight": random.uniform(0, 1, (1, width, 1, 1)).astype(np.float32)
        for i, width in enumerate(CHANNELS)
    }
    return {"vgg16.pth": vgg, "vgg.pth": heads}


@pytest.fixture
def files(monkeypatch, checkpoints):
    files = dict(checkpoints)
    monkeypatch.setattr(module, "read_checkpoint", files.__getitem__)
    return files


def test_lpips_matches_a_manual_computation(files, checkpoints):
    """The first map's part of the distance, computed with NumPy; the other heads are 0."""
    heads = {name: 0 * head for name, head in checkpoints["vgg.pth"].items()}
    heads["lin0.model.1.weight"] = head = checkpoints["vgg.pth"]["lin0.model.1.weight"]
    files["vgg.pth"] = heads
    a, b = images(1), images(2)
    metric = lpips(SIZE, "vgg16.pth", "vgg.pth")
    assert metric.name == "lpips"
    maps = []
    for image in (a, b):
        x = (image - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        for index in (0, 2):
            kernel = checkpoints["vgg16.pth"][f"features.{index}.weight"]
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
            x = np.einsum("nhwcij,ocij->nhwo", windows, kernel, optimize=True)
            x = np.maximum(x + checkpoints["vgg16.pth"][f"features.{index}.bias"], 0)
        maps.append(x / np.linalg.norm(x, axis=-1, keepdims=True))
    squared = np.square(maps[0] - maps[1]) @ head.reshape(-1)
    np.testing.assert_allclose(metric(a, b), squared.mean(axis=(1, 2)), rtol=1e-4)
    assert metric(a, b).min() > 0.01


def test_lpips_rejects_other_weight_files(files, checkpoints):
    heads, vgg = dict(checkpoints["vgg.pth"]), dict(checkpoints["vgg16.pth"])
    files["alex.pth"] = {**heads, "lin1.model.1.weight": np.zeros((1, 192, 1, 1))}
    with pytest.raises(UserError, match=r"alex.pth: lin1.* is \(1, 192, 1, 1\): expected \(1, 128"):
        lpips(SIZE, "vgg16.pth", "alex.pth")
    with pytest.raises(UserError, match="vgg16.pth: lin0.model.1.weight is missing"):
        lpips(SIZE, "vgg16.pth", "vgg16.pth")
    del vgg["features.28.bias"]
    files["cut.pth"] = vgg
    with pytest.raises(UserError, match="cut.pth: .*torchvision's VGG16: .*block5_conv3.bias"):
        lpips(SIZE, "cut.pth", "vgg.pth")


@pytest.fixture
def narrow_vgg(monkeypatch):
    """A stand-in for keras.applications.VGG16 with four channels in each layer."""

    def vgg(include_top, weights, input_shape):
        random = iter(range(100))
        x = inputs = keras.Input(input_shape)
        for i, name in enumerate(module._LAYERS):
            if name.endswith("conv1") and i:
                x = keras.layers.MaxPooling2D()(x)
            start = keras.initializers.HeNormal(next(random))
            x = keras.layers.Conv2D(4, 3, 1, "same", activation="relu", name=name,
                                    kernel_initializer=start)(x)  # fmt: skip
        model = keras.Model(inputs, x)
        if weights is not None:
            model.load_weights(weights)
        return model

    monkeypatch.setattr(keras.applications, "VGG16", vgg)
    return vgg


def test_lpips_uniform_preprocesses_for_keras_vgg16(narrow_vgg, tmp_path):
    body = narrow_vgg(False, None, (SIZE, SIZE, 3))
    body.save_weights(tmp_path / "vgg.weights.h5")
    metric = lpips_uniform(SIZE, str(tmp_path / "vgg.weights.h5"))
    assert metric.name == "lpips_uniform"
    a, b = images(1), images(2)
    taps = keras.Model(body.inputs, [body.get_layer(name).output for name in module._TAPS])
    expected = 0.0
    for of_a, of_b in zip(*(taps(_caffe(x)) for x in (a, b)), strict=True):
        unit = [maps / (np.linalg.norm(maps, axis=-1, keepdims=True) + 1e-10) for maps in
                (of_a.numpy(), of_b.numpy())]  # fmt: skip
        expected = expected + np.square(unit[0] - unit[1]).sum(-1).mean((1, 2))
    np.testing.assert_allclose(metric(a, b), expected, rtol=1e-4)


def _caffe(image):
    return ((image + 1) * 127.5)[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)


def test_missing_vgg_weights_are_reported():
    with pytest.raises(UserError, match="VGG16: nowhere.h5: no such file"):
        lpips_uniform(SIZE, "nowhere.h5")


def test_layer_names_exist_in_keras_vgg16():
    names = [
        layer.name for layer in keras.applications.VGG16(include_top=False, weights=None).layers
    ]
    assert set(module._LAYERS) <= set(names) and set(module._TAPS) <= set(module._LAYERS)


def test_perceptual_random_is_a_seeded_distance():
    metric, other = perceptual_random(SIZE), perceptual_random(SIZE)
    assert isinstance(metric, Lpips) and metric.name == "perceptual_random"
    a, b = images(1, 40), images(2, 40)
    found = metric(a, b)
    assert found.shape == (40,) and found.dtype == np.float64 and found.min() > 0
    np.testing.assert_array_equal(metric(a, a), 0.0)
    np.testing.assert_allclose(metric(b, a), found, rtol=1e-6)
    np.testing.assert_allclose(other(a, b), found, rtol=1e-6)
    assert (metric(a, 0.9 * a + 0.1 * b) < found).all()
    np.testing.assert_allclose(diversity(np.stack([a, b], 1), metric), found, rtol=1e-6)
    with pytest.raises(ValueError, match="the same shape"):
        metric(a, b[:1])
