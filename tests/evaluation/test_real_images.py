"""Metrics of images without ground truth, for edits with known scores."""

import json

import numpy as np
import pytest
from image_files import celeba, folder, make_celeba, make_folders

from tfface.evaluation import classifier
from tfface.evaluation.classifier import Classifier, train_on_images
from tfface.evaluation.real_images import (
    evaluate_classes,
    evaluate_maps,
    evaluate_pairs,
    evaluate_segments,
    held_out_batches,
)

CLASSES = ("dark", "light", "pale")
NAMES = ("Bright", "Odd")


class Levels(Classifier):
    """Predicts classes from the level of the first channel, attributes from the others' signs."""

    def __init__(self):
        super().__init__(None, NAMES, {})

    def expressions(self, images):
        return np.rint(np.asarray(images)[:, 0, 0, 0] + 1).astype(int)

    def attributes(self, images):
        return np.asarray(images)[:, 0, 0, 1:] > 0


def faces(count=6, size=4):
    labels = np.arange(count) % 3
    images = np.zeros((count, size, size, 3), np.float32)
    images[..., 0] = (labels - 1.0)[:, None, None]
    return {"image": images, "expression": labels}


def recoloured(images, classes):
    edited = images.copy()
    edited[..., 0] = (classes - 1.0)[:, None, None]
    return edited


def test_expression_classes_without_ground_truth():
    shown = []
    found = evaluate_classes(
        recoloured, iter([faces()]), CLASSES, Levels(), lambda *arguments: shown.append(arguments)
    )
    json.dumps(found)
    assert found["people"] == 6 and found["edited"]["accuracy"] == 1.0
    assert found["copy"] == {"accuracy": pytest.approx(1 / 3), "change": 0.0}
    assert found["real"]["accuracy"] == 1.0 and found["reconstruction"]["psnr"] is None
    # One of three channels changes by 1 (four of nine edits) or 2 (two of them) in a range of 2.
    assert found["edited"]["change"] == pytest.approx((4 * 1 + 2 * 2) / 9 / 3 / 2)
    assert {metric for metric, *_ in shown} == {"reconstruction error", "change of the image"}


class Pairs:
    """A source of images with and without each attribute."""

    attributes = NAMES

    def count(self, split):
        return 5

    def batches(self, split, batch_size, where):
        import tensorflow as tf

        labels = np.array([[i % 2, i // 2 % 2] for i in range(5)], np.int32)
        labels[:, NAMES.index(where[0])] = where[1]
        images = np.zeros((5, 2, 2, 3), np.float32)
        images[..., 1:] = (2.0 * labels - 1)[:, None, None]
        return [{"image": tf.constant(images), "attributes": tf.constant(labels)}]


def test_attribute_pairs_without_ground_truth():
    def transfer(source, reference, attribute, strength):
        edited = source.copy()
        rows = np.arange(len(source))
        exchanged = reference[rows, ..., attribute + 1]
        weight = strength[:, None, None]
        edited[rows, ..., attribute + 1] *= 1 - weight
        edited[rows, ..., attribute + 1] += weight * exchanged
        return edited

    found = evaluate_pairs(transfer, Pairs(), "test", None, Levels())
    json.dumps(found)
    assert found["pairs"] == 10
    edited, copy = found["edited"], found["copy"]
    assert (edited["right"], edited["others"], edited["all_others"]) == (1.0, 1.0, 1.0)
    assert (copy["right"], copy["others"], copy["change"]) == (0.0, 1.0, 0.0)
    assert edited["change"] == pytest.approx(1 / 3) and found["reconstruction"]["error"] == 0.0
    assert found["real"] == {"right": 1.0, "others": 1.0}
    assert set(edited["by_attribute"]) == set(NAMES)


def test_label_maps_without_ground_truth():
    labels = np.random.default_rng(0).integers(0, 19, (4, 8, 8))
    images = np.stack([labels / 19.0] * 3, -1).astype(np.float32)
    batches = [{"image": images, "label_map": labels}]

    def of_seed(maps, number):
        return np.full((len(maps), 8, 8, 3), 0.2 * number, np.float32)

    found = evaluate_maps(of_seed, lambda maps, face: face + 0.5, iter(batches), 3)
    assert found["diversity"]["generated"] == pytest.approx((0.2 + 0.2 + 0.4) / 3 / 2)
    assert found["reconstruction"]["error"] == pytest.approx(0.25)

    def segment(images):
        return np.rint(images[..., 0] * 19).astype(np.int32)

    found = evaluate_segments(segment, iter(batches))
    assert found["segmentation"]["miou"] == found["segmentation"]["pixel_accuracy"] == 1.0
    assert found["segmentation"]["images"] == 4
    assert found["intervals"]["segmentation"]["miou"] == [1.0, 1.0]


def test_held_out_batches_stop_at_the_count(tmp_path):
    source = celeba(make_celeba(tmp_path, 60))
    whole = [b["image"] for b in held_out_batches(source, "train", None, "")]
    assert [len(part) for part in whole] == [32, 16]
    first = [b["image"] for b in held_out_batches(source, "train", 33, "")]
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(whole)[:33])


def test_classifier_of_a_class_folder_learns_and_is_cached(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "_WIDTHS", ((4, 4), (4, 2)))
    source = folder(make_folders(tmp_path / "faces", {"a": 40, "b": 40}))
    trained = train_on_images(source, steps=60, cache=tmp_path)
    batch = next(iter(source.batches("train", 64)))
    # The red channel is the image's number, so it separates the classes.
    assert (trained.expressions(batch["image"]) == batch["expression"].numpy()).mean() > 0.9
    cached = train_on_images(source, steps=60, cache=tmp_path)
    assert cached.accuracy == trained.accuracy and set(trained.accuracy) <= {"expression"}
    np.testing.assert_array_equal(
        cached.expressions(batch["image"]), trained.expressions(batch["image"])
    )
