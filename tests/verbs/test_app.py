"""`tfface.app` without a browser: mistakes, and what its tabs do. For the page see tests-app."""

from __future__ import annotations

import base64
import importlib.machinery
import importlib.util
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tfface.web.examples as examples
from tfface import app
from tfface.client import Blocks, FaceClient, ServerError
from tfface.data import alignment
from tfface.data.alignment import Face
from tfface.data.images import read_mark
from tfface.data.label_maps import CLASSES_19, LINE, load_label_map, save_label_map, to_labels
from tfface.data.marks import EDITED, GENERATED
from tfface.errors import UserError
from tfface.web.actions import PARTS, Actions, example_maps, to_painted
from tfface.web.offers import find_offer

ROOT = Path(__file__).parents[2]
SIZE = 16
STRING = {"dtype": "string", "shape": (None,)}
IMAGES = {"image": {"dtype": "float32", "shape": (None, SIZE, SIZE, 3)}}
INPUTS = {
    "expression": ("image_bytes", "expression"),
    "attribute": ("source_bytes", "reference_bytes", "attribute", "strength"),
    "exemplar": ("condition_bytes", "exemplar_bytes"),
    "seed": ("label_map_bytes", "seed"),
}


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


class StandIn:
    """A transport of a model that returns grey images; `error` is raised by all later calls."""

    def __init__(self, kind, labels=("happy", "sad"), crop="synthetic", lines=False, blocks=None):
        takes = {"exemplar": "lines" if lines else "label_map", "seed": "label_map"}
        self.kind, self.labels, self.lines = kind, labels, lines
        self.facts = {"takes": [takes.get(kind, "image").encode()]}
        if crop:
            self.facts["crop"] = [crop.encode()]
        if kind in ("expression", "attribute"):
            self.facts["labels"] = [[label.encode() for label in labels]]
        self.calls, self.error, self.blocks = [], None, blocks

    async def metadata(self, timeout):
        self._fail()
        names = {"bytes": INPUTS[self.kind], "several_bytes": INPUTS["attribute"]}
        if self.kind == "expression":
            names |= {"segment_bytes": ("image_bytes",), "parts_bytes": INPUTS["expression"]}
        if self.blocks is not None:
            names["blocks_bytes"] = INPUTS["exemplar"]
        if self.kind == "seed":
            names["reference_bytes"] = ("label_map_bytes", "reference_bytes")
        if self.facts:
            names["about"] = ("query",)
        outputs = {"parts_bytes": {"eyes_bytes": STRING}}
        return {
            "serving_default": {"inputs": IMAGES, "outputs": {}},
            **{
                signature: {
                    "inputs": dict.fromkeys(inputs, STRING),
                    "outputs": outputs.get(signature, {}),
                }
                for signature, inputs in names.items()
            },
        }

    async def predict(self, inputs, signature, timeout):
        self._fail()
        if signature == "about":
            return {name: np.array(value, object) for name, value in self.facts.items()}
        self.calls.append((signature, inputs))
        for encoded in inputs.get("condition_bytes", []):
            if (load_label_map(encoded, None) == LINE).any() != self.lines:
                raise ServerError("INVALID_ARGUMENT", "expected the other kind")
        if signature == "blocks_bytes":
            return {name: value[None] for name, value in self.blocks._asdict().items()}
        first = np.ravel(next(iter(inputs.values())))
        if signature == "segment_bytes":
            maps = np.zeros((SIZE, SIZE), np.uint8)
            maps[4:12, 4:12] = CLASSES_19.index("skin")
            return {"label_map_bytes": np.array([png(maps)] * len(first), object)}
        edited = inputs.get("image_bytes", inputs.get("source_bytes"))
        size = (SIZE, SIZE) if edited is None else Image.open(io.BytesIO(edited[0])).size
        image = png(np.full((*size[::-1], 3), 99, np.uint8))
        eyes = png(np.full((SIZE, SIZE, 3), 99, np.uint8))
        images = {"image_bytes": image, "eyes_bytes": eyes}
        return {name: np.array([x] * len(first), object) for name, x in images.items()}

    def _fail(self):
        if self.error:
            raise self.error

    def size(self, value):
        return len(value) if isinstance(value, bytes | str) else 8


def offered(kind, timeout=0.2, **options):
    """A stand-in and its offer; calls of `find_offer` are forgotten."""
    transport = StandIn(kind, **options)

    def connect(align):
        return FaceClient("host:1", "faces", timeout, transport=transport, align=align)

    offer = find_offer("faces", connect)
    transport.calls.clear()
    return transport, offer


@pytest.fixture
def actions(tmp_path):
    return Actions(tmp_path / "results")


FACE = str(examples.faces()[0])


@pytest.mark.parametrize(
    ("kind", "labels"), [("expression", ("happy", "sad")), ("attribute", ("happy", "sad"))]
)
def test_labels_of_a_served_model_are_found(kind, labels):
    _, offer = offered(kind)
    assert offer.model.labels == labels and kind in offer.options
    assert offer.segments == (kind == "expression") and offer.side == 0


def test_photographs_are_aligned_only_if_the_model_was_trained_on_them():
    assert [offered("expression", crop=crop)[1].photographs
            for crop in ("celeba", "synthetic", None)] == [True, False, False]  # fmt: skip


@pytest.mark.parametrize("lines", [False, True])
def test_a_model_states_whether_it_takes_maps_or_drawings(lines):
    _, offer = offered("exemplar", lines=lines)
    assert offer.model.lines == lines and offer.side == SIZE
    codes = load_label_map(base64.b64decode(example_maps(offer)[0].partition(",")[2]), lines)
    assert codes.shape == (SIZE, SIZE) and len(np.unique(codes)) > 3


def test_a_model_of_another_program_is_named():
    transport = StandIn("expression")
    transport.__class__ = type("Other", (StandIn,), {"metadata": other_metadata})
    with pytest.raises(UserError, match="faces at host:1 has no signature `bytes`"):
        find_offer("faces", lambda align: FaceClient("host:1", "faces", transport=transport))


def test_an_export_that_states_no_labels_must_be_exported_again():
    transport = StandIn("expression")
    transport.facts = {}
    with pytest.raises(UserError, match="faces at host:1 has no signature `about`.*export it ag"):
        find_offer("faces", lambda align: FaceClient("host:1", "faces", transport=transport))


async def other_metadata(self, timeout):
    return {"serving_default": {"inputs": IMAGES, "outputs": IMAGES}}


def test_expressions(actions):
    transport, offer = offered("expression")
    results = actions.change_expression(offer, FACE, ["all"])
    names = [name for _, name in results.images]
    assert names == ["happy", "happy-eyes", "segmentation", "sad", "sad-eyes"]
    assert results.columns == 3 and results.note == ""
    file, part = results.images[0][0], results.images[1][0]
    assert Image.open(file).size == (256, 256) and Image.open(part).size == (SIZE, SIZE)
    assert read_mark(file).source == EDITED
    transport.calls.clear()
    actions.change_expression(offer, FACE, ["sad"])
    assert list(transport.calls[0][1]["expression"]) == ["sad"]


def test_results_of_two_edits_are_separate_files(actions):
    _, offer = offered("expression")
    one, two = (actions.change_expression(offer, FACE, ["sad"]).images for _ in range(2))
    assert one[0][0] != two[0][0] and Path(one[0][0]).exists()


def test_attributes_with_a_strength_and_as_a_matrix(actions):
    transport, offer = offered("attribute")
    results = actions.transfer_attributes(offer, FACE, [FACE], ["sad"], 0.5)
    assert [name for _, name in results.images] == ["sad-0.5"]
    assert transport.calls[0][1]["strength"] == pytest.approx([0.5])
    results = actions.transfer_attributes(offer, FACE, [FACE] * 3, ["sad"], 0.5, 3)
    assert len(results.images) == 9 and results.columns == 3
    with pytest.raises(UserError, match="matrix .* three references"):
        actions.transfer_attributes(offer, FACE, [FACE], ["sad"], 1, 3)


def test_faces_of_a_label_map(actions):
    transport, offer = offered("seed")
    painted = example_maps(offer)[0]
    results = actions.synthesize(offer, painted, 3, 5, [])
    assert [name for _, name in results.images] == ["seed-5", "seed-6", "seed-7"]
    assert read_mark(results.images[0][0]).source == GENERATED
    results = actions.synthesize(offer, painted, 3, 5, [FACE, FACE])
    assert [name for _, name in results.images] == ["reference-1", "reference-2"]
    assert "reference_bytes" in transport.calls[-1][1]


def test_a_face_in_the_style_of_an_exemplar(actions):
    transport, offer = offered("exemplar")
    results = actions.generate(offer, example_maps(offer)[1], [FACE])
    assert [name for _, name in results.images] == ["face"]
    sent = load_label_map(transport.calls[-1][1]["condition_bytes"][0])
    shown = to_labels(load_label_map(examples.label_map_of(examples.faces()[1])), SIZE)
    assert np.array_equal(sent, shown)


def test_the_blocks_that_were_retrieved_for_a_point_are_outlined(actions):
    blocks = Blocks(np.zeros((4, 4, 2), np.int32), np.zeros((4, 4, 2), np.float32))
    blocks.index[1, 2], blocks.weights[1, 2] = (3, 8), (1.0, 0.5)
    _, offer = offered("exemplar", blocks=blocks)
    painted = example_maps(offer)[0]
    [(face, _)] = actions.generate(offer, painted, [FACE]).images
    enlarged = actions.enlarge(face)
    assert Image.open(enlarged).size == (512, 512)
    clicked, exemplar, _ = actions.retrieve(offer, painted, FACE, enlarged, (383, 128))
    assert read_mark(clicked) == read_mark(face) and read_mark(exemplar) is None
    assert outlined(clicked, Image.open(face)) == {(1, 2): 1.0}
    assert outlined(exemplar, Image.open(FACE)) == {(0, 3): 1.0, (2, 0): 0.5}


def outlined(file, original):
    """Row and column of each outlined block of 4 x 4, and its opacity; checks the insides."""
    image = np.asarray(Image.open(file), np.float32)
    before = np.asarray(original.convert("RGB").resize(image.shape[1::-1]), np.float32)
    change = np.abs(image - before).max(-1) / np.abs(np.array([0, 255, 255]) - before).max(-1)
    side, found = len(change) // 4, {}
    for row, column in np.ndindex(4, 4):
        block = change[row * side :, column * side :][:side, :side]
        assert block[4:-4, 4:-4].max() == 0
        ends = block[0], block[-1], block[:, 0], block[:, -1]
        if np.max(ends):
            assert np.ptp(ends) < 0.03
            found[row, column] = round(float(np.mean(ends)), 1)
    return found


def test_a_model_that_retrieves_no_blocks_is_named(actions):
    _, offer = offered("exemplar")
    painted = example_maps(offer)[0]
    [(face, _)] = actions.generate(offer, painted, [FACE]).images
    with pytest.raises(UserError, match="faces retrieves no blocks"):
        actions.retrieve(offer, painted, FACE, face, (0, 0))


def test_face_parts(actions):
    _, offer = offered("expression")
    seen, parts, note = actions.segment(offer, FACE)
    assert seen.shape == (256, 256, 3) and note == ""
    assert [name for _, name in parts] == ["background", "skin"]
    skin = parts[1][0]
    assert skin[64:192, 64:192].all() and skin.sum() == 128**2


@pytest.fixture
def two_faces(monkeypatch):
    """The detector finds a large face and a small one."""
    large = np.array([[100, 118], [157, 118], [128, 155], [104, 185], [152, 185]], np.float32)
    faces = [
        Face((60, 60, 200, 220), large),
        Face((5, 5, 60, 60), large / 4),
    ]
    monkeypatch.setattr(alignment, "find_faces", lambda image: faces)


@pytest.mark.usefixtures("two_faces")
def test_the_largest_face_of_a_photograph_is_edited(actions, tmp_path):
    _, offer = offered("expression", crop="celeba")
    photograph = Image.new("RGB", (600, 400), (200, 100, 50))
    photograph.save(tmp_path / "photo.png")
    results = actions.change_expression(offer, str(tmp_path / "photo.png"), ["sad"])
    assert "2 faces" in results.note and "face 1 is used" in results.note
    edited = np.asarray(Image.open(results.images[0][0]))
    assert edited.shape == (400, 600, 3) and (edited[390] == (200, 100, 50)).all()
    assert (edited[150, 128] != (200, 100, 50)).any()
    seen, _, note = actions.segment(offer, str(tmp_path / "photo.png"))
    assert seen.shape[0] == seen.shape[1] < 400 and "2 faces" in note


def test_an_opened_label_map_is_painted_on_as_the_model_sees_it(tmp_path):
    _, offer = offered("seed")
    labels = np.zeros((40, 64), np.uint8)
    labels[:20] = 13
    save_label_map(labels, tmp_path / "map.png")
    codes = load_label_map(base64.b64decode(to_painted(tmp_path / "map.png", offer).split(",")[1]))
    assert np.array_equal(codes, to_labels(labels, SIZE))
    Image.new("RGB", (32, 32), (1, 2, 3)).save(tmp_path / "photo.png")
    with pytest.raises(UserError, match=r"photo\.png: has the colour \(1, 2, 3\)"):
        to_painted(tmp_path / "photo.png", offer)


@pytest.mark.parametrize(
    ("kind", "call", "missing"),
    [
        ("expression", lambda a, o: a.change_expression(o, None, ["sad"]), "no image"),
        ("expression", lambda a, o: a.change_expression(o, FACE, []), "no expression"),
        ("expression", lambda a, o: a.change_expression(o, FACE, ["sed"]), "'sad'"),
        ("expression", lambda a, o: a.segment(o, None), "no image"),
        ("attribute", lambda a, o: a.transfer_attributes(o, FACE, [FACE], [], 1), "no attribute"),
        ("attribute", lambda a, o: a.transfer_attributes(o, FACE, [], ["sad"], 1), "reference"),
        ("seed", lambda a, o: a.synthesize(o, None, 1, 1, []), "no label map"),
        ("seed", lambda a, o: a.synthesize(o, example_maps(o)[0], 99, 1, []), "99"),
        ("seed", lambda a, o: a.synthesize(o, example_maps(o)[0], 1, -1, []), "-1"),
        ("seed", lambda a, o: a.synthesize(o, example_maps(o)[0], 1, None, []), "None"),
        ("exemplar", lambda a, o: a.generate(o, example_maps(o)[0], []), "no exemplar"),
    ],
)
def test_missing_and_wrong_input_is_named(kind, call, missing, actions):
    _, offer = offered(kind)
    with pytest.raises(UserError, match=missing):
        call(actions, offer)


@pytest.mark.parametrize(
    ("code", "way"),
    [
        ("UNAVAILABLE", "start the server again"),
        ("DEADLINE_EXCEEDED", "busy or slow"),
        ("RESOURCE_EXHAUSTED", "smaller image"),
        ("NOT_FOUND", "--model"),
        ("PERMISSION_DENIED", "does not allow"),
        ("INTERNAL", "the reason"),
    ],
)
def test_errors_of_the_server_name_it_and_the_way_on(code, way, actions):
    transport, offer = offered("expression")
    transport.error = ServerError(code, "the\nreason")
    for call in (
        lambda: actions.change_expression(offer, FACE, ["sad"]),
        lambda: actions.segment(offer, FACE),
    ):
        with pytest.raises(UserError) as raised:
            call()
        message = str(raised.value)
        assert "faces at host:1" in message and way in message and "\n" not in message


def test_a_server_that_returns_is_used_again(actions):
    transport, offer = offered("expression")
    transport.error = ServerError("UNAVAILABLE", "restarting")
    with pytest.raises(UserError):
        actions.change_expression(offer, FACE, ["sad"])
    transport.error = None
    assert actions.change_expression(offer, FACE, ["sad"]).images


def test_examples_have_label_maps():
    assert len(examples.faces()) >= 6
    for face in examples.faces():
        labels = load_label_map(examples.label_map_of(face))
        assert Image.open(face).size == labels.shape[::-1] == (256, 256)


def test_every_code_has_a_name_and_a_colour():
    assert len({name for name, _ in PARTS}) == len({tuple(colour) for _, colour in PARTS}) == 20


def failure(capsys, *argv):
    assert app.main(list(argv)) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere"], "nowhere: no such run folder or shipped model"),
        (["sargan/face64"], "perhaps you mean 'sargan/faces64'?"),
        (["--server", "localhost"], "'localhost': expected HOST:PORT"),
        (["sargan/faces64", "--server", "a:1"], "sargan/faces64 cannot be combined with --server"),
        (["--model", "a"], "--model needs --server"),
        (["--port", "70000"], "'70000': expected a number from 0 to 65535"),
    ],
)
def test_mistakes_are_one_line(argv, message, capsys):
    error = failure(capsys, *argv)
    assert message in error and error.count("\n") == 1


def test_gradio_is_named_if_it_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'tfface[app]'" in failure(capsys)


def test_a_server_that_cannot_be_reached_is_named(capsys, monkeypatch):
    gradio = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("gradio", None))
    monkeypatch.setitem(sys.modules, "gradio", gradio)  # Not needed before the page is built.
    monkeypatch.setattr(FaceClient, "metadata", unreachable)
    error = failure(capsys, "--server", "http://127.0.0.1:9", "--port", "0", "--model", "smiles")
    assert "smiles at http://127.0.0.1:9" in error and "start the server" in error


def unreachable(self):
    raise ServerError("UNAVAILABLE", "connection refused")


HELP = """
import sys
from tfface.app import main
try:
    main(["--help"])
except SystemExit:
    pass
print({"tensorflow", "gradio", "numpy", "grpc"} & set(sys.modules))
"""


def test_help_imports_neither_tensorflow_nor_gradio():
    done = subprocess.run(
        [sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--server" in done.stdout and done.stdout.endswith("set()\n")
