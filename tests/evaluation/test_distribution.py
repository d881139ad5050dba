"""FID, KID and SWD: closed forms, and independence of image order and batch size."""

from __future__ import annotations

import logging

import keras
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tfface.errors import UserError
from tfface.evaluation.classifier import Classifier, _build
from tfface.evaluation.features import (
    FeatureNetwork,
    classifier_features,
    image_statistics,
    inception,
    load_application,
    metric_name,
    random_features,
    real_statistics,
)
from tfface.metrics import distribution
from tfface.metrics.distribution import (
    Patches,
    Statistics,
    frechet_distance,
    image_keys,
    kernel_distance,
    sliced_wasserstein,
    swd,
)

SIZE = 32
SEEDS = st.integers(0, 2**16)


def images(seed, count=24, size=SIZE):
    random = np.random.default_rng(seed)
    return random.uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


def of_features(features):
    statistics = Statistics(features.shape[1])
    statistics.add(features, np.arange(len(features), dtype=np.uint64))
    return statistics


def gaussian(mean, deviations, count=50):
    """Uncorrelated rows with exactly this mean and these standard deviations."""
    rows = np.random.default_rng(0).normal(size=(count, len(mean)))
    rows -= rows.mean(axis=0)
    white = np.linalg.qr(rows)[0] * np.sqrt(count - 1)
    return white * deviations + mean


# FID.


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(*[st.floats(-3, 3), st.floats(0, 4)] * 2), min_size=1, max_size=6))
def test_frechet_distance_matches_the_closed_form(columns):
    mean_a, spread_a, mean_b, spread_b = np.array(columns).T
    found = frechet_distance(
        of_features(gaussian(mean_a, spread_a)), of_features(gaussian(mean_b, spread_b))
    )
    expected = np.square(mean_a - mean_b).sum() + np.square(spread_a - spread_b).sum()
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_frechet_distance_of_scaled_covariances():
    """The distance of covariances C and k^2 C, which commute, is (k - 1)^2 tr C."""
    rows = np.random.default_rng(1).normal(size=(40, 5)) @ np.random.default_rng(2).normal(
        size=(5, 5)
    )
    rows -= rows.mean(axis=0)
    found = frechet_distance(of_features(rows), of_features(3 * rows))
    assert found == pytest.approx(4 * np.cov(rows.T).trace(), rel=1e-12)


@pytest.mark.parametrize("count", [10, 200])  # Fewer images than features, and more.
def test_frechet_distance_of_a_set_with_itself_is_zero(count):
    statistics = of_features(np.random.default_rng(0).gamma(0.4, size=(count, 60)))
    assert frechet_distance(statistics, statistics) < 1e-12


def test_covariance_keeps_precision_with_a_large_offset():
    rows = np.random.default_rng(0).normal(size=(300, 4))
    moved = Statistics(4)
    for start in range(0, 300, 7):
        moved.add(rows[start : start + 7] + 1e6, np.arange(len(rows[start : start + 7])))
    np.testing.assert_allclose(moved.covariance, np.cov(rows.T), atol=1e-8)


# KID.


def test_kernel_distance_matches_a_manual_computation(monkeypatch):
    """Two images of each set in every subset, with the sums written out."""
    a, b = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 1.0], [3.0, 0.0]])

    def kernel(x, y):
        return (x @ y / 2 + 1) ** 3

    across = np.mean([kernel(x, y) for x in a for y in b])
    expected = kernel(*a) + kernel(*b) - 2 * across
    found = kernel_distance(of_features(a), of_features(b), 2)
    assert found["mean"] == pytest.approx(expected) and found["size"] == 2
    assert found["std"] == pytest.approx(0.0, abs=1e-12)


def test_kernel_distance_is_near_zero_for_the_same_distribution():
    random = np.random.default_rng(0)
    same, other = random.normal(size=(2, 400, 8))
    statistics = of_features(same)
    near = kernel_distance(statistics, of_features(other))
    far = kernel_distance(statistics, of_features(other + 0.5))
    assert near["size"] == 200 and abs(near["mean"]) < 0.03 and near["std"] > 0
    assert far["mean"] > 20 * abs(near["mean"])


def test_kernel_distance_rejects_invalid_subset_sizes():
    few = of_features(np.ones((3, 2)))
    for size in (None, 1, 4):
        with pytest.raises(ValueError, match="2 to 3"):
            kernel_distance(few, few, size)
    with pytest.raises(ValueError, match="1 images were added"):
        frechet_distance(of_features(np.ones((1, 2))), few)


def test_statistics_keep_the_features_with_the_smallest_keys(monkeypatch):
    monkeypatch.setattr(distribution, "KEPT", 10)
    random = np.random.default_rng(0)
    keys = random.permutation(100).astype(np.uint64)
    statistics = Statistics(1)
    for part in np.split(keys, 4):
        statistics.add(part[:, None].astype(np.float32), part)
    assert statistics.count == 100
    assert statistics.keys.tolist() == statistics.sample[:, 0].tolist() == list(range(10))


# SWD.


def test_sliced_wasserstein_matches_scipy_in_one_dimension():
    a, b = np.random.default_rng(0).normal(size=(2, 100, 1)).astype(np.float32)
    expected = scipy.stats.wasserstein_distance(a[:, 0], b[:, 0])
    assert sliced_wasserstein(a, b) == pytest.approx(expected, rel=1e-5)


def test_pyramid_levels_sum_to_the_image():
    whole = images(0, 2, 64)
    levels = distribution._pyramid(whole)
    assert [level.shape[1] for level in levels] == [64, 32, 16]
    found = levels[-1]
    for level in levels[-2::-1]:
        wide = np.zeros_like(level)
        wide[:, ::2, ::2] = 4 * found
        found = distribution._smooth(wide) + level
    np.testing.assert_allclose(found, whole, atol=1e-5)
    flat = distribution._pyramid(np.full((1, 32, 32, 3), 0.7, np.float32))
    np.testing.assert_allclose(flat[0], 0.0, atol=1e-6)  # A single colour has no fine detail.
    np.testing.assert_allclose(flat[1], 0.7, atol=1e-6)


def patches_of(stored, batch):
    patches = Patches()
    for start in range(0, len(stored), batch):
        patches.add(stored[start : start + batch])
    return patches


def test_swd_ignores_order_and_separates_different_sets():
    a, b = np.random.default_rng(0).integers(0, 256, (2, 12, 32, 32, 3)).astype(np.uint8)
    smooth = np.float32(b).reshape(12, 8, 4, 8, 4, 3).mean((2, 4)).repeat(4, 1).repeat(4, 2)
    smooth = smooth.astype(np.uint8)
    same = swd(patches_of(a, 12), patches_of(a[::-1], 5))
    assert list(same) == ["swd_32", "swd_16", "swd"] and same["swd"] < 1e-4
    near, far = (swd(patches_of(a, 12), patches_of(other, 12)) for other in (b, smooth))
    assert 0 < near["swd"] < 0.8 * far["swd"]
    assert near["swd"] == pytest.approx((near["swd_32"] + near["swd_16"]) / 2)
    again = swd(patches_of(a[::-1], 7), patches_of(b, 1))
    np.testing.assert_allclose(list(again.values()), list(near.values()), rtol=1e-6)


def test_swd_rejects_mismatched_sets():
    stored = np.zeros((3, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="expected the same"):
        swd(patches_of(stored, 3), patches_of(stored[:2], 3))
    with pytest.raises(ValueError, match="expected the same"):
        swd(Patches(), Patches())
    with pytest.raises(ValueError, match="square"):
        Patches().add(stored[:, :16])
    # Constant patches have no standard deviation to divide by.
    assert swd(patches_of(stored, 3), patches_of(stored, 3))["swd"] == 0.0


# Networks and statistics of images.


@pytest.fixture(scope="module")
def network():
    return random_features(SIZE)


def test_statistics_do_not_depend_on_order_or_batch_size(network):
    real, generated = images(0), 0.5 * images(1)
    shuffled = np.random.default_rng(3).permutation(len(generated))
    first, second = (image_statistics(network, [real]) for _ in range(2))
    other = image_statistics(network, np.split(generated[shuffled], (1, 8, 19)))
    same = image_statistics(network, [generated])
    np.testing.assert_array_equal(other.keys, same.keys)
    distance = frechet_distance(first, same)
    assert distance > 0.1
    assert frechet_distance(second, other) == pytest.approx(distance, rel=1e-6)
    expected = kernel_distance(first, same)
    for name, value in kernel_distance(second, other).items():
        assert value == pytest.approx(expected[name], rel=1e-5)
    assert frechet_distance(first, second) < 1e-9


def test_feature_networks_and_metric_names(network):
    assert network.name == "proxy_random" and network.model.output_shape == (None, 240)
    of_classifier = classifier_features(Classifier(_build(SIZE, 2, 0, 0, 0), ("A", "B"), {}))
    found = of_classifier(np.zeros((2, SIZE, SIZE, 3), np.uint8))
    assert found.shape == (2, 32 + 64 + 64 + 128) and of_classifier.name == "proxy_classifier"
    assert metric_name("fid", network, 5000, "val") == "fid_proxy_random_5k_val"
    assert metric_name("kid", of_classifier, 512, "test") == "kid_proxy_classifier_512_test"
    assert metric_name("kid", of_classifier, 1500, "test") == "kid_proxy_classifier_1500_test"


def test_nan_images_are_rejected(network):
    with pytest.raises(UserError, match="24 of 24 images .* diverge"):
        image_statistics(network, [images(0) * np.nan])
    with pytest.raises(ValueError, match="all finite"):
        of_features(np.full((3, 2), np.inf))


def test_inception_loads_weights_from_a_file(tmp_path, monkeypatch):
    """With a small stand-in for the network, as the real one is large."""

    def small(include_top, weights, pooling):
        assert not include_top and pooling == "avg"
        inputs = keras.Input((None, None, 3))
        maps = keras.layers.Conv2D(4, 1, kernel_initializer=keras.initializers.HeNormal(1))(inputs)
        model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps))
        if weights is not None:
            model.load_weights(weights)
        return model

    monkeypatch.setattr(keras.applications, "InceptionV3", small)
    body, path = small(False, None, "avg"), tmp_path / "inception.weights.h5"
    body.layers[1].kernel.assign(2 * body.layers[1].kernel)
    body.save_weights(path)
    network = inception(str(path))
    assert network.name == "keras" and not network.model.trainable_variables
    found = network(np.full((2, SIZE, SIZE, 3), 255, np.uint8))
    # Float32 means of 299 x 299 pixels.
    np.testing.assert_allclose(found, np.ones((2, 3)) @ body.layers[1].kernel[0, 0], rtol=5e-3)


def test_missing_or_invalid_inception_weights_are_reported(tmp_path):
    def fails(source):
        raise ValueError("no route to host")

    with pytest.raises(UserError, match="InceptionV3: nowhere.h5: no such file"):
        inception("nowhere.h5")
    wrong = tmp_path / "wrong.h5"
    wrong.write_text("no weights")
    with pytest.raises(UserError, match=r"wrong.h5: expected InceptionV3 weights"):
        inception(str(wrong))
    with pytest.raises(UserError, match="cannot be downloaded .no route to host"):
        load_application(fails, "InceptionV3")


# Cached statistics.


def test_real_statistics_are_cached(tmp_path, network):
    calls = []

    def batches():
        calls.append(1)
        return [images(0, 8)]

    arguments = {"name": "folder", "size": SIZE, "split": "val", "count": 8}
    computed = real_statistics(tmp_path, arguments, network, batches)
    cached = real_statistics(tmp_path, dict(reversed(arguments.items())), network, batches)
    assert len(calls) == 1 and cached.count == 8
    for name in ("mean", "scatter", "keys", "sample"):
        np.testing.assert_array_equal(getattr(cached, name), getattr(computed, name))
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]
    real_statistics(tmp_path, {**arguments, "count": 9}, network, batches)
    other = FeatureNetwork(network.name, keras.models.clone_model(network.model))
    other.model.weights[0].assign(other.model.weights[0] + 1)
    real_statistics(tmp_path, arguments, other, batches)
    assert len(calls) == 3 and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_damaged_cache_file_is_recomputed_with_a_warning(tmp_path, network, caplog, damage):
    def batches():
        return [images(0, 4)]

    computed = real_statistics(tmp_path, {}, network, batches)
    (path,) = tmp_path.iterdir()
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 255
    if damage == "other":
        np.savez(path, count=3)
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b""}.get(damage, whole))
    with caplog.at_level(logging.WARNING, "tfface"):
        recomputed = real_statistics(tmp_path, {}, network, batches)
    assert f"{path}: damaged" in caplog.text
    np.testing.assert_array_equal(recomputed.scatter, computed.scatter)
    caplog.clear()
    real_statistics(tmp_path, {}, network, batches)
    assert not caplog.text


def test_unwritable_cache_folder_is_reported(tmp_path, network):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        real_statistics(blocked, {}, network, lambda: [images(0, 4)])


@settings(deadline=None, max_examples=10)
@given(SEEDS)
def test_image_keys_are_unique_and_independent_of_order(seed):
    stored = np.random.default_rng(seed).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    keys = image_keys(stored)
    assert len(set(keys)) == 6
    np.testing.assert_array_equal(image_keys(stored[::-1]), keys[::-1])
