"""Segmentation with hierarchical GANs: masks, losses, segmentation networks and config."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfface.config import Adam, Data, DiscriminatorOptions, Train, replace
from tfface.data.images import to_image
from tfface.data.label_maps import CLASSES_19, colour
from tfface.engine.step import TrainStep, make_optimizers
from tfface.engine.trainer import adam
from tfface.errors import UserError
from tfface.methods.seg_hierarchical.config import REGIONS, SegHierarchicalConfig, Segmenter
from tfface.methods.seg_hierarchical.losses import segmentation, with_local
from tfface.methods.seg_hierarchical.masks import (
    corners,
    crop,
    cut,
    grow_masks,
    place,
    region_masks,
    scale_gradient,
)
from tfface.methods.seg_hierarchical.method import SegHierarchical
from tfface.methods.seg_hierarchical.segmenters import BiSeNet, UNet
from tfface.methods.trained import Trained
from tfface.testing import FewFaces

SIZE = 32
CONFIG = SegHierarchicalConfig(
    grow=5,
    blur=3,
    discriminator=DiscriminatorOptions(layers=5),
    segmenter=Segmenter(steps=2),
    gan_steps=3,
    data=Data(size=SIZE),
    train=Train(9),
)


# Masks.


@given(st.integers(0, 10**6), st.sampled_from([(1, 1), (5, 3), (9, 5), (17, 5)]))
@settings(max_examples=20, deadline=None)
def test_grown_masks_contain_the_masks(seed, windows):
    """They are in [0,1], nowhere below the mask, and 0 far from it."""
    masks = np.random.default_rng(seed).uniform(size=(2, 24, 24, 2)).astype(np.float32) ** 8
    masks[:, :, :2] = masks[:, :, 2:3]
    masks[0] = 0.0
    masks[0, 12, 12, 0] = 1.0
    grown = grow_masks(tf.constant(masks), *windows).numpy()
    assert grown.min() >= 0.0 and grown.max() <= 1.0 + 1e-6
    assert (grown >= masks - 1e-6).all()
    far = sum(windows) // 2
    away = np.maximum(*np.abs(np.mgrid[:24, :24] - 12)) > far
    assert not grown[0, ..., 0][away].any() and not grown[0, ..., 1].any()
    square = np.maximum(*np.abs(np.mgrid[:24, :24] - 12)) <= windows[0] // 2 - windows[1] // 2
    np.testing.assert_allclose(grown[0, ..., 0][square], 1.0, atol=1e-6)


def test_gradient_of_grown_masks_matches_finite_differences():
    logits = tf.Variable(np.random.default_rng(0).normal(size=(1, 8, 8, 19)), dtype=tf.float64)
    weight = tf.constant(np.random.default_rng(1).normal(size=(1, 8, 8, 2)), tf.float32)

    def value(x):
        masks = region_masks(tf.cast(tf.nn.softmax(x), tf.float32), ("mouth", "eyes"))
        return tf.reduce_sum(weight * grow_masks(masks, 5, 3))

    with tf.GradientTape() as tape:
        total = value(logits)
    slope = tape.gradient(total, logits).numpy()
    direction = slope / np.linalg.norm(slope)
    up, down = (float(value(logits + s * 1e-2 * direction)) for s in (1.0, -1.0))
    assert (up - down) / 2e-2 == pytest.approx(np.linalg.norm(slope), rel=0.02)


def test_region_masks_sum_the_probabilities_of_their_classes():
    shares = tf.nn.softmax(tf.random.stateless_normal((2, 4, 4, 19), (0, 0)))
    masks = region_masks(shares, ("mouth", "nose", "eyes"))
    for column, region in enumerate(("mouth", "nose", "eyes")):
        rows = [CLASSES_19.index(name) for name in REGIONS[region]]
        expected = tf.reduce_sum(tf.gather(shares, rows, axis=-1), -1)
        np.testing.assert_allclose(masks[..., column], expected, rtol=1e-5)


def test_cut_keeps_the_image_inside_the_mask_and_is_black_outside():
    image = tf.constant([[[[0.5, -1.0, 1.0]]]])
    np.testing.assert_allclose(cut(image, tf.ones([1, 1, 1, 1])), image)
    np.testing.assert_allclose(cut(image, tf.zeros([1, 1, 1, 1])), -tf.ones_like(image))


def test_scale_gradient_changes_only_the_gradient():
    x = tf.constant([0.1, 0.7, 1e-8])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = scale_gradient(x, 0.1)
        total = tf.reduce_sum(y * y)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_allclose(tape.gradient(total, x), 0.2 * x)


# Losses.


def test_ohem_loss_is_the_mean_over_hard_pixels_of_each_image():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 19, (3, 8, 8)).astype(np.int32)
    logits = rng.normal(size=(3, 8, 8, 19)).astype(np.float32)
    logits[1] = 20.0 * np.eye(19)[labels[1]]  # All pixels are easy: the worst 1/16 count.
    logits[1, 0, 0] = 0.0
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits).numpy().reshape(3, -1)
    hard = [x[x > -np.log(0.7)].mean() for x in each]
    hard[1] = np.sort(each[1])[-4:].mean()
    ohem, accuracy = segmentation(labels, [tf.constant(logits)], "ohem")
    assert float(ohem) == pytest.approx(np.mean(hard), rel=1e-5)
    assert float(accuracy) == pytest.approx((logits.argmax(-1) == labels).mean())
    both, _ = segmentation(labels, [tf.constant(logits)] * 2, "ohem")
    assert float(both) == pytest.approx(2 * np.mean(hard), rel=1e-5)
    plain, _ = segmentation(labels, [tf.constant(logits)], "ce")
    assert float(plain) == pytest.approx(each.mean(), rel=1e-5)


def test_dice_loss_is_the_mean_over_images():
    """It does not depend on the composition of the batch and is 0 for a perfect segmentation."""
    rng = np.random.default_rng(0)
    labels = np.stack([rng.integers(0, n, (8, 8)).astype(np.int32) for n in (3, 19, 7)])
    logits = rng.normal(size=(3, 8, 8, 19)).astype(np.float32)
    logits[2] = 40.0 * np.eye(19)[labels[2]]

    def loss(chosen):
        return float(segmentation(labels[chosen], [tf.constant(logits[chosen])], "dice")[0])

    each = [loss([i]) for i in range(3)]
    assert loss([0, 1, 2]) == pytest.approx(np.mean(each), rel=1e-5)
    assert each[2] == pytest.approx(0.0, abs=1e-5) and min(each[:2]) > 1.0


def test_local_losses_are_weighted_and_their_terms_prefixed():
    one, other = tf.constant(2.0), tf.constant(16.0)
    total, named = with_local({"global": (one, {"fake": 1}), "nose": (other, {"fake": 8})}, 0.25)
    assert float(total) == 2.0 + 4.0 and named == {"fake": 1, "nose_fake": 8}


# Segmentation networks.


@pytest.mark.parametrize("kind", [UNet, BiSeNet])
def test_segmentation_of_an_image_does_not_depend_on_its_batch(kind):
    net = kind(SIZE, 8)
    images = tf.random.stateless_uniform((4, SIZE, SIZE, 3), (0, 0), -1, 1)
    whole = tf.nest.flatten(net(images))
    alone = tf.nest.flatten(net(images[1:2]))
    assert len(whole) == (3 if kind is BiSeNet else 1)
    for in_batch, single in zip(whole, alone, strict=True):
        assert in_batch.shape == (4, SIZE, SIZE, 19)
        np.testing.assert_allclose(single[0], in_batch[1], atol=1e-4)


def test_bisenet_has_as_many_parameters_as_in_face_parsing_pytorch():
    """13,313,088 there, with the statistics of batch normalisation."""
    net = BiSeNet(64)
    kind = keras.layers.GroupNormalization
    statistics = sum(2 * x.gamma.shape[0] for x in net.layers if isinstance(x, kind))
    assert net.count_params() + statistics == 13_313_088


# Training only the segmentation network.


@pytest.mark.parametrize(
    "segmenter, loss, falls_to",
    [("unet", "ce", 0.8), ("unet", "dice", 0.95), ("bisenet", "ohem", 0.8)],
)
def test_only_segmenter_trains_previews_and_edits(segmenter, loss, falls_to):
    config = SegHierarchicalConfig(
        only_segmenter=True, segmenter=Segmenter(segmenter, 4, loss),
        data=Data(size=SIZE, batch_size=4), adam=Adam(1e-2), train=Train(9, jit="off"),
    )  # fmt: skip
    method = SegHierarchical(config)
    source = FewFaces(config.data, fields=("label_map",))
    keras.utils.set_random_seed(0)
    nets = method.build()
    assert set(nets) == {"segmenter"} and method.averaged == ("segmenter",)
    optimizers = make_optimizers(method, nets, adam)
    step = TrainStep(method, tf.distribute.get_strategy(), nets, {}, optimizers)
    batches = method.batches(source, "train", 4, seed=0)
    rates = dict.fromkeys(optimizers, config.adam.learning_rate)
    results = [step(i, [b], [rates])[0] for i, b in enumerate(batches.take(15))]
    losses = [float(values[0]) for _, values in results]
    assert np.mean(losses[-3:]) < falls_to * np.mean(losses[:3])
    batch = next(iter(batches))
    assert set(batch) == {"seg_image", "seg_label_map"}
    assert list(method.preview(nets, batch)) == ["input", "segmentation", "ground truth"]
    shares = method.segment(nets, batch["seg_image"])
    np.testing.assert_allclose(tf.reduce_sum(shares, -1), 1.0, atol=1e-5)
    trained = Trained("seg_hierarchical", method, nets, 0, Path("run"))
    image = to_image(batch["seg_image"][0].numpy())
    [[[(name, label_map)]]] = trained.editor({}).edit([image])
    expected = colour(np.argmax(shares, -1)[0])
    assert (
        name == "segmentation" and (np.asarray(label_map) == expected).mean() > 0.95
    )  # 8-bit image.
    with pytest.raises(UserError, match="expression is not an option"):
        trained.editor({"expression": ["all"]})


# Invalid options.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"regions": ("mouth", "eye")}, "regions has 'eye'; perhaps you mean 'eyes'"),
        ({"regions": ("mouth", "mouth")}, "regions has a duplicate name: mouth, mouth"),
        ({"regions": ()}, "regions is empty: expected .* eyes, nose, mouth"),
        ({"classes": ("happy",)}, "classes has only one name, happy"),
        ({"grow": 4}, "grow is 4: expected an odd number"),
        ({"blur": 7}, "blur is 7: expected at most grow, 5"),
        ({"discriminator.layers": 6}, "discriminator.layers is 6: an image of 32 pixels"),
        (
            {"segmenter.steps": 9},
            "segmenter.steps is 9 and classifier.steps is 0: .* train.steps, 9",
        ),
        ({"classifier.steps": 4}, "classifier.steps is 4: expected at most gan_steps, 3"),
        ({"weights.segmentation": -1.0}, "weights.segmentation is -1: expected 0 or more"),
        ({"segmenter.joint_rate": 0.0}, "segmenter.joint_rate is 0: expected above 0"),
        ({"labelled": Data(size=64)}, "labelled.size is 64: expected data.size, 32"),
        ({"data": Data("folder", "faces", SIZE)}, "labelled is not given, but the data set 'fol"),
    ],
)
def test_invalid_options_raise_user_error(options, message):
    with pytest.raises(UserError, match=message):
        replace(CONFIG, options)


def test_windows_hold_the_region_and_are_placed_where_they_were():
    masks = np.zeros((3, 16, 16, 1), np.float32)
    masks[0, 2:5, 9:15] = 1.0
    masks[1, 14:, :2] = 1.0  # In a corner: the window stays in the image. The third is empty.
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 2)).astype(np.float32)
    first = corners(tf.constant(masks), 8)
    assert first.numpy().tolist() == [[0, 8], [8, 0], [4, 4]]
    windows = crop(tf.constant(images), first, 8)
    placed = place(windows, first, 16).numpy()
    for i, (row, column) in enumerate(first.numpy()):
        inside = np.zeros((16, 16, 1), bool)
        inside[row : row + 8, column : column + 8] = True
        np.testing.assert_array_equal(placed[i], np.where(inside, images[i], 0.0))
    np.testing.assert_array_equal(
        crop(tf.constant(masks), first, 8).numpy().sum((1, 2, 3)), masks.sum((1, 2, 3))
    )


def test_windows_of_the_whole_image_change_nothing_and_pass_gradients():
    images = tf.random.stateless_normal((2, 8, 8, 3), (0, 1))
    first = corners(tf.ones((2, 8, 8, 1)), 8)
    with tf.GradientTape() as tape:
        tape.watch(images)
        windows = crop(images, first, 8)
        total = tf.reduce_sum(place(windows, first, 8) * tf.square(images))
    np.testing.assert_array_equal(windows, images)
    np.testing.assert_allclose(tape.gradient(total, images), 3.0 * tf.square(images), rtol=1e-5)
