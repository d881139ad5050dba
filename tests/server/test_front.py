"""Slow, silent or numerous clients do not block others; and the shutdown of a server."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import resource
import socket
import struct
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow.core.framework import tensor_pb2, types_pb2
from tiny_models import Stubs, failure, good, request, save, status_request, wait_for

from tfface.server.app import Server

CHECKOUT = Path(__file__).parents[2]
Code = grpc.StatusCode
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
REST = b"POST /v1/models/g:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    save(path)
    return path


def frame(kind, flags, stream, payload=b""):
    """An HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        ">I", stream
    ) + payload  # fmt: skip


def headers(*pairs):
    """Header fields in HPACK's simplest form."""
    fields = [
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in pairs
    ]
    return b"".join(fields)


CALL = headers(
    (":method", "POST"), (":scheme", "http"), (":path", PREDICT), (":authority", "x"),
    ("te", "trailers"), ("content-type", "application/grpc"),
)  # fmt: skip


@contextlib.contextmanager
def callers(port, count, data=b"", streams=1, source="127.0.0.1", settings=b"", end=0):
    """Connections that each begin calls to Predict, send `data` of the message, and wait.

    `settings` are HTTP/2 settings; `end` is 1 if the message is complete.
    """
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            connection = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), 20, (source, 0))
            )
            connection.sendall(PREFACE + frame(4, 0, 0, settings))
            for number in range(streams):
                connection.sendall(frame(1, 4, 2 * number + 1, CALL))
                if data:
                    connection.sendall(frame(0, end, 2 * number + 1, data))
            opened.append(connection)
        time.sleep(0.3)
        yield opened


def answers_at_once(server):
    stubs = Stubs(server)
    assert stubs.predict(good(), timeout=10).outputs["count"].int_val == [2]
    assert stubs.model.GetModelStatus(status_request(), timeout=10).model_version_status
    stubs.channel.close()


@pytest.mark.parametrize(
    ("count", "data", "streams"),
    [(8, b"", 1), (2, b"", 200), (8, b"\0\0\0\4\0abc", 4), (8, b"\0\x7f\xff\xff\xff", 4)],
    ids=["headers only", "many in a connection", "half a message", "a claim of 2 GB"],
)
def test_incomplete_messages_do_not_block_other_clients(export, count, data, streams):
    with Server(export.parent, model_name="g", threads=2, grace=1) as server:
        with callers(server.port, count, data, streams):
            answers_at_once(server)


def test_late_messages_are_aborted(export):
    with Server(export.parent, model_name="g", receive_timeout=1) as server:
        with callers(server.port, 1, b"\0\0\0\4\0abc") as (connection,):
            connection.settimeout(20)
            got = b""
            while b"grpc-status" not in got:
                received = connection.recv(1000)
                assert received
                got += received
            assert b"did not arrive within 1 seconds" in got


def test_calls_per_peer_can_be_limited(export):
    with Server(export.parent, model_name="g", max_open_per_peer=4) as server:
        with callers(server.port, 4, source="127.0.0.2"):
            answers_at_once(server)
        with callers(server.port, 4):
            code, text = failure(Stubs(server).predict, good())
    assert (code, text) == (
        Code.RESOURCE_EXHAUSTED, "more than 4 open calls from 127.0.0.1"
    )  # fmt: skip


def test_status_requests_do_not_wait_for_predictions(export):
    with Server(export.parent, model_name="g", threads=1, health=True, grace=0.2) as server:
        stubs = Stubs(server)
        slow = request("slow", x=np.zeros((1, 8), np.float32))
        running = [stubs.prediction.Predict.future(slow, timeout=2) for _ in range(3)]
        time.sleep(0.3)
        assert stubs.model.GetModelStatus(status_request(), timeout=5).model_version_status
        for call in running:
            call.cancel()


def rest_call(port, timeout=20):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", "/v1/models/g")
        return connection.getresponse().status


def answers_rest(server):
    with contextlib.suppress(ConnectionError, http.client.HTTPException):
        return rest_call(server.rest_port) == 200


def test_late_rest_bodies_are_aborted(export):
    with Server(export.parent, model_name="g", rest_port=0, receive_timeout=1) as server:
        with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as connection:
            connection.sendall(REST)
            began = time.monotonic()
            with contextlib.suppress(OSError):  # a byte now and then does not extend the timeout
                while time.monotonic() - began < 15:
                    connection.sendall(b" ")
                    time.sleep(0.2)
            assert time.monotonic() - began < 10
        assert rest_call(server.rest_port) == 200


def test_rest_connections_per_peer_can_be_limited(export):
    with Server(export.parent, model_name="g", rest_port=0, max_open_per_peer=2) as server:
        address = ("127.0.0.1", server.rest_port)
        with socket.create_connection(address), socket.create_connection(address):
            time.sleep(0.2)
            assert not answers_rest(server)
        wait_for(lambda: answers_rest(server))


class Process:
    """`python -m tfface.serve` with gRPC and REST."""

    def __init__(self, export, *flags):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.rest_port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tfface.serve", f"--model_base_path={export.parent}",
             "--port=0", "--model_name=g", f"--rest_api_port={self.rest_port}", *flags],
            cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.port = int(re.search(r"ready at [\d.]+:(\d+)", self.process.stdout.readline())[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


@pytest.mark.slow
def test_1000_idle_connections_do_not_block_requests(export):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("too few open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    try:
        with Process(export) as server, contextlib.ExitStack() as stack:
            for port in [server.port] * 1000 + [server.rest_port] * 1100:
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            answers_at_once(server)
            assert rest_call(server.rest_port, timeout=5) == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_longest_idle_rest_connection_is_closed_first(export, monkeypatch):
    monkeypatch.setattr("tfface.server.rest_server._MAX_CONNECTIONS", 3)
    with Server(export.parent, model_name="g", rest_port=0) as server:
        address = ("127.0.0.1", server.rest_port)
        with contextlib.ExitStack() as stack:
            opened = []
            for _ in range(3):
                opened.append(stack.enter_context(socket.create_connection(address, timeout=20)))
                time.sleep(0.1)
            assert rest_call(server.rest_port) == 200
            assert opened[0].recv(1) == b""
            opened[1].settimeout(0.2)
            with pytest.raises(TimeoutError):
                opened[1].recv(1)


@pytest.mark.slow
def test_accepted_requests_finish_before_shutdown(export):
    """Includes requests waiting for a thread: each takes a third of a second until its timeout."""
    slow = request("slow", x=np.zeros((1, 8), np.float32))
    body = json.dumps({"signature_name": "slow", "inputs": [[0.0] * 8]})

    def over_rest(_):
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/models/g:predict", body)
            return connection.getresponse().status

    flags = ("--grpc_max_threads=1", "--rest_api_num_threads=1", "--rest_api_timeout_in_ms=333")
    with Process(export, *flags) as server:
        stubs = Stubs(server)
        running = [stubs.prediction.Predict.future(slow, timeout=3) for _ in range(2)]
        time.sleep(0.2)
        queued = [stubs.prediction.Predict.future(good(), timeout=60) for _ in range(6)]
        with futures.ThreadPoolExecutor(12) as threads:
            replies = [threads.submit(over_rest, number) for number in range(12)]
            time.sleep(0.8)
            server.process.terminate()
            time.sleep(0.3)
            assert failure(stubs.predict, good(), timeout=5)[0] is Code.UNAVAILABLE
            statuses = [reply.result() for reply in replies]
        assert statuses == [504] * 12
        assert [call.result().outputs["count"].int_val[:] for call in queued] == [[2]] * 6
        assert {call.code() for call in running} == {Code.DEADLINE_EXCEEDED}
        assert server.process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.parametrize("grace", [0, 2])
def test_process_exits_after_the_grace_period(export, grace):
    slow = request("slow", x=np.zeros((1, 8), np.float32))
    with Process(export, f"--shutdown_grace_seconds={grace}") as server:
        stubs = Stubs(server)
        running = [stubs.prediction.Predict.future(slow) for _ in range(2)]
        with callers(server.port, 2):
            time.sleep(0.5)
            began = time.monotonic()
            server.process.terminate()
            assert server.process.wait(20) == 0
            assert time.monotonic() - began < grace + 3
        assert {call.code() for call in running} <= {Code.UNAVAILABLE, Code.CANCELLED}
        assert "Traceback" not in server.process.stderr.read()


def test_incomplete_messages_do_not_delay_shutdown(export):
    server = Server(export.parent, model_name="g", grace=20).start()
    with callers(server.port, 2, b"\0\0\0\4\0abc"):
        began = time.monotonic()
        assert server.stop()
        assert time.monotonic() - began < 10


def test_memory_of_waiting_requests_is_limited(export, monkeypatch):
    monkeypatch.setattr("tfface.server.workers._MAX_BYTES", 300_000)
    with Server(export.parent, model_name="g", threads=1, grace=0.2) as server:
        stubs = Stubs(server)
        slow = request("slow", x=np.zeros((1, 8), np.float32))
        running = [stubs.prediction.Predict.future(slow, timeout=2) for _ in range(4)]
        time.sleep(0.3)
        code, text = failure(stubs.predict, good())
        assert (code, "too many requests" in text) == (Code.UNAVAILABLE, True)
        for call in running:
            call.cancel()


def test_memory_of_unread_replies_is_limited(export, monkeypatch):
    monkeypatch.setattr("tfface.server.workers._MAX_BYTES", 10**7)
    no_window = struct.pack(">HI", 4, 0)  # the client allows the server to send nothing
    with Server(export.parent, model_name="g", grace=1) as server:
        stubs = Stubs(server)
        with callers(server.port, 20, small(), 8, settings=no_window, end=1):
            wait_for(lambda: refuses(stubs))
        wait_for(lambda: not refuses(stubs))


def small():
    """A complete request in one frame, with a reply of 1 MB."""
    x = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0])
    x.tensor_shape.dim.add(size=20_000)
    message = request("types", x=x).SerializeToString()
    return b"\0" + struct.pack(">I", len(message)) + message


def refuses(stubs):
    try:
        stubs.predict(good())
    except grpc.RpcError as error:
        return error.code() is Code.UNAVAILABLE and "unread replies" in error.details()
    return False
