"""Mask-guided synthesis beyond the contract: networks, losses, styles and invalid input."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from random_tensors import normal

from tfface.config import replace
from tfface.data.image_ops import example_image
from tfface.data.images import load_image, save_image, to_image
from tfface.data.label_map_ops import example_labels, one_hot
from tfface.data.label_maps import save_label_map
from tfface.edit import main as edit
from tfface.engine.load import write_run
from tfface.errors import UserError
from tfface.methods.mask_guided import MaskGuidedConfig, losses
from tfface.methods.mask_guided.method import MaskGuided
from tfface.methods.mask_guided.networks import (
    AdaIN,
    Generator,
    PredictedConv2D,
    ResidualEncoder,
    StyleEncoder,
)
from tfface.testing import tiny_method

SIZE = 32


@pytest.fixture(scope="module")
def opened():
    return tiny_method("mask_guided")


@pytest.fixture(scope="module")
def nets(opened):
    keras.utils.set_random_seed(1)
    return opened[0].build()


@pytest.fixture(scope="module")
def batch(opened):
    method, source = opened
    return next(iter(method.batches(source, "train", 4, seed=0)))


def with_options(method, **options):
    return MaskGuided(replace(method.config, options))


def test_parameter_counts_match_stargan_v2():
    """At 256 px, with a label map as the source and a mapping network for one domain."""
    assert Generator(256, 19).count_params() == 33_902_211
    assert StyleEncoder(16, 64).count_params() == 1_617_472
    assert ResidualEncoder(256, 3, 64).count_params() == 20_884_096
    assert ResidualEncoder(256, 22, 1).count_params() == 20_862_721


def test_adain_gives_every_image_its_own_mean_and_deviation():
    keras.utils.set_random_seed(2)
    layer, x, style = AdaIN(), 3.0 * normal(2, 8, 8, 4) + 5.0, normal(2, 6, seed=1)
    y = layer(x, style).numpy()
    gamma, beta = np.split(layer.affine(style).numpy(), 2, axis=-1)
    np.testing.assert_allclose(y.mean((1, 2)), beta, atol=1e-4)
    np.testing.assert_allclose(y.std((1, 2)), np.abs(1 + gamma), rtol=1e-3)


def test_predicted_convolutions_use_the_kernels_of_each_position():
    """Compared with a loop over positions."""
    keras.utils.set_random_seed(3)
    layer, x, labels = PredictedConv2D(5, 6), normal(2, 4, 4, 3), normal(2, 4, 4, 2, seed=1)
    y = layer(x, labels).numpy()
    hidden = layer.shared(labels)
    kernels = layer.kernels(hidden).numpy().reshape(2, 4, 4, 3, 3, 3)  # [.., down, across, channel]
    padded = np.pad(x.numpy(), ((0, 0), (1, 1), (1, 1), (0, 0)))
    mixed = np.zeros((2, 4, 4, 3), np.float32)
    for i in range(4):
        for j in range(4):
            patch = padded[:, i : i + 3, j : j + 3]
            mixed[:, i, j] = (patch * kernels[:, i, j]).sum((1, 2))
    expected = layer.mix(tf.constant(mixed)) * layer.gate(hidden)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("injection", ["encoder", "spade", "predicted"])
def test_generator_depends_on_label_map_and_style(injection):
    keras.utils.set_random_seed(4)
    net = Generator(SIZE, 19, 8, 4, 8, injection, 4)
    labels = example_labels(SIZE)
    other = tf.where(labels == 1, 17, labels)  # Hair in place of skin.
    codes = normal(2, 8)
    image = net([one_hot(labels), codes[:1]])
    assert image.shape == (1, SIZE, SIZE, 3)
    for changed in (net([one_hot(other), codes[:1]]), net([one_hot(labels), codes[1:]])):
        assert float(tf.reduce_max(tf.abs(changed - image))) > 1e-3
    restored = keras.models.model_from_json(net.to_json())
    assert restored.get_config() == net.get_config()


def test_r1_is_half_the_squared_gradient_summed_over_pixels():
    slope = normal(6, 6, 3)
    penalty, logits = losses.r1_penalty(
        lambda x: tf.reduce_sum(x * slope, axis=(1, 2, 3)), normal(5, 6, 6, 3, seed=1)
    )
    assert float(penalty) == pytest.approx(0.5 * float(tf.reduce_sum(slope**2)), rel=1e-5)
    assert logits.shape == (5,)


def test_adversarial_loss_is_cross_entropy():
    logits = normal(7)
    for real in (True, False):
        expected = tf.nn.sigmoid_cross_entropy_with_logits(tf.fill([7], float(real)), logits)
        loss = losses.adversarial(logits, real)
        assert float(loss) == pytest.approx(float(tf.reduce_mean(expected)), rel=1e-5)


def test_diversity_rewards_faces_that_differ():
    latents = normal(3, 4), normal(3, 4, seed=1)
    a, near, far = normal(3, 8, 8, 3), normal(3, 8, 8, 3) + 0.1, normal(3, 8, 8, 3) + 2.0
    for loss in (losses.dsgan, lambda x, y: losses.msgan(x, y, latents)):
        assert (loss(a, far).numpy() < loss(a, near).numpy()).all()
    np.testing.assert_allclose(losses.dsgan(a, far), -2.0, rtol=1e-5)
    distance = np.abs(latents[0] - latents[1]).mean(-1)
    np.testing.assert_allclose(losses.msgan(a, far, latents), distance / 2, rtol=1e-4)


def test_diversity_weight_decays_linearly(opened):
    method, source = opened
    method = with_options(method, diversity_steps=4)
    batches = method.batches(source, "train", 2, seed=0)
    weights = [b["diversity"].numpy().tolist() for b in batches.take(6)]
    assert weights == [[w, w] for w in (1.0, 0.75, 0.5, 0.25, 0.0, 0.0)]
    constant = with_options(method, diversity_steps=0).batches(source, "train", 2, seed=0, start=9)
    assert next(iter(constant))["diversity"].numpy().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("disc_condition", ["label_map", "none"])
def test_disc_condition_decides_whether_the_discriminator_uses_the_label_map(
    opened, batch, disc_condition
):
    method = with_options(opened[0], disc_condition=disc_condition)
    keras.utils.set_random_seed(5)
    nets = method.build()
    assert nets["discriminator"].input_shape[-1] == (22 if disc_condition == "label_map" else 3)
    swapped = {**batch, "label_map": tf.reverse(batch["label_map"], [1])}
    real = [method.loss("discriminator", nets, b)[1]["real"] for b in (batch, swapped)]
    assert (float(real[0]) != float(real[1])) == (disc_condition == "label_map")


@pytest.mark.parametrize("options", [{"diversity": "msgan"}, {"reference_step": False}])
def test_generator_loss_has_the_same_terms_with_other_options(opened, nets, batch, options):
    total, terms = with_options(opened[0], **options).loss("generator", nets, batch)
    assert np.isfinite(float(total))
    assert set(terms) == {"adversarial", "style", "rec", "diversity"}


def test_references_give_the_style_decoder_no_gradient(opened, nets, batch):
    """With all other terms off, there is none: codes of references are constants."""
    method = with_options(
        opened[0],
        **{"weights.style": 0.0, "weights.reconstruction": 0.0, "weights.diversity": 0.0},
    )
    with tf.GradientTape() as tape:
        total, _ = method.loss("generator", nets, batch)
    gradients = tape.gradient(total, nets["style_decoder"].trainable_variables)
    assert all(g is None or not np.any(g) for g in gradients)


def test_a_seed_gives_the_same_style_in_every_batch(opened, nets):
    method = opened[0]
    alone = method.style_of_seeds(nets, tf.constant([7], tf.int64))
    batch = method.style_of_seeds(nets, tf.constant([3, 7, 8], tf.int64))
    np.testing.assert_allclose(batch[1:2], alone, rtol=1e-5, atol=1e-6)
    assert np.abs(batch[0] - batch[2]).max() > 1e-3


def test_with_truncation_styles_of_seeds_vary_less(opened, nets):
    seeds = tf.range(64, dtype=tf.int64)
    whole, half = (
        with_options(opened[0], truncation=factor).style_of_seeds(nets, seeds).numpy()
        for factor in (1.0, 0.5)
    )
    assert 0.2 < half.std(0).mean() / whole.std(0).mean() < 0.8
    assert np.corrcoef(half.ravel(), whole.ravel())[0, 1] > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": 0.0}, "truncation is 0: expected above 0"),
        ({"latent_dim": 0}, "latent_dim is 0: expected at least 1"),
        ({"mapping.rate": 0.0}, "mapping.rate is 0: expected above 0"),
        ({"weights.r1": -1.0}, "weights.r1 is -1: expected 0 or more"),
    ],
)
def test_invalid_options_raise_user_error(options, message):
    with pytest.raises(UserError, match=message):
        replace(MaskGuidedConfig(), options)


def test_invalid_image_and_batch_sizes_raise_user_error():
    data = MaskGuidedConfig().data
    with pytest.raises(UserError, match="data.size is 96: expected a power of 2"):
        MaskGuidedConfig(data=dataclasses.replace(data, size=96))
    with pytest.raises(UserError, match="data.batch_size is 1: expected at least 2"):
        MaskGuidedConfig(data=dataclasses.replace(data, batch_size=1))


@pytest.fixture(scope="module")
def root(tmp_path_factory, opened):
    """A run, a folder of two label maps, and two faces."""
    root = tmp_path_factory.mktemp("guided")
    method = opened[0]
    keras.utils.set_random_seed(6)
    nets = method.build()
    for net in nets.values():
        for variable in net.trainable_variables:
            if len(variable.shape) > 1:
                variable.assign(variable * 1.5)
    write_run(root / "run", "mask_guided", method, nets)
    (root / "maps").mkdir()
    for i in range(2):
        save_label_map(example_labels(40 + 8 * i).numpy()[0], root / "maps" / f"map{i}.png")
        image = to_image(example_image(SIZE)[0].numpy() * (0.5 + 0.5 * i))
        save_image(image, root / f"face{i}.png")
    return root


def edited(root, tmp_path, *words, source="maps/map0.png"):
    out = tmp_path / "out"
    words = [str(root / w) if w.startswith("face") else w for w in words]
    assert edit([str(root / "run"), "--mask", str(root / source), "--out", str(out), *words]) == 0
    return {p.name: np.asarray(load_image(p), np.int16) for p in sorted(out.iterdir())}


def test_edit_with_seeds_writes_one_image_per_map_and_seed(root, tmp_path):
    images = edited(root, tmp_path, "--seed", "2..4", "7", "3", source="maps")
    assert list(images) == [f"map{i}-seed-{s}.png" for i in (0, 1) for s in (2, 3, 4, 7)]
    assert np.abs(images["map0-seed-2.png"] - images["map0-seed-7.png"]).max() > 2
    assert all(image.shape == (SIZE, SIZE, 3) for image in images.values())


def test_edit_without_options_shows_four_styles(root, tmp_path):
    assert list(edited(root, tmp_path)) == [f"map0-seed-{s}.png" for s in (1, 2, 3, 4)]


def test_edit_interpolates_between_styles_of_seeds_and_references(root, tmp_path):
    single = edited(root, tmp_path / "a", "--reference", "face0.png")
    assert list(single) == ["map0-reference.png"]
    words = ["--seed", "1", "--reference", "face0.png", "face1.png", "--interpolate", "3"]
    images = edited(root, tmp_path / "b", *words)
    pairs = ["reference-1-reference-2", "seed-1-reference-1"]
    assert list(images) == [f"map0-{pair}-0{i}.png" for pair in pairs for i in (1, 2, 3)]
    ends = images["map0-seed-1-reference-1-03.png"], images["map0-reference-1-reference-2-01.png"]
    np.testing.assert_array_equal(*ends)
    np.testing.assert_array_equal(ends[0], single["map0-reference.png"])
    assert np.abs(images["map0-seed-1-reference-1-02.png"] - ends[0]).max() > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "eight"], "'eight': expected a number"),
        (["--seed", "8..1"], "'8..1': expected a number"),
        (["--seed", "1", "--interpolate", "3"], "--interpolate needs at least two styles"),
        (["--seed", "1..2", "--interpolate", "1"], "--interpolate is 1: expected at least 2"),
        (["--exemplar", "face0.png"], "--exemplar is not an option of mask_guided"),
    ],
)
def test_invalid_edit_options_print_an_error(root, capsys, words, message):
    words = [str(root / w) if w.startswith("face") else w for w in words]
    argv = [str(root / "run"), "--mask", str(root / "maps" / "map0.png"), *words]
    assert edit(argv) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
