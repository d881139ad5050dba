"""`tfface.evaluate` on segmentation networks with random weights."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tfface
from tfface.config import Data, Train, from_dict, to_dict
from tfface.data.label_maps import CLASSES_19
from tfface.engine.load import write_run
from tfface.evaluate import evaluate_segmentation, main
from tfface.methods import get_config, get_method
from tfface.methods.seg_hierarchical.config import SegHierarchicalConfig


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluate")
    config = SegHierarchicalConfig(
        only_segmenter=True, segmenter="unet", seg_width=4, disc_layers=5, grow=5, blur=3,
        data=Data(size=32, batch_size=4), train=Train(steps=4),
    )  # fmt: skip
    config = from_dict(SegHierarchicalConfig, to_dict(config))
    method = get_method("seg_hierarchical")(config)
    tf.keras.utils.set_random_seed(1)
    write_run(root / "run", "seg_hierarchical", method, method.build())
    return root


def test_figures_of_a_run(root, capsys):
    assert main([str(root / "run"), "--count", "40"]) == 0
    told = capsys.readouterr().out
    figures = json.loads((root / "run" / "segmentation-test.json").read_text())
    assert figures["pictures"] == 40 and figures["split"] == "test"
    assert all(name in told for name in CLASSES_19)
    assert f"pixel accuracy {figures['pixel_accuracy']:.3f}, 40 pictures" in told


def test_a_perfect_segmentation(root, monkeypatch):
    """The truth, found by looking it up, has the IoU 1 in every class that occurs."""
    trained = tfface.load(str(root / "run"))
    faces = trained.method.open(trained.method.config)[1].batches("val", 32)
    truth = tf.concat([batch["label_map"] for batch in faces.take(2)], 0)
    seen = tf.Variable(0)

    def segment(nets, images):
        start = seen + 0
        seen.assign_add(tf.shape(images)[0])
        return tf.one_hot(truth[start : start + tf.shape(images)[0]], len(CLASSES_19))

    monkeypatch.setattr(trained.method, "segment", segment)
    figures = evaluate_segmentation(trained, "val", 50)
    assert figures["pictures"] == 50 and figures["pixel_accuracy"] == figures["miou"] == 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such run folder"),
        (["RUN", "--count", "0"], "--count is 0: expected at least 1"),
        (["RUN", "--split", "tests"], "invalid choice: 'tests'"),
        (["RUN", "--step", "9"], "has no checkpoint of step 9"),
    ],
)
def test_mistakes_are_told(root, capsys, words, message):
    assert main([str(root / "run") if word == "RUN" else word for word in words]) == 2
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told


def test_methods_without_a_segmentation_network_are_told(root, capsys):
    config = get_config("elegant")(attributes=("Smiling",), width=4, data=Data(size=32))
    method = get_method("elegant")(config)
    write_run(root / "elegant", "elegant", method, method.build())
    assert main([str(root / "elegant")]) == 2
    assert "is a run of elegant, which has no segmentation network" in capsys.readouterr().err


def test_an_edit_writes_the_label_map_in_its_colours(root, tmp_path):
    from PIL import Image

    from tfface.data.label_maps import load_label_map
    from tfface.edit import main as edit

    face = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(face).save(tmp_path / "face.png")
    argv = [str(root / "run"), str(tmp_path / "face.png"), "--out", str(tmp_path / "out")]
    assert edit([*argv, "--grid"]) == 0
    found = load_label_map(tmp_path / "out" / "face-segmentation.png")
    assert found.shape == (32, 32) and (tmp_path / "out" / "grid.png").exists()
    assert edit([*argv, "--expression", "happy"]) == 2
