"""Domain alignment beyond the contract: conditions, losses, VGG19, and what the method promises."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_cdt

import tfface
from tfface.data.label_maps import CLASSES_19, LINE, load_label_map, save_label_map
from tfface.data.lines import OUTLINED
from tfface.data.pictures import load_picture, save_picture, to_picture
from tfface.edit import main as edit
from tfface.engine.load import write_run
from tfface.engine.step import TrainStep
from tfface.engine.trainer import adam
from tfface.errors import UserError
from tfface.methods.domain_alignment import losses
from tfface.methods.domain_alignment.conditions import CHANNELS, PARTS, encode, line_channels
from tfface.methods.domain_alignment.method import DomainAlignment, double, half, shares
from tfface.methods.domain_alignment.perceptual import perceptual_network
from tfface.methods.label_maps import colour_labels
from tfface.prepare import main as prepare
from tfface.testing import tiny_method
from tfface.train import main as train

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
        for picture, distance in zip(
            lines == CLASSES_19.index(part), made[..., 1 + i], strict=True
        ):
            if not picture.any():
                np.testing.assert_array_equal(distance, 1.0)
                continue
            expected = distance_transform_cdt(~picture, "taxicab") * 286 / (3 * 255 * size)
            np.testing.assert_allclose(distance, expected, rtol=1e-5)
            assert distance.max() < 1.0  # Only what is absent saturates.


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


def test_absolute_is_a_mean_of_each_example():
    a = tf.constant([[[1.0, -1.0]], [[0.0, 4.0]]])
    np.testing.assert_allclose(losses.absolute(a, tf.zeros_like(a)), [1.0, 2.0])


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
    pictures = tf.random.stateless_uniform((2, size, size, 3), (0, 0), -1, 1)
    keras.utils.set_random_seed(1)
    first = perceptual_network("random", size)
    keras.utils.set_random_seed(2)
    second = perceptual_network("random", size)
    for a, b, i in zip(first(pictures), second(pictures), range(5), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.shape[:3] == (2, size >> i, size >> i) and np.std(a) > 0


def test_the_perceptual_network_is_frozen_but_lets_gradients_through():
    network = perceptual_network("random", 32)
    assert not network.trainable_variables and network.variables
    pictures = tf.random.stateless_uniform((1, 32, 32, 3), (0, 0), -1, 1)
    for i in range(5):
        with tf.GradientTape() as tape:
            tape.watch(pictures)
            loss = tf.reduce_sum(tf.square(network(pictures)[i]))
        assert np.abs(tape.gradient(loss, pictures)).max() > 0


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


def test_a_missing_file_of_weights_is_told(tmp_path):
    for path in (tmp_path / "nowhere.weights.h5", tmp_path):
        with pytest.raises(UserError, match="no such file") as told:
            perceptual_network("vgg19", 32, str(path))
        assert f"vgg_weights is {str(path)!r}" in str(told.value)


@pytest.mark.parametrize("kind", ["garbage.weights.h5", "text.txt", "empty.h5", "cut.weights.h5"])
def test_a_file_that_is_something_else_is_told(vgg, tmp_path, kind):
    path = tmp_path / kind
    with open(vgg[1], "rb") as whole:
        path.write_bytes(
            {"g": b"garbage" * 99, "t": b"hello", "e": b""}.get(kind[0], whole.read(9999))
        )
    with pytest.raises(UserError, match="not VGG19's weights without its top") as told:
        perceptual_network("vgg19", 32, str(path))
    assert repr(str(path)) in str(told.value)


def test_weights_of_another_network_are_told(tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(UserError, match="other.weights.h5': not VGG19's weights"):
        perceptual_network("vgg19", 32, str(tmp_path / "other.weights.h5"))


def test_a_failed_download_says_what_to_do(monkeypatch):
    def fail(**options):
        assert options["weights"] == "imagenet"
        raise Exception("URL fetch failure on https://a.b/vgg19.h5: None -- [Errno -2] unknown")

    monkeypatch.setattr(keras.applications, "VGG19", fail)
    with pytest.raises(UserError, match="cannot be downloaded .*a.b/vgg19.h5") as told:
        perceptual_network("vgg19", 32)
    assert "--vgg_weights" in str(told.value) and "--perceptual random" in str(told.value)


# The method.


@pytest.fixture(scope="module")
def opened():
    return tiny_method("domain_alignment")


@pytest.fixture(scope="module")
def nets(opened):
    keras.utils.set_random_seed(1)
    return opened[0].build()


@pytest.fixture(scope="module")
def batch(opened):
    method, source = opened
    made = next(iter(method.batches(source, "train", 4, seed=0)))
    return {**made, "paired": tf.constant([1.0, 0.0, 0.0, 1.0])}


def with_options(method, **options):
    """The method with some options changed, and the same perceptual network."""
    changed = DomainAlignment(dataclasses.replace(method.config, **options))
    changed.perceptual = method.perceptual
    return changed


def take_steps(method, nets, batches):
    """Training steps as the engine takes them, but not compiled; the terms of the last one."""
    tf.config.run_functions_eagerly(True)
    try:
        optimizers = {}
        for phase in method.phases():
            optimizers[phase.name] = adam(method.config.adam)
            weights = [v for name in phase.updates for v in nets[name].trainable_variables]
            optimizers[phase.name].build(weights)
        step = TrainStep(method, tf.distribute.get_strategy(), nets, {}, optimizers)
        for number, batch in enumerate(batches):
            names, values = step(number, batch)
    finally:
        tf.config.run_functions_eagerly(False)
    assert np.isfinite(values).all()
    return dict(zip(names, values.numpy(), strict=True))


def test_pictures_do_not_mix(opened, nets, batch):
    """A result is the same in any order, and alone."""
    method = opened[0]
    given, exemplar = method.encode(batch["condition"]), batch["exemplar"]
    whole = method.generate(nets, given, exemplar)
    order = [2, 0, 3, 1]
    turned = method.generate(nets, tf.gather(given, order), tf.gather(exemplar, order))
    alone = method.generate(nets, given[1:2], exemplar[1:2])
    for name, value in whole.items():
        np.testing.assert_allclose(turned[name], tf.gather(value, order), atol=1e-4, err_msg=name)
        np.testing.assert_allclose(alone[name], value[1:2], atol=1e-4, err_msg=name)


def test_the_exemplars_label_map_is_not_needed(opened, nets, batch):
    method = opened[0]
    given, exemplar = method.encode(batch["condition"]), batch["exemplar"]
    without = method.generate(nets, given, exemplar)
    with_it = method.generate(nets, given, exemplar, batch["exemplar_label_map"])
    assert set(with_it) - set(without) == {"warped_labels"}
    for name, value in without.items():
        np.testing.assert_allclose(with_it[name], value, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(tf.reduce_sum(with_it["warped_labels"], -1), 1.0, atol=1e-5)
    for signature in method.signatures(nets).values():
        names = {name.removesuffix("_bytes") for name in signature.inputs}
        assert names == {"condition", "exemplar"}


def test_the_result_depends_on_condition_and_exemplar(opened, nets, batch):
    method = opened[0]
    given, exemplar = method.encode(batch["condition"]), batch["exemplar"]
    image = method.generate(nets, given, exemplar)["image"]
    for changed in ((given[::-1], exemplar), (given, exemplar[::-1])):
        assert np.abs(method.generate(nets, *changed)["image"] - image).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"alignment": "dense"}, {"solver": "sinkhorn", "iterations": 10}],
    ids=lambda options: next(iter(options.values())),
)
def test_it_trains_with_other_alignments(opened, batch, options):
    method = with_options(opened[0], **options)
    keras.utils.set_random_seed(2)
    nets = method.build()
    weights = nets["correspondence"].trainable_variables
    before = [v.numpy() for v in weights]
    terms = take_steps(method, nets, [batch])
    for a, v in zip(before, weights, strict=True):
        assert not np.array_equal(a, v.numpy()), v.path
    assert {"generator/warp", "generator/mask", "generator/cycle", "generator/contextual"} < set(
        terms
    )
    made = method.generate(nets, method.encode(batch["condition"]), batch["exemplar"])
    assert ("index" in made) == (method.config.alignment == "block")
    assert len(method.preview(nets, batch)) == 6


def test_all_blocks_retrieved_are_dense_attention(opened, nets, batch):
    """All weights are 1 then, so the blocks' bias is the same everywhere."""
    given = opened[0].encode(batch["condition"])
    arguments = (nets, given, batch["exemplar"], batch["exemplar_label_map"])
    block, dense = (
        with_options(opened[0], **options).generate(*arguments)
        for options in ({"top_k": (SIZE // 2 // 4) ** 2}, {"alignment": "dense"})
    )
    np.testing.assert_array_equal(block["weights"], tf.ones_like(block["weights"]))
    for name in ("warped", "warped_labels", "weight", "image"):
        np.testing.assert_allclose(block[name], dense[name], atol=1e-4, err_msg=name)
    few = opened[0].generate(*arguments)
    assert np.abs(few["warped"] - dense["warped"]).max() > 1e-2


PAIR_TERMS = ("pixel", "warp", "pair_features")


def terms_of(method, nets, batch):
    return {k: float(v) for k, v in method.loss("generator", nets, batch)[1].items()}


def test_examples_that_are_no_pairs_get_no_losses_of_pairs(opened, nets, batch):
    method = opened[0]
    terms = terms_of(method, nets, batch)
    assert all(terms[name] > 1e-3 for name in PAIR_TERMS)
    # Another target of what is no pair (1 and 2) changes the losses to the target, not of pairs.
    unpaired = batch["paired"][:, None, None, None] == 0.0
    other = {**batch, "image": tf.where(unpaired, -batch["image"], batch["image"])}
    found = terms_of(method, nets, other)
    for name in PAIR_TERMS:
        assert found[name] == pytest.approx(terms[name], rel=1e-4), name
    assert found["perceptual"] != pytest.approx(terms["perceptual"], rel=1e-3)
    # Of a pair it changes them.
    other = {**batch, "image": tf.where(unpaired, batch["image"], -batch["image"])}
    found = terms_of(method, nets, other)
    assert all(found[name] != pytest.approx(terms[name], rel=1e-3) for name in PAIR_TERMS)
    found = terms_of(method, nets, {**batch, "pair_weight": tf.zeros(4)})
    assert all(found[name] == 0.0 for name in PAIR_TERMS)
    for name in set(terms) - set(PAIR_TERMS):
        assert found[name] == pytest.approx(terms[name], rel=1e-4), name


def test_losses_of_a_batch_are_the_means_of_those_of_its_halves(opened, nets, batch):
    """What several devices see of a batch adds up to the same loss."""
    whole = terms_of(opened[0], nets, batch)
    halves = [{k: v[i : i + 2] for k, v in batch.items()} for i in (0, 2)]
    found = [terms_of(opened[0], nets, half) for half in halves]
    for name, value in whole.items():
        mean = np.mean([terms[name] for terms in found])
        assert mean == pytest.approx(value, rel=1e-3, abs=1e-5), name


def test_the_total_is_the_weighted_sum_and_weights_of_0_leave_terms_out(opened, nets, batch):
    method = opened[0]
    total, terms = method.loss("generator", nets, batch)
    expected = sum(getattr(method.config, f"lambda_{k}") * float(v) for k, v in terms.items())
    assert float(total) == pytest.approx(expected, rel=1e-5)
    options = {f"lambda_{name}": 0.0 for name in ("domain", "mask", "cycle")}
    left = terms_of(with_options(method, **options), nets, batch)
    assert set(terms) - set(left) == {"domain", "mask", "cycle"}
    none = DomainAlignment(method.config)  # Without a perceptual network, as a loaded run is.
    left = terms_of(none, nets, batch)
    assert set(terms) - set(left) == {"pair_features", "perceptual", "contextual"}


def test_halves_and_shares():
    labels = tf.constant([[[0, 0, 1, 1], [0, 13, 1, 1]]])
    made = shares(labels)
    assert made.shape == (1, 1, 2, 19)
    assert (made[0, 0, 0, 0], made[0, 0, 0, 13], made[0, 0, 1, 1]) == (0.75, 0.25, 1.0)
    x = normal(1, 4, 6, 2)
    np.testing.assert_allclose(half(double(x)), x, rtol=1e-6)


def test_preview_frames_only_the_rims_of_the_blocks_that_were_found(opened, nets, batch):
    method = opened[0]
    columns = method.preview(nets, batch)
    made = method.generate(nets, method.encode(batch["condition"]), batch["exemplar"])
    side = 2 * method.config.block_side
    across = SIZE // side
    place = np.arange(SIZE) % side
    rim = np.isin(place, (0, side - 1))
    rim = rim[:, None] | rim[None]
    for name, plain in (
        ("condition", colour_labels(batch["condition"])),
        ("exemplar", batch["exemplar"]),
    ):
        changed = (columns[name].numpy() != plain.numpy()).any(-1)
        assert changed.any((1, 2)).all() and not changed[:, ~rim].any(), name
        assert (columns[name].numpy() >= plain.numpy()).all()  # Towards white.
    blocks = (columns["exemplar"].numpy() != batch["exemplar"].numpy()).any(-1)
    blocks = blocks.reshape(4, across, side, across, side).any((2, 4)).reshape(4, -1)
    query = (columns["condition"].numpy() != colour_labels(batch["condition"]).numpy()).any(-1)
    query = query.reshape(4, across, side, across, side).any((2, 4)).reshape(4, -1)
    assert (query.sum(1) == 1).all()
    for i in range(4):
        found = made["index"][i, int(np.argmax(query[i]))].numpy()
        assert set(np.flatnonzero(blocks[i])) == set(found)
    np.testing.assert_array_equal(columns["picture of the condition"], batch["image"])
    np.testing.assert_allclose(columns["result"], made["image"], atol=1e-5)


@pytest.mark.slow
def test_lines_are_drawn_trained_on_and_edited_from(opened, tmp_path, capsys):
    method, source = opened
    method = with_options(method, condition="lines")
    assert method.takes == "lines"
    batches = list(method.batches(source, "train", 4, seed=0).take(2))
    lines = batches[0]["condition"]
    assert lines.shape == (4, SIZE, SIZE) and lines.dtype == tf.int32
    drawn = np.isin(lines, [0, LINE, *(CLASSES_19.index(name) for name in OUTLINED)])
    assert drawn.all() and 0.02 < np.mean(lines > 0) < 0.5
    keras.utils.set_random_seed(3)
    nets = method.build()
    take_steps(method, nets, batches)
    write_run(tmp_path / "run", "domain_alignment", method, nets)

    save_label_map(batches[0]["label_map"][0].numpy(), tmp_path / "map.png")
    save_picture(to_picture(batches[0]["exemplar"][1].numpy()), tmp_path / "exemplar.png")
    words = [str(tmp_path / "map.png"), "--size", "32", "--out", str(tmp_path / "lines.png")]
    assert prepare(["lines", *words]) == 0
    words = [str(tmp_path / "run"), "--exemplar", str(tmp_path / "exemplar.png")]
    words += ["--out", str(tmp_path / "out"), "--condition"]
    assert edit([*words, str(tmp_path / "lines.png")]) == 0
    made = load_picture(tmp_path / "out" / "lines-face.png")
    lines = load_label_map(tmp_path / "lines.png", lines=True)[None].astype(np.int32)
    exemplar = np.asarray(load_picture(tmp_path / "exemplar.png"), np.float32)[None] / 127.5 - 1.0
    expected = method.generate(nets, method.encode(tf.constant(lines)), tf.constant(exemplar))
    expected = np.asarray(to_picture(expected["image"][0].numpy()), int)
    assert np.abs(np.asarray(made, int) - expected).max() <= 1
    # A label map is no drawing of lines.
    capsys.readouterr()
    save_label_map(np.maximum(batches[0]["label_map"][0], 1), tmp_path / "full.png")
    assert edit([*words, str(tmp_path / "full.png")]) == 2
    assert "expected a line drawing" in capsys.readouterr().err


# Mistakes.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--block_side", "5"], "block_side is 5: expected a divisor of 16, the side of the"),
        (["--block_side", "0"], "block_side is 0: expected a divisor of 16"),
        (["--top_k", "17"], "top_k is 17: expected 1 to 16, the number of blocks"),
        (["--top_k", "0"], "top_k is 0: expected 1 to 16"),
        (["--data.size", "64", "--top_k", "65"], "top_k is 65: expected 1 to 64"),
        (["--fusion_side", "6"], "fusion_side is 6: expected a divisor of 16"),
        (["--paired", "1.5"], "paired is 1.5: expected a share from 0 to 1"),
        (["--paired", "-0.1"], "paired is -0.1: expected a share from 0 to 1"),
        (
            ["--perceptual", "none"],
            "lambda_pair_features is 10.0, but perceptual is 'none': expected 0",
        ),
        (
            ["--perceptual", "none", "--lambda_pair_features", "0", "--lambda_perceptual", "0"],
            "lambda_contextual is 1.0, but perceptual is 'none': expected 0",
        ),
        (
            ["--vgg_weights", "vgg.h5"],
            "vgg_weights is 'vgg.h5', but perceptual is 'random': expected 'vgg19'",
        ),
        (
            ["--perceptual", "vgg19", "--vgg_weights", "/nowhere/vgg.h5"],
            "vgg_weights is '/nowhere/vgg.h5': no such file",
        ),
        (["--temperature", "0"], "temperature is 0.0: expected above 0"),
        (["--iterations", "0"], "iterations is 0: expected at least 1"),
        (["--encoder_blocks", "-1"], "encoder_blocks is -1: expected 0 or more"),
        (["--condition", "edges"], "lines"),
        (["--alignment", "blocks"], "dense"),
        (["--widht", "4"], "perhaps you mean 'width'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_in_options_are_told(capfd, tmp_path, options, expected):
    argv = ["domain_alignment", "--preset", "tiny", "--run", str(tmp_path / "run"), *options]
    try:
        status = train(argv)
    except SystemExit as stopped:
        status = stopped.code
    told = capfd.readouterr().err.strip()
    assert status == 2 and "Traceback" not in told
    assert expected in " ".join(told.splitlines()[-1].split()), told
    assert not (tmp_path / "run").exists()


def test_data_without_label_maps_are_told(tmp_path, capfd):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            save_picture(to_picture(np.zeros((40, 40, 3))), tmp_path / name / f"{i}.png")
    argv = ["domain_alignment", "--preset", "tiny", "--data.name", "folder"]
    assert train([*argv, "--data.path", str(tmp_path), "--run", str(tmp_path / "run")]) == 2
    assert "label_map" in capfd.readouterr().err.strip().splitlines()[-1]


def test_a_run_is_loaded_without_the_perceptual_network(opened, nets, tmp_path):
    """Its weights need not be there to use a run."""
    options = {"perceptual": "vgg19", "vgg_weights": "/nowhere/vgg.h5"}
    write_run(tmp_path / "run", "domain_alignment", with_options(opened[0], **options), nets)
    assert tfface.load(str(tmp_path / "run")).method.perceptual is None
