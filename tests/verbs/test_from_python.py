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
def test_from_preset_equals_the_command_line(method):
    config = get_config(method)
    words = [method, "--preset", "tiny", "--train.steps", "9", "--data.path", "x"]
    _, expected, _ = parse_training(words, {method: config})
    options = {"train.steps": 9, "data.path": "x"}
    assert from_preset(method, config, "tiny", options) == expected


def test_option_values_can_be_tuples_and_paths(tmp_path):
    config = preset({"classes": ("sad", "happy"), "data.path": tmp_path})
    assert config.classes == ("sad", "happy") and config.data.path == str(tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"trane.steps": 1}, "perhaps you mean 'train.steps'?"),
        ({"train.stepz": 1}, "unknown option 'train.stepz'; perhaps you mean 'train.steps'?"),
        ({"train.steps": "many"}, "train.steps is 'many': expected a whole number"),
        ({"train.steps": 0}, "train.steps is 0: expected at least 1"),
        ({"width.a": 1}, "unknown option 'width.a'; perhaps you mean 'width'?"),
    ],
)
def test_invalid_options_are_user_errors(options, expected):
    with pytest.raises(UserError) as refused:
        preset(options)
    assert expected in str(refused.value)


def test_groups_can_be_set_by_dotted_names_or_dicts():
    options = {"weights.change": 2, "discriminator": {"width": np.int64(8)}, "classes": "sad,happy"}
    config = preset(options)
    assert (config.weights.change, config.weights.gradient_penalty) == (2.0, 10.0)
    assert (config.discriminator.width, config.discriminator.layers) == (8, 4)
    assert config.classes == ("sad", "happy")


def test_an_unknown_preset_is_a_user_error():
    with pytest.raises(UserError, match="'big'; expected one of celeba64, demo, "):
        preset(name="big")


@pytest.mark.slow
def test_train_run_trains_continues_and_leaves_a_complete_run_unchanged(tmp_path):
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


def test_edit_accepts_one_expression_several_or_none_for_all(sargan, tmp_path):
    image = face(0, 50, 70)
    image.save(tmp_path / "face.png")
    every = sargan.edit(image)
    assert tuple(every) == CLASSES and every["sad"].size == (50, 70)
    assert sargan.edit(image, expression="sad") == {"sad": every["sad"]}
    two = sargan.edit(tmp_path / "face.png", expression=("sad", "happy"))
    assert two == {name: every[name] for name in ("sad", "happy")}
    with pytest.raises(UserError, match="no expression 'gld'"):
        sargan.edit(image, expression="gld")
    with pytest.raises(UserError, match="^seed is not an option of sargan"):
        sargan.edit(image, seed=1)


def test_references_can_be_images_or_files(tmp_path):
    trained = write_tiny_run(tmp_path / "run", "elegant", attributes=list(ATTRIBUTES))
    image, other = face(0, 40, 40), face(1, 40, 40)
    other.save(tmp_path / "other.png")
    options = {"attribute": ["Smiling"], "reference": [other], "strength": [0.5]}
    [[[(name, expected)]]] = trained.editor(options).edit([image])
    options = {"attribute": "Smiling", "strength": 0.5}
    for reference in (other, tmp_path / "other.png", [str(tmp_path / "other.png")]):
        assert trained.edit(image, reference=reference, **options) == {name: expected}
    square = trained.edit(image, attribute=ATTRIBUTES, reference=[other, image], matrix=2)
    assert len(square) == 4
    with pytest.raises(UserError, match="^reference is missing"):
        trained.edit(image, attribute="Smiling")


def test_faces_are_generated_from_label_maps(tmp_path):
    trained = write_tiny_run(tmp_path / "run", "mask_guided")
    labels = example_labels(32)[0].numpy().astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "map.png")
    faces = trained.edit(labels, seed=range(1, 4))
    assert list(faces) == ["seed-1", "seed-2", "seed-3"]
    assert trained.edit(tmp_path / "map.png", seed=2) == {"seed-2": faces["seed-2"]}
