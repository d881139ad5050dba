"""Metrics of pairs of images, and diversity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from tfface.errors import UserError
from tfface.metrics.images import (
    diversity,
    levels,
    ms_ssim,
    ms_ssim_name,
    ssim,
)

SEEDS = st.integers(0, 2**16)


def images(seed, count=3, size=32):
    """Piecewise constant images in [-1,1]."""
    random = np.random.default_rng(seed)
    rough = random.uniform(-1, 1, (count, size // 8, size // 8, 3))
    return rough.repeat(8, 1).repeat(8, 2).astype(np.float32)


def noisy(images, seed, amount):
    noise = np.random.default_rng(seed).uniform(-amount, amount, images.shape)
    return (images + noise).clip(-1, 1).astype(np.float32)


def test_ssim_matches_scikit_image():
    truth = images(0)
    found = noisy(truth, 1, 0.3)
    expected = [
        structural_similarity(
            (a + 1) / 2,
            (b + 1) / 2,
            data_range=1.0,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(found, truth, strict=True)
    ]
    np.testing.assert_allclose(ssim(found, truth), expected, atol=1e-5)
    assert 0.1 < max(expected) < 0.95


def test_ms_ssim_with_five_scales_matches_tensorflow():
    import tensorflow as tf

    truth = images(0, 1, 168)
    found = noisy(truth, 1, 0.5)
    expected = tf.image.ssim_multiscale((found + 1) / 2, (truth + 1) / 2, 1.0)
    np.testing.assert_allclose(ms_ssim(found, truth), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (11, "ms_ssim_1scales"),
        (20, "ms_ssim_1scales"),
        (32, "ms_ssim_2scales"),
        (64, "ms_ssim_3scales"),
        (160, "ms_ssim_4scales"),
        (161, "ms_ssim"),
        (512, "ms_ssim"),
    ],
)
def test_ms_ssim_name_states_the_number_of_scales(size, name):
    assert ms_ssim_name(size) == name


@pytest.mark.parametrize("size", [11, 21, 41])
def test_ms_ssim_at_the_smallest_size_of_each_number_of_scales(size):
    """With one scale it equals SSIM."""
    random = np.random.default_rng(0)
    truth = random.uniform(-1, 1, (2, size, size, 3))
    np.testing.assert_allclose(ms_ssim(truth, truth), 1.0, atol=1e-6)
    if size == 11:
        found = noisy(truth, 1, 0.3)
        np.testing.assert_allclose(ms_ssim(found, truth), ssim(found, truth), atol=1e-6)


@settings(deadline=None, max_examples=5)
@given(SEEDS)
def test_similarity_is_symmetric_and_falls_with_noise(seed):
    truth = images(seed)
    little, much = noisy(truth, seed + 1, 0.1), noisy(truth, seed + 1, 0.8)
    for metric in (ssim, ms_ssim):
        near, far = metric(little, truth), metric(much, truth)
        assert near.shape == (3,) and near.dtype == np.float64
        assert (near > far).all()
        np.testing.assert_allclose(metric(truth, little), near, atol=1e-5)
        np.testing.assert_allclose(metric(truth, truth), 1.0)


def test_diversity_is_the_mean_over_pairs():
    values = np.array([[-1.0, 0.0, 1.0], [0.5, 0.5, 0.5]])
    images = np.broadcast_to(values[..., None, None, None], (2, 3, 4, 4, 3))
    np.testing.assert_allclose(diversity(images), [(0.5 + 1.0 + 0.5) / 3, 0.0])
    assert diversity(images, lambda a, b: np.ones(2)).tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="at least two"):
        diversity(images[:, :1])


def test_invalid_images_are_rejected():
    good = images(0)
    with pytest.raises(ValueError, match=r"expected \[-1,1\]"):
        ssim(good * 100, good)
    with pytest.raises(ValueError, match="the same shape"):
        ssim(good, good[:1])
    with pytest.raises(ValueError, match="4 axes"):
        ssim(good[0], good[0])
    with pytest.raises(ValueError, match="at least 11"):
        ssim(good[:, :8], good[:, :8])
    bad = good.copy()
    bad[1, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="1 of 3 images .* did the training diverge"):
        ssim(bad, good)


def test_levels_are_rounded_and_clipped():
    values = np.array([-1.005, -1.0, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 0.0, 1.0, 1.005])
    found = levels(np.broadcast_to(values[:, None, None, None], (7, 1, 1, 3)))[:, 0, 0, 0]
    assert found.dtype == np.uint8 and found.tolist() == [0, 0, 0, 1, 128, 255, 255]
