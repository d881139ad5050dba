"""FaceClient with servers that are unavailable, overloaded, slow, limited or need TLS."""

from __future__ import annotations

import threading
import time

import grpc
import numpy as np
import pytest
from client_helpers import TLS, echo, free_port, grpc_stand_in, refusal
from tiny_models import faces, image, png, save

from tfface.client import FaceClient, ServerError, Tls
from tfface.client.driving import Blocking
from tfface.errors import UserError
from tfface.server.app import Server

Code = grpc.StatusCode
IMAGE = {"image_bytes": [png(image())]}


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    path = tmp_path_factory.mktemp("export")
    save(path / "1", ("serving_default", "bytes", "slow"))
    return path


class Refusing:
    """Refuses the first requests."""

    def __init__(self, code, times):
        self.code, self.times, self.asked = code, times, 0

    def __call__(self, request, context):
        self.asked += 1
        if self.asked <= self.times:
            context.abort(self.code, "come back later")
        return echo(request)


@pytest.fixture
def pauses(monkeypatch):
    """Records a client's pauses, without waiting."""
    recorded = []

    async def pause(self, seconds):
        recorded.append(seconds)

    monkeypatch.setattr(Blocking, "pause", pause)
    return recorded


def test_unavailable_is_retried_with_growing_pauses(pauses):
    predict = Refusing(Code.UNAVAILABLE, 8)
    with grpc_stand_in(predict) as target, FaceClient(target) as client:
        assert client.predict(IMAGE, "bytes")["image_bytes"].tolist() == IMAGE["image_bytes"]
    assert predict.asked == 9
    for pause, longest in zip(pauses, [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2, 2], strict=True):
        assert longest / 2 <= pause <= longest
    assert len(set(pauses[-2:])) == 2  # of random length


@pytest.mark.parametrize(
    "code",
    [Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.ABORTED, Code.DEADLINE_EXCEEDED, Code.CANCELLED],
)
def test_other_errors_are_not_retried(code):
    predict = Refusing(code, 1)
    with grpc_stand_in(predict) as target, FaceClient(target) as client:
        assert refusal(client.predict, IMAGE) == (code.name, "come back later")
    assert predict.asked == 1


def test_retries_end_at_the_deadline():
    predict = Refusing(Code.UNAVAILABLE, 1000)
    with grpc_stand_in(predict) as target, FaceClient(target, timeout=0.5) as client:
        start = time.monotonic()
        code, message = refusal(client.predict, IMAGE)
    assert (code, message) == ("UNAVAILABLE", f"{target} is not available: come back later")
    assert time.monotonic() - start < 1.5
    assert 3 <= predict.asked < 10


def test_deadline(export):
    with Server(export) as server:
        with FaceClient(f"127.0.0.1:{server.port}", timeout=0.3) as hasty:
            code, _ = refusal(hasty.predict, {"x": np.zeros((1, 8), np.float32)}, "slow")
    assert code == "DEADLINE_EXCEEDED"


def test_missing_server_is_unavailable():
    target = f"127.0.0.1:{free_port()}"
    with FaceClient(target, timeout=0.5) as client:
        start = time.monotonic()
        with pytest.raises(ServerError, match=f"UNAVAILABLE: {target} is not available"):
            client.predict({"image": faces(), "expression": ["sad", "sad"]})
        with pytest.raises(ServerError, match="UNAVAILABLE"):
            client.wait_until_ready(0.5)
    assert time.monotonic() - start < 3


def test_call_waits_for_a_server_that_starts_late(export):
    port = free_port()
    started = []
    starter = threading.Timer(0.5, lambda: started.append(Server(export, port=port).start()))
    starter.start()
    try:
        with FaceClient(f"127.0.0.1:{port}") as client:
            outputs = client.predict({"image": faces(), "expression": ["sad", "sad"]})
        assert np.array_equal(outputs["image"], -faces())
    finally:
        starter.join()
        started[0].stop()


def test_call_continues_after_a_server_restart():
    port = free_port()
    asked, returned = threading.Event(), threading.Event()

    def ask():
        edited.append(client.change_expression(image(), "happy"))

    def hang(request, context):
        asked.set()
        returned.wait(20)
        return echo(request)

    edited = []
    with FaceClient(f"127.0.0.1:{port}") as client:
        with grpc_stand_in(hang, port=port):
            thread = threading.Thread(target=ask)
            thread.start()
            assert asked.wait(20)
        returned.set()  # the server stops during the request
        with grpc_stand_in(echo, port=port):
            thread.join(20)
    assert np.array_equal(edited[0], image())


@pytest.fixture(scope="module")
def noise():
    """Images of 270 kB each that cannot be compressed."""
    return [image(seed, (300, 300)) for seed in range(20)]


def test_requests_fit_the_default_grpc_message_limit(noise):
    sizes = []

    def predict(request, context):
        sizes.append(request.ByteSize())
        return echo(request)

    with grpc_stand_in(predict) as target:
        with FaceClient(target) as client:
            code, message = refusal(client.change_expression, noise, "happy")
        assert code == "RESOURCE_EXHAUSTED" and "4194304" in message
        with FaceClient(target, max_request_bytes=4 * 2**20) as client:
            edited = client.change_expression(noise, "happy")
    assert all(np.array_equal(e, p) for e, p in zip(edited, noise, strict=True))
    assert len(sizes) == 2 and 3.5 * 2**20 < sizes[0] <= 4 * 2**20


@pytest.mark.parametrize("values", [[b"x" * 100], ["y" * 100], ["\u00e9" * 100], [1.5], [10**12]])
def test_requests_are_no_longer_than_estimated(values):
    sizes = []

    def predict(request, context):
        sizes.append(request.ByteSize())
        return echo(request)

    with grpc_stand_in(predict) as target, FaceClient(target) as client:
        for count in (1, 101):
            inputs = {"image_bytes": [b""], "more": values * count}
            client.predict(inputs)
        head = 1024  # as estimated by `packing`
        assert sizes[1] <= head + 101 * client._transport.size(values[0])


@pytest.mark.parametrize("ask_client", [False, True])
def test_tls(ask_client):
    key, certificate, ca = (
        (TLS / name).read_bytes() for name in ("server.key", "server.pem", "ca.pem")
    )
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca, ask_client)
    identified = Tls(TLS / "ca.pem", TLS / "client.pem", TLS / "client.key")
    with grpc_stand_in(echo, credentials=credentials) as target:
        with FaceClient(target, tls=identified) as client:
            assert np.array_equal(client.change_expression(image(), "happy"), image())
        with FaceClient(target, tls=str(TLS / "ca.pem"), timeout=1) as anonymous:
            if ask_client:
                assert refusal(anonymous.predict, IMAGE)[0] == "UNAVAILABLE"
            else:
                assert anonymous.predict(IMAGE)
        for suspicious in (None, True):  # no TLS; an authority that has not signed the certificate
            with FaceClient(target, tls=suspicious, timeout=0.5) as client:
                assert refusal(client.predict, IMAGE)[0] == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["none.pem"], "none.pem: no such file"),
        (["server.key"], "server.key: contains no PEM certificate"),
        (["ca.pem", "client.pem"], "a client certificate needs its key"),
        (["ca.pem", "client.pem", "server.key"], "client.pem and .*server.key: expected a PEM"),
    ],
)
def test_invalid_certificates_are_reported(files, message):
    with pytest.raises(UserError, match=message):
        Tls(*(TLS / file for file in files))


def test_system_authorities_are_trusted_by_default():
    assert Tls.of(False) is Tls.of(None) is None
    assert Tls.of(True) == Tls()
    assert Tls.of(TLS / "ca.pem").roots() == (TLS / "ca.pem").read_bytes()
    roots = Tls().roots()
    assert roots is None or roots.startswith(b"-----BEGIN CERTIFICATE-----")
