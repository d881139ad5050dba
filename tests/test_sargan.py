"""Options of SARGAN that its paper does not have."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfface.config import Data
from tfface.methods.sargan.config import SarganConfig
from tfface.methods.sargan.losses import classification, harder
from tfface.methods.sargan.method import Sargan
from tfface.testing import tiny_method

CONFIG = SarganConfig(
    classes=tuple("abc"), width=4, attention_width=4, disc_width=4, disc_layers=4,
    data=Data(size=32, batch_size=4),
)  # fmt: skip


@pytest.fixture(scope="module")
def nets():
    keras.utils.set_random_seed(0)
    return Sargan(CONFIG).build()


def make_batch():
    random = np.random.RandomState(0)
    return {
        "image": tf.constant(random.uniform(-1, 1, (4, 32, 32, 3)).astype("float32")),
        "expression": tf.constant([0, 1, 2, 0]),
        "target": tf.constant([2, 0, 0, 1]),
        "alpha": tf.constant(random.uniform(size=(4, 1, 1, 1)).astype("float32")),
    }


def terms_of(nets, phase, batch, **options):
    terms = Sargan(dataclasses.replace(CONFIG, **options)).loss(phase, nets, batch)[1]
    return {name: float(value) for name, value in terms.items()}


def test_classify_first():
    """At first the discriminator learns the expressions of larger batches, then the game begins."""
    method, source = tiny_method("sargan")
    config = dataclasses.replace(method.config, classify_first=3, classify_batch=6)
    method = type(method)(config)
    due = [[p.name for p in method.phases() if p.due(number)] for number in range(6)]
    assert due == [["classifier"]] * 3 + [["discriminator", "generator"], ["discriminator"]] + [
        ["discriminator", "generator"]
    ]

    def sizes(start, seed=0):
        data = method.batches(source, "train", 4, seed=seed, start=start)
        return [batch["image"].shape[0] for batch in data.take(5)]

    assert sizes(0) == [6, 6, 6, 4, 4] and sizes(2) == [6, 4, 4, 4, 4] and sizes(7) == [4] * 5
    assert sizes(0, seed=None) == [4] * 5
    whole = list(method.batches(source, "train", 4, seed=0).take(5))
    for number in (1, 3, 4):
        again = next(iter(method.batches(source, "train", 4, seed=0, start=number)))
        for name, value in again.items():
            np.testing.assert_array_equal(value, whole[number][name])


def test_the_classifier_phase_is_the_discriminators_classification(nets):
    batch = make_batch()
    found = terms_of(nets, "classifier", batch)
    assert found == {"cls": pytest.approx(terms_of(nets, "discriminator", batch)["cls"], rel=1e-4)}


def test_residual_init():
    """The less, the closer an untrained generator is to a copy of its input."""
    batch, far = make_batch(), []
    for factor in (1.0, 0.1):
        keras.utils.set_random_seed(0)
        method = Sargan(dataclasses.replace(CONFIG, residual_init=factor))
        generator = method.build()["generator"]
        made = generator([batch["image"], method.one_hot(batch["target"])])
        far.append(float(tf.reduce_mean(tf.abs(made - batch["image"]))))
    assert far[1] == pytest.approx(0.1 * far[0], rel=0.3)


@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_label_noise_is_on_classified_pictures_only(nets, phase):
    batch = make_batch()
    clean = terms_of(nets, phase, batch)
    silent = terms_of(nets, phase, {**batch, "noise": tf.zeros_like(batch["image"])})
    assert silent == pytest.approx(clean, rel=1e-4)
    noise = tf.random.stateless_normal(batch["image"].shape, (0, 0), stddev=100.0)
    noisy = terms_of(nets, phase, {**batch, "noise": noise})
    assert noisy["cls"] != pytest.approx(clean["cls"], rel=1e-2)
    for name in set(clean) - {"cls"}:
        assert noisy[name] == pytest.approx(clean[name], rel=1e-4), name


def test_the_change_of_the_picture(nets):
    """Off it is not there; on it counts by its weight."""
    batch = make_batch()
    plain, terms = Sargan(CONFIG).loss("generator", nets, batch)
    assert "change" not in terms
    config = dataclasses.replace(CONFIG, lambda_change=3.0)
    more, terms = Sargan(config).loss("generator", nets, batch)
    assert float(terms["change"]) > 0
    assert float(more - plain) == pytest.approx(3.0 * float(terms["change"]), rel=1e-3)


def test_harder_pictures_are_a_step_up_the_loss(nets):
    batch, lengths = make_batch(), tf.constant([0.0, 0.5, 1.0, 2.0])[:, None, None, None]

    def classify(pictures):
        return nets["discriminator"](pictures)[1]

    labels = batch["expression"]
    made = harder(classify, batch["image"], labels, lengths)
    moved = tf.norm(tf.reshape(made - batch["image"], (4, -1)), axis=1)
    np.testing.assert_allclose(moved, lengths[:, 0, 0, 0], rtol=1e-3, atol=1e-6)
    for i in range(1, 4):
        pair = [
            classification(labels[i : i + 1], classify(x[i : i + 1]))
            for x in (made, batch["image"])
        ]
        assert pair[0] > pair[1]


def test_label_attack_is_on_real_pictures_only(nets):
    batch = make_batch()
    attack = {**batch, "attack": tf.fill((4, 1, 1, 1), 3.0)}
    for phase in ("classifier", "discriminator"):
        clean, attacked = terms_of(nets, phase, batch), terms_of(nets, phase, attack)
        assert attacked["cls"] > clean["cls"] + 1e-3
        for name in set(clean) - {"cls"}:
            assert attacked[name] == pytest.approx(clean[name], rel=1e-4), name
    assert terms_of(nets, "generator", attack) == terms_of(nets, "generator", batch)


def test_the_attack_grows_while_the_classifier_learns():
    method, source = tiny_method("sargan")
    method = type(method)(dataclasses.replace(method.config, classify_first=8, label_attack=3.0))
    lengths = [
        b["attack"].numpy().max() for b in method.batches(source, "train", 4, seed=0).take(7)
    ]
    assert lengths == [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.0]
