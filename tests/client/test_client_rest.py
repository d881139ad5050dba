"""Both clients over REST, against a stand-in for TF Serving's."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from client_helpers import TLS, free_port, negative, refusal
from rest_stand_in import LABEL, NAME, VERSION, RestStandIn, answer
from tiny_models import SIZE, faces, image, png

from tfface.client import AsyncFaceClient, FaceClient, Tls, VersionStatus
from tfface.errors import UserError


@pytest.fixture
def server():
    with RestStandIn() as server:
        yield server


@pytest.fixture
def client(server):
    with FaceClient(server.url, NAME) as client:
        yield client


def test_predict(client, server):
    outputs = client.predict({"image": faces(), "expression": ["happy", b"sad"]})
    assert outputs["image"].dtype == np.float32
    assert np.array_equal(outputs["image"], -faces())
    assert outputs["count"] == 2 and outputs["count"].dtype == np.int32
    method, path, body = server.asked[0]
    sent = json.loads(body)
    assert (method, path) == ("POST", f"/v1/models/{NAME}:predict")
    assert set(sent) == {"signature_name", "inputs"} and sent["signature_name"] == "serving_default"
    assert sent["inputs"]["expression"] == ["happy", {"b64": "c2Fk"}]


def test_dtypes_are_those_of_the_signature(client):
    values = [0, 0.1, math.inf, -math.inf, math.nan]
    outputs = client.predict({"x": np.array(values, np.float32)}, "types")
    dtypes = {name: value.dtype.name for name, value in outputs.items()}
    assert dtypes == {
        "f": "float32",
        "h": "bfloat16",
        "i": "int64",
        "u": "uint8",
        "b": "bool",
        "s": "object",
    }
    assert np.array_equal(outputs["f"], np.array(values, np.float32), equal_nan=True)
    assert outputs["i"][0] == 2**53 + 1
    assert outputs["s"][2] == b"inf"
    again = client.predict({"x": outputs["h"][:2]}, "types")["f"]
    assert np.allclose(again, values[:2], atol=1e-3)


def test_strings_and_scalars_of_one_output(client):
    outputs = client.predict({"image_bytes": [png(image())], "expression": ["sad"]}, "bytes")
    assert outputs["image_bytes"].dtype == object and outputs["image_bytes"].shape == (1,)
    assert outputs["image_bytes"][0].startswith(b"\x89PNG")
    outputs = client.predict({"x": np.float64(2.5)}, "free")
    assert outputs["x"] == 2.5 and outputs["x"].shape == ()


def test_metadata_is_requested_once(client, server):
    for _ in range(3):
        client.change_expression(image(), "happy")
    client.predict({"x": np.zeros(1, np.float32)}, "types")
    asked = [path.removeprefix(f"/v1/models/{NAME}") for _, path, _ in server.asked]
    assert asked == [":predict", "/metadata", ":predict", ":predict", ":predict"]


def test_edits(client, tmp_path):
    face = image(size=(30, 20))
    face.save(tmp_path / "face.bmp")
    for source in (face, png(face), tmp_path / "face.bmp", np.asarray(face)):
        assert np.array_equal(client.change_expression(source, "happy"), negative(face))
    several = client.change_expression([face, image(1)], "happy")
    assert np.array_equal(several[1], negative(image(1)))


def test_status_and_metadata(client):
    client.wait_until_ready(5)
    assert client.status() == {VERSION: VersionStatus("AVAILABLE", "")}
    metadata = client.metadata()
    assert set(metadata) == {"serving_default", "bytes", "types", "free"}
    assert metadata["serving_default"]["inputs"] == {
        "expression": {"dtype": "string", "shape": (None,)},
        "image": {"dtype": "float32", "shape": (None, SIZE, SIZE, 3)},
    }
    assert metadata["free"]["outputs"] == {"x": {"dtype": "float64", "shape": None}}


def test_versions_labels_and_odd_names(server):
    for option, path in (
        ({"version": VERSION}, f"/v1/models/{NAME}/versions/{VERSION}"),
        ({"label": LABEL}, f"/v1/models/{NAME}/labels/{LABEL}"),
    ):
        with FaceClient(server.url + "/", NAME, **option) as client:
            assert client.status()
            assert np.array_equal(client.change_expression(image(), "a"), negative(image()))
        assert [asked[1] for asked in server.asked] == [
            path,
            f"{path}:predict",
            f"{path}/metadata",
        ]
        server.asked.clear()
    with FaceClient(server.url, "a/b c?") as odd:
        assert refusal(odd.status)[0] == "NOT_FOUND"
    assert server.asked[0][1] == "/v1/models/a%2Fb%20c%3F"
    with FaceClient(f"{server.url}/behind/a/proxy", NAME) as proxied:
        assert (
            refusal(proxied.status)[1] == f"Malformed request: GET /behind/a/proxy/v1/models/{NAME}"
        )


def test_errors_are_the_same_as_over_grpc(client, server):
    assert refusal(client.predict, {}, "nope") == (
        "INVALID_ARGUMENT",
        'Serving signature name: "nope" not found in signature def',
    )
    with FaceClient(server.url, "nope") as stranger:
        expected = ("NOT_FOUND", "Servable not found for request: Latest(nope)")
        assert refusal(stranger.predict, {}) == expected
        assert refusal(stranger.wait_until_ready, 0.2) == expected


@pytest.mark.parametrize(
    ("status", "reply", "expected"),
    [
        (400, {"error": "x"}, ("INVALID_ARGUMENT", "x")),
        (401, b"<html>", ("UNAUTHENTICATED", "HTTP status 401, not a reply of TF Serving")),
        (403, b"", ("PERMISSION_DENIED", "HTTP status 403, not a reply of TF Serving")),
        (409, {"error": "x"}, ("ABORTED", "x")),
        (413, b"<html>", ("RESOURCE_EXHAUSTED", "HTTP status 413, not a reply of TF Serving")),
        (429, {"error": "x"}, ("RESOURCE_EXHAUSTED", "x")),
        (499, {"error": "x"}, ("CANCELLED", "x")),
        (500, {"error": "x"}, ("INTERNAL", "x")),
        (501, {"error": "x"}, ("UNIMPLEMENTED", "x")),
        (504, {"error": "x"}, ("DEADLINE_EXCEEDED", "x")),
        (418, b"[]", ("UNKNOWN", "HTTP status 418, not a reply of TF Serving")),
        (302, b"", ("UNKNOWN", "HTTP status 302, not a reply of TF Serving")),
        (200, b"<html>", ("UNKNOWN", "HTTP status 200, not a reply of TF Serving")),
    ],
)
def test_codes_and_messages(client, server, status, reply, expected):
    server.answer = lambda *_: (status, reply)
    assert refusal(client.predict, {"x": np.zeros(1)}, "free") == expected
    assert len(server.asked) == 1


def test_unavailable_is_retried(client, server):
    def busy(*asked):
        return answer(*asked) if len(server.asked) > 3 else (503, {"error": "the queue is full"})

    server.answer = busy
    assert np.array_equal(client.change_expression(image(), "happy"), negative(image()))
    server.answer = lambda *_: (503, {"error": "the queue is full"})
    client.timeout = 0.3
    message = f"{server.url} is not available: the queue is full"
    assert refusal(client.status) == ("UNAVAILABLE", message)


def test_deadline(client, server):
    over = threading.Event()
    server.answer = lambda *_: over.wait(20) and (200, {})
    client.timeout = 0.3
    start = time.monotonic()
    assert refusal(client.status)[0] == "DEADLINE_EXCEEDED"
    assert time.monotonic() - start < 3
    over.set()


def test_call_waits_for_an_unavailable_server():
    port = free_port()
    with FaceClient(f"http://127.0.0.1:{port}", NAME) as client:
        client.timeout = 0.3
        assert refusal(client.status)[0] == "UNAVAILABLE"
        client.timeout = 20
        with RestStandIn(port):
            assert client.status()
        returned = []
        starter = threading.Timer(0.3, lambda: returned.append(RestStandIn(port).__enter__()))
        starter.start()
        try:
            assert client.status()
        finally:
            starter.join()
            returned[0].__exit__()


def test_long_lists_are_split_by_the_length_of_the_body(server):
    images = [image(seed, (150, 150)) for seed in range(10)]  # 68 kB each, as base64 90 kB
    with FaceClient(server.url, NAME, max_request_bytes=300_000) as client:
        edited = client.change_expression(images, "happy")
    assert all(np.array_equal(e, negative(p)) for e, p in zip(edited, images, strict=True))
    sizes = [len(body) for method, _, body in server.asked if method == "POST"]
    assert len(sizes) == 4 and 250_000 < max(sizes) <= 300_000


def test_asyncio(server):
    async def main():
        async with AsyncFaceClient(server.url, NAME, max_request_images=1) as client:
            await client.wait_until_ready(5)
            return await client.change_expression([image(seed) for seed in range(9)], "happy")

    edited = asyncio.run(main())
    assert all(np.array_equal(e, negative(image(i))) for i, e in enumerate(edited))


def test_tls():
    identified = Tls(TLS / "ca.pem", TLS / "client.pem", TLS / "client.key")
    with RestStandIn(tls=True) as server:
        with FaceClient(server.url, NAME, tls=identified) as client:
            assert client.status()
        for suspicious in (None, TLS / "ca.pem"):  # another authority; no client certificate
            with FaceClient(server.url, NAME, timeout=0.5, tls=suspicious) as client:
                assert refusal(client.status)[0] == "UNAVAILABLE"
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("http://:8501", {}, "http://:8501: no host name"),
        ("http://a:b", {}, "http://a:b: Invalid port"),
        ("http://127.0.0.1:8501", {"tls": True}, "http://127.0.0.1:8501: TLS needs https://"),
        ("https://127.0.0.1:8501", {"tls": "none.pem"}, "none.pem: no such file"),
    ],
)
def test_invalid_addresses_are_reported(target, options, message):
    with pytest.raises(UserError, match=message):
        FaceClient(target, **options)


@pytest.mark.slow
def test_rest_needs_neither_tensorflow_nor_grpc(server):
    code = (
        "import sys; import numpy as np; from tfface.client import FaceClient\n"
        f"with FaceClient({server.url!r}, {NAME!r}) as client:\n"
        "    client.wait_until_ready(20)\n"
        "    client.change_expression(np.zeros((20, 20, 3), np.uint8), 'happy')\n"
        "sys.exit(sum(name in sys.modules for name in ('tensorflow', 'grpc')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=100)
    assert done.returncode == 0
