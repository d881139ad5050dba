"""Segmentation metrics, and the segmenter used as a judge."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tfface.config import Data
from tfface.data.label_maps import CLASSES_19
from tfface.data.synthetic import SyntheticFaces, render
from tfface.errors import UserError
from tfface.evaluation.segmenter import train_segmenter
from tfface.losses.segmentation import entropy_and_dice
from tfface.metrics.segmentation import Confusion

SIZE = 32
KINDS = len(CLASSES_19)
BY_CLASS = ("iou_by_class", "f1_by_class", "share_by_class")

# Few ids at a time: with all 19 equally likely, hardly any pixels would agree.
ids = st.sets(st.integers(0, KINDS - 1), min_size=1, max_size=4).map(sorted)
pairs = ids.flatmap(
    lambda few: arrays(np.int64, (2, 4, 3, 5), elements=st.sampled_from(few), fill=st.nothing())
)


def measured(predicted, truth):
    confusion = Confusion()
    confusion.add(predicted, truth)
    return confusion.result()


def by_sets(predicted, truth):
    """The same metrics from the sets of pixels of each class."""
    result = {name: dict.fromkeys(CLASSES_19) for name in BY_CLASS}
    for i, name in enumerate(CLASSES_19):
        a, b = (set(np.flatnonzero(labels == i)) for labels in (truth, predicted))
        if a | b:
            result["iou_by_class"][name] = len(a & b) / len(a | b)
            result["f1_by_class"][name] = 2 * len(a & b) / (len(a) + len(b))
            result["share_by_class"][name] = len(a) / truth.size
    occur = [name for name, share in result["share_by_class"].items() if share]
    parts = [result["f1_by_class"][name] for name in occur if name != "background"]
    result["pixel_accuracy"] = np.mean(predicted == truth)
    result["miou"] = np.mean([result["iou_by_class"][name] for name in occur])
    result["mean_f1"] = np.mean(parts) if parts else None
    return result


def same(a, b):
    assert set(a) == set(b)
    for name in a:
        if name in BY_CLASS:
            same(a[name], b[name])
        else:
            assert a[name] == (None if b[name] is None else pytest.approx(b[name]))


@settings(deadline=None)
@given(pairs)
def test_metrics_match_a_computation_with_pixel_sets(pair):
    same(measured(*pair), by_sets(*pair))


@settings(deadline=None)
@given(pairs)
def test_ground_truth_scores_one(pair):
    truth = pair[0]
    found = measured(truth, truth)
    json.dumps(found, allow_nan=False)
    assert (found["pixel_accuracy"], found["miou"]) == (1.0, 1.0)
    assert found["mean_f1"] == (1.0 if truth.any() else None)
    present = {CLASSES_19[i] for i in np.unique(truth)}
    for name, iou in found["iou_by_class"].items():
        assert iou == found["f1_by_class"][name] == (1.0 if name in present else None)


@settings(deadline=None)
@given(pairs, st.lists(st.integers(0, 4), max_size=3).map(sorted))
def test_confusion_does_not_depend_on_batches(pair, cuts):
    confusion = Confusion()
    for found, truth in zip(*(np.split(labels, cuts) for labels in pair), strict=True):
        confusion.add(found, truth)
    assert confusion.result() == measured(*pair)


@settings(deadline=None)
@given(pairs, st.permutations(range(KINDS)))
def test_permuted_ids_permute_the_metrics(pair, order):
    before, after = measured(*pair), measured(*np.array(order)[pair])
    assert after["pixel_accuracy"] == before["pixel_accuracy"]
    assert after["miou"] == pytest.approx(before["miou"])
    for name in BY_CLASS:
        for i, other in enumerate(order):
            assert after[name][CLASSES_19[other]] == before[name][CLASSES_19[i]]


def test_metrics_of_a_small_example():
    """A third of six skin pixels is predicted as nose, which is not in the ground truth."""
    truth = np.ones((1, 2, 3), np.uint8)
    found = np.array([[[1, 1, 2], [1, 1, 2]]], np.uint8)
    result = measured(found, truth)
    assert result["pixel_accuracy"] == result["miou"] == pytest.approx(2 / 3)
    assert result["mean_f1"] == pytest.approx(0.8)
    assert [result[name]["nose"] for name in BY_CLASS] == [0.0, 0.0, 0.0]
    assert [result[name]["hair"] for name in BY_CLASS] == [None, None, None]
    assert result["share_by_class"]["skin"] == 1.0


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        (np.zeros((1, 2, 2), int), np.zeros((1, 2, 3), int), r"\(1, 2, 2\).*\(1, 2, 3\)"),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), r"predicted is int64 \(2, 2\)"),
        (np.zeros((1, 2, 2), int), np.zeros((1, 2, 2)), "ground_truth is float64"),
        (np.full((1, 2, 2), 19), np.zeros((1, 2, 2), int), "predicted has ids 19 to 19"),
        (np.zeros((1, 2, 2), int), np.full((1, 2, 2), -1), "ground_truth has ids -1 to -1"),
    ],
)
def test_invalid_label_maps_are_rejected(predicted, truth, message):
    confusion = Confusion()
    with pytest.raises(ValueError, match=message):
        confusion.add(predicted, truth)
    with pytest.raises(ValueError, match="no pixels"):
        confusion.result()


# The segmenter.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfface.evaluation.segmenter.HELD_OUT", 64)
        yield folder, train_segmenter(SIZE, steps=2, cache=folder)


def renders(count):
    faces = SyntheticFaces(Data(size=SIZE)).factors("test", 0, count)
    return render(faces, SIZE)["image"]


def test_segmenter_is_cached(tiny):
    folder, trained = tiny
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 2 and {name.rpartition(".")[2] for name in names} == {"json", "keras"}
    cached = train_segmenter(SIZE, steps=2, cache=folder)
    assert sorted(path.name for path in folder.iterdir()) == names
    assert cached.accuracy == trained.accuracy
    assert set(trained.accuracy) == {"pixel_accuracy", "miou"}
    images = renders(3)
    found = cached.label_maps(images)
    assert found.dtype == np.int32 and found.shape == (3, SIZE, SIZE)
    np.testing.assert_array_equal(found, trained.label_maps(images))


def test_segmenter_training_is_deterministic(tiny):
    again = train_segmenter(SIZE, steps=2)
    for a, b in zip(again.model.weights, tiny[1].model.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_label_maps_do_not_depend_on_chunk_size(tiny, monkeypatch):
    images = renders(5)
    expected = tiny[1].label_maps(images)
    monkeypatch.setattr("tfface.evaluation.segmenter._PREDICTED", 2)
    np.testing.assert_array_equal(tiny[1].label_maps(images), expected)


def test_loss_of_the_ground_truth_and_of_a_missed_class():
    truth = np.zeros((1, 4, 4), np.int32)
    truth[0, 0, 0] = 3
    sure = 50.0 * np.eye(KINDS, dtype=np.float32)
    assert float(entropy_and_dice(truth, sure[truth])) == pytest.approx(0.0, abs=1e-5)
    # The missed class has a Dice score of 1 / 2 (with 1 added to numerator and denominator), the
    # other one of 31 / 32; the missed pixel has a share of 1 / (1 + 15^(3/4)) in the cross-entropy.
    expected = 50 / (1 + 15**0.75) + 2 * (1 - (1 / 2 + 31 / 32) / 2)
    assert float(entropy_and_dice(truth, sure[0 * truth])) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("size", [72, 16])
def test_invalid_sizes_are_reported(size):
    with pytest.raises(UserError, match=f"{size}"):
        train_segmenter(size, steps=1)
