"""The methods of FaceClient, against the embedded server."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from client_helpers import codes_of, expected_face, negative, refusal, spy
from PIL import Image
from rest_calls import serving
from tiny_models import SIZE, faces, image, png, save

import tfface.client.packing
from tfface.client import AsyncFaceClient, FaceClient, ServerError, VersionStatus
from tfface.data.label_maps import save_colours, save_label_map
from tfface.errors import UserError
from tfface.server.app import Server
from tfface.server.handlers import Handlers


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    path = tmp_path_factory.mktemp("export")
    save(path / "1", ("serving_default", "bytes", "slow"))
    return path


@pytest.fixture(scope="module")
def client(export):
    with Server(export) as server, FaceClient(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture(scope="module", params=["grpc", "rest"])
def elegant(tmp_path_factory, request):
    path = tmp_path_factory.mktemp("elegant")
    save(path / "7", ("bytes=transfer", "several_bytes=several"))
    with Server(path, model_name="elegant") as server, serving(Handlers(server.models)) as rest:
        targets = {"grpc": f"127.0.0.1:{server.port}", "rest": f"http://127.0.0.1:{rest.port}"}
        with FaceClient(targets[request.param], "elegant", version=7) as client:
            yield client


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    path = tmp_path_factory.mktemp("generator")
    save(path / "1", ("bytes=paint",))
    with Server(path) as server, FaceClient(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.mark.parametrize(
    "expression", [["happy", b"sad"], np.array(["happy", "sad"]), np.array([b"a", b"b"], object)]
)
def test_predict(client, expression):
    outputs = client.predict({"image": faces(), "expression": expression})
    assert np.array_equal(outputs["image"], -faces())
    assert outputs["image"].dtype == np.float32


def test_predict_strings(client):
    outputs = client.predict({"image_bytes": [png(image())], "expression": ["sad"]}, "bytes")
    assert outputs["image_bytes"].dtype == object
    assert outputs["image_bytes"][0].startswith(b"\x89PNG")


def test_status_and_metadata(client):
    client.wait_until_ready(5)
    assert client.status() == {1: ("AVAILABLE", "")}
    metadata = client.metadata()
    assert set(metadata) == {"serving_default", "bytes", "slow"}
    assert metadata["serving_default"]["inputs"] == {
        "expression": {"dtype": "string", "shape": (None,)},
        "image": {"dtype": "float32", "shape": (None, SIZE, SIZE, 3)},
    }
    assert metadata["bytes"]["outputs"] == {"image_bytes": {"dtype": "string", "shape": (None,)}}


def test_change_expression_of_one_image(client, tmp_path):
    face = image(size=(30, 20))
    face.save(tmp_path / "face.bmp")
    for source in (face, png(face), tmp_path / "face.bmp", str(tmp_path / "face.bmp")):
        edited = client.change_expression(source, "happy")
        assert isinstance(edited, Image.Image)
        assert np.array_equal(edited, negative(face))


def test_images_are_sent_upright_and_opaque(client, tmp_path):
    face = image(size=(30, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    face.save(tmp_path / "turned.png", exif=exif)
    edited = client.change_expression(tmp_path / "turned.png", "happy")
    assert np.array_equal(edited, np.rot90(negative(face), -1))
    face.convert("RGBA").save(tmp_path / "alpha.png")
    assert np.array_equal(client.change_expression(tmp_path / "alpha.png", "sad"), negative(face))


def test_change_expression_of_lists(client, monkeypatch):
    monkeypatch.setattr(client, "_limits", (3, 2**20))
    sent = spy(client, monkeypatch)
    images = [image(seed, (20 + seed, 20)) for seed in range(7)]
    edited = client.change_expression(images, [str(number) for number in range(7)])
    assert [p.size for p in edited] == [p.size for p in images]
    assert all(np.array_equal(e, negative(p)) for e, p in zip(edited, images, strict=True))
    asked = [request["expression"] for request in sent]
    assert asked == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert len(client.change_expression(images[0], ["happy", "sad"])) == 2
    assert len(client.change_expression(images[:1], "happy")) == 1
    assert client.change_expression([], "happy") == []


def test_requests_respect_the_size_limits():
    rows = [{"a": b"x" * size} for size in (900, 900, 900, 5000, 10)]
    requests = tfface.client.packing.requests(rows, 32, 3024, len)
    sizes = [[len(row["a"]) for row in group] for group in requests]
    assert sizes == [[900, 900], [900], [5000], [10]]
    rows = [{"a": [b"x" * 900, b"y" * 900]} for _ in range(2)]  # several values for one face
    assert len(list(tfface.client.packing.requests(iter(rows), 32, 3024, len))) == 2


def test_transfer_attribute(elegant):
    source, reference = image(1), image(2)
    assert np.array_equal(
        elegant.transfer_attribute(source, reference, "Smiling"), negative(reference)
    )
    steps = elegant.transfer_attribute(source, reference, "Smiling", strength=[0.0, 1.0])
    assert np.array_equal(steps[0], negative(source))
    assert np.array_equal(steps[1], negative(reference))
    pairs = elegant.transfer_attribute([source, reference], [reference, source], "Smiling")
    assert np.array_equal(pairs[1], negative(source))


def test_transfer_attributes(elegant, monkeypatch):
    source, first, second = image(1), image(2), image(3)
    sent = spy(elegant, monkeypatch)
    names = ["Smiling", "none"]
    edited = elegant.transfer_attributes(source, [first, second], names, [1.0, 0.5])
    assert np.array_equal(edited, negative(first))
    edited = elegant.transfer_attributes([source, second], first, names, [0.5, 1.0])
    assert all(
        np.array_equal(m, negative(s)) for m, s in zip(edited, (source, second), strict=True)
    )
    assert [request["strength"] for request in sent] == [[[1, 0.5]], [[0.5, 1]] * 2]
    assert [request["attribute"] for request in sent] == [[names], [names] * 2]
    with pytest.raises(UserError, match="different lengths: 3 of reference_bytes, 2 of attribute"):
        elegant.transfer_attributes(source, [first] * 3, names)


def test_generate(generator, tmp_path, monkeypatch):
    codes, face = codes_of(), image(1)
    file, coloured = tmp_path / "map.png", tmp_path / "coloured.png"
    save_label_map(codes, file)
    face.save(tmp_path / "face.jpg")
    for condition in (codes, codes.astype(np.int64), file, str(file), file.read_bytes()):
        assert np.array_equal(generator.generate(condition, face), expected_face(codes, face))
    lines = codes_of(2, 19) * (codes_of(3) < 4)
    assert np.array_equal(generator.generate(lines, face), expected_face(lines, face))
    sent = spy(generator, monkeypatch)
    save_colours(codes, coloured)
    generator.generate(coloured, tmp_path / "face.jpg")
    assert sent == [
        {
            "condition_bytes": [coloured.read_bytes()],
            "exemplar_bytes": [(tmp_path / "face.jpg").read_bytes()],
        }
    ]


def test_generate_of_lists(generator, monkeypatch):
    monkeypatch.setattr(generator, "_limits", (2, 2**20))
    maps, faces = [codes_of(seed) for seed in range(3)], [image(seed) for seed in range(3)]
    for conditions, exemplars in (
        (maps, faces),
        (np.stack(maps), faces[0]),
        (maps[0], faces),
        (maps[:1], faces[0]),
    ):
        edited = generator.generate(conditions, exemplars)
        assert len(edited) == (1 if len(conditions) == 1 else 3)
        for i, one in enumerate(edited):
            codes = conditions if conditions is maps[0] else conditions[i]
            face = exemplars[i] if exemplars is faces else exemplars
            assert np.array_equal(one, expected_face(codes, face))
    assert generator.generate([], faces[0]) == []


def test_synthesize(tmp_path_factory):
    path = tmp_path_factory.mktemp("guided")
    save(path / "1", ("bytes=guided", "reference_bytes=guided_by_face"))
    codes, face = codes_of(), image(1)
    limits = {"max_request_images": 2}
    with Server(path) as server, FaceClient(f"127.0.0.1:{server.port}", **limits) as client:
        edited = client.synthesize(codes, [5, 6, 7])
        assert [np.asarray(one)[0, 0, 1:].tolist() for one in edited] == [[5, 5], [6, 6], [7, 7]]
        assert all((np.asarray(one)[..., 0] == codes).all() for one in edited)
        assert np.array_equal(client.synthesize(codes, 5), edited[0])
        assert np.array_equal(client.synthesize(codes, reference=face), expected_face(codes, face))
        for wrong in ({}, {"seed": 1, "reference": face}):
            with pytest.raises(UserError, match="either a seed or a reference"):
                client.synthesize(codes, **wrong)


MANY = np.full((20, 24), 300)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("nope.png", "nope.png: no such file"),
        (b"no image", "the condition: .*PNG"),
        (png(image())[:300], "the condition: cannot be read as an image"),
        (png(image()), r"the condition: has the colour \(.*CelebAMask-HQ's classes and white"),
        (image(), r"the condition is Image uint8 \[20, 24, 3\]: expected a PNG file"),
        (codes_of() / 18, r"the condition is ndarray float64 \[20, 24\]: expected .* 0 to 19"),
        (MANY, r"the condition is ndarray int64 \[20, 24\]: expected .* integers"),
        (MANY - 301, r"the condition is ndarray int64 \[20, 24\]: expected .* integers"),
        (codes_of(0, 20), "the condition: has the value 20 .*expected 0 to 19"),
        (codes_of()[:9], "the condition: 24x9 is not the shape of a face image"),
        ([codes_of(), codes_of()], "lists of different lengths: 2 of condition_bytes, 3 of"),
    ],
)
def test_invalid_conditions_are_refused(generator, monkeypatch, condition, message):
    sent = spy(generator, monkeypatch)
    exemplar = [image()] * 3 if isinstance(condition, list) else image()
    with pytest.raises(UserError, match=message):
        generator.generate(condition, exemplar)
    assert sent == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((20, 24)), r"the image is an array float64 \[20, 24\]: expected uint8 \[H,W,3"),
        (np.zeros((20, 24, 3)), r"array float64 \[20, 24, 3\]: expected uint8 \[H,W,3\]"),
        (np.zeros((1, 20, 24, 4), np.uint8), r"array uint8 \[20, 24, 4\]: expected uint8"),
    ],
)
def test_invalid_image_arrays_are_refused(client, wrong, message):
    with pytest.raises(UserError, match=message):
        client.change_expression([wrong] if wrong.ndim == 2 else wrong, "happy")


def test_invalid_images_are_refused(client, tmp_path):
    with pytest.raises(UserError, match="nope.png: no such file"):
        client.change_expression(tmp_path / "nope.png", "happy")
    with pytest.raises(UserError, match="lists of different lengths: 2 of image_bytes, 3 of"):
        client.change_expression([image(), image()], ["a", "b", "c"])


def test_images_can_be_arrays(client):
    arrays = np.stack([np.asarray(image(seed)) for seed in range(3)])
    assert np.array_equal(client.change_expression(arrays[0], "happy"), negative(arrays[0]))
    for several in (arrays, list(arrays), tuple(arrays)):
        edited = client.change_expression(several, "happy")
        assert np.array_equal(np.stack(edited), negative(arrays))


def test_server_errors_are_raised(client):
    code, message = refusal(client.predict, {"image": faces()[0], "expression": ["happy"]})
    assert code == "INVALID_ARGUMENT" and "shape" in message
    assert refusal(client.predict, {}, "nope") == (
        "FAILED_PRECONDITION",
        'Serving signature key "nope" not found.',
    )
    with FaceClient(client.target, "nope") as stranger:
        for call in (stranger.status, stranger.metadata):
            assert refusal(call)[0] == "NOT_FOUND"
        with pytest.raises(ServerError, match="NOT_FOUND: Could not find any versions"):
            stranger.wait_until_ready(0.2)


def test_version_or_label_is_requested(client):
    with FaceClient(client.target, version=1) as first:
        assert first.status() == {1: VersionStatus("AVAILABLE", "")}
    with FaceClient(client.target, version=9) as outdated:
        assert refusal(outdated.predict, {})[1].endswith("Specific(default, 9)")
    with FaceClient(client.target, label="canary") as labelled:
        assert refusal(labelled.predict, {}) == (
            "INVALID_ARGUMENT",
            "Unrecognized servable version label: canary",
        )
    with pytest.raises(UserError, match="version 1 and label 'stable': expected one of them"):
        FaceClient(client.target, version=1, label="stable")


def test_both_clients_have_the_same_documented_methods():
    names = {name for name in vars(FaceClient.__base__) if not name.startswith("_")}
    assert names >= {"predict", "status", "metadata", "wait_until_ready", "synthesize", "close"}
    for name in names:
        blocking, awaited = getattr(FaceClient, name), getattr(AsyncFaceClient, name)
        assert not inspect.iscoroutinefunction(blocking) and inspect.iscoroutinefunction(awaited)
        assert blocking.__doc__ == awaited.__doc__ and blocking.__doc__
        assert inspect.signature(blocking) == inspect.signature(awaited)
    assert inspect.signature(FaceClient.segment).return_annotation.startswith("np.ndarray")
