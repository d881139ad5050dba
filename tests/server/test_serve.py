"""Added and removed versions, and the command `python -m tfface.serve`."""

from __future__ import annotations

import gc
import re
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import grpc
import numpy as np
import pytest
from model_folders import add_version
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tiny_models import (
    Stubs,
    good,
    request,
    save,
    spec,
    status_request,
    wait_for,
)

from tfface import serve
from tfface.errors import UserError
from tfface.server.app import Server
from tfface.server.checks import find_versions
from tfface.server.config import ModelConfig, Options
from tfface.server.versions import Model, State

CHECKOUT = Path(__file__).parents[2]
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    save(path)
    return path


def test_new_version_takes_over_without_a_failed_request(export, tmp_path):
    add_version(export, tmp_path, 1)
    stop, errors, seen = threading.Event(), [], []

    def work():
        while not stop.is_set():
            try:
                seen.append(stubs.predict(good()).model_spec.version.value)
            except Exception as error:
                errors.append(error)

    def state(number):
        return server.models["g"].status().get(number, (None,))[0]

    with Server(tmp_path, model_name="g", poll_seconds=0.1) as server:
        stubs = Stubs(server)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(seen) > 20)
        add_version(export, tmp_path, 2, warm_up=[good()])
        wait_for(lambda: state(1) is State.END and seen[-1] == 2)
        add_version(export, tmp_path, 3, warm_up=[request()])  # its warm-up fails: 2 stays
        wait_for(lambda: state(3) is State.END)
        shutil.rmtree(tmp_path / "3")
        shutil.rmtree(tmp_path / "2")
        wait_for(lambda: seen[-1] == 1 and state(2) is State.END)  # back to the version before
        stop.set()
        for thread in threads:
            thread.join()
        assert errors == []
        assert set(seen) == {1, 2}
        failed = stubs.model.GetModelStatus(status_request(version=3)).model_version_status[0]
        assert failed.status.error_code == Code.INVALID_ARGUMENT.value[0]
        assert "input size does not match signature" in failed.status.error_message


def test_old_version_stays_loaded_until_its_requests_finish(export, tmp_path):
    add_version(export, tmp_path, 1)
    model = Model(ModelConfig("g", tmp_path), Options())
    model.update()
    with model.use() as (number, loaded):
        add_version(export, tmp_path, 2)
        model.update()
        assert number == 1
        assert model.available() == [2]
        assert model.status()[1][0] is State.UNLOADING
        signature = loaded.signatures["types"]
        values = loaded.run(signature, {"x": np.ones(1, np.float32)}, ["float32"])
        assert values["float32"] == [1]
    assert model.status()[1][0] is State.END
    model.close()
    assert model.available() == []


def test_unloaded_version_frees_its_graph(export, tmp_path):
    add_version(export, tmp_path, 1)
    model = Model(ModelConfig("g", tmp_path), Options())
    model.update()
    with model.use() as (_, loaded):
        graph = weakref.ref(loaded._session.graph)
    del loaded
    gc.disable()
    try:
        add_version(export, tmp_path, 2)
        model.update()
        assert graph() is None
    finally:
        gc.enable()
        model.close()


def test_repaired_version_is_loaded(export, tmp_path):
    add_version(export, tmp_path, 1)
    variables = tmp_path / "1" / "variables"
    variables.rename(tmp_path / "aside")
    model = Model(ModelConfig("g", tmp_path), Options())
    model.update()
    state, error = model.status()[1]
    assert state is State.END
    assert error.message
    model.update()  # nothing has changed: no retry
    assert model.status()[1][1] is error
    (tmp_path / "aside").rename(variables)
    model.update()
    assert model.available() == [1]
    model.close()


def test_failing_warm_up_can_be_switched_off(export, tmp_path):
    add_version(export, tmp_path, 1, warm_up=[good(), request()])
    with pytest.raises(UserError, match="version 1 in .* cannot be loaded: INVALID_ARGUMENT"):
        Server(tmp_path).start()
    with Server(tmp_path, warm_up=False) as server:
        assert server.describe() == "model default, version 1"
    damaged = tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests"
    damaged.write_bytes(b"no records at all")
    with pytest.raises(UserError, match="verify your warmup data is in TFRecord format"):
        Server(tmp_path).start()


def test_version_folders(tmp_path):
    largest = 2**63 - 1
    names = ("007", "12", "x", "1.5", "-3", ".4.tmp", "\u0663", f"00{largest}", "0" * 50)
    for name in (*names, str(largest + 1), "9" * 20, "20261129143000123456", "9" * 200):
        (tmp_path / name).mkdir()
    (tmp_path / "99").write_text("a file")
    (tmp_path / "98").symlink_to(tmp_path / "98")
    assert sorted(find_versions(tmp_path)) == [0, 7, 12, largest]


@pytest.mark.parametrize("name", ["99999999999999999999", "20261129143000123456"])
def test_invalid_version_folders_are_ignored(export, tmp_path, name):
    add_version(export, tmp_path, 1)
    (tmp_path / name).mkdir()
    with Server(tmp_path, model_name="g", poll_seconds=0.1) as server:
        stubs = Stubs(server)
        (status,) = stubs.model.GetModelStatus(status_request()).model_version_status
        assert (status.version, status.state) == (1, State.AVAILABLE)
        add_version(export, tmp_path, 2)
        wait_for(lambda: stubs.predict(good()).model_spec.version.value == 2)


def test_only_version_is_unloaded_when_its_folder_is_removed(export, tmp_path):
    """As in TF Serving's FileSystemStoragePathSource; an unreadable folder changes nothing."""
    add_version(export, tmp_path / "g", 1)
    model = Model(ModelConfig("g", tmp_path / "g"), Options())
    model.update()
    (tmp_path / "g").rename(tmp_path / "away")
    model.update()
    assert model.available() == [1]
    (tmp_path / "away").rename(tmp_path / "g")
    (tmp_path / "g" / "1").rename(tmp_path / "1")
    model.update()
    assert model.available() == []
    (tmp_path / "1").rename(tmp_path / "g" / "1")
    model.update()
    assert model.available() == [1]
    model.close()


@pytest.mark.slow
def test_help_needs_neither_tensorflow_nor_grpc():
    code = (
        "import sys, tfface.serve, tfface.client\n"
        "try: tfface.serve.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('tensorflow', 'keras', 'grpc', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )
    assert "--model_base_path FOLDER" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_signal_that_another_thread_receives_ends_the_wait(tmp_path):
    class Signalled(Exception):
        pass

    def handle(*_):
        raise Signalled

    server = Server(tmp_path)  # It is not started.
    receive = threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGUSR1))
    late = threading.Timer(20, server._stopped.set)  # Otherwise the test would not end.
    before = signal.signal(signal.SIGUSR1, handle)
    receive.start()
    late.start()
    try:
        with pytest.raises(Signalled):
            server.wait()
        assert late.is_alive()
    finally:
        signal.signal(signal.SIGUSR1, before)
        late.cancel()


def test_a_signal_right_after_ready_stops_the_command_as_usual(export, monkeypatch):
    lines = []

    def stopped_while_printing(line, **_):
        lines.append(line)
        if "ready at" in line:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(serve, "print", stopped_while_printing, raising=False)
    try:
        assert serve.main([f"--model_base_path={export.parent}", "--port=0"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(lines) == 2 and lines[1] == "tfface.serve: stopping"


@pytest.mark.slow
def test_command_serves_until_sigterm(export):
    process = subprocess.Popen(
        [sys.executable, "-m", "tfface.serve", f"--model_base_path={export.parent}", "--port=0",
         "--enable_grpc_healthcheck_service", "--model_name", "faces"],
        cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        ready = process.stdout.readline()
        assert ready.endswith(": model faces, version 1\n")
        address = re.search(r"ready at ([\d.]+:\d+)", ready)[1]
        with grpc.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            reply = stub.Predict(good(model_spec=spec("faces")), timeout=20)
        assert reply.outputs["count"].int_val == [2]
        process.terminate()
        out, error = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "tfface.serve: stopping\n")
        assert "Traceback" not in error
    finally:
        process.kill()
        process.wait()
