"""ELEGANT: options that are not in the paper, and edits of strength 0."""

import numpy as np
import pytest
import tensorflow as tf
from encoded_images import SIZES, encoded, noise
from tiny_runs import face, write_tiny_run

from tfface.config import from_dict, from_preset, presets, replace
from tfface.data.alignment import face_mask
from tfface.data.images import load_image
from tfface.exporting.saved_model import export_run
from tfface.methods.elegant.config import ElegantConfig
from tfface.methods.elegant.losses import logits_of, multitask
from tfface.methods.elegant.method import Elegant, recolour
from tfface.server.saved_model import SavedModel

SIZE = 32
OURS = {"subtract_unchanged": True, "discriminator.kind": "multitask"}


def method_with(**options):
    config = {"attributes": ("a", "b"), "width": 4, "discriminator.width": 4, "data.size": SIZE}
    return Elegant(from_dict(ElegantConfig, {**config, **options}))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    a, b = (tf.constant(rng.uniform(-1, 1, (2, SIZE, SIZE, 3)), tf.float32) for _ in range(2))
    labels = {"y_A": tf.constant([[1.0, 1], [1, 0]]), "y_B": tf.constant([[0.0, 1], [0, 0]])}
    return {"A": a, "B": b, **labels, "attribute": tf.zeros([2], tf.int32)}


def test_subtract_unchanged_removes_the_residual_of_the_unchanged_code(batch):
    subtracting, paper = method_with(subtract_unchanged=True), method_with()
    nets = paper.build()
    published, ours = paper.generate(nets, batch), subtracting.generate(nets, batch)
    for name in ("A1", "B1"):
        np.testing.assert_array_equal(ours[name], published[name])
    for side, reconstruction, exchanged in (("A", "A1", "C"), ("B", "B1", "D")):
        expected = batch[side] + published[exchanged] - published[reconstruction]
        inside = np.abs(expected) < 1  # Where nothing is clipped.
        for name in (exchanged, reconstruction):
            inside &= np.abs(published[name]) < 1
        np.testing.assert_allclose(ours[exchanged][inside], expected[inside], atol=1e-5)
    one = tf.ones([2])
    swapped = subtracting.transfer(nets, batch["A"], batch["B"], batch["attribute"], one)
    np.testing.assert_allclose(swapped, ours["C"], atol=1e-5)
    kept = subtracting.transfer(nets, batch["A"], batch["B"], batch["attribute"], 0 * one)
    np.testing.assert_array_equal(kept, batch["A"])


def test_change_threshold_applies_in_inference_only(batch):
    plain, ours = (method_with(subtract_unchanged=True, change_threshold=t) for t in (0.0, 0.02))
    nets = plain.build()
    one = tf.ones([2])

    def exchanged(method):
        edited = method.transfer(nets, batch["A"], batch["B"], batch["attribute"], one)
        return edited.numpy() - batch["A"].numpy()

    before, after = exchanged(plain), exchanged(ours)
    inside = np.abs(batch["A"] + before) < 1  # Not clipped.
    faint = inside & (np.abs(before) < 0.019)
    assert faint.any() and (np.abs(before) > 0.03).any()
    np.testing.assert_array_equal(after[faint], 0)
    inside &= np.abs(before) > 0.021
    np.testing.assert_allclose(
        after[inside], before[inside] - 0.02 * np.sign(before[inside]), atol=1e-5
    )
    for name, image in ours.generate(nets, batch, training=True).items():
        np.testing.assert_array_equal(image, plain.generate(nets, batch, training=True)[name])


def test_restoration_of_exchanged_faces_without_a_gradient_into_them(batch):
    method = method_with(**{"weights.restoration": 1.0})
    nets = method.build()
    encoder = nets["encoder"].trainable_variables
    assert "A2" not in method.generate(nets, batch)
    for real, other, exchanged, restored in (("A", "B", "C", "A2"), ("B", "A", "D", "B2")):
        with tf.GradientTape() as tape:
            results = method.generate(nets, batch, training=True)
            result = tf.reduce_mean(results[restored])
        gradients = tape.gradient(result, encoder)
        with tf.GradientTape() as tape:
            fixed, one = tf.constant(results[exchanged].numpy()), tf.ones([2])
            reference = recolour(batch[real], batch[other])
            expected = method.transfer(nets, fixed, reference, batch["attribute"], one)
            total = tf.reduce_mean(expected)
        np.testing.assert_allclose(results[restored], expected, atol=1e-5)
        for a, b in zip(gradients, tape.gradient(total, encoder), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_recoloured_images_have_the_colours_of_the_others_whatever_their_own(batch):
    image, like = 0.5 * batch["A"], 0.3 * batch["B"] + 0.1
    result = recolour(image, like).numpy()
    assert np.abs(result).max() < 1  # Not clipped.
    for statistic in (np.mean, np.std):
        found, expected = (statistic(x, axis=(1, 2)) for x in (result, like.numpy()))
        np.testing.assert_allclose(found, expected, atol=1e-4)
    tinted = image * [0.5, 0.8, 1.1] + [0.1, 0.0, -0.2]
    np.testing.assert_allclose(recolour(tinted, like), result, atol=1e-4)
    assert np.isfinite(recolour(tf.ones_like(image), like)).all()


def test_edits_can_be_confined_to_the_face(batch):
    plain, confined = (method_with(**OURS, face_only=only) for only in (False, True))
    nets = plain.build()
    mask = face_mask(plain.config.data, scale=1.35)[:, :, 0]
    outside, inside = mask == 0, mask == 1
    assert outside.any() and inside.any()
    before, after = (m.generate(nets, batch, training=True) for m in (plain, confined))
    assert (before["C"].numpy() != batch["A"].numpy())[:, outside].any()
    for name, side in (("C", "A"), ("D", "B"), ("A1", "A")):
        result, image = after[name].numpy(), batch[side].numpy()
        np.testing.assert_array_equal(result[:, outside], image[:, outside])
        np.testing.assert_allclose(result[:, inside], before[name].numpy()[:, inside], atol=1e-6)
    swapped = confined.transfer(nets, batch["A"], batch["B"], batch["attribute"], tf.ones([2]))
    np.testing.assert_allclose(swapped, after["C"], atol=1e-5)


def test_blend_exchanges_each_latent_part_from_its_reference(batch):
    method = method_with()
    nets = method.build()
    a, b, c = batch["A"], batch["B"], batch["A"][::-1]
    references, attributes = tf.stack([b, c], 1), tf.constant([[0, 1], [0, 1]])
    # The code consists of two parts: the first comes from b, the second from c.
    (own, skips), (code_b, _), (code_c, _) = (method.encode(nets, x) for x in (a, b, c))
    half = own.shape[-1] // 2
    code = tf.concat([code_b[..., :half], code_c[..., half:]], -1)
    expected = np.clip(a + nets["decoder"]([code, own, *skips]), -1, 1)
    both = method.blend(nets, a, references, attributes, tf.ones([2, 2]))
    np.testing.assert_allclose(both, expected, atol=1e-5)
    # A second change of strength 0 has no effect.
    strengths = tf.constant([[0.7, 0], [1, 0]])
    single = method.transfer(nets, a, b, attributes[:, 0], strengths[:, 0])
    blended = method.blend(nets, a, references, attributes, strengths)
    np.testing.assert_allclose(blended, single, atol=1e-5)


def test_signature_several_with_one_change_equals_serving_default(batch):
    method = method_with(**OURS)
    signatures = method.signatures(method.build())
    changes = {
        "reference": batch["B"],
        "attribute": tf.constant(["b", "a"]),
        "strength": tf.constant([1.0, 0.5]),
    }
    single = signatures["serving_default"].function(source=batch["A"], **changes)["image"]
    changes = {name: value[:, None] for name, value in changes.items()}
    several = signatures["several"].function(source=batch["A"], **changes)["image"]
    np.testing.assert_array_equal(several, single)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("elegant") / "run"
    return write_tiny_run(path, "elegant", attributes=["Eyeglasses", "Smiling"], **OURS)


@pytest.mark.parametrize("names", [["Smiling"], ["Smiling", "Eyeglasses"]])
def test_strength_0_keeps_every_pixel(trained, tmp_path, names):
    """For images of any size, in Python and with the exported model."""
    images = [noise(*size) for size in SIZES]
    options = {"attribute": names, "reference": [face(9, 40, 40)], "strength": [0.0, 1.0]}
    for image, [row] in zip(images, trained.editor(options).edit(images), strict=True):
        (_, kept), (_, changed) = row
        np.testing.assert_array_equal(np.asarray(kept), np.asarray(image))
        assert np.any(np.asarray(changed) != np.asarray(image))
    served = SavedModel(export_run(trained, tmp_path))
    name, shape = "bytes", [len(images)]
    if len(names) > 1:
        name, shape = "several_bytes", [len(images), len(names)]
    request = {
        "source_bytes": np.array([encoded(image) for image in images], object),
        "reference_bytes": np.full(shape, encoded(face(9, 40, 40)), object),
        "attribute": np.full(shape, np.array(names, object)),
        "strength": np.zeros(shape, np.float32),
    }
    edited = served.run(served.signatures[name], request, ["image_bytes"])["image_bytes"]
    for image, result in zip(images, edited, strict=True):
        np.testing.assert_array_equal(np.asarray(load_image(result)), np.asarray(image))


def test_options_not_in_the_paper_are_off_in_preset_paper_and_on_in_the_others():
    for name in presets("elegant"):
        config = from_preset("elegant", ElegantConfig, name, {"data.path": "x"})
        assert (replace(config, OURS) == config) == (name != "paper"), name


def test_logits_of_selects_attribute_and_value():
    logits = tf.reshape(tf.range(12.0), [2, 3, 2])
    labels = tf.constant([[0.0, 1, 1], [1, 0, 0]])
    selected = logits_of(logits, tf.constant([1, 2]), labels)
    assert selected.numpy().tolist() == [3.0, 10.0]


def test_multitask_losses_match_their_equations():
    """For a discriminator whose logits are sums over the image."""
    real, fake = (tf.fill([2, 2, 2, 3], value) for value in (0.1, 0.2))
    labels, attribute = tf.constant([[1.0, 0], [0.0, 1]]), tf.constant([0, 0])

    def discriminator(images, training):
        total = tf.reduce_sum(images, axis=(1, 2, 3))
        # [B,N,2]: attribute 0 lacks and has, attribute 1 lacks and has.
        return tf.stack([tf.stack([-total, 2 * total], 1), tf.zeros([2, 2])], 1)

    terms = multitask(discriminator, real, labels, fake, attribute)
    total = np.array([1.2, 2.4])  # Of the real and the fake images.
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    own, other = np.array([2, -1]) * total[0], np.array([-1, 2])
    np.testing.assert_allclose(terms["real"], softplus(-own).mean(), rtol=1e-5)
    np.testing.assert_allclose(terms["wrong"], softplus(other * total[0]).mean(), rtol=1e-5)
    np.testing.assert_allclose(terms["fake"], softplus(other * total[1]).mean(), rtol=1e-5)
    np.testing.assert_allclose(terms["r1"], 0.5 * 12 * (4 + 1) / 2, rtol=1e-5)


def test_multitask_discriminator_first_learns_attributes_alone(batch):
    method = method_with(**OURS, **{"discriminator.attributes_first": 3, "weights.change": 1.0})
    nets = method.build()
    assert set(nets) == {"encoder", "decoder", "disc1"}
    due = [[p.name for p in method.phases() if p.due(number)] for number in (0, 2, 3)]
    assert due == [["attributes"], ["attributes"], ["discriminator", "generator"]]
    for phase in method.phases():
        weights = [v for name in phase.updates for v in nets[name].trainable_variables]
        with tf.GradientTape() as tape:
            loss, terms = method.loss(phase.name, nets, batch)
        assert all(g is not None for g in tape.gradient(loss, weights))
        assert loss.shape == () and all(np.isfinite(value) for value in terms.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"discriminator.attributes_first": 3},
            "attributes_first is 3: expected 0 with .* 'conditional'",
        ),
        ({"weights.change": -1.0}, "weights.change is -1: expected 0 or more"),
        ({"change_threshold": 0.1}, "change_threshold is 0.1: expected 0 without subtract_unch"),
        ({"discriminator.width": 0}, "discriminator.width is 0: expected at least 1"),
    ],
)
def test_invalid_options_raise_errors(options, message):
    with pytest.raises(Exception, match=message):
        from_dict(ElegantConfig, options)
