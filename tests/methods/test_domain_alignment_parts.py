"""Parts of domain alignment: conditions, losses, and the network of the perceptual losses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
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


def normal(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


# Conditions.


@st.composite
def drawings(draw):
    """A few lines on an empty square of any size, of codes 0 to LINE."""
    size = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    codes = random.integers(0, LINE + 1, (2, size, size))
    return np.where(
        random.random(codes.shape) < draw(st.sampled_from([0.002, 0.05, 0.5])), codes, 0
    )


@quick
@given(drawings())
def test_line_channels_are_city_block_distances_between_two_maps_of_lines(lines):
    made = line_channels(tf.constant(lines, tf.int32)).numpy()
    size = lines.shape[1]
    assert made.shape == (2, size, size, CHANNELS["lines"]) and CHANNELS["lines"] == 15
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made[..., 0], lines > 0)
    np.testing.assert_array_equal(made[..., 14], (lines > 0) & (lines != LINE))
    for i, part in enumerate(PARTS):
        for image, found in zip(lines == CLASSES_19.index(part), made[..., 1 + i], strict=True):
            if not image.any():
                np.testing.assert_array_equal(found, 1.0)
                continue
            expected = distance_transform_cdt(~image, "taxicab") * 286 / (3 * 255 * size)
            np.testing.assert_allclose(found, expected, rtol=1e-5)
            assert found.max() < 1.0  # Only what is absent saturates.


def test_parts_of_the_line_channels_are_those_that_are_drawn():
    assert PARTS == OUTLINED


def test_a_label_map_is_one_channel_a_class():
    labels = tf.constant(np.random.default_rng(0).integers(0, 19, (2, 8, 8)), tf.int32)
    made = encode(labels, "labels")
    assert made.shape == (2, 8, 8, CHANNELS["labels"]) and made.dtype == tf.float32
    np.testing.assert_array_equal(tf.argmax(made, -1), labels)
    np.testing.assert_array_equal(tf.reduce_sum(made, -1), np.ones((2, 8, 8)))


# Losses.


def test_hinge_losses_by_hand():
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
def test_weights_of_pairs_make_a_mean_that_of_pairs_whatever_the_others_are(examples, other):
    values, paired = (np.float32(x) for x in zip(*examples, strict=True))
    wanted = values[paired > 0].mean() if paired.any() else 0.0
    weights = losses.pair_weights(tf.constant(paired)).numpy()
    assert (values * weights).mean() == pytest.approx(wanted, rel=1e-5)
    changed = np.where(paired > 0, values, np.float32(other))
    assert (changed * weights).mean() == pytest.approx(wanted, rel=1e-5)


def test_regions_count_alike_in_a_balanced_distance():
    """One pixel of 16 is of class 1 and differs by 4, the others by 1; or all by 2."""
    label_map = np.zeros((2, 4, 4), np.int32)
    label_map[0, 0, 0] = 1
    a = np.ones((2, 4, 4, 3), np.float32)
    a[0, 0, 0], a[1] = 4.0, 2.0
    pixels = [(15 + 4) / 16, 2.0]
    for balance in (0.0, 0.25, 1.0):
        found = region_distance(tf.constant(a), tf.zeros_like(a), label_map, 3, balance)
        expected = [
            balance * r + (1 - balance) * p for r, p in zip([2.5, 2.0], pixels, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_distance_is_a_mean_of_each_example():
    a = tf.constant([[[1.0, -1.0]], [[0.0, 4.0]]])
    np.testing.assert_allclose(distance(a, tf.zeros_like(a)), [1.0, 2.0])


def test_domain_alignment_is_of_directions():
    a = normal(2, 4, 4, 6)
    assert float(losses.domain_alignment(a, 3.0 * a)) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.domain_alignment(a, normal(2, 4, 4, 6, seed=1))) > 0.1
    # Opposite directions: twice the mean absolute value of a unit vector's numbers.
    unit = tf.math.l2_normalize(a, -1)
    expected = 2.0 * float(tf.reduce_mean(tf.abs(unit)))
    assert float(losses.domain_alignment(a, -a)) == pytest.approx(expected, rel=1e-4)


def one_hot(*rows):
    """Label maps of one row of places each."""
    return tf.one_hot(tf.constant(rows)[:, None], 19)


def test_a_perfect_warp_of_the_label_map_costs_nothing():
    condition, exemplar = one_hot([0, 1, 2, 13]), one_hot([13, 2, 1, 0])
    assert float(losses.warped_mask(condition, condition, exemplar)) == pytest.approx(0, abs=1e-6)
    # All of one place's weight on another class: -log 1e-10 over four places.
    wrong = one_hot([0, 1, 2, 2])
    found = float(losses.warped_mask(wrong, condition, exemplar))
    assert found == pytest.approx(-np.log(1e-10) / 4, rel=1e-4)


def test_a_class_that_the_exemplar_lacks_costs_nothing():
    condition, exemplar, warped = one_hot([1, 14]), one_hot([1, 13]), one_hot([1, 13])
    assert float(losses.warped_mask(warped, condition, exemplar)) == pytest.approx(0, abs=1e-6)
    # Of two exemplars each counts for itself: the second one has a hat.
    pair = [tf.concat(x, 0) for x in ((warped,) * 2, (condition,) * 2, (exemplar, condition))]
    assert float(losses.warped_mask(*pair)) == pytest.approx(-np.log(1e-10) / 4, rel=1e-4)
    # Nothing in common, nothing to count.
    assert float(losses.warped_mask(warped, one_hot([14, 15]), exemplar)) == 0.0


def test_the_background_counts_if_the_exemplar_has_one():
    condition, warped = one_hot([0, 1]), one_hot([1, 1])
    without, with_it = one_hot([1, 1]), one_hot([0, 1])
    assert float(losses.warped_mask(warped, condition, without)) == pytest.approx(0, abs=1e-6)
    found = float(losses.warped_mask(warped, condition, with_it))
    assert found == pytest.approx(-np.log(1e-10) / 2, rel=1e-4)


def centred(x):
    return x - tf.reduce_mean(x, -1, keepdims=True)


def test_contextual_loss_is_almost_nothing_for_the_same_features():
    x = normal(2, 6, 6, 16)
    assert 0.0 <= float(losses.contextual(x, x)) < 0.01


@quick
@given(st.integers(0, 99), st.integers(2, 6), st.integers(2, 6))
def test_contextual_loss_does_not_depend_on_places(seed, height, width):
    """On both together; on one of them too, once no place has another mean than the others."""
    made, exemplar = normal(1, height, width, 8, seed=seed), normal(1, height, width, 8, seed=100)
    order = np.random.default_rng(seed).permutation(height * width)

    def moved(x):
        return tf.reshape(tf.gather(tf.reshape(x, (1, -1, 8)), order, axis=1), x.shape)

    expected = float(losses.contextual(made, exemplar))
    assert float(losses.contextual(moved(made), moved(exemplar))) == pytest.approx(
        expected, rel=1e-3, abs=1e-5
    )
    made, exemplar = centred(made), centred(exemplar)
    expected = float(losses.contextual(made, exemplar))
    for pair in ((moved(made), exemplar), (made, moved(exemplar))):
        assert float(losses.contextual(*pair)) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_contextual_loss_grows_with_unlikeness():
    exemplar, other = normal(2, 6, 6, 16), normal(2, 6, 6, 16, seed=1)
    found = [float(losses.contextual(exemplar + a * other, exemplar)) for a in (0, 0.3, 1, 3)]
    assert found == sorted(found) and found[-1] > found[0] + 0.3


def test_contextual_loss_asks_each_made_feature_to_be_like_one_of_the_exemplars():
    exemplar = centred(normal(1, 4, 4, 8))
    one = tf.broadcast_to(exemplar[:, :1, :1], exemplar.shape)
    assert float(losses.contextual(one, exemplar)) < 0.01
    # All of the exemplar's are alike: each gets a sixteenth.
    assert float(losses.contextual(exemplar, one)) == pytest.approx(np.log(16), rel=1e-3)


@pytest.mark.parametrize("kind", ["unlike", "the same", "zero", "constant"])
def test_gradients_of_the_contextual_loss_are_finite(kind):
    exemplar = normal(2, 4, 4, 8)
    made = {
        "unlike": normal(2, 4, 4, 8, seed=1),
        "the same": exemplar,
        "zero": tf.zeros_like(exemplar),
        "constant": tf.ones_like(exemplar),
    }[kind]
    with tf.GradientTape() as tape:
        tape.watch(made)
        loss = losses.contextual(made, exemplar)
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, made)).all()


# The perceptual network.


@pytest.mark.parametrize("size", [32, 64])
def test_random_features_are_the_same_in_two_calls(size):
    images = tf.random.stateless_uniform((2, size, size, 3), (0, 0), -1, 1)
    keras.utils.set_random_seed(1)
    first = perceptual_network("random", size)
    keras.utils.set_random_seed(2)
    second = perceptual_network("random", size)
    for a, b, i in zip(first(images), second(images), range(5), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.shape[:3] == (2, size >> i, size >> i) and np.std(a) > 0


def test_the_perceptual_network_is_frozen_but_lets_gradients_through():
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
    """VGG19 with random weights whose features neither vanish nor explode, and their file."""
    keras.utils.set_random_seed(0)
    body = keras.applications.VGG19(include_top=False, weights=None, input_shape=(32, 32, 3))
    for layer in body.layers:
        if layer.weights:
            layer.kernel.assign(layer.kernel * 1.4)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.weights.h5"
    body.save_weights(path)
    return body, str(path)


def test_vgg_features_are_those_of_keras_on_its_own_preprocessing(vgg):
    body, path = vgg
    network = perceptual_network("vgg19", 32, path)
    assert not network.trainable_variables
    levels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    found = network(tf.constant(levels / 127.5 - 1.0))
    names = [f"block{i}_conv2" for i in range(1, 6)]
    reference = keras.Model(body.inputs, [body.get_layer(name).output for name in names])
    expected = reference(keras.applications.vgg19.preprocess_input(levels.copy()))
    assert len(found) == 5
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape[1:3] == (32 >> i, 32 >> i)
        assert np.std(b) > 0.1 and np.min(b) == 0.0  # Behind the activation.
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
