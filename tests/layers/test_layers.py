"""Layers compared with their definitions in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfface.layers import (
    ConcatLabel,
    InstanceNormalization,
    Network,
    ReflectionPadding2D,
    UpConv2D,
    precision,
)

quick = settings(max_examples=15, deadline=None)
sides, channels = st.integers(2, 7), st.integers(1, 4)


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def full_of(weight, seed=1):
    weight.assign(values(*weight.shape, seed=seed))


@quick
@given(st.integers(1, 3), sides, sides, channels)
def test_instance_norm_equals_group_norm_of_single_channels(count, height, width, depth):
    ours = InstanceNormalization()
    theirs = keras.layers.GroupNormalization(groups=-1, epsilon=1e-5)
    x = values(count, height, width, depth) * 3 + 5
    ours.build(x.shape), theirs.build(x.shape)
    for a, b in ((ours.gamma, theirs.gamma), (ours.beta, theirs.beta)):
        full_of(a), full_of(b)
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-4)


def test_instance_norm_matches_its_definition():
    x = values(2, 5, 3, 4) * 2 - 1
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    expected = (x - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(InstanceNormalization()(x), expected, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_instance_norm_has_float32_statistics(policy):
    # Squares overflow float16; a mean of 300 and a spread of 1 exceed the precision of both types.
    layer = InstanceNormalization(dtype=policy)
    x = tf.cast(values(2, 16, 16, 3) * 100 + 300, policy[6:])
    y = layer(x)
    assert y.dtype == policy[6:]
    assert layer.gamma.dtype == layer.beta.dtype == "float32"
    expected = InstanceNormalization(dtype="float32")(tf.cast(x, tf.float32))
    np.testing.assert_allclose(tf.cast(y, tf.float32), expected, atol=0.02)


@quick
@given(st.integers(2, 8), st.integers(2, 8), channels, st.integers(1, 3))
def test_reflection_padding_equals_numpy(height, width, depth, padding):
    padding = min(padding, height - 1, width - 1)
    x = values(2, height, width, depth)
    expected = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)), "reflect")
    layer = ReflectionPadding2D(padding)
    np.testing.assert_array_equal(layer(x), expected)
    assert tuple(layer.compute_output_spec(keras.KerasTensor(x.shape)).shape) == expected.shape


@quick
@given(st.integers(1, 5), st.integers(1, 5), channels, channels)
def test_up_conv_equals_torch_conv_transpose(height, width, depth, filters):
    """ConvTranspose2d(3, stride 2, padding 1, output padding 1), computed pixel by pixel."""
    layer = UpConv2D(filters)
    x = values(2, height, width, depth)
    layer.build(x.shape)
    full_of(layer.kernel), full_of(layer.bias, 2)
    kernel = layer.kernel.numpy()  # [3,3,filters,depth]
    expected = np.zeros((2, 2 * height, 2 * width, filters), np.float32) + layer.bias.numpy()
    for y in range(height):
        for x_ in range(width):
            for i in range(3):
                for j in range(3):
                    row, column = 2 * y + i - 1, 2 * x_ + j - 1
                    if 0 <= row < 2 * height and 0 <= column < 2 * width:
                        expected[:, row, column] += x[:, y, x_] @ kernel[i, j].T
    y = layer(x)
    assert layer.compute_output_shape(x.shape) == y.shape == expected.shape
    np.testing.assert_allclose(y, expected, atol=1e-4)


@quick
@given(st.integers(1, 3), sides, sides, channels, channels)
def test_concat_label_tiles_the_label(count, height, width, depth, labels):
    x, label = values(count, height, width, depth), values(count, labels, seed=3)
    y = ConcatLabel()(x, label)
    assert y.shape == (count, height, width, depth + labels)
    np.testing.assert_array_equal(y[..., :depth], x)
    tiled = np.broadcast_to(label[:, None, None], (count, height, width, labels))
    np.testing.assert_array_equal(y[..., depth:], tiled)


@pytest.mark.parametrize(
    "layer",
    [
        InstanceNormalization(epsilon=1e-3),
        ReflectionPadding2D(2),
        UpConv2D(5, use_bias=False, activation="relu"),
        UpConv2D(2, dtype="mixed_float16"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_survive_saving_and_loading(tmp_path, layer):
    restored = type(layer).from_config(layer.get_config())
    assert restored.get_config() == layer.get_config()
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layer(image))
    x = values(2, 8, 8, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_concat_label_survives_saving_and_loading(tmp_path):
    image, label = keras.Input((8, 8, 3)), keras.Input((2,))
    model = keras.Model([image, label], ConcatLabel()(image, label))
    model.save(tmp_path / "model.keras")
    inputs = [values(2, 8, 8, 3), values(2, 2)]
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


def test_precision_restores_the_previous_policy():
    before = keras.config.dtype_policy()
    with pytest.raises(RuntimeError), precision("mixed_bfloat16"):
        assert keras.layers.Dense(1).dtype_policy.name == "mixed_bfloat16"
        raise RuntimeError
    assert keras.config.dtype_policy() is before
    with precision(None):
        assert keras.config.dtype_policy() is before


def test_network_is_restored_from_its_config():
    class Small(Network):
        def __init__(self, units, dtype=None, name="small"):
            with precision(dtype):
                x = keras.Input((3,))
                y = keras.layers.Dense(units, name="dense")(x)
                super().__init__(x, y, arguments={"units": units}, name=name)

    net = Small(4, "mixed_bfloat16", "mine")
    assert net.get_config() == {"units": 4, "dtype": "mixed_bfloat16", "name": "mine"}
    restored = Small.from_config(net.get_config())
    assert restored.get_layer("dense").compute_dtype == "bfloat16"
    assert restored.get_config() == net.get_config()
