"""Domain alignment: conditions, losses, and the network of the perceptual losses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from random_tensors import normal
from scipy.ndimage import distance_transform_cdt

from tfface.data.label_maps import CLASSES_19, LINE
from tfface.data.lines import OUTLINED
from tfface.errors import UserError
from tfface.layers.perceptual import perceptual_network
from tfface.losses.regions import distance, region_distance
from tfface.methods.domain_alignment import losses
from tfface.methods.domain_alignment.conditions import CHANNELS, PARTS, encode, line_channels

SIZE = 32
quick = settings(max_examples=15, deadline=None)


# Conditions.


@st.composite
def drawings(draw):
    """Random codes 0 to LINE on some pixels of an empty square of any size."""
    size = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    codes = random.integers(0, LINE + 1, (2, size, size))
    return np.where(
        random.random(codes.shape) < draw(st.sampled_from([0.002, 0.05, 0.5])), codes, 0
    )


@quick
@given(drawings())
def test_line_channels_are_lines_and_city_block_distances(lines):
    channels = line_channels(tf.constant(lines, tf.int32)).numpy()
    size = lines.shape[1]
    assert channels.shape == (2, size, size, CHANNELS["lines"]) and CHANNELS["lines"] == 15
    assert channels.dtype == np.float32
    np.testing.assert_array_equal(channels[..., 0], lines > 0)
    np.testing.assert_array_equal(channels[..., 14], (lines > 0) & (lines != LINE))
    for i, part in enumerate(PARTS):
        masks = lines == CLASSES_19.index(part)
        for mask, computed in zip(masks, channels[..., 1 + i], strict=True):
            if not mask.any():
                np.testing.assert_array_equal(computed, 1.0)
                continue
            expected = distance_transform_cdt(~mask, "taxicab") * 286 / (3 * 255 * size)
            np.testing.assert_allclose(computed, expected, rtol=1e-5)
            assert computed.max() < 1.0  # Only channels of absent parts saturate.


@quick
@given(drawings())
def test_edge_channels_are_edges_and_the_distance_to_the_nearest(lines):
    channels = encode(tf.constant(lines, tf.int32), "edges").numpy()
    size = lines.shape[1]
    assert channels.shape == (2, size, size, CHANNELS["edges"]) and channels.dtype == np.float32
    np.testing.assert_array_equal(channels[..., 0], lines > 0)
    for drawing, computed in zip(lines > 0, channels[..., 1], strict=True):
        nearest = distance_transform_cdt(~drawing, "taxicab") if drawing.any() else np.inf
        expected = np.minimum(nearest * 286 / (3 * 255 * size), 1.0)
        np.testing.assert_allclose(computed, np.broadcast_to(expected, computed.shape), rtol=1e-5)


def test_line_channels_cover_all_outlined_parts():
    assert PARTS == OUTLINED


def test_label_map_is_encoded_as_one_channel_per_class():
    labels = tf.constant(np.random.default_rng(0).integers(0, 19, (2, 8, 8)), tf.int32)
    channels = encode(labels, "labels")
    assert channels.shape == (2, 8, 8, CHANNELS["labels"]) and channels.dtype == tf.float32
    np.testing.assert_array_equal(tf.argmax(channels, -1), labels)
    np.testing.assert_array_equal(tf.reduce_sum(channels, -1), np.ones((2, 8, 8)))


# Losses.


def test_hinge_losses_match_hand_computed_values():
    real = [tf.constant([2.0, 0.5]), tf.constant([[-1.0]])]
    fake = [tf.constant([-2.0, 0.0]), tf.constant([[3.0]])]
    # First scale (0 + .5)/2 + (0 + 1)/2, second 2 + 4.
    assert float(losses.hinge_discriminator(real, fake)) == pytest.approx((0.75 + 6.0) / 2)
    assert float(losses.hinge_generator(fake)) == pytest.approx(-(-1.0 + 3.0) / 2)


def test_feature_matching_sums_maps_and_averages_scales():
    fake = [tf.constant([[1.0, 3.0]]), tf.constant([5.0])]
    real = [tf.constant([[0.0, 0.0]]), tf.constant([7.0])]
    assert float(losses.feature_matching(fake, real, 2)) == pytest.approx((2.0 + 2.0) / 2)
    assert float(losses.feature_matching(fake, real, 1)) == pytest.approx(4.0)
    assert float(losses.feature_matching(real, real, 2)) == 0.0


@quick
@given(st.lists(st.tuples(st.floats(0, 9), st.booleans()), min_size=1, max_size=6), st.floats(0, 9))
def test_pair_weights_turn_a_batch_mean_into_the_mean_over_pairs(examples, other):
    values, paired = (np.float32(x) for x in zip(*examples, strict=True))
    expected = values[paired > 0].mean() if paired.any() else 0.0
    weights = losses.pair_weights(tf.constant(paired)).numpy()
    assert (values * weights).mean() == pytest.approx(expected, rel=1e-5)
    changed = np.where(paired > 0, values, np.float32(other))
    assert (changed * weights).mean() == pytest.approx(expected, rel=1e-5)


def test_region_distance_weights_regions_equally():
    """Image 1: the one pixel of class 1 differs by 4, 15 others by 1. Image 2: all by 2."""
    label_map = np.zeros((2, 4, 4), np.int32)
    label_map[0, 0, 0] = 1
    a = np.ones((2, 4, 4, 3), np.float32)
    a[0, 0, 0], a[1] = 4.0, 2.0
    pixels = [(15 + 4) / 16, 2.0]
    for balance in (0.0, 0.25, 1.0):
        computed = region_distance(tf.constant(a), tf.zeros_like(a), label_map, 3, balance)
        expected = [
            balance * r + (1 - balance) * p for r, p in zip([2.5, 2.0], pixels, strict=True)
        ]
        np.testing.assert_allclose(computed, expected, rtol=1e-6)


def test_distance_is_the_mean_absolute_difference_of_each_example():
    a = tf.constant([[[1.0, -1.0]], [[0.0, 4.0]]])
    np.testing.assert_allclose(distance(a, tf.zeros_like(a)), [1.0, 2.0])


def test_domain_alignment_loss_ignores_feature_length():
    a = normal(2, 4, 4, 6)
    assert float(losses.domain_alignment(a, 3.0 * a)) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.domain_alignment(a, normal(2, 4, 4, 6, seed=1))) > 0.1
    # Opposite directions: twice the mean absolute value of a unit vector's numbers.
    unit = tf.math.l2_normalize(a, -1)
    expected = 2.0 * float(tf.reduce_mean(tf.abs(unit)))
    assert float(losses.domain_alignment(a, -a)) == pytest.approx(expected, rel=1e-4)


def one_hot(*rows):
    """One-hot label maps with one row of positions each."""
    return tf.one_hot(tf.constant(rows)[:, None], 19)


def test_warped_mask_loss_is_0_for_a_perfect_warp():
    condition, exemplar = one_hot([0, 1, 2, 13]), one_hot([13, 2, 1, 0])
    assert float(losses.warped_mask(condition, condition, exemplar)) == pytest.approx(0, abs=1e-6)
    # One of four positions has the wrong class: -log(1e-10) / 4.
    wrong = one_hot([0, 1, 2, 2])
    loss = float(losses.warped_mask(wrong, condition, exemplar))
    assert loss == pytest.approx(-np.log(1e-10) / 4, rel=1e-4)


def test_warped_mask_loss_ignores_classes_missing_in_the_exemplar():
    condition, exemplar, warped = one_hot([1, 14]), one_hot([1, 13]), one_hot([1, 13])
    assert float(losses.warped_mask(warped, condition, exemplar)) == pytest.approx(0, abs=1e-6)
    # Each exemplar of a batch counts for itself: only the second has a hat.
    pair = [tf.concat(x, 0) for x in ((warped,) * 2, (condition,) * 2, (exemplar, condition))]
    assert float(losses.warped_mask(*pair)) == pytest.approx(-np.log(1e-10) / 4, rel=1e-4)
    # Without common classes the loss is 0.
    assert float(losses.warped_mask(warped, one_hot([14, 15]), exemplar)) == 0.0


def test_warped_mask_loss_includes_the_background_if_the_exemplar_has_one():
    condition, warped = one_hot([0, 1]), one_hot([1, 1])
    without, with_it = one_hot([1, 1]), one_hot([0, 1])
    assert float(losses.warped_mask(warped, condition, without)) == pytest.approx(0, abs=1e-6)
    loss = float(losses.warped_mask(warped, condition, with_it))
    assert loss == pytest.approx(-np.log(1e-10) / 2, rel=1e-4)


def centred(x):
    return x - tf.reduce_mean(x, -1, keepdims=True)


def test_contextual_loss_is_nearly_0_for_equal_features():
    x = normal(2, 6, 6, 16)
    assert 0.0 <= float(losses.contextual(x, x)) < 0.01


@quick
@given(st.integers(0, 99), st.integers(2, 6), st.integers(2, 6))
def test_contextual_loss_is_invariant_to_permuted_positions(seed, height, width):
    """Of both inputs together; of either one as well if all positions have the same mean."""
    generated, exemplar = (
        normal(1, height, width, 8, seed=seed),
        normal(1, height, width, 8, seed=100),
    )
    order = np.random.default_rng(seed).permutation(height * width)

    def permuted(x):
        return tf.reshape(tf.gather(tf.reshape(x, (1, -1, 8)), order, axis=1), x.shape)

    expected = float(losses.contextual(generated, exemplar))
    assert float(losses.contextual(permuted(generated), permuted(exemplar))) == pytest.approx(
        expected, rel=1e-3, abs=1e-5
    )
    generated, exemplar = centred(generated), centred(exemplar)
    expected = float(losses.contextual(generated, exemplar))
    for pair in ((permuted(generated), exemplar), (generated, permuted(exemplar))):
        assert float(losses.contextual(*pair)) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_contextual_loss_grows_with_dissimilarity():
    exemplar, other = normal(2, 6, 6, 16), normal(2, 6, 6, 16, seed=1)
    values = [float(losses.contextual(exemplar + a * other, exemplar)) for a in (0, 0.3, 1, 3)]
    assert values == sorted(values) and values[-1] > values[0] + 0.3


def test_contextual_loss_matches_each_generated_feature_to_its_most_similar_one():
    exemplar = centred(normal(1, 4, 4, 8))
    one = tf.broadcast_to(exemplar[:, :1, :1], exemplar.shape)
    assert float(losses.contextual(one, exemplar)) < 0.01
    # All 16 features of the exemplar are equal, so that each gets the similarity 1/16.
    assert float(losses.contextual(exemplar, one)) == pytest.approx(np.log(16), rel=1e-3)


@pytest.mark.parametrize("kind", ["unlike", "the same", "zero", "constant"])
def test_contextual_loss_has_finite_gradients(kind):
    exemplar = normal(2, 4, 4, 8)
    generated = {
        "unlike": normal(2, 4, 4, 8, seed=1),
        "the same": exemplar,
        "zero": tf.zeros_like(exemplar),
        "constant": tf.ones_like(exemplar),
    }[kind]
    with tf.GradientTape() as tape:
        tape.watch(generated)
        loss = losses.contextual(generated, exemplar)
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, generated)).all()


# The perceptual network.


@pytest.mark.parametrize("size", [32, 64])
def test_random_features_are_reproducible(size):
    images = tf.random.stateless_uniform((2, size, size, 3), (0, 0), -1, 1)
    keras.utils.set_random_seed(1)
    first = perceptual_network("random", size)
    keras.utils.set_random_seed(2)
    second = perceptual_network("random", size)
    for a, b, i in zip(first(images), second(images), range(5), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.shape[:3] == (2, size >> i, size >> i) and np.std(a) > 0


def test_perceptual_network_is_frozen_but_passes_gradients():
    network = perceptual_network("random", 32)
    assert not network.trainable_variables and network.variables
    images = tf.random.stateless_uniform((1, 32, 32, 3), (0, 0), -1, 1)
    for i in range(5):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(tf.square(network(images)[i]))
        assert np.abs(tape.gradient(loss, images)).max() > 0


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """VGG19 with random weights, scaled so that features do not vanish, and the weights' file."""
    keras.utils.set_random_seed(0)
    body = keras.applications.VGG19(include_top=False, weights=None, input_shape=(32, 32, 3))
    for layer in body.layers:
        if layer.weights:
            layer.kernel.assign(layer.kernel * 1.4)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.weights.h5"
    body.save_weights(path)
    return body, str(path)


def test_vgg_features_equal_those_of_keras_with_its_preprocessing(vgg):
    body, path = vgg
    network = perceptual_network("vgg19", 32, path)
    assert not network.trainable_variables
    levels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    features = network(tf.constant(levels / 127.5 - 1.0))
    names = [f"block{i}_conv2" for i in range(1, 6)]
    reference = keras.Model(body.inputs, [body.get_layer(name).output for name in names])
    expected = reference(keras.applications.vgg19.preprocess_input(levels.copy()))
    assert len(features) == 5
    for i, (a, b) in enumerate(zip(features, expected, strict=True)):
        assert a.shape[1:3] == (32 >> i, 32 >> i)
        assert np.std(b) > 0.1 and np.min(b) == 0.0  # After the activation.
        np.testing.assert_allclose(a, b, atol=1e-4 * float(np.max(b)))


def test_missing_vgg_weights_file_raises_user_error(tmp_path):
    for path in (tmp_path / "nowhere.weights.h5", tmp_path):
        with pytest.raises(UserError, match="no such file") as error:
            perceptual_network("vgg19", 32, str(path))
        assert f"vgg_weights is {str(path)!r}" in str(error.value)


@pytest.mark.parametrize("kind", ["garbage.weights.h5", "text.txt", "empty.h5", "cut.weights.h5"])
def test_invalid_vgg_weights_file_raises_user_error(vgg, tmp_path, kind):
    path = tmp_path / kind
    with open(vgg[1], "rb") as whole:
        path.write_bytes(
            {"g": b"garbage" * 99, "t": b"hello", "e": b""}.get(kind[0], whole.read(9999))
        )
    with pytest.raises(UserError, match="expected VGG19's weights") as error:
        perceptual_network("vgg19", 32, str(path))
    assert repr(str(path)) in str(error.value)


def test_vgg_weights_of_another_network_raise_user_error(tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(UserError, match="other.weights.h5': expected VGG19's weights"):
        perceptual_network("vgg19", 32, str(tmp_path / "other.weights.h5"))


def test_failed_vgg_download_names_the_alternatives(monkeypatch):
    def fail(**options):
        assert options["weights"] == "imagenet"
        raise Exception("URL fetch failure on https://a.b/vgg19.h5: None -- [Errno -2] unknown")

    monkeypatch.setattr(keras.applications, "VGG19", fail)
    with pytest.raises(UserError, match="cannot be downloaded .*a.b/vgg19.h5") as error:
        perceptual_network("vgg19", 32)
    assert "vgg_weights" in str(error.value) and "perceptual=random" in str(error.value)
