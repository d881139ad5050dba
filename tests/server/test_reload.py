"""Models added and removed while the server runs: over gRPC, and with the model config file."""

from __future__ import annotations

import threading

import grpc
import numpy as np
import pytest
from model_folders import add_version, config_list, label, model, server_config, specific
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.config import model_server_config_pb2
from tiny_models import Stubs, failure, request, save, spec, status_request, wait_for

from tfface.server.app import Server
from tfface.server.config import read_models
from tfface.server.versions import State

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two models with the versions 1 and 2 each."""
    export = tmp_path_factory.mktemp("export") / "1"
    save(export, ("types",))
    folders = tmp_path_factory.mktemp("models")
    for name in ("a", "b"):
        for number in (1, 2):
            add_version(export, folders / name, number)
    return folders


def ask(stubs, *choice, **options):
    """The version that handles a request."""
    x = np.ones(1, np.float32)
    question = request(model_spec=spec(*choice, signature="types", **options), x=x)
    return stubs.predict(question).model_spec.version.value


def reload(stubs, *models):
    asked = model_management_pb2.ReloadConfigRequest(config=server_config(*models))
    return stubs.model.HandleReloadConfigRequest(asked, timeout=30)


def states(stubs, name):
    reply = stubs.model.GetModelStatus(status_request(name=name))
    return {status.version: status.state for status in reply.model_version_status}


class Callers:
    """Threads that call one model repeatedly until the end of the block."""

    def __init__(self, stubs, name, count=3):
        self.seen, self.errors = [], []
        self._stubs, self._name, self._stop = stubs, name, threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(count)]

    def _work(self):
        while not self._stop.is_set():
            try:
                self.seen.append(ask(self._stubs, self._name))
            except Exception as error:
                self.errors.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count=20):
        """Waits for a number of further replies."""
        target = len(self.seen) + count
        wait_for(lambda: len(self.seen) >= target or self.errors)


def test_reload_replaces_the_models_without_a_failed_request(folders):
    a, b = folders / "a", folders / "b"
    with Server(a, model_name="a") as server:
        stubs = Stubs(server)
        with Callers(stubs, "a") as callers:
            callers.more()
            reply = reload(stubs, model("a", a), model("b", b))
            assert reply.HasField("status")
            assert reply.status.error_code == 0
            assert ask(stubs, "b") == 2  # at once: the reload waited until it was available
            assert server.describe() == "model a, version 2; model b, version 2"
            callers.more()
            reload(stubs, model("a", a, specific(1)), model("b", b))
            assert ask(stubs, "a") == 1
            callers.more()
            reload(stubs, model("a", a, "model_version_policy { all {} }"))
            assert ask(stubs, "a", version=1) == 1
            assert ask(stubs, "a") == 2
            callers.more()
        assert callers.errors == []
        assert set(callers.seen) == {1, 2}
        assert failure(ask, stubs, "b") == (
            Code.NOT_FOUND, "Servable not found for request: Latest(b)",
        )  # fmt: skip
        assert states(stubs, "b") == {2: State.END}
        assert states(stubs, "a") == {2: State.AVAILABLE, 1: State.AVAILABLE}
        reload(stubs)  # an empty list
        assert failure(ask, stubs, "a")[0] is Code.NOT_FOUND
        assert server.describe() == "no models"
        reload(stubs, model("b", b))
        assert ask(stubs, "b") == 2


def test_labels_over_grpc(folders):
    everything = "model_version_policy { all {} }"
    with Server(folders / "a", model_name="a") as server:
        stubs = Stubs(server)

        def assign(**labels):
            texts = [label(*item) for item in labels.items()]
            reload(stubs, model("a", folders / "a", " ".join([everything, *texts])))

        assign()
        assign(stable=1, canary=2)
        assert ask(stubs, "a", label="stable") == 1
        reply = stubs.model.GetModelStatus(status_request(name="a", label="canary"))
        assert [status.version for status in reply.model_version_status] == [2]
        assign(stable=2)
        assert ask(stubs, "a", label="stable") == 2
        assert failure(ask, stubs, "a", label="canary") == (
            Code.INVALID_ARGUMENT, "Unrecognized servable version label: canary",
        )  # fmt: skip
        code, message = failure(assign, stable=9)
        assert code is Code.FAILED_PRECONDITION
        assert message == (
            "Request to assign label to version 9 of model a, which is not currently available "
            "for inference"
        )
        assert ask(stubs, "a", label="stable") == 2


def test_invalid_reloads_change_nothing(folders):
    a = folders / "a"
    with Server(a, model_name="a") as server:
        stubs = Stubs(server)
        unset = model_management_pb2.ReloadConfigRequest(
            config=model_server_config_pb2.ModelServerConfig()
        )
        assert failure(stubs.model.HandleReloadConfigRequest, unset) == (
            Code.INVALID_ARGUMENT,
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported",
        )
        cases = [
            ((model("b", a), model("b", a)), "Illegal to list model b multiple times in config "),
            ((model("b", "b"),), "Expected model b to have an absolute path or URI"),
            ((model("a", a).replace("tensorflow", "x"),), "Illegal to change a model's platform."),
            ((model("b", a).replace("tensorflow", "x"),), "Model b requests unsupported platform"),
        ]
        for models, message in cases:
            code, details = failure(reload, stubs, *models)
            assert code is Code.INVALID_ARGUMENT
            assert message in details
        assert server.describe() == "model a, version 2"


def test_broken_new_model_is_reported(folders, tmp_path):
    (tmp_path / "broken" / "3").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    with Server(folders / "a", model_name="a", poll_seconds=0.1) as server:
        stubs = Stubs(server)
        broken = model("broken", tmp_path / "broken")
        code, details = failure(reload, stubs, model("a", folders / "a"), broken)
        assert code is Code.UNKNOWN
        assert details.startswith(
            "1 model(s) did not become available: {{{name: broken version: 3} due to error: NOT_F"
        )
        assert ask(stubs, "a") == 2
        empty = model("empty", tmp_path / "empty")
        code, details = failure(reload, stubs, model("a", folders / "a"), empty)
        assert code is Code.UNKNOWN
        assert "No versions of servable empty found under base path" in details
        add_version(folders / "b" / "1", tmp_path / "empty", 5)  # its folder is still polled
        wait_for(lambda: server.models["empty"].available())
        assert ask(stubs, "empty") == 5


def test_configuration_file_is_polled(folders, tmp_path, caplog):
    file, next_file = tmp_path / "models.config", tmp_path / "next"

    def write(text):
        next_file.write_text(text)
        next_file.rename(file)

    write(config_list(model("a", folders / "a")))
    options = {"model_config_file": file, "config_poll_seconds": 0.05}
    with Server(read_models(file), **options) as server:
        stubs = Stubs(server)
        with Callers(stubs, "a") as callers:
            write(config_list(model("a", folders / "a", specific(1)), model("b", folders / "b")))
            wait_for(lambda: server.describe() == "model a, version 1; model b, version 2")
            write("parse me!")
            wait_for(lambda: "Error parsing text-format" in caplog.text)
            write(config_list(model("a", folders / "a", label("stable", 2))))
            wait_for(lambda: "Request to assign label" in caplog.text)
            assert server.describe() == "model a, version 1; model b, version 2"
            write(config_list(model("a", folders / "a")))
            wait_for(lambda: server.describe() == "model a, version 2")
        assert callers.errors == []
        assert caplog.text.count("Error parsing text-format") == 1  # not at every poll
        assert failure(ask, stubs, "b")[0] is Code.NOT_FOUND


def test_configuration_file_is_read_once_by_default(folders, tmp_path):
    file = tmp_path / "models.config"
    file.write_text(config_list(model("a", folders / "a")))
    with Server(read_models(file), model_config_file=file, poll_seconds=0.05) as server:
        threads = {thread.name for thread in threading.enumerate()}
        assert "versions" in threads
        assert "models" not in threads
        assert ask(Stubs(server), "a") == 2
