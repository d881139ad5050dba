"""Stand-in servers and helpers for the tests of the clients."""

from __future__ import annotations

import contextlib
import socket
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tfface.client import ServerError
from tfface.server import tensors

TLS = Path(__file__).parent / "tls" / "client_tls"


def negative(image):
    """The expected output of `tiny_models` for an image."""
    return 255 - np.asarray(image)


def codes_of(seed=0, most=18):
    """A random label map, uint8 [20,24]."""
    return np.random.default_rng(seed).integers(0, most + 1, (20, 24), np.uint8)


def expected_face(codes, face):
    """The expected output of `tiny_models`: codes in red, the rest from the exemplar's pixel 0."""
    style = np.broadcast_to(np.asarray(face)[0, 0, 1:], (*codes.shape, 2))
    return np.concatenate([codes[..., None], style], -1)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return unused.getsockname()[1]


def spy(client, monkeypatch):
    """A list to which the inputs of each request are appended."""
    sent = []
    predict = client._transport.predict

    def recorded(inputs, signature, timeout):
        sent.append({name: value.tolist() for name, value in inputs.items()})
        return predict(inputs, signature, timeout)

    monkeypatch.setattr(client._transport, "predict", recorded)
    return sent


def refusal(call, *arguments, **options):
    """Code and message of a call that the server rejects."""
    with pytest.raises(ServerError) as caught:
        call(*arguments, **options)
    assert str(caught.value) == f"{caught.value.code}: {caught.value.message}"
    return caught.value.code, caught.value.message


@contextlib.contextmanager
def grpc_stand_in(predict, options=(), credentials=None, port=0):
    """Serves `predict(request, context)`; yields HOST:PORT."""

    class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802
            return predict(request, context)

    server = grpc.server(futures.ThreadPoolExecutor(16), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(), server)
    address = f"127.0.0.1:{port}"
    if credentials:
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def echo(request, context=None):
    """Returns the images of the request."""
    files = tensors.to_array(request.inputs["image_bytes"])
    return predict_pb2.PredictResponse(outputs={"image_bytes": tensors.to_proto(files)})
