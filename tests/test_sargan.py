"""Options of SARGAN that its paper does not have."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfface.config import Data
from tfface.methods.sargan.config import SarganConfig
from tfface.methods.sargan.method import Sargan

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


def test_edit_one_in(nets):
    """Every second picture is edited and judged; all of them are classified."""
    batch = make_batch()
    half = {name: value[::2] for name, value in batch.items()}
    found = terms_of(nets, "discriminator", batch, edit_one_in=2)
    edited = terms_of(nets, "discriminator", half)
    whole = terms_of(nets, "discriminator", batch)
    for name in ("real", "fake", "gp"):
        assert found[name] == pytest.approx(edited[name], rel=1e-4), name
    assert found["cls"] == pytest.approx(whole["cls"], rel=1e-4)
    assert found["cls"] != pytest.approx(edited["cls"], rel=1e-4)
    found = terms_of(nets, "generator", batch, edit_one_in=2)
    assert found == pytest.approx(terms_of(nets, "generator", half), rel=1e-4)


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
