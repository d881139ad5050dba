"""Differentiable augmentation."""

import numpy as np
import pytest
import tensorflow as tf

from tfface.losses.augment import KINDS, NUMBERS, SHIFT, diff_augment

SIDE = 16
IMAGES = np.random.default_rng(0).uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
STILL = [0.5] * NUMBERS  # Neither brighter nor darker, no shift, the cut in the centre.


def augment(kinds, numbers):
    return diff_augment(tf.constant(IMAGES), kinds, tf.constant([numbers], tf.float32)).numpy()[0]


def test_no_kind_and_numbers_in_the_middle_change_nothing():
    np.testing.assert_array_equal(augment((), [0.1] * NUMBERS), IMAGES[0])
    np.testing.assert_allclose(augment(("colour", "translation"), STILL), IMAGES[0], atol=1e-6)


@pytest.mark.parametrize(
    ("number", "value", "check"),
    [
        (0, 0.9, lambda x: x.mean() - IMAGES.mean() == pytest.approx(0.4, abs=1e-5)),
        (1, 0.0, lambda x: np.ptp(x, axis=-1).max() < 1e-5),  # grey
        (2, 0.0, lambda x: x.std() == pytest.approx(IMAGES.std() / 2, rel=0.05)),
    ],
)
def test_colour(number, value, check):
    numbers = list(STILL)
    numbers[number] = value
    assert check(augment(("colour",), numbers))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("number", "shift"), [(0.0, -1), (0.9999, 1)])
def test_the_largest_translations(axis, number, shift):
    numbers = list(STILL)
    numbers[3 + axis] = number
    most = int(SIDE * SHIFT) * shift
    expected = np.roll(IMAGES[0], most, axis)
    outside = [slice(None), slice(None)]
    outside[axis] = slice(0, most) if shift > 0 else slice(most, None)
    expected[tuple(outside)] = 0
    np.testing.assert_allclose(augment(("translation",), numbers), expected, atol=1e-6)


def test_a_square_of_half_the_side_is_cut_out():
    result = augment(("cutout",), STILL)
    zero = np.all(result == 0, axis=-1)
    assert zero.sum() == (SIDE // 2) ** 2
    assert zero[SIDE // 4 : 3 * SIDE // 4, SIDE // 4 : 3 * SIDE // 4].all()
    np.testing.assert_array_equal(result[~zero], IMAGES[0][~zero])


def test_gradients_pass_through_all_kinds():
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(diff_augment(images, KINDS, tf.constant([STILL])) ** 2)
    gradient = tape.gradient(loss, images).numpy()
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
