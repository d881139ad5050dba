"""Segmentation with hierarchical GANs beyond the contract: gradients, stages, inference."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfface.config import Adam, ClassifierOptions, Data, DiscriminatorOptions, Train, replace
from tfface.data.images import to_image
from tfface.data.label_maps import CLASSES_19, colour
from tfface.data.synthetic import EXPRESSIONS
from tfface.errors import UserError
from tfface.methods.seg_hierarchical.config import (
    Fusion,
    SegHierarchicalConfig,
    Segmenter,
    Weights,
)
from tfface.methods.seg_hierarchical.method import SegHierarchical
from tfface.methods.trained import Trained
from tfface.testing import FewFaces

SIZE = 32
DATA = Data(size=SIZE, batch_size=4)
CONFIG = SegHierarchicalConfig(
    classes=EXPRESSIONS, segmenter=Segmenter("unet", 4, "ce", steps=2), regions=("mouth", "eyes"),
    grow=5, blur=3, width=4, blocks=1, local_width=4, local_blocks=1,
    fusion=Fusion(width=4, blocks=1), discriminator=DiscriminatorOptions(4, 4),
    local_discriminator=DiscriminatorOptions(4, 3),
    gan_steps=3, generator_every=1, weights=Weights(to_segmenter=1.0), data=DATA,
    adam=Adam(learning_rate=1e-3), train=Train(steps=9, jit="off"),
)  # fmt: skip


def method_with(**options):
    return SegHierarchical(replace(CONFIG, options))


@pytest.fixture(scope="module")
def source():
    return FewFaces(DATA, classes=EXPRESSIONS, fields=("label_map",))


@pytest.fixture(scope="module")
def batch(source):
    return next(iter(method_with().batches(source, "train", 4, seed=0)))


@pytest.fixture(scope="module")
def nets():
    keras.utils.set_random_seed(1)
    nets = method_with().build()
    for net in nets.values():
        for variable in net.trainable_variables:
            if len(variable.shape) > 1:
                variable.assign(variable * 1.5)
    return nets


def gradient(method, phase, nets, batch, of):
    """Gradient of a phase's loss for a network's weights, as one vector; None if there is none."""
    with tf.GradientTape() as tape:
        total, _ = method.loss(phase, nets, batch)
    gradients = tape.gradient(total, of.trainable_variables)
    if all(g is None for g in gradients):
        return None
    return np.concatenate([np.ravel(g) for g in gradients if g is not None])


# Gradients.


class _StopGradient:
    """The segmentation network, without a gradient for the calls with these numbers."""

    def __init__(self, net, stopped):
        self.net, self.stopped, self.calls = net, stopped, 0

    def __call__(self, images):
        heads = tf.nest.flatten(self.net(images))
        self.calls += 1
        return [tf.stop_gradient(x) for x in heads] if self.calls - 1 in self.stopped else heads


def _stop_gradient_of_masks(net):
    return lambda inputs: net([*inputs[:-1], tf.stop_gradient(inputs[-1])])


def route(nets, batch, *opened, **options):
    """The gradient of the GANs' loss for the segmentation network through these routes only.

    Routes of the input's segmentation: "conditions" of the global generator, "cuts" (the inputs of
    local generators), "weights" of the fusion. "fake": the segmentation of the generated face.
    """
    method = method_with(**{"weights.segmentation": 0.0, **options})
    of_input = {"conditions", "cuts", "weights"} & set(opened)
    stopped = {call for call, is_open in enumerate((of_input, "fake" in opened)) if not is_open}
    routed = {**nets, "segmenter": _StopGradient(nets["segmenter"], stopped)}
    if "conditions" not in opened:
        routed["global_generator"] = _stop_gradient_of_masks(nets["global_generator"])
    if "cuts" not in opened:
        for region in method.config.regions:
            name = f"{region}_generator"
            routed[name] = _stop_gradient_of_masks(nets[name])
    if not {"cuts", "weights", "fake"} & set(opened):
        grown = method.grown
        method.grown = lambda probabilities: tf.stop_gradient(grown(probabilities))
    return gradient(method, "joint", routed, batch, nets["segmenter"])


@pytest.mark.parametrize("fusion", ["combiner", "blend"])
@pytest.mark.parametrize("alone", ["conditions", "weights", "fake"])
def test_gan_loss_reaches_the_segmenter_by_each_route(nets, batch, fusion, alone):
    nets = nets if fusion == "combiner" else {k: v for k, v in nets.items() if k != "fusion"}
    # Without the cycle, only the local discriminators use the segmentation of the generated face.
    result = route(nets, batch, alone, **{"fusion.kind": fusion, "weights.reconstruction": 0.0})
    assert np.isfinite(result).all() and np.abs(result).max() > 1e-6


def test_gan_loss_reaches_the_segmenter_through_local_generators_and_the_cycle(nets, batch):
    """Local inputs are tested together with the fusion's weights, as both use the same masks."""
    options = {"weights.reconstruction": 0.0}
    without = route(nets, batch, "weights", **options)
    assert np.abs(route(nets, batch, "weights", "cuts", **options) - without).max() > 1e-6
    no_cycle = route(nets, batch, "fake", **options)
    options = {"weights.reconstruction": 10.0}
    assert np.abs(route(nets, batch, "fake", **options) - no_cycle).max() > 1e-6


def test_without_any_route_the_segmenter_gets_no_gradient(nets, batch):
    result = route(nets, batch)
    assert result is None or not result.any()


def reached(method, phase, nets, batch):
    """Names of the networks that get a gradient from a phase's loss."""
    weights = {name: net.trainable_variables for name, net in nets.items()}
    with tf.GradientTape() as tape:
        total, _ = method.loss(phase, nets, batch)
    gradients = tape.gradient(total, weights)
    return {name for name, values in gradients.items() if any(g is not None for g in values)}


def test_networks_with_a_gradient_in_each_phase(nets, batch):
    method = method_with(**{"classifier.steps": 1})
    assert reached(method, "segmentation", nets, batch) == {"segmenter"}
    for phase in ("classifier", "discriminator"):
        assert reached(method, phase, nets, batch) == set(method.discriminators)
    # The generators' loss has gradients for the discriminators; its phase does not update them.
    generators = set(method.generators) | set(method.discriminators)
    assert reached(method, "generator", nets, batch) == generators
    assert reached(method, "joint", nets, batch) == generators | {"segmenter"}


def test_to_segmenter_0_leaves_only_the_segmentation_loss_for_the_segmenter(nets, batch):
    expected = gradient(method_with(), "segmentation", nets, batch, nets["segmenter"])
    method = method_with(**{"weights.to_segmenter": 0.0, "weights.segmentation": 2.0})
    result = gradient(method, "joint", nets, batch, nets["segmenter"])
    np.testing.assert_allclose(result, 2.0 * expected, rtol=1e-3, atol=1e-6)


def test_to_segmenter_scales_only_the_gradient_of_the_segmenter(nets, batch):
    """Generators get their full gradient, also through the segmentation of their outputs."""
    gradients = {}
    for factor in (1.0, 0.1):
        method = method_with(**{"weights.to_segmenter": factor, "weights.segmentation": 0.0})
        gradients[factor] = [
            gradient(method, "joint", nets, batch, nets[name])
            for name in ("segmenter", *method.generators)
        ]
    segmenter = [gradients[factor].pop(0) for factor in (1.0, 0.1)]
    scale = np.abs(segmenter[0]).max()
    np.testing.assert_allclose(segmenter[1], 0.1 * segmenter[0], rtol=1e-3, atol=1e-5 * scale)
    for whole, scaled in zip(gradients[1.0], gradients[0.1], strict=True):
        np.testing.assert_allclose(scaled, whole, rtol=1e-3, atol=1e-4 * np.abs(whole).max())


def test_generators_get_gradients_through_the_segmentation_of_their_outputs(nets, batch):
    method = method_with()
    for name in method.generators:
        stopped = {**nets, "segmenter": _StopGradient(nets["segmenter"], {1})}
        full, partial = (gradient(method, "joint", n, batch, nets[name]) for n in (nets, stopped))
        assert np.abs(full - partial).max() > 1e-6, name


def test_joint_loss_is_the_sum_of_generator_and_segmentation_losses(nets, batch):
    method = method_with(**{"weights.segmentation": 3.0})
    total, terms = method.loss("joint", nets, batch)
    generators, _ = method.loss("generator", nets, batch)
    seg, _ = method.loss("segmentation", nets, batch)
    assert float(total) == pytest.approx(float(generators) + 3 * float(seg), rel=1e-4)
    assert float(terms["seg"]) == pytest.approx(float(seg), rel=1e-4)


# Losses.


def test_change_term_is_weighted_and_absent_with_weight_0(nets, batch):
    plain, terms = method_with().loss("generator", nets, batch)
    assert "change" not in terms
    more, terms = method_with(**{"weights.change": 3.0}).loss("generator", nets, batch)
    assert float(terms["change"]) > 0
    assert float(more - plain) == pytest.approx(3.0 * float(terms["change"]), rel=1e-3)


def test_noise_changes_the_classification_terms_only(nets, batch):
    silent = {**batch, "noise": tf.zeros_like(batch["image"])}
    noisy = {**batch, "noise": tf.random.stateless_normal(batch["image"].shape, (0, 0))}
    for phase in ("discriminator", "generator", "classifier"):
        clean, same, other = (
            method_with(**{"classifier.steps": 1}).loss(phase, nets, b)[1]
            for b in (batch, silent, noisy)
        )
        for name, value in clean.items():
            assert float(same[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-5), name
            if "cls" in name:
                assert float(other[name]) != pytest.approx(float(value), rel=1e-4), name
            else:
                assert float(other[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-5), name


def test_multitask_losses_of_face_and_regions(nets, batch):
    """Totals are weighted sums; gradients reach every weight except those of realness maps."""
    method = method_with(adversarial="multitask", **{"weights.r1": 3.0, "weights.change": 2.0})
    weights = {"real": 1.0, "fake": 1.0, "wrong": 1.0, "r1": 3.0}
    total, terms = method.loss("discriminator", nets, batch)
    expected = sum(
        share * weight * terms[prefix + name]
        for prefix, share in (("", 1.0), ("mouth_", 0.25), ("eyes_", 0.25))
        for name, weight in weights.items()
    )
    assert float(total) == pytest.approx(float(expected), rel=1e-5)
    for phase in ("generator", "joint"):
        terms = method.loss(phase, nets, batch)[1]
        known = {"fake", "mouth_fake", "eyes_fake", "rec", "change"}
        assert set(terms) == known | ({"seg", "accuracy"} if phase == "joint" else set())
    for phase in method.phases():
        with tf.GradientTape() as tape:
            total, _ = method.loss(phase.name, nets, batch)
        updated = [v for name in phase.updates for v in nets[name].trainable_variables]
        gradients = zip(updated, tape.gradient(total, updated), strict=True)
        missing = {v.path for v, g in gradients if g is None or not np.abs(g).max() > 0}
        assert missing == ({"realness/kernel"} if phase.name == "discriminator" else set()), phase


# Networks.


@pytest.mark.parametrize("options", [{}, {"fusion.kind": "blend"}, {"attention": True}], ids=str)
def test_outputs_are_in_range_and_start_as_copies_with_small_residual_init(options, batch):
    keras.utils.set_random_seed(0)
    method = method_with(residual_init=1e-3, **options)
    nets = method.build()
    assert ("fusion" in nets) == (options.get("fusion.kind") != "blend")
    image = 1.2 * tf.clip_by_value(batch["image"], -0.8, 0.8)
    results = method.manipulate(
        nets, image, method.one_hot(batch["target"]), method.segment(nets, image)
    )
    for result in results.values():
        assert result.shape == image.shape and np.abs(result).max() <= 1.0 + 1e-5
    distance = np.abs(results["image"] - image).mean()
    assert (distance > 0.05) if options.get("attention") else (distance < 2e-3)


@pytest.mark.parametrize("window", [0, 16])
def test_blended_faces_equal_the_global_result_outside_the_masks(batch, window):
    method = method_with(**{"fusion.kind": "blend", "window": window})
    keras.utils.set_random_seed(0)
    nets = method.build()
    image, labels = batch["image"], batch["seg_label_map"]
    shares = tf.one_hot(labels, 19)
    results = method.manipulate(nets, image, method.one_hot(batch["target"]), shares)
    inside = tf.reduce_sum(method.grown(shares), -1).numpy()
    difference = np.abs(results["image"] - results["global"]).max(-1)
    assert (inside == 0).any() and not difference[inside == 0].any()
    assert difference[inside > 0.5].max() > 1e-3
    mouth = (method.grown(shares)[..., 0] == 1) & (method.grown(shares)[..., 1] == 0)
    assert mouth.numpy().any()
    np.testing.assert_allclose(results["image"][mouth], results["mouth"][mouth], atol=1e-5)


def test_local_networks_see_the_window_of_their_region(batch):
    method = method_with(window=16)
    nets = method.build()
    for region in method.config.regions:
        assert nets[f"{region}_generator"].input_shape[0] == (None, 16, 16, 3)
        assert nets[f"{region}_discriminator"].input_shape == (None, 16, 16, 3)
    grown = method.grown(tf.one_hot(batch["label_map"], 19))
    views = method.views(batch["image"], grown)
    for i, (region, first, mask) in enumerate(method.located(grown)):
        for j, (row, column) in enumerate(first.numpy()):
            place = (j, slice(row, row + 16), slice(column, column + 16))
            np.testing.assert_array_equal(mask[j, ..., 0], grown[(*place, i)])
            expected = (batch["image"][place] + 1.0) * mask[j] - 1.0
            np.testing.assert_allclose(views[region][j], expected, atol=1e-6)


@pytest.mark.parametrize("window", [-4, 10, 36])
def test_windows_that_do_not_fit_are_refused(window):
    with pytest.raises(UserError, match=f"window is {window}"):
        method_with(window=window)


def test_every_generator_depends_on_the_expression(nets, batch):
    method = method_with()
    shares = method.segment(nets, batch["image"])
    first, second = (
        method.manipulate(nets, batch["image"], method.one_hot(tf.fill([4], i)), shares)
        for i in (0, 1)
    )
    for name, image in first.items():
        assert np.abs(image - second[name]).mean() > 1e-4, name


def test_parts_alone_equal_those_of_the_whole_edit(nets, batch):
    method, expression = method_with(), tf.constant([0, 1, 0, 1])
    parts = method.edit_parts(nets, batch["image"], expression)
    edited = method.edit(nets, batch["image"], expression)
    assert set(parts) == set(method.config.regions)
    for region, image in parts.items():
        np.testing.assert_allclose(image, edited[region], atol=1e-5)


# Stages and streams.


def due(method):
    steps = range(method.config.train.steps)
    return [[p.name for p in method.phases() if p.due(number)] for number in steps]


def test_phases_due_in_each_stage():
    method = method_with(**{"segmenter.steps": 2, "gan_steps": 3, "classifier.steps": 1})
    assert (
        due(method)
        == [["segmentation"]] * 2
        + [["classifier"]]
        + [["discriminator", "generator"]] * 2
        + [["discriminator", "joint"]] * 4
    )
    joint = method.phases()[-1]
    assert set(joint.updates) == {*method.generators, "segmenter"}
    assert joint.rates == {"segmenter": 0.1}


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"gan_steps": 0}, ["segmentation", "discriminator", "joint"]),
        ({"segmenter.steps": 0}, ["discriminator", "generator", "joint"]),
        ({"gan_steps": 7}, ["segmentation", "discriminator", "generator"]),
        ({"only_segmenter": True}, ["segmentation"]),
    ],
)
def test_skipped_stages_have_no_phases(options, expected):
    assert [phase.name for phase in method_with(**options).phases()] == expected


def test_attack_length_grows_during_the_classifier_steps(source):
    method = method_with(**{
        "classifier": {"steps": 8, "batch_size": 4, "attack": 3.0},
        "gan_steps": 8, "train.steps": 12,
    })  # fmt: skip
    batches = method.batches(source, "train", 4, seed=0).take(9)
    lengths = [batch["attack"].numpy().max() for batch in batches]
    assert lengths == [
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        1.0,
        2.0,
        3.0,
        3.0,
    ]  # Steps 0 and 1 are the first stage.


def test_attack_changes_the_classification_of_real_images_only(nets, batch):
    attacked = {**batch, "attack": tf.fill((4, 1, 1, 1), 3.0)}
    for phase in ("classifier", "discriminator"):
        terms = [
            method_with(**{"classifier.steps": 1}).loss(phase, nets, b)[1]
            for b in (batch, attacked)
        ]
        for name in ("cls", "mouth_cls", "eyes_cls"):
            assert terms[1][name] > terms[0][name]
    terms = [
        method_with(**{"classifier.steps": 1}).loss("generator", nets, b)[1]["cls"]
        for b in (batch, attacked)
    ]
    assert float(terms[0]) == float(terms[1])


def test_streams_repeat_a_batch_in_stages_that_do_not_need_them(source):
    method = method_with(classifier=ClassifierOptions(1, 6, 0.1))
    whole = list(method.batches(source, "train", 4, seed=0).take(8))

    def changes(name):
        return [
            not np.array_equal(a[name], b[name]) for a, b in zip(whole, whole[1:], strict=False)
        ]

    # Steps 0, 1: segmentation; 2: classifier; 3, 4: GANs only; 5 to 7: joint.
    assert changes("image") == [False, True, True, True, True, True, True]
    assert changes("seg_image") == [True, True, False, False, True, True, True]
    assert [b["image"].shape[0] for b in whole] == [4, 4, 6, 4, 4, 4, 4, 4]
    assert {b["seg_image"].shape[0] for b in whole} == {4}
    for b in whole:
        assert sorted(b["target"].numpy()) == sorted(b["expression"].numpy())
        assert b["noise"].shape == b["image"].shape
        assert b["label_map"].shape == b["image"].shape[:3]
    for number in range(1, 8):
        resumed = next(iter(method.batches(source, "train", 4, seed=0, start=number)))
        for name, value in resumed.items():
            np.testing.assert_array_equal(value, whole[number][name], err_msg=f"{number} {name}")


def test_expressions_and_label_maps_from_two_data_sets(source, monkeypatch):
    """With separate batch sizes."""
    import tfface.data

    monkeypatch.setitem(tfface.data.SOURCES, "synthetic", "tfface.testing:FewFaces")
    labelled = Data(size=SIZE, batch_size=6)
    config = replace(CONFIG, {"classes": (), "labelled": labelled})
    method, faces = SegHierarchical.open(config)
    assert faces.fields == () and method.labelled.fields == ("label_map",)
    assert method.config.classes == EXPRESSIONS
    batch = next(iter(method.batches(faces, "train", 4, seed=0, start=6)))
    assert batch["image"].shape[0] == 4 and batch["seg_label_map"].shape == (6, SIZE, SIZE)
    keras.utils.set_random_seed(0)
    nets = method.build()
    for phase in method.phases():
        assert np.isfinite(float(method.loss(phase.name, nets, batch)[0])), phase.name


def test_preview_does_not_need_label_maps(source, nets):
    method = method_with()
    batch = next(iter(method.batches(source, "val", 2)))
    assert "seg_image" not in batch
    columns = method.preview(nets, batch)
    assert list(columns)[:4] == ["input", "segmentation", "mask of mouth", "mask of eyes"]
    assert set(EXPRESSIONS) < set(columns)


# Inference.


@pytest.mark.parametrize("alone", [True, False])
def test_signatures_and_their_outputs(nets, alone):
    method = method_with(only_segmenter=alone)
    signatures = method.signatures(nets)
    inputs = {name: set(signature.inputs) for name, signature in signatures.items()}
    extra = set() if alone else {"expression"}
    assert inputs == {
        "serving_default": {"image"} | extra,
        "bytes": {"image_bytes"} | extra,
        "segment": {"image"},
        "segment_bytes": {"image_bytes"},
        **({} if alone else {"parts_bytes": {"image_bytes", "expression"}}),
    }
    results = {name: s.function(**s.example) for name, s in signatures.items()}
    labels = results["segment"]["label_map"]
    assert labels.dtype == tf.int32 and results["segment"]["probabilities"].shape[-1] == 19
    assert ("image" in results["serving_default"]) == (not alone)
    np.testing.assert_array_equal(results["serving_default"]["label_map"], labels)
    png = tf.io.decode_png(results["segment_bytes"]["label_map_bytes"][0])
    assert png.shape == (SIZE, SIZE, 1)
    assert (png.numpy()[..., 0] == labels.numpy()[0]).mean() > 0.95  # The PNG rounds its colours.


def test_edit_returns_faces_regions_and_segmentation(nets, batch):
    trained = Trained("seg_hierarchical", method_with(), nets, 0, Path("run"))
    face = to_image(batch["image"][0].numpy())
    [rows] = trained.editor({"expression": ["happy", "fearful"]}).edit([face])
    assert [[name for name, _ in row] for row in rows] == [
        ["happy", "happy-mouth", "happy-eyes", "segmentation"],
        ["fearful", "fearful-mouth", "fearful-eyes"],
    ]
    happy, mouth, _, labels = (np.asarray(image, int) for _, image in rows[0])
    fearful = np.asarray(rows[1][0][1], int)
    assert happy.shape == fearful.shape == (SIZE, SIZE, 3) and np.abs(happy - fearful).max() > 0
    assert mouth.shape == (SIZE, SIZE, 3) and mouth.min() == 0
    assert {tuple(c) for c in labels.reshape(-1, 3)} <= {
        tuple(c) for c in colour(np.arange(len(CLASSES_19))[None])[0]
    }
    assert len(trained.editor({}).edit([face])[0]) == len(EXPRESSIONS)
    for options, message in (
        ({"expression": ["hapy"]}, "perhaps you mean 'happy'"),
        ({"strength": [1.0]}, "strength is not an option of seg_hierarchical"),
    ):
        with pytest.raises(UserError, match=message):
            trained.editor(options)


def test_data_without_expressions_raises_unless_only_segmenter(monkeypatch):
    import tfface.data

    class Plain(FewFaces):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.classes = ()

    monkeypatch.setattr("tfface.testing.FewFaces", Plain)
    monkeypatch.setitem(tfface.data.SOURCES, "synthetic", "tfface.testing:FewFaces")
    with pytest.raises(UserError, match="has 0 expression classes; seg_hierarchical needs two"):
        SegHierarchical.open(replace(CONFIG, {"classes": ()}))
    method, _ = SegHierarchical.open(replace(CONFIG, {"classes": (), "only_segmenter": True}))
    assert set(method.build()) == {"segmenter"}
