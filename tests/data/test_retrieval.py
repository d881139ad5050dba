"""Retrieval of similar images, and `prepare exemplars`."""

import numpy as np
import pytest
from image_files import damage, masks_of, opened, part
from PIL import Image

from tfface.data import retrieval
from tfface.data.base import SPLITS
from tfface.prepare import main

HUES = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 230), "white": (240,) * 3}


def paint(root, hues, first=1):
    """Images of plain colours with a little noise; the colour by the number."""
    rng = np.random.default_rng(0)
    for number, hue in enumerate(hues, first):
        values = np.array(hue) + rng.integers(-9, 10, (64, 64, 3))
        path = root / "CelebA-HQ-img" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)
    return root


def hue_of(name):
    return list(HUES)[(int(name.split(".")[0]) - 1) % len(HUES)]


def test_similar_images_become_exemplars(tmp_path, capsys):
    paint(tmp_path, [*HUES.values()] * 10)
    damage(tmp_path / "CelebA-HQ-img" / "6.png", "text")
    (tmp_path / "exemplars.txt").write_text("1.png\n")  # Invalid, and replaced.
    words = ["exemplars", "--path", str(tmp_path), "--features", "random", "--size", "32"]
    assert main([*words, "--count", "5"]) == 0
    assert "wrote" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CelebA-HQ-img", "exemplars.txt"]
    source = opened(tmp_path, ())
    split_of = {f.name: split for split in SPLITS for f in source.select(split)}
    rows = [line.split(",") for line in (tmp_path / "exemplars.txt").read_text().splitlines()]
    assert sorted(row[0] for row in rows) == sorted(
        name for name, split in split_of.items()
        if name != "6.png" and list(split_of.values()).count(split) > 1
    )  # fmt: skip
    for name, *others in rows:
        same_split = [other for other in split_of if split_of[other] == split_of[name]]
        assert len(set(others)) == len(others) and not {name, "6.png"} & set(others)
        assert set(others) <= set(same_split)
        if split_of[name] == "train":
            assert len(others) == 5 and {hue_of(other) for other in others} == {hue_of(name)}
    # The reader uses them.
    for number in range(1, 41):
        for label in masks_of(number):
            part(tmp_path, number, label).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (64, 64), 255).save(part(tmp_path, number, label))
    batch = next(iter(source.exemplars("train", 40, paired=0.0)))
    means = [batch[field].numpy().mean((1, 2)) for field in ("image", "exemplar")]
    assert len(means[0]) > 20 and np.abs(means[0] - means[1]).max() < 0.1


def test_most_similar_matches_the_full_similarity_matrix(monkeypatch):
    monkeypatch.setattr(retrieval, "_ROWS", 7)
    features = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    features[3] = 0  # A black image.
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    cosine = unit @ unit.T
    found = retrieval.most_similar(features, 4)
    for row, others in enumerate(found):
        expected = np.sort(np.delete(cosine[row], row))[::-1][:4]
        np.testing.assert_allclose(cosine[row, others], expected, atol=1e-6)
        assert row not in others
    assert retrieval.most_similar(features, 99).shape == (30, 29)
    assert [sorted(row) for row in retrieval.most_similar(features[:2], 5).tolist()] == [[1], [0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--path", "nowhere"], "'nowhere': no such folder"),
        (["--count", "0"], "at least 1"),
        (["--size", "50"], "multiple of 32"),
        (["--feature", "vgg16"], "perhaps you mean '--features'"),
        (["--features", "vgg16"], "invalid choice"),
        (["--weights", "nowhere.h5"], "weights nowhere.h5: no such file"),
        (["--weights", "x", "--features", "random"], "expected features vgg19, not random"),
    ],
)
def test_invalid_exemplar_options_are_reported_without_tensorflow(
    tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.setattr("tfface.prepare_files.import_tensorflow", None)
    assert main(["exemplars", "--path", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_invalid_weights_and_too_few_images_are_reported(tmp_path, capsys):
    paint(tmp_path, [HUES["red"]])
    (tmp_path / "wrong.h5").write_text("no weights")
    words = ["exemplars", "--path", str(tmp_path), "--size", "32"]
    for options, message in (
        (["--weights", str(tmp_path / "wrong.h5")], "wrong.h5: expected VGG19's weights"),
        (["--features", "random"], "no split has two images"),
    ):
        assert main([*words, *options]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "exemplars.txt").exists()
