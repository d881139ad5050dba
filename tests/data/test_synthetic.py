"""Built-in faces: images match their annotations, and edits change only the edited region."""

from __future__ import annotations

import types
import zlib

import numpy as np
import pytest
import tensorflow as tf

from tfface.data.synthetic import (
    ATTRIBUTES,
    CLASSES_19,
    EXPRESSIONS,
    FIELDS,
    GROUPS,
    SyntheticFaces,
    moving_mask,
    render,
    sample_factors,
    with_attribute,
    with_expression,
    with_factors,
)
from tfface.data.synthetic.factors import uniform
from tfface.errors import UserError

SIZE = 64
FACES = 12
NEUTRAL, HAPPY = EXPRESSIONS.index("neutral"), EXPRESSIONS.index("happy")


@tf.function(reduce_retracing=True)
def _draw(factors):
    return render(factors, SIZE, FIELDS)


def draw(factors):
    return {name: value.numpy() for name, value in _draw(factors).items()}


@pytest.fixture(scope="module")
def factors():
    return sample_factors(tf.range(100, 100 + FACES, dtype=tf.int64))


@pytest.fixture(scope="module")
def neutral(factors):
    return with_expression(factors, NEUTRAL)


def source(size=32, **options):
    data = types.SimpleNamespace(name="synthetic", path="", size=size, batch_size=4, flip=True)
    return SyntheticFaces(data, **options)


def column(name):
    return ATTRIBUTES.index(name)


def share(labels, *names):
    """Share of each image that belongs to the classes."""
    return np.isin(labels, [CLASSES_19.index(name) for name in names]).mean(axis=(1, 2))


@pytest.mark.parametrize("size", [32, 64, 100, 256])
def test_fields_have_documented_types_shapes_and_ranges(size):
    out = render(sample_factors(tf.range(3, dtype=tf.int64)), size, FIELDS)
    shapes = {
        "image": ((3, size, size, 3), tf.float32),
        "label_map": ((3, size, size), tf.int32),
        "attributes": ((3, len(ATTRIBUTES)), tf.int32),
        "expression": ((3,), tf.int32),
        "intensity": ((3,), tf.float32),
        "identity": ((3,), tf.int64),
        "landmarks": ((3, 5, 2), tf.float32),
        "pose": ((3, 3), tf.float32),
        "light": ((3, 3), tf.float32),
    }
    assert set(out) == set(shapes) == set(FIELDS)
    for name, (shape, dtype) in shapes.items():
        assert (tuple(out[name].shape), out[name].dtype) == (shape, dtype), name
    image, labels = out["image"].numpy(), out["label_map"].numpy()
    assert np.isfinite(image).all() and image.min() >= -1 and image.max() <= 1
    assert image.std() > 0.2
    assert labels.min() == 0 and labels.max() <= 18
    np.testing.assert_allclose(np.linalg.norm(out["light"], axis=1), 1.0, atol=1e-5)


def test_names_and_factor_groups():
    assert list(EXPRESSIONS) == sorted(EXPRESSIONS) and len(EXPRESSIONS) == 8
    assert list(ATTRIBUTES) == sorted(ATTRIBUTES) and len(ATTRIBUTES) >= 18
    assert len(CLASSES_19) == 19 and CLASSES_19[4] == "l_eye" and CLASSES_19[18] == "cloth"
    shared = [GROUPS[group] for group in ("identity", "style", "pose", "expression")]
    names = [name for group in shared for name in group]
    assert len(names) == len(set(names))
    assert set(names) == set(sample_factors(tf.constant([1], tf.int64)))
    assert set(GROUPS["colours"]) <= set(names)


def test_same_seed_gives_the_same_face():
    seeds = tf.constant([5, 2**62, -3], tf.int64)
    first, again = (render(sample_factors(seeds), 32, FIELDS)["image"].numpy() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    alone = render(sample_factors(seeds[1:2]), 32, FIELDS)["image"].numpy()
    np.testing.assert_allclose(alone[0], first[1], atol=1e-5)
    assert np.abs(first[0] - first[1]).mean() > 0.05


def _reference_stream(seed: int, name: str) -> float:
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
        return x ^ (x >> 31)

    x = mix(seed * golden + golden & mask)
    return (mix(x + zlib.crc32(name.encode()) * golden & mask) >> 40) / 2**24


@pytest.mark.parametrize("compiled", [False, True])
def test_streams_match_a_reference_hash(compiled):
    names = [f"factor_{i}" for i in range(70)]  # Enough for TensorFlow to pack its constants.

    def draw(seeds):
        return uniform(seeds, *names)

    seeds = [0, 1, 12345, 2**61 + 7, -9]
    drawn = (tf.function(draw) if compiled else draw)(tf.constant(seeds, tf.int64))
    expected = [[_reference_stream(seed, name) for name in names] for seed in seeds]
    np.testing.assert_array_equal(drawn, np.float32(expected))


def test_eager_rendering_matches_the_pipeline():
    batch = next(iter(source(fields=("label_map",)).batches("val", 4)))
    factors = source().factors("val", 0, 4)
    eager = render(factors, 32, ("image", "label_map"))
    np.testing.assert_allclose(batch["image"], eager["image"], atol=2e-5)
    assert (batch["label_map"].numpy() == eager["label_map"].numpy()).mean() > 0.999


def test_expressions_change_only_the_moving_region(factors):
    mask = moving_mask(factors, SIZE).numpy()
    assert mask.dtype == bool and mask.mean(axis=(1, 2)).max() < 0.45
    base = draw(with_expression(factors, NEUTRAL))
    changed = np.zeros_like(mask)
    for index in range(len(EXPRESSIONS)):
        for intensity in (0.5, 1.0):
            edited = draw(with_expression(factors, index, intensity))
            difference = (edited["image"] != base["image"]).any(axis=-1)
            changed |= difference | (edited["label_map"] != base["label_map"])
            if index != NEUTRAL:
                assert difference.any(axis=(1, 2)).all(), EXPRESSIONS[index]
    for name in ("Smiling", "Mouth_Slightly_Open"):
        for value in (False, True):
            edited = draw(with_attribute(factors, name, value))
            changed |= (edited["image"] != base["image"]).any(axis=-1)
    assert not (changed & ~mask).any()
    assert (changed.sum() / mask.sum()) > 0.5  # The mask is not much larger than necessary.


def test_expressions_do_not_change_background_clothes_and_neck(factors):
    base = draw(with_expression(factors, NEUTRAL, 1.0))
    still = np.isin(
        base["label_map"], [CLASSES_19.index(n) for n in ("background", "cloth", "neck")]
    )
    for index in range(len(EXPRESSIONS)):
        edited = draw(with_expression(factors, index, 1.0))
        np.testing.assert_array_equal(edited["image"][still], base["image"][still])


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attribute_is_set_and_visible(neutral, name):
    both = [draw(with_attribute(neutral, name, value)) for value in (False, True)]
    for value, out in enumerate(both):
        assert (out["attributes"][:, column(name)] == value).all()
    assert (np.abs(both[0]["image"] - both[1]["image"]).max(axis=(1, 2, 3)) > 0.05).all()


@pytest.mark.parametrize(
    "name", ["Eyeglasses", "Smiling", "Bangs", "Wearing_Earrings", "Mustache", "Wearing_Necklace"]
)
def test_attribute_changes_only_its_region(neutral, name):
    hatless = with_attribute(with_attribute(neutral, "Wearing_Hat", False), "Bald", False)
    without, with_it = (draw(with_attribute(hatless, name, value)) for value in (False, True))
    changed = (without["image"] != with_it["image"]).any(axis=-1).mean(axis=(1, 2))
    assert (changed > 0).all() and changed.max() < 0.30
    others = [i for i in range(len(ATTRIBUTES)) if i != column(name)]
    np.testing.assert_array_equal(
        without["attributes"][:, others], with_it["attributes"][:, others]
    )


@pytest.mark.parametrize(
    ("name", "part", "least"),
    [
        ("Eyeglasses", "eye_g", 0.01),
        ("Wearing_Hat", "hat", 0.04),
        ("Wearing_Earrings", "ear_r", 0.0005),
        ("Wearing_Necklace", "neck_l", 0.002),
        ("Mouth_Slightly_Open", "mouth", 0.001),
    ],
)
def test_accessories_are_in_the_label_map(neutral, name, part, least):
    without, with_it = (
        draw(with_attribute(neutral, name, value))["label_map"] for value in (False, True)
    )
    assert (share(without, part) == 0).all()
    assert (share(with_it, part) >= least).all()


def test_face_parts_are_on_the_correct_side(neutral):
    frontal = with_factors(neutral, yaw=0.0, pitch=0.0, roll=0.0, glasses=False, hat=False)
    out = draw(with_expression(frontal, EXPRESSIONS.index("surprised"), 1.0))
    labels = out["label_map"]
    parts = ("background", "skin", "nose", "l_eye", "r_eye", "mouth", "u_lip", "l_lip", "neck")
    for part in (*parts, "cloth"):
        assert (share(labels, part) > 0.001).all(), part
    xs = np.broadcast_to(np.arange(SIZE), labels.shape)
    for part in ("eye", "brow", "ear"):
        for image, x in zip(labels, xs, strict=True):
            left = x[image == CLASSES_19.index(f"l_{part}")]
            right = x[image == CLASSES_19.index(f"r_{part}")]
            if left.size and right.size:
                assert left.min() > right.max()
    assert (share(labels, "skin") > 0.12).all()


def test_landmarks_match_the_label_map(factors):
    open_eyed = with_factors(
        with_expression(factors, EXPRESSIONS.index("surprised"), 1.0), glasses=False, bangs=False
    )
    out = draw(open_eyed)
    for points, labels in zip(out["landmarks"], out["label_map"], strict=True):
        x, y = np.round(points).astype(int).T
        assert labels[y[0], x[0]] == CLASSES_19.index("r_eye")
        assert labels[y[1], x[1]] == CLASSES_19.index("l_eye")
        assert labels[y[2], x[2]] == CLASSES_19.index("nose")
        assert x[3] < x[4]
        lips = np.argwhere(np.isin(labels, (10, 11, 12)))
        assert abs(x[3] - lips[:, 1].min()) <= 3 and abs(x[4] - lips[:, 1].max()) <= 3


def test_exclusive_attributes_are_resolved(factors):
    bald = with_attribute(factors, "Bald", True)
    seen = draw(bald)
    for name in ("Bangs", "Wearing_Hat", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"):
        assert (seen["attributes"][:, column(name)] == 0).all(), name
    assert (share(seen["label_map"], "hair") == 0).all()
    blond = with_attribute(bald, "Blond_Hair", True)
    values = draw(blond)["attributes"]
    assert (values[:, column("Blond_Hair")] == 1).all() and (values[:, column("Bald")] == 0).all()
    hat = draw(with_attribute(with_attribute(factors, "Bangs", True), "Wearing_Hat", True))
    assert (hat["attributes"][:, column("Bangs")] == 0).all()
    colours = [column(f"{name}_Hair") for name in ("Black", "Blond", "Brown", "Gray")]
    assert draw(factors)["attributes"][:, colours].sum(axis=1).max() <= 1


def test_mouth_attributes_follow_the_expression_until_set(factors):
    smiling, opened = column("Smiling"), column("Mouth_Slightly_Open")
    for index, name in enumerate(EXPRESSIONS):
        values = draw(with_expression(factors, index))["attributes"]
        assert (values[:, smiling] == (name == "happy")).all()
        if name in ("fearful", "happy", "surprised"):
            assert (values[:, opened] == 1).all()
        if name in ("neutral", "sad", "contemptuous"):
            assert (values[:, opened] == 0).all()
    closed = with_attribute(with_expression(factors, HAPPY), "Mouth_Slightly_Open", False)
    values = draw(closed)["attributes"]
    assert (values[:, smiling] == 1).all() and (values[:, opened] == 0).all()
    # A new expression resets the mouth.
    again = draw(with_expression(closed, NEUTRAL))["attributes"]
    assert (again[:, smiling] == 0).all()


def test_factor_groups_are_copied_from_other_faces(factors):
    other = sample_factors(tf.range(500, 500 + FACES, dtype=tf.int64))
    mixed = draw(with_factors(factors, pose=other))
    np.testing.assert_array_equal(mixed["pose"], draw(other)["pose"])
    np.testing.assert_array_equal(mixed["identity"], factors["identity"])
    recoloured = draw(with_factors(factors, colours=other))
    np.testing.assert_array_equal(recoloured["label_map"], draw(factors)["label_map"])
    assert np.abs(recoloured["image"] - draw(factors)["image"]).mean() > 0.05


def test_source_batches_repeat_resume_and_differ():
    faces = source(classes=("sad", "happy"), attributes=("Bangs", "Bald"), fields=("identity",))
    run = list(faces.batches("train", 6, seed=3).take(3))
    resumed = next(iter(faces.batches("train", 6, seed=3, start=2)))
    for name, value in run[2].items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)
    assert run[0]["attributes"].shape == (6, 2) and set(run[0]["expression"].numpy()) <= {0, 1}
    seen = [batch["identity"].numpy() for batch in run]
    seen.append(next(iter(faces.batches("train", 6, seed=4)))["identity"].numpy())
    seen = np.concatenate(seen)
    assert len(np.unique(seen)) == 24 and set(seen % 3) == {0}
    assert faces.count("train") is None


@pytest.mark.parametrize(("split", "residue"), [("train", 0), ("val", 1), ("test", 2)])
def test_splits_share_no_face(split, residue):
    for first in (0, 2**40 + 5):
        assert set(source().factors(split, first, 8)["identity"].numpy() % 3) == {residue}


def test_where_changes_one_attribute_of_the_same_faces():
    faces = source(attributes=("Eyeglasses", "Smiling"), fields=("identity",))
    with_it, without = (
        next(iter(faces.batches("test", 8, where=("Smiling", value)))) for value in (True, False)
    )
    np.testing.assert_array_equal(with_it["identity"], without["identity"])
    np.testing.assert_array_equal(with_it["attributes"][:, 0], without["attributes"][:, 0])
    assert (
        with_it["attributes"].numpy()[:, 1].all() and not without["attributes"].numpy()[:, 1].any()
    )


def test_attribute_and_expression_frequencies():
    seeds = tf.range(0, 6000, 3, dtype=tf.int64)
    out = render(sample_factors(seeds), 32, ("attributes", "expression", "intensity"))
    rate = out["attributes"].numpy().mean(axis=0)
    assert (rate > 0.04).all() and (rate < 0.55).all()
    assert 0.3 < rate[column("Eyeglasses")] < 0.5 and 0.3 < rate[column("Bangs")] < 0.5
    assert np.bincount(out["expression"], minlength=8).min() > 0.1 * len(seeds)
    assert out["intensity"].numpy().min() >= 0.7 and out["intensity"].numpy().max() <= 1
    own = source(attributes=("Smiling",)).factors("train", 0, 2000)
    smiling = render(own, 32, ("attributes",))["attributes"].numpy()[:, column("Smiling")]
    assert 0.4 < smiling.mean() < 0.5


@pytest.mark.parametrize(
    ("call", "wrong", "known"),
    [
        (lambda: source().exemplars("all", 2), "all", "train"),
        (lambda: source(attributes=("Smiles",)), "Smiles", "Smiling"),
        (lambda: source(classes=("glad",)), "glad", "happy"),
        (lambda: source(fields=("depth",)), "depth", "label_map"),
        (lambda: source().batches("all", 2), "all", "train"),
        (lambda: source().batches("val", 2, where=("Beard", True)), "Beard", "Goatee"),
        (lambda: render(sample_factors(tf.range(2)), 16), "16", "32"),
        (lambda: render(sample_factors(tf.range(2)), 32, ("mask",)), "mask", "label_map"),
        (lambda: with_attribute(sample_factors(tf.range(2)), "Tall", True), "Tall", "Bald"),
        (lambda: with_factors(sample_factors(tf.range(2)), mood=1.0), "mood", "yaw"),
    ],
)
def test_errors_list_the_valid_names(call, wrong, known):
    with pytest.raises(UserError, match=wrong) as error:
        call()
    assert known in str(error.value)
