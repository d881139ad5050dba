"""Training and editing from Python."""

import numpy as np
import pytest
from PIL import Image
from tiny_runs import ATTRIBUTES, CLASSES, face, write_tiny_run

from tfface.config import from_preset, parse_training
from tfface.data.label_map_ops import example_labels
from tfface.errors import UserError
from tfface.methods import METHODS, get_config
from tfface.train import train_run

pytestmark = pytest.mark.usefixtures("eagerly")


def preset(options=None, name="tiny"):
    return from_preset("sargan", get_config("sargan"), name, options)


@pytest.mark.parametrize("method", METHODS)
def test_a_preset_is_that_of_the_command(method):
    config = get_config(method)
    words = [method, "--preset", "tiny", "--train.steps", "9", "--data.path", "x"]
    _, expected, _ = parse_training(words, {method: config})
    options = {"train.steps": 9, "data.path": "x"}
    assert from_preset(method, config, "tiny", options) == expected


def test_values_may_be_tuples_and_paths(tmp_path):
    config = preset({"classes": ("sad", "happy"), "data.path": tmp_path})
    assert config.classes == ("sad", "happy") and config.data.path == str(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trane.steps": 1}, "perhaps you mean 'train.steps'?"),
        ({"train.stepz": 1}, "there is no option 'train.stepz'; perhaps you mean 'train.steps'?"),
        ({"train.steps": "many"}, "train.steps is 'many': expected a whole number"),
        ({"train.steps": 0}, "train.steps is 0: expected at least 1"),
        ({"width.a": 1}, "there is no option 'width.a'; perhaps you mean 'width'?"),
    ],
)
def test_wrong_options_are_told(options, said):
    with pytest.raises(UserError, match="") as refused:
        preset(options)
    assert said in str(refused.value)


def test_options_of_groups_go_by_their_dotted_names():
    options = {"weights.change": 2, "discriminator": {"width": np.int64(8)}, "classes": "sad,happy"}
    config = preset(options)
    assert (config.weights.change, config.weights.gradient_penalty) == (2.0, 10.0)
    assert (config.discriminator.width, config.discriminator.layers) == (8, 4)
    assert config.classes == ("sad", "happy")


def test_an_unknown_preset_is_told():
    with pytest.raises(UserError, match="no preset 'big' of sargan; expected one of demo, "):
        preset(name="big")


@pytest.mark.slow
def test_a_run_is_trained_continued_and_left_alone(tmp_path):
    for i, name in enumerate(("glad", "grim") * 6):
        (tmp_path / "faces" / name).mkdir(parents=True, exist_ok=True)
        face(i, 32, 32).save(tmp_path / "faces" / name / f"{i}.png")

    def train(steps, **more):
        options = {"data.name": "folder", "data.path": tmp_path / "faces", "train.steps": steps}
        return train_run("sargan", preset="tiny", run=tmp_path / "run", options=options | more)

    trained = train(2)
    assert (trained.name, trained.step, trained.path) == ("sargan", 2, tmp_path / "run")
    assert trained.method.config.classes == ("glad", "grim")
    assert train(4).step == 4
    written = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert train(4).step == 4 and (tmp_path / "run" / "metrics.jsonl").read_text() == written
    with pytest.raises(UserError, match="a run with other options: width was 4, is 8"):
        train(4, width=8)


@pytest.fixture(scope="module")
def sargan(tmp_path_factory):
    return write_tiny_run(tmp_path_factory.mktemp("sargan"), "sargan", classes=list(CLASSES))


def test_one_expression_several_or_all(sargan, tmp_path):
    image = face(0, 50, 70)
    image.save(tmp_path / "face.png")
    every = sargan.edit(image)
    assert tuple(every) == CLASSES and every["sad"].size == (50, 70)
    assert sargan.edit(image, expression="sad") == {"sad": every["sad"]}
    some = sargan.edit(tmp_path / "face.png", expression=("sad", "happy"))
    assert some == {name: every[name] for name in ("sad", "happy")}
    with pytest.raises(UserError, match="no expression 'gld'"):
        sargan.edit(image, expression="gld")
    with pytest.raises(UserError, match="--seed is no option of sargan"):
        sargan.edit(image, seed=1)


def test_references_are_images_or_files(tmp_path):
    trained = write_tiny_run(tmp_path / "run", "elegant", attributes=list(ATTRIBUTES))
    image, other = face(0, 40, 40), face(1, 40, 40)
    other.save(tmp_path / "other.png")
    options = {"attribute": ["Smiling"], "reference": [other], "strength": [0.5]}
    [[[(name, expected)]]] = trained.editor(options).edit([image])
    options = {"attribute": "Smiling", "strength": 0.5}
    for reference in (other, tmp_path / "other.png", [str(tmp_path / "other.png")]):
        made = trained.edit(image, reference=reference, **options)
        assert made == {name: expected}
    square = trained.edit(image, attribute=ATTRIBUTES, reference=[other, image], matrix=2)
    assert len(square) == 4


def test_faces_are_made_from_label_maps(tmp_path):
    trained = write_tiny_run(tmp_path / "run", "mask_guided")
    labels = example_labels(32)[0].numpy().astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "map.png")
    made = trained.edit(labels, seed=range(1, 4))
    assert list(made) == ["seed-1", "seed-2", "seed-3"]
    assert trained.edit(tmp_path / "map.png", seed=2) == {"seed-2": made["seed-2"]}
