"""Clients without tfface against the embedded server.

Need Node.js and the environment that `make test-deployment` creates.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from processes import CHECKOUT, SERVING, Replica, free_port, need, need_environment, run
from tiny_models import image, png

CLIENTS = SERVING / "clients"
INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION = 3, 5, 9


@pytest.fixture(scope="module")
def rest_flags():
    """Flags for REST; None if the embedded server has no REST API."""
    known = run(sys.executable, "-m", "tfface.serve", "--help", cwd=CHECKOUT)
    return [f"--rest_api_port={free_port()}"] if "--rest_api_port" in known else None


@pytest.fixture(scope="module")
def server(models, rest_flags, tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    started = Replica(models, log, *(rest_flags or []))
    try:
        started.wait_until_ready()
        yield f"127.0.0.1:{started.port}"
    finally:
        started.kill()


@pytest.fixture
def face(tmp_path):
    path = tmp_path / "face.png"
    path.write_bytes(png(image()))
    return path


def is_negative(data):
    return np.array_equal(np.asarray(Image.open(io.BytesIO(data))), 255 - np.asarray(image()))


def need_node():
    if not (CLIENTS / "node" / "node_modules").is_dir():
        pytest.fail("this test needs node_modules: run it by make test-deployment", pytrace=False)
    return need("node")


def test_node(server, face):
    found = json.loads(run(need_node(), SERVING / "tests" / "node_calls.js", server, face))
    assert is_negative(base64.b64decode(found["image"]))
    assert (found["shape"], found["scalar"]) == ([1], [2.5])
    (status,) = found["status"]
    assert status["state"] == "AVAILABLE"
    assert found["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert found["inputs"]["image_bytes"]["tensor_shape"]["dim"][0]["size"] == -1
    assert found["missing"]["code"] == INVALID_ARGUMENT
    assert "Missing but required: {expression}" in found["missing"]["details"]
    assert found["version"] == {
        "code": NOT_FOUND, "details": "Servable not found for request: Specific(g, 99)"
    }  # fmt: skip
    assert found["model"] == {
        "code": NOT_FOUND, "details": "Could not find any versions of model nope"
    }  # fmt: skip
    assert found["signature"]["code"] == FAILED_PRECONDITION


def test_node_from_the_command_line(server, face, tmp_path):
    out = tmp_path / "out.png"
    run(need_node(), CLIENTS / "node" / "predict.js", server, "g", out,
        f"image_bytes=@{face}", "expression=sad")  # fmt: skip
    assert is_negative(out.read_bytes())


def predict(*arguments):
    return subprocess.run(
        [need_environment(), CLIENTS / "predict.py", *map(str, arguments)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_python_client(server, face, tmp_path):
    out = tmp_path / "out.png"
    target = f"--target={server}"
    done = predict("g", f"image_bytes=@{face}", "expression=sad", f"--out={out}", target)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: by g, version ")
    assert is_negative(out.read_bytes())
    mistakes = {
        ("nope", "x=1"): "NOT_FOUND: Servable not found for request: Latest(nope)",
        ("g", "x=1"): "no input 'x': expected expression, image_bytes",
        ("g", "expression=sad"): "INVALID_ARGUMENT: input size does not match signature",
        ("g", "x=1", "--signature=nope"): "g has no signature 'nope', only bytes, ",
        ("g", "image_bytes=@nope.png"): "No such file or directory: 'nope.png'",
    }
    for arguments, message in mistakes.items():
        done = predict(*arguments, target)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


OVMS_EXPECTED = {
    "status": {"1": {"state": "AVAILABLE", "error_code": 0, "error_message": ""}},
    "inputs": ["expression", "image"],
    "image": [-0.5, -0.5, -0.5],
    "refused": "ModelNotFoundError",
}


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_ovmsclient(server, rest_flags, kind):
    python = need_environment()
    if kind == "http":
        if rest_flags is None:
            pytest.skip("the embedded server has no REST (--rest_api_port)")
        server = f"127.0.0.1:{rest_flags[0].partition('=')[2]}"
    found = json.loads(run(python, SERVING / "tests" / "ovms_calls.py", kind, server))
    assert found == OVMS_EXPECTED
