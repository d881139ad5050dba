"""SARGAN: options that are not in the paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfface.config import Data, DiscriminatorOptions, from_preset, learning_rate, replace
from tfface.data.alignment import face_mask
from tfface.errors import UserError
from tfface.losses.expressions import classification, fast_gradient, multitask_discriminator
from tfface.methods.sargan.config import SarganConfig
from tfface.methods.sargan.method import Sargan
from tfface.testing import tiny_method

CONFIG = SarganConfig(
    classes=tuple("abc"), width=4, attention_width=4, discriminator=DiscriminatorOptions(4, 4),
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
    options = {"classifier.steps": 1, **options}
    terms = Sargan(replace(CONFIG, options)).loss(phase, nets, batch)[1]
    return {name: float(value) for name, value in terms.items()}


def test_classifier_steps_come_first_and_have_their_own_batch_size():
    """The adversarial phases begin after `classifier.steps` steps."""
    method, source = tiny_method("sargan")
    config = replace(method.config, {"classifier.steps": 3, "classifier.batch_size": 6})
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
        resumed = next(iter(method.batches(source, "train", 4, seed=0, start=number)))
        for name, value in resumed.items():
            np.testing.assert_array_equal(value, whole[number][name])


def test_classifier_phase_has_the_discriminators_classification_loss(nets):
    batch = make_batch()
    terms = terms_of(nets, "classifier", batch)
    assert terms == {"cls": pytest.approx(terms_of(nets, "discriminator", batch)["cls"], rel=1e-4)}


def test_residual_init_scales_the_change_of_an_untrained_generator():
    batch, distances = make_batch(), []
    for factor in (1.0, 0.1):
        keras.utils.set_random_seed(0)
        method = Sargan(replace(CONFIG, {"residual_init": factor}))
        generator = method.build()["generator"]
        edited = generator([batch["image"], method.one_hot(batch["target"])])
        distances.append(float(tf.reduce_mean(tf.abs(edited - batch["image"]))))
    assert distances[1] == pytest.approx(0.1 * distances[0], rel=0.3)


@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_noise_changes_the_classification_term_only(nets, phase):
    batch = make_batch()
    clean = terms_of(nets, phase, batch)
    silent = terms_of(nets, phase, {**batch, "noise": tf.zeros_like(batch["image"])})
    assert silent == pytest.approx(clean, rel=1e-4)
    noise = tf.random.stateless_normal(batch["image"].shape, (0, 0), stddev=100.0)
    noisy = terms_of(nets, phase, {**batch, "noise": noise})
    assert noisy["cls"] != pytest.approx(clean["cls"], rel=1e-2)
    for name in set(clean) - {"cls"}:
        assert noisy[name] == pytest.approx(clean[name], rel=1e-4), name


def test_change_term_is_weighted_and_absent_with_weight_0(nets):
    batch = make_batch()
    plain, terms = Sargan(CONFIG).loss("generator", nets, batch)
    assert "change" not in terms
    config = replace(CONFIG, {"weights.change": 3.0})
    more, terms = Sargan(config).loss("generator", nets, batch)
    assert float(terms["change"]) > 0
    assert float(more - plain) == pytest.approx(3.0 * float(terms["change"]), rel=1e-3)


def test_fast_gradient_takes_a_step_of_given_length_up_the_loss(nets):
    batch, lengths = make_batch(), tf.constant([0.0, 0.5, 1.0, 2.0])[:, None, None, None]

    def classify(images):
        return nets["discriminator"](images)[1]

    labels = batch["expression"]
    perturbed = fast_gradient(classify, batch["image"], labels, lengths)
    step = tf.norm(tf.reshape(perturbed - batch["image"], (4, -1)), axis=1)
    np.testing.assert_allclose(step, lengths[:, 0, 0, 0], rtol=1e-3, atol=1e-6)
    for i in range(1, 4):
        pair = [
            classification(labels[i : i + 1], classify(x[i : i + 1]))
            for x in (perturbed, batch["image"])
        ]
        assert pair[0] > pair[1]


def test_attack_changes_the_classification_of_real_images_only(nets):
    batch = make_batch()
    attack = {**batch, "attack": tf.fill((4, 1, 1, 1), 3.0)}
    for phase in ("classifier", "discriminator"):
        clean, attacked = terms_of(nets, phase, batch), terms_of(nets, phase, attack)
        assert attacked["cls"] > clean["cls"] + 1e-3
        for name in set(clean) - {"cls"}:
            assert attacked[name] == pytest.approx(clean[name], rel=1e-4), name
    assert terms_of(nets, "generator", attack) == terms_of(nets, "generator", batch)


def test_attack_length_grows_during_the_classifier_steps():
    method, source = tiny_method("sargan")
    method = type(method)(replace(method.config, {"classifier.steps": 8, "classifier.attack": 3.0}))
    lengths = [
        b["attack"].numpy().max() for b in method.batches(source, "train", 4, seed=0).take(7)
    ]
    assert lengths == [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.0]


def softplus(x):
    return np.log1p(np.exp(x))


def test_multitask_discriminator_matches_its_equations():
    """For a linear discriminator, whose gradient is its weights, against NumPy."""
    random = np.random.RandomState(0)
    real, fake = random.normal(size=(2, 4, 5, 5, 3))
    weights = random.normal(size=(5, 5, 3, 6))
    y, target = np.array([0, 1, 2, 5]), np.array([2, 0, 5, 1])

    def discriminator(images, training):
        assert training
        return None, tf.einsum("bhwc,hwck->bk", images, weights)

    terms = multitask_discriminator(
        discriminator, *(tf.constant(x) for x in (real, fake, y, target))
    )
    d_real, d_fake = (np.einsum("bhwc,hwck->bk", x, weights) for x in (real, fake))
    wrong = [softplus(d_real[i, k]) for i in range(4) for k in range(6) if k != y[i]]
    expected = {
        "real": softplus(-d_real[range(4), y]).mean(),
        "fake": softplus(d_fake[range(4), target]).mean(),
        "wrong": np.mean(wrong),
        "r1": np.mean([np.square(weights[..., k]).sum() for k in y]) / 2,
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-6, err_msg=name)


def test_multitask_totals_are_the_weighted_sums_of_the_terms(nets):
    """And the generator's adversarial term uses the logit of the target."""
    options = {
        "adversarial": "multitask",
        "weights.r1": 3.0,
        "weights.reconstruction": 2.0,
        "weights.change": 4.0,
    }
    method, batch = Sargan(replace(CONFIG, options)), make_batch()
    total, terms = method.loss("discriminator", nets, batch)
    assert float(total) == pytest.approx(
        float(terms["real"] + terms["fake"] + terms["wrong"] + 3.0 * terms["r1"]), rel=1e-5
    )
    total, terms = method.loss("generator", nets, batch)
    assert set(terms) == {"fake", "rec", "change"}
    assert float(total) == pytest.approx(
        float(terms["fake"] + 2.0 * terms["rec"] + 4.0 * terms["change"]), rel=1e-5
    )
    fake = nets["generator"]([batch["image"], method.one_hot(batch["target"])])
    logits = nets["discriminator"](fake)[1].numpy()
    expected = softplus(-logits[range(4), batch["target"].numpy()]).mean()
    assert float(terms["fake"]) == pytest.approx(expected, rel=1e-4)


def test_without_its_weight_the_cycle_is_not_computed(nets):
    options = {"adversarial": "multitask", "weights.reconstruction": 0.0, "weights.change": 4.0}
    calls = []

    class Counted(Sargan):
        def generate(self, *arguments):
            calls.append(arguments)
            return super().generate(*arguments)

    total, terms = Counted(replace(CONFIG, options)).loss("generator", nets, make_batch())
    assert set(terms) == {"fake", "change"} and len(calls) == 1
    assert float(total) == pytest.approx(float(terms["fake"] + 4.0 * terms["change"]), rel=1e-5)


def test_multitask_gradients_reach_every_updated_weight(nets):
    """Except those of the unused realness map."""
    method = Sargan(replace(CONFIG, {"adversarial": "multitask"}))
    for phase in method.phases():
        with tf.GradientTape() as tape:
            total, _ = method.loss(phase.name, nets, make_batch())
        weights = [v for name in phase.updates for v in nets[name].trainable_variables]
        gradients = tape.gradient(total, weights)
        missing = [
            v.path
            for v, g in zip(weights, gradients, strict=True)
            if g is None or not np.abs(g).max() > 0
        ]
        assert missing == (["realness/kernel"] if phase.name == "discriminator" else [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights.r1": -1.0}, "weights.r1 is -1: expected 0 or more"),
        ({"weights.classification_fake": -1.0}, "weights.classification_fake is -1"),
    ],
)
def test_negative_loss_weights_raise_user_error(options, message):
    with pytest.raises(UserError, match=message):
        replace(CONFIG, options)


def test_all_presets_except_paper_use_the_multitask_discriminator():
    kinds = {
        name: from_preset("sargan", SarganConfig, name, {"data.path": "x"}).adversarial
        for name in ("paper", "demo", "tiny")
    }
    assert kinds == {"paper": "wgan-gp", "demo": "multitask", "tiny": "multitask"}


def test_learning_rate_of_preset_paper_follows_the_authors_code():
    """It subtracts a 100,000th of the rate after every 5,000th step of the second half."""
    for config in (
        SarganConfig(),
        from_preset("sargan", SarganConfig, "paper", {"data.path": "x"}),
    ):
        rates = [
            learning_rate(config.adam, step, config.train.steps)
            for step in (0, 104_999, 105_000, 199_999)
        ]
        assert rates == pytest.approx([1e-4, 1e-4, 1e-4 - 1e-9, 1e-4 - 19e-9], rel=1e-9)


def test_edits_can_be_confined_to_the_face(nets):
    mask = face_mask(CONFIG.data)[:, :, 0]
    method = Sargan(replace(CONFIG, {"face_only": True}))
    image, target = (make_batch()[name] for name in ("image", "target"))
    plain, confined = (m.generate(nets, image, target).numpy() for m in (Sargan(CONFIG), method))
    outside, inside = mask == 0, mask == 1
    assert outside.any() and inside.any() and (plain != image.numpy())[:, outside].all()
    np.testing.assert_array_equal(confined[:, outside], image.numpy()[:, outside])
    np.testing.assert_allclose(confined[:, inside], plain[:, inside], atol=1e-6)
    edited = method.edit(nets, image, target).numpy()
    np.testing.assert_array_equal(edited[:, outside], image.numpy()[:, outside])


def test_confined_edits_need_a_known_crop():
    config = replace(CONFIG, {"face_only": True, "data.name": "folder", "data.path": "faces"})
    with pytest.raises(UserError, match=r"'folder': set data.crop to one of celeba"):
        Sargan(config)
    Sargan(replace(config, {"data.crop": "celeba"}))
