"""What is measured of images that have no true edit, on editors whose figures are known."""

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
    """Tells classes by the level of the first channel, attributes by the signs of the others."""

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


def recoloured(images, asked):
    made = images.copy()
    made[..., 0] = (asked - 1.0)[:, None, None]
    return made


def test_classes():
    shown = []
    found = evaluate_classes(
        recoloured, iter([faces()]), CLASSES, Levels(), lambda *what: shown.append(what)
    )
    json.dumps(found)
    assert found["people"] == 6 and found["edited"]["accuracy"] == 1.0
    assert found["copy"] == {"accuracy": pytest.approx(1 / 3), "change": 0.0}
    assert found["real"]["accuracy"] == 1.0 and found["reconstruction"]["psnr"] is None
    # One channel of three, by 1, 1 and 2 (of six ways) of a range of 2.
    assert found["edited"]["change"] == pytest.approx((4 * 1 + 2 * 2) / 9 / 3 / 2)
    assert {measure for measure, *_ in shown} == {
        "error of an image made again", "change of the image"
    }  # fmt: skip


class Pairs:
    """Images that have and lack attributes, half of each."""

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


def test_pairs():
    def transfer(source, reference, attribute, strength):
        made = source.copy()
        rows = np.arange(len(source))
        exchanged = reference[rows, ..., attribute + 1]
        weight = strength[:, None, None]
        made[rows, ..., attribute + 1] *= 1 - weight
        made[rows, ..., attribute + 1] += weight * exchanged
        return made

    found = evaluate_pairs(transfer, Pairs(), "test", None, Levels())
    json.dumps(found)
    assert found["pairs"] == 10
    edited, copy = found["edited"], found["copy"]
    assert (edited["right"], edited["others"], edited["all_others"]) == (1.0, 1.0, 1.0)
    assert (copy["right"], copy["others"], copy["change"]) == (0.0, 1.0, 0.0)
    assert edited["change"] == pytest.approx(1 / 3) and found["reconstruction"]["error"] == 0.0
    assert found["real"] == {"right": 1.0, "others": 1.0}
    assert set(edited["by_attribute"]) == set(NAMES)


def test_label_maps():
    labels = np.random.default_rng(0).integers(0, 19, (4, 8, 8))
    images = np.stack([labels / 19.0] * 3, -1).astype(np.float32)
    batches = [{"image": images, "label_map": labels}]

    def of_seed(maps, number):
        return np.full((len(maps), 8, 8, 3), 0.2 * number, np.float32)

    found = evaluate_maps(of_seed, lambda maps, face: face + 0.5, iter(batches), 3)
    assert found["diversity"]["made"] == pytest.approx((0.2 + 0.2 + 0.4) / 3 / 2)
    assert found["reconstruction"]["error"] == pytest.approx(0.25)

    def segment(images):
        return np.rint(images[..., 0] * 19).astype(np.int32)

    found = evaluate_segments(segment, iter(batches))
    assert found["segmentation"]["miou"] == found["segmentation"]["pixel_accuracy"] == 1.0
    assert found["segmentation"]["images"] == 4
    assert found["intervals"]["segmentation"]["miou"] == [1.0, 1.0]


def test_a_split_is_read_up_to_a_count(tmp_path):
    source = celeba(make_celeba(tmp_path, 60))
    whole = [b["image"] for b in held_out_batches(source, "train", None, "")]
    assert [len(part) for part in whole] == [32, 16]
    some = [b["image"] for b in held_out_batches(source, "train", 33, "")]
    np.testing.assert_array_equal(np.concatenate(some), np.concatenate(whole)[:33])


def test_a_classifier_of_a_folder_per_class_learns_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "_WIDTHS", ((4, 4), (4, 2)))
    source = folder(make_folders(tmp_path / "faces", {"a": 40, "b": 40}))
    made = train_on_images(source, steps=60, cache=tmp_path)
    batch = next(iter(source.batches("train", 64)))
    # The red channel counts the images, and those of one class come before the other's.
    assert (made.expressions(batch["image"]) == batch["expression"].numpy()).mean() > 0.9
    again = train_on_images(source, steps=60, cache=tmp_path)
    assert again.accuracy == made.accuracy and set(made.accuracy) <= {"expression"}
    np.testing.assert_array_equal(
        again.expressions(batch["image"]), made.expressions(batch["image"])
    )
