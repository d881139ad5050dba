"""The convolution by a matrix product equals Keras's, with first and second derivatives."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfface.layers import Conv2D, precision


def pair(x, filters, **options):
    """Our layer and Keras's with the same weights, built for x."""
    ours, theirs = Conv2D(filters, **options), keras.layers.Conv2D(filters, **options)
    ours.build(x.shape), theirs.build(x.shape)
    random = np.random.default_rng(1)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        a.assign(random.normal(size=a.shape) / 10)
        b.assign(a)
    return ours, theirs


def operations(layer, x):
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec(x.shape)).graph
    return {operation.type for operation in graph.get_operations()}


def derivatives(layer, x):
    """Output, gradients of its square, and gradients of the input gradient's squared norm."""
    x = tf.constant(x)
    variables = [v.value for v in layer.trainable_variables]
    with tf.GradientTape() as second:
        with tf.GradientTape(persistent=True) as first:
            first.watch(x)
            y = layer(x)
            total = tf.reduce_sum(y**2)
        gradients = first.gradient(total, [x, *variables])
        penalty = tf.reduce_sum(gradients[0] ** 2)
    return [y, *gradients, second.gradient(penalty, variables[0])]


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from(["same", "valid"]),
)
def test_equals_keras_in_value_gradient_and_penalty(count, side, kernel, strides, padding):
    if padding == "valid":
        kernel = tuple(min(pair) for pair in zip(side, kernel, strict=True))
    positions = keras.layers.Conv2D(1, kernel, strides, padding).compute_output_shape((1, *side, 2))
    filters = 16 * positions[1] * positions[2]
    x = np.random.default_rng(0).normal(size=(count, *side, 2)).astype("float32")
    ours, theirs = pair(x, filters, kernel_size=kernel, strides=strides, padding=padding)
    assert "Conv2D" not in operations(ours, x)
    for mine, expected in zip(derivatives(ours, x), derivatives(theirs, x), strict=True):
        scale = np.abs(expected).max() + 1e-6
        np.testing.assert_allclose(mine / scale, expected / scale, atol=2e-5)


@pytest.mark.parametrize("filters, side, product", [(16 * 4, 4, True), (16 * 4, 6, False)])
def test_large_kernels_on_small_maps_are_matrix_products(filters, side, product):
    x = np.zeros((1, side, side, 3), "float32")
    layer, _ = pair(x, filters, kernel_size=4, strides=2, padding="same")
    assert ("Conv2D" in operations(layer, x)) != product


def test_computes_in_the_precision_of_its_policy():
    with precision("mixed_bfloat16"):
        layer = Conv2D(32, 2)
    assert layer(np.ones((1, 2, 2, 3), "float32")).dtype == "bfloat16"
    assert layer.kernel.dtype == "float32"


def test_is_saved_with_its_arguments(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 2)), Conv2D(128, 4, strides=2, padding="same")])
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[-1], Conv2D)
    np.testing.assert_array_equal(loaded(x), model(x))
