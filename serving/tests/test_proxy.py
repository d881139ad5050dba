"""nginx, as shipped, in front of three servers. Needs nginx."""

from __future__ import annotations

import os
import shutil
import threading
import time

import grpc
import pytest
from processes import Proxy, need, replicas, run, shipped_conf
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tiny_models import Stubs, faces, failure, good, request, status_request, wait_for

AVAILABLE = 30


@pytest.fixture(scope="module")
def servers(models, tmp_path_factory):
    need("nginx")
    with replicas(3, models, tmp_path_factory.mktemp("replicas")) as started:
        yield started


@pytest.fixture(scope="module")
def proxy(servers, tmp_path_factory):
    started = Proxy(servers, tmp_path_factory.mktemp("proxy"))
    yield started
    started.stop()


class Callers:
    """Threads that call without a pause; gRPC's own retries are disabled."""

    def __init__(self, port, count):
        self.answers, self.errors = [], []
        self._stop = threading.Event()
        options = [("grpc.enable_retries", 0)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._threads = [threading.Thread(target=self._work) for _ in range(count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()

    def _work(self):
        while not self._stop.is_set():
            try:
                reply = self._stub.Predict(good(), timeout=20)
                self.answers.append(reply.model_spec.version.value)
            except grpc.RpcError as error:
                self.errors.append(f"{error.code()}: {error.details()}")

    def wait_for_answers(self, count):
        wanted = len(self.answers) + count
        wait_for(lambda: self.errors or len(self.answers) >= wanted)


def test_shipped_file_is_valid(tmp_path):
    conf = tmp_path / "nginx.conf"
    conf.write_text(shipped_conf(tmp_path / "pid"))
    run(need("nginx"), "-t", "-c", conf)


def test_all_servers_get_requests(servers, proxy):
    with Callers(proxy.port, 4) as callers:
        callers.wait_for_answers(60)
    assert callers.errors == []
    for server in servers:
        wait_for(lambda server=server: f"127.0.0.1:{server.port}" in proxy.calls.read_text())


def test_large_messages_pass(proxy):
    image = faces(1).repeat(5000, axis=0)  # 15 MB
    reply = Stubs(proxy).predict(request(image=image, expression=["happy"] * 5000))
    assert reply.outputs["count"].int_val == [5000]


def test_no_request_fails_while_servers_are_killed_and_a_version_is_loaded(servers, proxy, models):
    with Callers(proxy.port, 6) as callers:
        for server in [*servers, *servers]:
            callers.wait_for_answers(200)
            server.kill()
            callers.wait_for_answers(200)
            server.start()
            server.wait_until_ready()
        shutil.copytree(models / "1", models / ".2")
        os.rename(models / ".2", models / "2")
        for server in servers:
            stub = Stubs(server).model
            wait_for(lambda stub=stub: state(stub) == AVAILABLE)
        wait_for(lambda: callers.errors or set(callers.answers[-50:]) == {2})
    assert callers.errors == []
    assert set(callers.answers) == {1, 2}
    # Some requests were running when their server was killed, and were passed on to another one.
    repeated = [line for line in proxy.calls.read_text().splitlines() if "," in line.split("by")[1]]
    assert repeated


def state(stub):
    versions = stub.GetModelStatus(status_request()).model_version_status
    return next((v.state for v in versions if v.version == 2), None)


def test_clients_fail_at_once_without_any_server(servers, proxy):
    stubs = Stubs(proxy)
    for server in servers:
        server.kill()
    begun = time.monotonic()
    assert failure(stubs.predict, good())[0] is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - begun < 10
    for server in servers:
        server.start()
        server.wait_until_ready()
    wait_for(lambda: answers(stubs))  # without a restart of the proxy, once the servers are back


def answers(stubs):
    try:
        return stubs.predict(good())
    except grpc.RpcError:
        return None
