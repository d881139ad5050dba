"""Exemplars of the built-in faces: paired ones with the same colours, and unpaired ones."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from eager_faces import EagerFaces

from tfface.config import Data
from tfface.data.synthetic import (
    CLASSES_19,
    SyntheticFaces,
    render,
    with_factors,
)
from tfface.data.synthetic.source import STYLES, _offset


def source():
    return SyntheticFaces(Data(size=32))


def exemplars(split="train", count=8, batches=1, **options):
    """The concatenated fields of some batches at 32 pixels: name to array."""
    drawn = EagerFaces(Data(size=32)).exemplars(split, count, **options).take(batches)
    return {name: np.concatenate([batch[name] for batch in drawn]) for name in drawn[0]}


def same(a, b, *names):
    return all(np.array_equal(a[name], b[name]) for name in names or a)


def test_exemplar_batches_have_documented_shapes_and_types():
    batch = next(iter(source().exemplars("val", 4, seed=2, paired=0.5)))
    eager = exemplars("val", 4, seed=2, paired=0.5)
    assert set(batch) == set(eager)
    for name, shape, dtype in (
        ("image", (4, 32, 32, 3), tf.float32),
        ("label_map", (4, 32, 32), tf.int32),
        ("exemplar", (4, 32, 32, 3), tf.float32),
        ("exemplar_label_map", (4, 32, 32), tf.int32),
        ("paired", (4,), tf.float32),
    ):
        assert (batch[name].shape, batch[name].dtype) == (shape, dtype), name
        if dtype == tf.int32:
            assert (batch[name].numpy() == eager[name]).mean() > 0.999, name
        else:
            np.testing.assert_allclose(batch[name], eager[name], atol=2e-5, err_msg=name)


def test_exemplars_are_a_function_of_split_seed_and_batch_number():
    options = {"seed": 3, "paired": 0.5}
    whole = exemplars(batches=3, **options)
    assert same(exemplars(batches=3, **options), whole)
    last = exemplars(start=2, **options)
    assert same(last, {name: value[16:] for name, value in whole.items()})
    first = exemplars(**options)
    for other in ({"seed": 4}, {"split": "val"}, {"start": 1}, {"seed": None}):
        found = exemplars(**{**options, **other})
        assert not any(same(found, first, name) for name in ("image", "exemplar", "label_map"))
    assert same(exemplars(seed=None), exemplars(seed=None))


def test_paired_share_changes_only_the_targets():
    none, half, all_ = (exemplars(count=32, seed=1, paired=p) for p in (0.0, 0.5, 1.0))
    for other in (half, all_):
        assert same(none, other, "label_map", "exemplar", "exemplar_label_map")
    assert (none["paired"] == 0).all() and (all_["paired"] == 1).all()
    assert set(half["paired"]) == {0.0, 1.0}
    for i, pair in enumerate(half["paired"]):
        expected = all_ if pair else none
        np.testing.assert_array_equal(half["image"][i], expected["image"][i])


def test_share_of_pairs_is_about_as_requested():
    shares = []
    for paired in (0.2, 0.7):
        pairs = exemplars(count=16, batches=10, seed=5, paired=paired)["paired"]
        shares.append(pairs)
        assert pairs.mean() == pytest.approx(paired, abs=0.1)
    assert (shares[0] <= shares[1]).all()  # Pairs stay pairs at a higher share.


@pytest.mark.parametrize("seed", [None, 6])
def test_pair_has_its_own_shape_and_the_exemplars_colours(seed):
    count = 48
    batch = exemplars("test", count, seed=seed, paired=1.0)
    first = _offset(seed)
    shape, style = (source().factors("test", first + offset, count) for offset in (0, STYLES))
    drawn, exemplar = (render(f, 32, ("image", "label_map")) for f in (shape, style))
    # The exemplar is the person with the expected factors,
    np.testing.assert_array_equal(batch["exemplar_label_map"], exemplar["label_map"])
    np.testing.assert_allclose(batch["exemplar"], exemplar["image"], atol=1e-5)
    # the shape is that of the face itself,
    np.testing.assert_array_equal(batch["label_map"], drawn["label_map"])
    # and the colours are the exemplar's.
    target = render(with_factors(shape, colours=style), 32, ("image", "label_map"))
    np.testing.assert_allclose(batch["image"], target["image"], atol=1e-5)
    np.testing.assert_array_equal(target["label_map"], drawn["label_map"])


@pytest.mark.parametrize("part", ["skin", "hair", "background", "cloth"])
def test_face_parts_of_a_pair_have_the_exemplars_colour(part):
    code = CLASSES_19.index(part)
    pairs, unpaired = (exemplars("train", 48, seed=9, paired=p) for p in (1.0, 0.0))
    enough = [(pairs[k] == code).sum((1, 2)) >= 20 for k in ("label_map", "exemplar_label_map")]
    both = np.flatnonzero(enough[0] & enough[1])
    assert len(both) >= 16

    def mean(images, labels):
        return np.stack([np.median(images[i][labels[i] == code], axis=0) for i in both])

    expected = mean(pairs["exemplar"], pairs["exemplar_label_map"])
    paired = mean(pairs["image"], pairs["label_map"])
    before = mean(unpaired["image"], unpaired["label_map"])
    near, far = (np.abs(x - expected).mean(1) for x in (paired, before))
    assert np.median(near) < 0.35 * np.median(far)


def test_unpaired_target_is_the_unchanged_person():
    batch = exemplars("val", 8, seed=7, paired=0.0)
    person = render(source().factors("val", _offset(7), 8), 32, ("image", "label_map"))
    np.testing.assert_allclose(batch["image"], person["image"], atol=1e-5)
    np.testing.assert_array_equal(batch["label_map"], person["label_map"])


def test_faces_of_exemplars_are_in_one_split_only():
    seen = []
    for split in ("train", "val", "test"):
        for seed in (None, 0):
            batch = exemplars(split, 8, seed=seed, paired=0.0)
            seen += [x.tobytes() for x in (*batch["image"], *batch["exemplar"])]
    assert len(set(seen)) == len(seen) == 6 * 16
