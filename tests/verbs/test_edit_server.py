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
from tfface.client import About, FaceClient
from tfface.data.label_map_ops import example_labels
from tfface.data.label_maps import colour, save_label_map
from tfface.edit import main
from tfface.editing import Editor, Model
from tfface.errors import UserError
from tfface.exporting.saved_model import _save
from tfface.server.app import Server
from tfface.server.protos import BatchingParameters

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
        # Of the networks' size: random weights would amplify rounding errors of resizing.
        small = image(i, (6, 6)).resize((32, 32), Image.Resampling.BICUBIC)
        small.save(root / f"face{i}.png")
    save_label_map(example_labels(48).numpy()[0], root / "map.png")
    return root


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Run folder and server of a method with random weights, created on first use."""
    folder, servers = tmp_path_factory.mktemp("served"), {}

    def get(name):
        if name not in servers:
            trained = write_tiny_run(folder / name, name, **OPTIONS[name])
            _save(trained, folder / "models" / name / "1")
            options = {"rest_port": 0, "batching": BatchingParameters(), "warm_up": False}
            server = Server(folder / "models" / name, model_name=name, **options).start()
            servers[name] = folder / name, server
        return servers[name]

    yield get
    for _, server in servers.values():
        server.stop()


def edited(out, *argv):
    assert main([*map(str, argv), "--out", str(out)]) == 0
    return {file.name: Image.open(file) for file in sorted(out.iterdir())}


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "sargan face0.png",
        "elegant face0.png --attribute Smiling --reference face1.png",
        "elegant face1.png --attribute Smiling --reference face0.png face2.png --strength 0 0.5",
        "elegant face1.png --attribute Smiling Eyeglasses --reference face0.png face2.png "
        "--strength 0.5 1",
        "elegant face0.png face2.png --attribute Eyeglasses Smiling --reference face1.png",
        "domain_alignment --condition map.png --exemplar face1.png face2.png --grid",
        "mask_guided --mask map.png --seed 7 --reference face1.png face2.png --interpolate 3",
    ],
)
def test_a_server_gives_the_same_files_as_the_run(served, root, tmp_path, words):
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
@pytest.mark.parametrize(
    ("method", "about"),
    [
        ("sargan", About("image", "synthetic", ("happy", "neutral", "sad"))),
        ("domain_alignment", About("label_map", "synthetic")),
    ],
)
def test_a_served_model_states_what_it_takes(served, method, about):
    _, server = served(method)
    for address in (f"127.0.0.1:{server.port}", f"http://127.0.0.1:{server.rest_port}"):
        with FaceClient(address, method) as client:
            assert client.about() == about
            rows = client.predict({"query": ["", "x", ""]}, "about")
            assert {len(values) for values in rows.values()} == {3}


@pytest.mark.slow
def test_a_served_seg_hierarchical_gives_the_runs_faces_and_segmentation(served, root, tmp_path):
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


def test_images_and_folders_are_edited_over_rest(address, root, tmp_path):
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


def test_an_unreadable_image_of_a_folder_is_skipped(address, tmp_path, capsys):
    image().save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(b"garbage")
    out = tmp_path / "out"
    argv = [*address, str(tmp_path), "--expression", "happy", "--out", str(out)]
    assert main(argv) == 2
    assert [file.name for file in out.iterdir()] == ["a-happy.png"]
    assert "1 of 2 images were skipped" in capsys.readouterr().err


def failure(capsys, *argv):
    """The message of a command that fails, which is one line."""
    assert main([str(a) for a in argv]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tfface.edit: error: ")
    return line.removeprefix("tfface.edit: error: ")


def test_server_errors_are_reported_in_one_line(address, root, capsys):
    message = failure(capsys, *address, root / "face0.png", "--expression", "unhappy")
    assert message == (
        "INVALID_ARGUMENT: assertion failed: [unknown expression; expected one of happy, sad; "
        'received] ["unhappy"] [[{{node Assert}}]]'
    )
    message = failure(capsys, *address[:3], "nope", root / "face0.png", "--expression", "happy")
    assert message == "NOT_FOUND: Servable not found for request: Latest(nope)"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("face0.png", "--expression must name expressions"),
        ("face0.png --expression all", "--expression must name expressions"),
        (
            "face0.png --strength 1",
            "--strength is not an option of the served model; its opt",
        ),
        ("face0.png --matrix 3", "--matrix is not an option of the served model"),
        ("face0.png --step 3", "--step cannot be combined with --server"),
        ("--condition map.png --expression happy", " needs an image to edit"),
        ("", "expected either images to edit, or --condition with a label map"),
        ("none.png --expression happy", "none.png: no such file"),
        ("face0.png --reference none.png", "none.png: no such file"),
    ],
)
def test_unsuitable_options_are_errors_that_name_the_flag(address, root, capsys, options, expected):
    words = [root / word if word.endswith(".png") else word for word in options.split()]
    assert expected in failure(capsys, *address, *words)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--server", "localhost", "a.png"], "'localhost': expected HOST:PORT"),
        (["--model", "faces", "run", "a.png"], "--model needs --server"),
        ([], "expected a run folder, or --server"),
    ],
)
def test_an_unsuitable_address_or_run_is_an_error(capsys, argv, expected):
    assert expected in failure(capsys, *argv)


def signature(*inputs):
    return {"bytes": {"inputs": dict.fromkeys(inputs)}}


EXPRESSIONS = signature("image_bytes", "expression")
TRANSFERS = signature("source_bytes", "reference_bytes", "attribute", "strength")
SEVERAL = {**TRANSFERS, "several_bytes": TRANSFERS["bytes"]}
STYLES = signature("label_map_bytes", "seed")


@pytest.mark.parametrize(
    ("signatures", "options", "expected"),
    [
        ({}, {}, "model m at t has no `bytes` signature"),
        (signature("x"), {}, "model m at t has no `bytes` signature"),
        (EXPRESSIONS, {"seed": [1]}, "^seed is not an option of the served model; .*: expression"),
        (signature("image_bytes"), {"expression": ["a"]}, "^expression is not an .*: none"),
        (TRANSFERS, {"attribute": ["a"]}, "^reference is missing"),
        (TRANSFERS, {"reference": ["a.png"]}, "^attribute is missing"),
        (
            TRANSFERS,
            {"reference": ["x"], "attribute": ["a", "b"]},
            "the served model cannot transfer 2 attributes at once: .*export it again",
        ),
        (SEVERAL, {"reference": ["x"], "attribute": ["a"], "matrix": 3}, "received 1 and 1"),
        (SEVERAL, {"reference": ["x", "y", "z"], "attribute": ["a", "b"]}, "3 references for 2 a"),
        (signature("condition_bytes", "exemplar_bytes"), {}, "^exemplar is missing"),
        (STYLES, {"interpolate": 1}, "^interpolate is 1: expected at least 2"),
        (STYLES, {"seed": [1], "interpolate": 3}, "^interpolate needs at least two styles"),
    ],
)
def test_editor_errors_name_arguments_not_flags(signatures, options, expected):
    client = types.SimpleNamespace(model="m", target="t")
    with pytest.raises(UserError, match=expected):
        Editor(Model(client, signatures), options)


def test_a_segmentation_model_gives_a_coloured_label_map():
    client = types.SimpleNamespace(segment=lambda files: [np.full((4, 4), 3) for _ in files])
    editor = Editor(Model(client, signature("image_bytes")), {})
    [[[(name, made)]]] = editor.edit(["a.png"])
    assert (editor.takes, name) == ("image", "segmentation")
    assert np.array_equal(made, colour(np.full((4, 4), 3)))


def test_inputs_with_the_same_output_name_are_an_error(address, root, tmp_path, capsys):
    image().save(tmp_path / "face0.png")
    argv = [*address, root / "face0.png", tmp_path / "face0.png", "--expression", "happy"]
    assert "several images would be written to face0_png-*.png" in failure(capsys, *argv)


@pytest.mark.slow
def test_editing_over_rest_does_not_import_tensorflow(address, root, tmp_path):
    code = (
        "import sys; from tfface.edit import main\n"
        "status = main(sys.argv[1:])\n"
        "sys.exit(status or 'tensorflow' in sys.modules)"
    )
    argv = [*address, str(root / "face0.png"), "--expression", "happy", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=Path(__file__).parents[2])
    assert done.returncode == 0
