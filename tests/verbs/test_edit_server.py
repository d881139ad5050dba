"""`tfface.edit --server` gives the files that `tfface.edit RUN` gives."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rest_stand_in import NAME, RestStandIn
from tiny_models import image
from tiny_runs import write_tiny_run

import tfface
from tfface import export
from tfface.data.label_map_ops import example_labels
from tfface.data.label_maps import colour, save_label_map
from tfface.edit import main
from tfface.editing import Editor, Model
from tfface.errors import UserError
from tfface.server.app import Server

OPTIONS = {
    "sargan": {"classes": ["happy", "neutral", "sad"]},
    "elegant": {"attributes": ["Eyeglasses", "Smiling"]},
    "seg_hierarchical": {"classes": ["happy", "neutral", "sad"]},
    "domain_alignment": {},
    "mask_guided": {},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    for i in range(3):
        # Of the networks' own size: random weights blow up the last bits of a resized image.
        small = image(i, (6, 6)).resize((32, 32), Image.Resampling.BICUBIC)
        small.save(root / f"face{i}.png")
    save_label_map(example_labels(48).numpy()[0], root / "map.png")
    return root


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Run folder and server of a method with random weights, made when they are asked for."""
    folder, made = tmp_path_factory.mktemp("served"), {}

    def get(name):
        if name not in made:
            trained = write_tiny_run(folder / name, name, **OPTIONS[name])
            export._save(trained, folder / "models" / name / "1")
            server = Server(folder / "models" / name, model_name=name, warm_up=False).start()
            made[name] = folder / name, server
        return made[name]

    yield get
    for _, server in made.values():
        server.stop()


def edited(out, *argv):
    assert main([*map(str, argv), "--out", str(out)]) == 0
    return {file.name: Image.open(file) for file in sorted(out.iterdir())}


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "sargan face0.png --expression sad happy",
        "elegant face0.png --attribute Smiling --reference face1.png",
        "elegant face1.png --attribute Smiling --reference face0.png face2.png --strength 0 0.5",
        "elegant face1.png --attribute Smiling Eyeglasses --reference face0.png face2.png "
        "--strength 0.5 1",
        "elegant face0.png face2.png --attribute Eyeglasses Smiling --reference face1.png",
        "domain_alignment --condition map.png --exemplar face1.png face2.png --grid",
        "mask_guided --mask map.png --seed 7 --reference face1.png face2.png --interpolate 3",
    ],
)
def test_the_files_are_those_of_a_run(served, root, tmp_path, words):
    method, *rest = words.split()
    rest = [root / word if word.endswith(".png") else word for word in rest]
    run, server = served(method)
    address = f"127.0.0.1:{server.port}"
    by_run = edited(tmp_path / "run", run, *rest)
    by_server = edited(tmp_path / "server", "--server", address, "--model", method, *rest)
    assert by_run.keys() == by_server.keys() and by_run
    for name, expected in by_run.items():
        found = by_server[name]
        assert found.size == expected.size
        assert np.abs(np.asarray(found, int) - np.asarray(expected, int)).max() <= 2, name


@pytest.mark.slow
def test_faces_and_segmentation_of_a_served_seg_hierarchical(served, root, tmp_path):
    run, server = served("seg_hierarchical")
    name = tfface.load(str(run)).method.config.classes[0]
    argv = [root / "face0.png", "--expression", name, "--grid"]
    address = ["--server", f"127.0.0.1:{server.port}", "--model", "seg_hierarchical"]
    by_run = edited(tmp_path / "run", run, *argv)
    by_server = edited(tmp_path / "server", *address, *argv)
    assert by_server.keys() == by_run.keys() >= {f"face0-{name}.png", "face0-segmentation.png"}
    for file in by_run.keys() - {"grid.png"}:
        difference = np.asarray(by_server[file], int) - np.asarray(by_run[file], int)
        assert np.mean(np.abs(difference) > 2) < 0.01  # Where two parts are equally likely.
    assert min(by_server["grid.png"].size) >= 128


@pytest.fixture(scope="module")
def rest():
    with RestStandIn() as server:
        yield server


@pytest.fixture
def address(rest):
    return ["--server", rest.url, "--model", NAME]


def test_images_and_folders_over_rest(address, root, tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for i in range(3):
        image(i, (20 + i, 20)).save(folder / f"{i}.png")
    made = edited(
        tmp_path / "out", *address, root / "face0.png", folder, "--expression", "happy", "--grid"
    )
    assert list(made) == [
        "0-happy.png",
        "1-happy.png",
        "2-happy.png",
        "face0-happy.png",
        "grid.png",
    ]
    for i in range(3):
        assert np.array_equal(made[f"{i}-happy.png"], 255 - np.asarray(image(i, (20 + i, 20))))


def test_a_bad_image_of_a_folder_is_skipped(address, tmp_path, capsys):
    image().save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(b"garbage")
    out = tmp_path / "out"
    argv = [*address, str(tmp_path), "--expression", "happy", "--out", str(out)]
    assert main(argv) == 2
    assert [file.name for file in out.iterdir()] == ["a-happy.png"]
    assert "1 of 2 images could not be read" in capsys.readouterr().err


def told(capsys, *argv):
    """The one line of a command that fails."""
    assert main([str(a) for a in argv]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tfface.edit: error: ")
    return line.removeprefix("tfface.edit: error: ")


def test_what_the_server_refuses_is_one_line(address, root, capsys):
    message = told(capsys, *address, root / "face0.png", "--expression", "unhappy")
    assert message == (
        "INVALID_ARGUMENT: assertion failed: [unknown expression; expected one of happy, sad; "
        'received] ["unhappy"] [[{{node Assert}}]]'
    )
    message = told(capsys, *address[:3], "nope", root / "face0.png", "--expression", "happy")
    assert message == "NOT_FOUND: Servable not found for request: Latest(nope)"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("face0.png", "--expression: expected names, as a server does not list those that there"),
        ("face0.png --expression all", "--expression: expected names"),
        ("face0.png --strength 1", "--strength is no option of the served model; it has --expres"),
        ("face0.png --matrix 3", "--matrix is no option of the served model; it has --expression"),
        ("face0.png --step 3", "--step is for a run, not for --server"),
        ("--condition map.png --expression happy", " needs an image to edit"),
        ("", "expected one of: an image to edit, or --condition with a label map"),
        ("none.png --expression happy", "none.png: no such file"),
        ("face0.png --reference none.png", "none.png: no such file"),
    ],
)
def test_mistakes(address, root, capsys, options, expected):
    words = [root / word if word.endswith(".png") else word for word in options.split()]
    assert expected in told(capsys, *address, *words)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--server", "localhost", "a.png"], "'localhost': expected HOST:PORT of the gRPC API, or"),
        (["--model", "faces", "run", "a.png"], "--model is for --server"),
        ([], "expected a run folder, or --server"),
    ],
)
def test_mistakes_with_the_address(capsys, argv, expected):
    assert expected in told(capsys, *argv)


def signature(*inputs):
    return {"bytes": {"inputs": dict.fromkeys(inputs)}}


EXPRESSIONS = signature("image_bytes", "expression")
TRANSFERS = signature("source_bytes", "reference_bytes", "attribute", "strength")
SEVERAL = {**TRANSFERS, "several_bytes": TRANSFERS["bytes"]}
STYLES = signature("label_map_bytes", "seed")


@pytest.mark.parametrize(
    ("signatures", "options", "expected"),
    [
        ({}, {}, "model m at t has no signature `bytes` as tfface.export writes"),
        (signature("x"), {}, "model m at t has no signature `bytes`"),
        (EXPRESSIONS, {"seed": [1]}, "--seed is no option of the served model; it has --express"),
        (signature("image_bytes"), {"expression": ["a"]}, "--expression is no option .* has none"),
        (TRANSFERS, {"attribute": ["a"]}, "--reference is missing"),
        (TRANSFERS, {"reference": ["a.png"]}, "--attribute is missing: the name of what is exch"),
        (
            TRANSFERS,
            {"reference": ["x"], "attribute": ["a", "b"]},
            "2 changes at once: .* exported",
        ),
        (SEVERAL, {"reference": ["x"], "attribute": ["a"], "matrix": 3}, "received 1 and 1"),
        (SEVERAL, {"reference": ["x", "y", "z"], "attribute": ["a", "b"]}, "3 references for 2 a"),
        (signature("condition_bytes", "exemplar_bytes"), {}, "--exemplar is missing"),
        (STYLES, {"interpolate": 1}, "--interpolate is 1: expected at least 2"),
        (STYLES, {"seed": [1], "interpolate": 3}, "--interpolate needs two styles or more"),
    ],
)
def test_options_that_do_not_fit_the_served_model(signatures, options, expected):
    client = types.SimpleNamespace(model="m", target="t")
    with pytest.raises(UserError, match=expected):
        Editor(Model(client, signatures), options)


def test_a_segmentation_network_alone_gives_its_label_map():
    client = types.SimpleNamespace(segment=lambda files: [np.full((4, 4), 3) for _ in files])
    editor = Editor(Model(client, signature("image_bytes")), {})
    [[[(name, made)]]] = editor.edit(["a.png"])
    assert (editor.takes, name) == ("image", "segmentation")
    assert np.array_equal(made, colour(np.full((4, 4), 3)))


def test_images_that_would_be_written_to_one_file(address, root, tmp_path, capsys):
    image().save(tmp_path / "face0.png")
    argv = [*address, root / "face0.png", tmp_path / "face0.png", "--expression", "happy"]
    assert "several images would be edited into face0_png-*.png" in told(capsys, *argv)


@pytest.mark.slow
def test_over_rest_tensorflow_is_not_imported(address, root, tmp_path):
    code = (
        "import sys; from tfface.edit import main\n"
        "status = main(sys.argv[1:])\n"
        "sys.exit(status or 'tensorflow' in sys.modules)"
    )
    argv = [*address, str(root / "face0.png"), "--expression", "happy", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=Path(__file__).parents[2])
    assert done.returncode == 0
