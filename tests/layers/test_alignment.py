"""Block alignment, compared with definitions, finite differences and dense attention."""

import functools
import itertools

import keras
import numpy as np
import pytest
import random_tensors
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfface.errors import UserError
from tfface.layers import (
    AdaptiveFusion,
    BlockAlignment,
    DenseAlignment,
    SpectralConv2D,
    attention,
    merge_blocks,
    partition_blocks,
    sinkhorn_top_k,
    soft_top_k,
    spectral_norm,
)

quick = settings(max_examples=15, deadline=None)


normal = functools.partial(random_tensors.normal, dtype="float64")


def cosines(*shape, seed=0, dtype="float64"):
    values = np.random.default_rng(seed).normal(0.3, 0.2, shape).clip(-1, 1)
    return tf.constant(values, dtype)


def maps(height=8, width=8, count=2, channels=5, values=3, dtype="float64"):
    shapes = [(count, height, width, c) for c in (channels, channels, values)]
    return [normal(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]


def slope(function, inputs, i, seed=9, step=1e-6):
    """Directional derivative of a scalar function, by finite differences and by its gradient."""
    inputs = list(inputs)
    direction = normal(*inputs[i].shape, seed=seed)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = function(*inputs)
    ours = tf.reduce_sum(tape.gradient(value, inputs)[i] * direction)
    values = []
    for sign in (1, -1):
        shifted = inputs.copy()
        shifted[i] = inputs[i] + sign * step * direction
        values.append(function(*shifted))
    return float((values[0] - values[1]) / (2 * step)), float(ours)


# Blocks.


@quick
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_merging_inverts_partitioning(count, side, rows, columns):
    x = normal(count, side * rows, side * columns, 2)
    blocks = partition_blocks(x, side)
    assert blocks.shape == (count, rows * columns, side * side, 2)
    np.testing.assert_array_equal(merge_blocks(blocks, side * rows, side * columns), x)


def test_block_numbers_go_row_by_row():
    blocks = partition_blocks(tf.reshape(tf.range(24.0), (1, 4, 6, 1)), 2)
    np.testing.assert_array_equal(blocks[0, 1, :, 0], [2, 3, 8, 9])
    np.testing.assert_array_equal(blocks[0, 3, :, 0], [12, 13, 18, 19])


def test_side_that_is_not_a_divisor_raises_user_error():
    with pytest.raises(UserError, match="block side 3 .* 8 x 6"):
        partition_blocks(normal(1, 8, 6, 1), 3)


# Top-k as optimal transport.


@quick
@given(st.integers(2, 80), st.floats(0.003, 0.3), st.integers(0, 99), st.data())
def test_soft_top_k_sums_to_k_and_is_monotonic_in_the_scores(n, epsilon, seed, data):
    k = data.draw(st.integers(1, n))
    scores = cosines(3, n, seed=seed, dtype="float32")
    shares = soft_top_k(scores, k, epsilon).numpy()
    np.testing.assert_allclose(shares.sum(-1), k, rtol=1e-5)
    assert shares.min() >= 0 and shares.max() <= 1
    order = np.argsort(scores, axis=-1)
    assert (np.diff(np.take_along_axis(shares, order, -1)) >= -1e-6).all()


@pytest.mark.parametrize("n,k,epsilon", [(8, 1, 0.05), (64, 4, 0.05), (256, 16, 0.02)])
def test_sinkhorn_converges_to_the_closed_form(n, k, epsilon):
    scores = cosines(4, n)
    exact = soft_top_k(scores, k, epsilon)
    errors = [
        float(tf.reduce_max(tf.abs(sinkhorn_top_k(scores, k, epsilon, t) - exact)))
        for t in (1, 10, 400)
    ]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-8
    sums = tf.reduce_sum(sinkhorn_top_k(scores, k, epsilon, 1), -1)
    np.testing.assert_allclose(sums, k, rtol=1e-9)


def test_gradient_of_the_closed_form_matches_differences_and_sinkhorn():
    weights = normal(2, 12, seed=5)
    scores = cosines(2, 12)
    slopes = slope(lambda s: tf.reduce_sum(weights * soft_top_k(s, 3, 0.05)), [scores], 0)
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-5)
    gradients = []
    for solve in (soft_top_k, lambda s, k, e: sinkhorn_top_k(s, k, e, 400)):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            loss = tf.reduce_sum(weights * solve(scores, 3, 0.05))
        gradients.append(tape.gradient(loss, scores))
    np.testing.assert_allclose(*gradients, atol=1e-8)


def test_soft_top_k_with_small_epsilon_is_the_hard_top_k():
    scores = tf.constant([[0.9, -0.8, 0.3, 0.7, 0.1, -0.5]])
    np.testing.assert_allclose(soft_top_k(scores, 2, 1e-3), [[1, 0, 0, 1, 0, 0]], atol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        shares = soft_top_k(scores, 2, 1e-5)
    assert np.isfinite(tape.gradient(shares, scores)).all()


def test_top_k_is_1_for_all_scores_if_k_is_n():
    np.testing.assert_array_equal(soft_top_k(cosines(2, 5), 5, 0.1), np.ones((2, 5)))
    np.testing.assert_array_equal(sinkhorn_top_k(cosines(2, 5), 9, 0.1, 3), np.ones((2, 5)))


# Attention.


@pytest.fixture(params=[2**25, 1500], ids=["one_chunk", "many_chunks"])
def chunks(request, monkeypatch):
    monkeypatch.setattr(attention, "_CHUNK_BYTES", request.param)


@pytest.mark.parametrize("side", [1, 2, 4])
@pytest.mark.usefixtures("chunks")
def test_retrieving_all_blocks_equals_dense_attention(side):
    query, key, value = maps()
    dense = DenseAlignment(0.05, dtype="float64")(query, key, value)["aligned"]
    layer = BlockAlignment(side, (8 // side) ** 2, temperature=0.05, dtype="float64")
    np.testing.assert_allclose(layer(query, key, value)["aligned"], dense, atol=1e-12)


@pytest.mark.parametrize("solver", ["closed_form", "sinkhorn"])
@pytest.mark.usefixtures("chunks")
def test_permuted_blocks_are_recovered(solver):
    _, key, value = maps()
    order = np.random.default_rng(3).permutation(16)
    query = merge_blocks(tf.gather(partition_blocks(key, 2), order, axis=1), 8, 8)
    layer = BlockAlignment(2, 1, temperature=1e-4, solver=solver, dtype="float64")
    result = layer(query, key, value)
    np.testing.assert_array_equal(result["index"][..., 0], [order, order])
    expected = tf.gather(partition_blocks(value, 2), order, axis=1)
    np.testing.assert_array_equal(partition_blocks(result["aligned"], 2), expected)
    cycled = layer(key, query, result["aligned"])["aligned"]  # The reverse direction undoes it.
    np.testing.assert_array_equal(cycled, value)


@pytest.mark.parametrize("i", range(3), ids=["query", "key", "value"])
@pytest.mark.usefixtures("chunks")
def test_gradient_of_block_alignment_matches_finite_differences(i):
    layer = BlockAlignment(2, 3, epsilon=0.1, temperature=0.1, dtype="float64")
    weights = normal(2, 8, 8, 3, seed=7)

    def function(query, key, value):
        return tf.reduce_sum(weights * layer(query, key, value)["aligned"])

    slopes = slope(function, maps(), i)
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-5)


def test_block_weights_have_a_gradient_for_the_query():
    query, key, value = maps()
    layer = BlockAlignment(2, 3, epsilon=0.1, dtype="float64")
    with tf.GradientTape() as tape:
        tape.watch(query)
        weight = layer(query, key, value)["weight"]
        loss = tf.reduce_sum(weight[..., 0])
    assert float(tf.reduce_max(tf.abs(tape.gradient(loss, query)))) > 1e-3


def test_query_and_key_may_have_different_sizes():
    query, key, value = normal(1, 4, 6, 5), normal(1, 8, 2, 5), normal(1, 8, 2, 3)
    result = BlockAlignment(2, 2, dtype="float64")(query, key, value)
    assert result["aligned"].shape == (1, 4, 6, 3) and result["index"].shape == (1, 6, 2)
    assert DenseAlignment(dtype="float64")(query, key, value)["aligned"].shape == (1, 4, 6, 3)


@pytest.mark.parametrize("solver", ["closed_form", "sinkhorn"])
def test_gradients_with_xla_equal_those_without(solver):
    inputs = maps(dtype="float32")
    layer = BlockAlignment(2, 3, epsilon=0.05, solver=solver, iterations=20)

    def gradients(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(tf.sin(layer(*inputs)["aligned"]))
        return tape.gradient(loss, inputs)

    plain, compiled = (
        tf.function(gradients, jit_compile=jit, autograph=False)(*inputs) for jit in (False, True)
    )
    for a, b in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_gives_finite_float32_results(policy):
    inputs = [tf.cast(x, policy[6:]) for x in maps()]
    layer = BlockAlignment(2, 3, epsilon=0.005, dtype=policy)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        result = layer(*inputs)
        loss = tf.reduce_sum(result["aligned"] ** 2)
    assert result["aligned"].dtype == result["weight"].dtype == tf.float32
    for gradient in tape.gradient(loss, inputs):
        assert np.isfinite(tf.cast(gradient, tf.float32)).all()


def test_block_alignment_survives_saving_and_loading(tmp_path):
    inputs = [keras.Input((8, 8, c)) for c in (5, 5, 3)]
    model = keras.Model(inputs, BlockAlignment(2, 3)(*inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    values = maps(dtype="float32")
    for name, value in loaded(values).items():
        np.testing.assert_array_equal(value, model(values)[name])


# Fusion.


def test_fusion_weights_are_shares_that_depend_on_the_style():
    layer = AdaptiveFusion(4, side=4)
    a, z = normal(2, 8, 8, 6, dtype="float32"), normal(2, 8, 8, 5, seed=1, dtype="float32")
    weight = layer(a, z)
    assert weight.shape == (2, 8, 8, 1)
    assert 0 <= tf.reduce_min(weight) and tf.reduce_max(weight) <= 1
    # Constant within a cell of the grid, and different for another style.
    np.testing.assert_array_equal(weight[:, ::2, ::2], weight[:, 1::2, 1::2])
    assert np.abs(weight - layer(a, z[:, ::-1])).max() > 1e-4


# Spectral normalisation.


@quick
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_spectral_norm_is_the_largest_singular_value(rows, columns, seed):
    matrix = normal(rows, columns, seed=seed, dtype="float32")
    exact = np.linalg.svd(matrix, compute_uv=False)[0]
    assert 0.999 * exact <= float(spectral_norm(matrix)) <= 1.0001 * exact


def test_spectral_convolution_does_not_change_its_weight():
    layer = SpectralConv2D(2, 1, use_bias=False)
    x = normal(1, 3, 3, 2, dtype="float32")
    layer.build(x.shape)
    layer.kernel.assign([[[[4.0, 0.0], [0.0, 2.0]]]])
    for training in (True, False):
        np.testing.assert_allclose(layer(x, training=training), x * [1, 0.5], rtol=1e-4)
    np.testing.assert_array_equal(layer.kernel[0, 0], [[4, 0], [0, 2]])
    # A scaled weight gives the same function, so the derivative along the weight is 0.
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(layer(x)))
    gradient = tape.gradient(loss, layer.kernel.value)
    assert float(tf.reduce_sum(gradient * layer.kernel)) == pytest.approx(0, abs=1e-3)
    assert float(tf.reduce_max(tf.abs(gradient))) > 1e-2


def test_a_fixed_norm_gives_the_same_result_in_a_smaller_graph():
    layer = SpectralConv2D(5, 3)
    x = normal(1, 8, 8, 4, dtype="float32")
    called = tf.function(lambda x: layer(x)).get_concrete_function
    result, operations = layer(x), len(called(x).graph.get_operations())
    layer.fix_norm()
    np.testing.assert_allclose(layer(x), result, rtol=1e-5, atol=1e-6)
    fixed = tf.function(lambda x: layer(x)).get_concrete_function(x).graph.get_operations()
    assert len(fixed) < operations / 2
    layer.kernel.assign(2 * layer.kernel)
    np.testing.assert_allclose(layer(x), 2 * result, rtol=1e-5, atol=1e-6)


def test_retrieved_blocks_are_ordered_by_weight():
    query, key, value = maps()
    weight = BlockAlignment(2, 4, epsilon=0.05, dtype="float64")(query, key, value)["weight"]
    weight = weight.numpy()
    assert all((a >= b - 1e-12).all() for a, b in itertools.pairwise(weight.transpose(2, 0, 1)))
