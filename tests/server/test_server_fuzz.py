"""Random bytes: the server refuses them and keeps working."""

from __future__ import annotations

import socket

import grpc
import numpy as np
import pytest
from tiny_models import Stubs, good, request, save

from tfface.server.app import Server

METHODS = (
    "PredictionService/Predict", "PredictionService/Classify", "PredictionService/Regress",
    "PredictionService/MultiInference", "PredictionService/GetModelMetadata",
    "ModelService/GetModelStatus", "ModelService/HandleReloadConfigRequest",
)  # fmt: skip
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REST = b"POST /v1/models/g:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    save(path)
    with Server(path.parent, model_name="g", rest_port=0) as server:
        yield server
        # The fixture's teardown is part of the test: the server stops normally.
        assert Stubs(server).predict(good()).outputs["count"].int_val == [2]


def changed(rng, data, count):
    """The bytes with random replacements, possibly truncated."""
    mutated = bytearray(data)
    for index in rng.integers(0, len(mutated), count):
        mutated[index] = rng.integers(256)
    return bytes(mutated[: rng.integers(1, len(mutated) + 1)] if rng.random() < 0.3 else mutated)


@pytest.mark.parametrize("method", METHODS)
def test_random_messages_are_refused(server, method):
    rng = np.random.default_rng(0)
    call = Stubs(server).channel.unary_unary(f"/tensorflow.serving.{method}")
    valid = request("bytes", image_bytes=[b"\x89PNG" * 9], expression=["sad"]).SerializeToString()
    codes = set()
    for number in range(150):
        size = rng.integers(0, 200)
        data = rng.bytes(size) if number % 3 == 0 else changed(rng, valid, 1 + number % 20)
        try:
            call(data, timeout=20)
        except grpc.RpcError as error:
            codes.add(error.code())
    assert codes and grpc.StatusCode.UNAVAILABLE not in codes
    assert grpc.StatusCode.DEADLINE_EXCEEDED not in codes


@pytest.mark.parametrize("rest", [False, True], ids=["gRPC", "REST"])
def test_random_connections_are_refused(server, rest):
    rng = np.random.default_rng(1)
    port = server.rest_port if rest else server.port
    for number in range(60):
        body = rng.bytes(rng.integers(1, 3000))
        data = (body, PREFACE + body, REST % (len(body), body), b"GET /" + body)[number % 4]
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            try:
                connection.sendall(data)
                if number % 2:
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(100)
            except OSError:  # the server closed the connection before all was sent
                pass
    assert Stubs(server).predict(good()).outputs["count"].int_val == [2]
