"""Edits of pictures without labels."""

import json
import sys

import numpy as np
import pytest

import tfface
from tfface.data.images import to_image
from tfface.data.synthetic import render
from tfface.errors import UserError
from tfface.evaluate import evaluate_pictures, main
from tfface.evaluation import evaluation_of, pictures
from tfface.evaluation.synthetic_truth import held_out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three faces, a file that is no image, and one that cannot be read."""
    root = tmp_path_factory.mktemp("pictures")
    for i, face in enumerate(render(held_out(3, 1), 80)["image"].numpy()):
        to_image(face).save(root / f"{i}.png")
    (root / "notes.txt").write_text("not an image")
    (root / "bad.png").write_bytes(b"not an image either")
    return root


@pytest.mark.parametrize("name", ["sargan/faces64", "elegant/faces64", "seg_hierarchical/faces64"])
def test_pictures_are_edited_to_each_label(folder, tmp_path, name):
    trained = tfface.load(name)
    figures, tables = evaluate_pictures(trained, tmp_path, folder)
    assert figures == json.loads((tmp_path / "figures.json").read_text())
    assert figures["pictures"] == 3 and list(figures["unused"]) == ["bad.png"]
    assert set(figures["edits"]) == set(trained.method.labels)
    for label, edited in figures["edits"].items():
        low, high = figures["intervals"]["edits"][label]["change"]
        assert 0 <= low <= edited["change"] <= high < 0.2 and edited["change"] > 0
    assert tables[0][0] == [trained.name, *trained.method.labels]
    page = (tmp_path / "report.html").read_text()
    assert "bad.png" in page and "3 of 4 pictures" in page and page.count("<img") >= 9


def test_attributes_come_from_the_next_picture(folder, tmp_path):
    trained, seen = tfface.load("elegant/faces64"), {}

    def observer(metric, names, images, scores, roles):
        seen.update(images)
        assert names == ["0.png", "1.png", "2.png"] and roles.source == "input"

    pictures.evaluate_pictures(evaluation_of(trained), folder, observer=observer)
    np.testing.assert_array_equal(seen["reference"], seen["input"][[1, 2, 0]])
    edit = evaluation_of(trained).transfer
    for i, name in enumerate(trained.method.labels):
        expected = edit(seen["input"], seen["reference"], np.full(3, i))
        np.testing.assert_allclose(seen[name], expected, atol=1e-5)
    with pytest.raises(UserError, match="expected at least two"):
        pictures.evaluate_pictures(evaluation_of(trained), folder, count=1)


def test_mistakes_are_reported(folder, tmp_path, capsys):
    def refused(*words):
        with pytest.raises(SystemExit) as ended:
            sys.exit(main([*words, "--out", str(tmp_path / "out")]))
        assert ended.value.code == 2 and not (tmp_path / "out").exists()
        return capsys.readouterr().err

    here = str(folder)
    assert "mask_guided does not edit faces" in refused("mask_guided/faces64", "--pictures", here)
    assert "no such file" in refused("sargan/faces64", "--pictures", str(tmp_path / "none"))
    words = "sargan/faces64", "--pictures", here
    assert "--pictures and --path" in refused(*words, "--path", here)
    assert "the crop 'synthetic'" in refused(*words, "--judges", here)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.png").write_bytes(b"")
    message = refused("sargan/faces64", "--pictures", str(tmp_path / "bad"))
    assert "no image can be read" in message and "bad.png" in message
