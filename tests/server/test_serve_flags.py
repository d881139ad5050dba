"""The flags of `python -m tfface.serve`: invalid ones, and the effect of each valid one."""

from __future__ import annotations

import dataclasses
import socket
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc
from tiny_models import Stubs, failure, request, save, status_request

from tfface import __version__, serve
from tfface.errors import UserError
from tfface.server.app import Server
from tfface.server.config import Options


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save(path / "1", ("types",))
    return path


@pytest.fixture(scope="module")
def taken():
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_port_in_use(folder, taken):
    with pytest.raises(UserError, match=f"127.0.0.1:{taken}: the port is in use"):
        Server(folder, port=taken).start()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--model_base_path and --model_config_file are missing"),
        (["--model_base_path={model}", "--model_config_file=x"], "are both given"),
        (["--prot=3"], "unknown flag --prot; perhaps you mean '--port'?"),
        (["--model_base={model}"], "unknown flag --model_base; perhaps"),
        (["--model_base_path={model}", "--port", "x"], "'x': expected a number"),
        (["--enable_model_warmup=maybe"], "'maybe': expected true or false"),
        (["--grpc_channel_arguments=a=1,b"], "'a=1,b': expected NAME=VALUE,NAME=VALUE"),
        (["--grpc_max_threads=0"], "'0': expected a number of at least 1"),
        (["--model_base_path={tmp}/nope"], "nope: no such folder"),
        (["--model_base_path={tmp}/model/1"], "contains no version"),
        (["--model_base_path={tmp}/version"], "this folder is itself a version"),
        (["--model_base_path={model}", "--port={taken}"], "the port is in use"),
        (["--model_base_path={model}", "--port=0", "--rest_api_port={taken}"], "port is in use"),
        (["--model_base_path={model}", "--port={free}", "--rest_api_port={free}"],
         "the REST API cannot use the gRPC API's port"),
        (["--batching_parameters_file=x"], "has no effect without --enable_batching"),
        (["--monitoring_config_file=x"], "has no effect without --rest_api_port"),
        (["--model_base_path={model}", "--enable_batching", "--batching_parameters_file={text}"],
         "Error parsing text-format tensorflow.serving.BatchingParameters: 1:1 :"),
        (["--model_base_path={model}", "--rest_api_port=9", "--monitoring_config_file={text}"],
         "Error parsing text-format tensorflow.serving.MonitoringConfig: 1:1 :"),
        (["--model_base_path={model}", "--tensorflow_session_parallelism=1",
          "--tensorflow_intra_op_parallelism=1"],
         "--tensorflow_session_parallelism cannot be combined"),
    ],
)  # fmt: skip
def test_invalid_flags_are_reported_in_one_line(tmp_path, capsys, taken, flags, message):
    (tmp_path / "model" / "1").mkdir(parents=True)
    (tmp_path / "version").mkdir()
    (tmp_path / "version" / "saved_model.pb").touch()
    (tmp_path / "text").write_text("parse me!")
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    names = {"tmp": tmp_path, "model": tmp_path / "model", "text": tmp_path / "text"}
    words = [flag.format(**names, taken=taken, free=free) for flag in flags]
    assert serve.main(words) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert error.startswith("tfface.serve: error: ")
    assert message in error


@pytest.mark.parametrize("value", ["", "=true", "=0.5", "=/no/such/file"])
def test_tf_serving_flags_without_effect_are_reported(tmp_path, capsys, value):
    names = (
        "enable_profiler", "tensorflow_session_config_file", "per_process_gpu_memory_fraction",
        "num_load_threads", "num_unload_threads", "prefer_tflite_model", "platform_config_file",
        "enable_signature_method_name_check", "flush_filesystem_caches", "mixed_precision",
        "xla_cpu_compilation_enabled",
    )  # fmt: skip
    flags = [f"--{name}{value}" for name in names]
    assert serve.main([f"--model_base_path={tmp_path / 'nope'}", *flags]) == 2
    ignored, mistake = capsys.readouterr().err.splitlines()
    assert mistake.endswith("nope: no such folder")
    assert ignored.startswith("tfface.serve: ") and "without effect" in ignored
    assert set(ignored.partition("effect: ")[2].split(", ")) == {f"--{name}" for name in names}


def test_uri_base_path_is_refused(capsys):
    assert serve.main(["--model_base_path=gs://bucket/x"]) == 2
    assert "base_path gs://bucket/x: URIs are not supported" in capsys.readouterr().err


def options(*flags):
    return serve._options(serve._parse(["--model_base_path=m", *flags]))


def test_defaults_are_those_of_tf_serving():
    assert options() == Options(port=8500)


@pytest.mark.parametrize(
    ("flag", "field", "value"),
    [
        ("--port=0", "port", 0),
        ("--host=0.0.0.0", "host", "0.0.0.0"),
        ("--grpc_socket_path=/run/s.sock", "socket_path", "/run/s.sock"),
        ("--grpc_max_threads=3", "threads", 3),
        ("--grpc_channel_arguments=a=-1,b=x", "channel_arguments", {"a": -1, "b": "x"}),
        ("--receive_timeout_seconds=5", "receive_timeout", 5),
        ("--max_open_per_peer=9", "max_open_per_peer", 9),
        ("--shutdown_grace_seconds=0", "grace", 0),
        ("--enable_grpc_healthcheck_service", "health", True),
        ("--enable_serialization_as_tensor_content=true", "tensor_content", True),
        ("--rest_api_port=8501", "rest_port", 8501),
        ("--rest_api_num_threads=5", "rest_threads", 5),
        ("--rest_api_timeout_in_ms=1500", "rest_timeout", 1.5),
        ("--file_system_poll_wait_seconds=0", "poll_seconds", 0),
        ("--model_config_file=c", "model_config_file", Path("c")),
        ("--allow_version_labels_for_unavailable_models=1", "allow_unavailable_labels", True),
        ("--max_num_load_retries=0", "max_load_retries", 0),
        ("--load_retry_interval_micros=500000", "retry_seconds", 0.5),
        ("--enable_model_warmup=false", "warm_up", False),
        ("--num_request_iterations_for_warmup=4", "warm_up_iterations", 4),
    ],
)
def test_flags_become_settings(flag, field, value):
    assert options(flag) == dataclasses.replace(Options(port=8500), **{field: value})


def test_monitoring_cors_and_config_polling_flags(tmp_path):
    monitoring = tmp_path / "monitoring.config"
    rest = ("--rest_api_port=1", f"--monitoring_config_file={monitoring}")
    for text, path in [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics"),
        ('prometheus_config { path: "/metrics" }', None),
    ]:
        monitoring.write_text(text)
        assert options(*rest).metrics_path == path
    assert options("--rest_api_port=1", "--rest_api_enable_cors_support").rest_cors
    polled = options("--model_config_file=c", "--model_config_file_poll_wait_seconds=7")
    assert polled.config_poll_seconds == 7


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        serve.main(["--version"])
    assert capsys.readouterr().out == f"tfface {__version__}\n"


def ask_at(address):
    with grpc.insecure_channel(address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        reply = stub.GetModelStatus(status_request(name="default"), timeout=20)
    return reply.model_version_status[0].version


def test_server_listens_on_unix_socket(folder, tmp_path):
    path = tmp_path / "tf-serving.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))  # and the file stays
    with Server(folder, socket_path=str(path)) as server:
        assert server.addresses == [f"unix:{path}"]
        assert ask_at(f"unix:{path}") == 1
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Server(folder, socket_path=str(path), port=port) as server:
        assert ask_at(f"unix:{path}") == 1
        assert ask_at(f"127.0.0.1:{port}") == 1
    path.unlink(missing_ok=True)
    path.write_text("no socket")
    with pytest.raises(UserError, match=f"cannot listen on unix:{path}"):
        Server(folder, socket_path=str(path)).start()
    assert path.read_text() == "no socket"


def test_channel_arguments_reach_grpc(folder):
    arguments = {"grpc.max_receive_message_length": 50}
    with Server(folder, model_name="g", channel_arguments=arguments) as server:
        large = request("types", x=np.zeros(100, np.float32))
        code, _ = failure(Stubs(server).predict, large)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_replies_use_tensor_content_if_enabled(folder):
    x = np.array([1, 2], np.float32)
    with Server(folder, model_name="g", tensor_content=True) as server:
        outputs = Stubs(server).predict(request("types", x=x)).outputs
    for name in ("float32", "int64", "float16", "bool"):
        assert outputs[name].tensor_content
        assert np.array_equal(tf.make_ndarray(outputs[name]), x.astype(name))
    assert outputs["scalar"].tensor_content == np.float32(3).tobytes()
    assert outputs["string"].string_val == [b"1.000000", b"2.000000"]


@pytest.mark.parametrize("health", [False, True])
def test_reflection_lists_the_services(folder, health):
    def ask(**question):
        asked = reflection_pb2.ServerReflectionRequest(**question)
        return next(iter(stub.ServerReflectionInfo(iter([asked]), timeout=20)))

    with Server(folder, health=health) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            reply = ask(list_services="")
            names = {service.name for service in reply.list_services_response.service}
            symbol = "tensorflow.serving.PredictionService"
            described = ask(file_containing_symbol=symbol).file_descriptor_response
    expected = {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert names == expected | ({"grpc.health.v1.Health"} if health else set())
    assert b"PredictRequest" in described.file_descriptor_proto[0]


def test_rest_settings_reach_the_rest_server(folder):
    settings = {"rest_port": 0, "rest_threads": 3, "rest_timeout": 2.5, "rest_cors": True}
    with Server(folder, metrics_path="/metrics", **settings) as server:
        address = f"http://127.0.0.1:{server.rest_port}"
        assert address in server.addresses
        with urllib.request.urlopen(f"{address}/metrics", timeout=20) as reply:
            assert reply.headers["Access-Control-Allow-Origin"] == "*"
