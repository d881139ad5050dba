"""The cases of TF Serving's own server test, `tensorflow_model_server_test.py`, on this server.

26 of its 30 cases are reproduced, with the original case names and the same names, dtypes and
shapes of signatures and requests; docs/serving.md lists them. Not included:

- `testPredictOnTfLite`, `testPredictWithSignatureDefOnTfLite`: need TFLite files, not SavedModels.
- `test_tf_text`: needs tensorflow-text's operations in the server, and a model that is not in TF
  Serving's sources.
- `test_profiler_service_with_valid_trace_request`: the server has no profiler service.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from half_plus import save_graph, save_tf2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tiny_models import wait_for

pytestmark = pytest.mark.slow
CHECKOUT = Path(__file__).parents[2]
VERSION = 123


class Running:
    """A server process, with stubs."""

    def __init__(self, *flags):
        port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tfface.serve", f"--port={port}", *flags],
            cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.ready = self.process.stdout.readline()
        if not self.ready:
            raise RuntimeError(self.process.stderr.read())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()
        self.process.kill()
        self.process.communicate()

    def predict(self, model="default", signature="serving_default"):
        """The model's output for 2, of shape [1], read as typical clients do."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, signature
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([2.0], tf.float32))
        reply = self.prediction.Predict(request, timeout=20)
        assert reply.model_spec.name == model
        assert reply.model_spec.signature_name == signature
        return list(reply.outputs["y"].float_val)

    def has(self, model, expected):
        """Whether a model returns the expected value; None: it is not served."""
        try:
            return self.predict(model) == expected
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
            return expected is None


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_graph(folder / "half_plus_two" / f"{VERSION:08}")
    save_graph(folder / "half_plus_three" / f"{VERSION:08}", b=3.0)
    save_tf2(folder / "half_plus_two_tf2" / f"{VERSION:08}")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """One server for all cases that need no other flags: both models, REST and metrics."""
    config, monitoring = folder / "models.config", folder / "monitoring.config"
    config.write_text(models(default=folder / "half_plus_two", tf2=folder / "half_plus_two_tf2"))
    monitoring.write_text(
        'prometheus_config { enable: true, path: "/monitoring/prometheus/metrics" }'
    )
    port = free_port()
    flags = (
        f"--model_config_file={config}",
        f"--rest_api_port={port}",
        f"--monitoring_config_file={monitoring}",
        f"--grpc_socket_path={folder / 'socket'}",
        "--grpc_channel_arguments=grpc.max_send_message_length=104857600",
    )
    with Running(*flags) as running:
        running.rest = f"http://127.0.0.1:{port}"
        yield running


def models(**folders):
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}\n'
        for name, path in folders.items()
    )
    return f"model_config_list {{\n{entries}}}\n"


def fill(request, model, signature):
    """A request for one example whose x is 2."""
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    example = request.input.example_list.examples.add()
    example.features.feature["x"].float_list.value.append(2.0)
    return request


def call(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=20) as reply:
        text = reply.read().decode()
    return json.loads(text) if reply.headers["Content-Type"] == "application/json" else text


def get_model_status(server):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "default"
    (status,) = server.models.GetModelStatus(request, timeout=20).model_version_status
    assert (status.version, status.state, status.status.error_code) == (VERSION, 30, 0)
    assert status.status.error_message == ""


def get_model_metadata(server):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "default"
    reply = server.prediction.GetModelMetadata(request, timeout=20)
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("default", VERSION)
    assert list(reply.metadata) == ["signature_def"]


def classify(server, model="default"):
    request = fill(classification_pb2.ClassificationRequest(), model, "classify_x_to_y")
    reply = server.prediction.Classify(request, timeout=20)
    (classification,) = reply.result.classifications
    assert [c.score for c in classification.classes] == [3.0]
    assert reply.model_spec.name == model
    assert reply.model_spec.signature_name == "classify_x_to_y"


def regress(server, model="default"):
    request = fill(regression_pb2.RegressionRequest(), model, "regress_x_to_y")
    reply = server.prediction.Regress(request, timeout=20)
    assert [r.value for r in reply.result.regressions] == [3.0]
    assert reply.model_spec.signature_name == "regress_x_to_y"


def multi_inference(server, model="default"):
    request = inference_pb2.MultiInferenceRequest()
    for method in ("regress", "classify"):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = model
        task.model_spec.signature_name = f"{method}_x_to_y"
    example = request.input.example_list.examples.add()
    example.features.feature["x"].float_list.value.append(2.0)
    first, second = server.prediction.MultiInference(request, timeout=20).results
    assert first.regression_result.regressions[0].value == 3.0
    assert second.classification_result.classifications[0].classes[0].score == 3.0
    assert first.model_spec.signature_name == "regress_x_to_y"


def predict_saved_model(server):
    assert server.predict() == [3.0]


def predict_uds(server):
    path = re.search(r"unix:\S+?(?=[:, ]|$)", server.ready)[0]
    with grpc.insecure_channel(path) as channel:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "default"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([2.0]))
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert list(stub.Predict(request, timeout=20).outputs["y"].float_val) == [3.0]


def classify_rest(server):
    body = {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}]}
    reply = call(f"{server.rest}/v1/models/default:classify", body)
    assert reply == {"results": [[["", 3.0]]]}


def regress_rest(server):
    body = {"signature_name": "regress_x_to_y", "examples": [{"x": 2.0}]}
    assert call(f"{server.rest}/v1/models/default:regress", body) == {"results": [3.0]}


def predict_rest(server):
    reply = call(f"{server.rest}/v1/models/default:predict", {"instances": [2.0, 3.0, 4.0]})
    assert reply == {"predictions": [3.0, 3.5, 4.0]}


def predict_columnar_rest(server):
    reply = call(f"{server.rest}/v1/models/default:predict", {"inputs": [2.0, 3.0, 4.0]})
    assert reply == {"outputs": [3.0, 3.5, 4.0]}


def get_status_rest(server):
    status = {"error_code": "OK", "error_message": ""}
    entry = {"version": str(VERSION), "state": "AVAILABLE", "status": status}
    reply = call(f"{server.rest}/v1/models/default")
    assert reply == {"model_version_status": [entry]}


def get_model_metadata_rest(server):
    reply = call(f"{server.rest}/v1/models/default/metadata")
    assert reply["model_spec"] == {
        "name": "default", "signature_name": "", "version": str(VERSION),
    }  # fmt: skip
    signatures = reply["metadata"]["signature_def"]["signature_def"]
    shape = {"dim": [{"size": size, "name": ""} for size in ("-1", "1")], "unknown_rank": False}
    assert signatures["serving_default"] == {
        "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "x:0"}},
        "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "y:0"}},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }


def prometheus_endpoint(server):
    server.predict()
    text = call(f"{server.rest}/monitoring/prometheus/metrics")
    assert "# TYPE :tensorflow:serving:request_count counter" in text


CASES = {
    "testGetModelStatus": get_model_status,
    "testGetModelMetadata": get_model_metadata,
    "testClassify": classify,
    "testClassifyTf2": lambda server: classify(server, "tf2"),
    "testRegress": regress,
    "testRegressTf2": lambda server: regress(server, "tf2"),
    "testMultiInference": multi_inference,
    "testMultiInferenceTf2": lambda server: multi_inference(server, "tf2"),
    "testPredictSavedModel": predict_saved_model,
    "testPredictUDS": predict_uds,
    "testGoodGrpcChannelArgs": predict_saved_model,
    "testClassifyREST": classify_rest,
    "testRegressREST": regress_rest,
    "testPredictREST": predict_rest,
    "testPredictColumnarREST": predict_columnar_rest,
    "testGetStatusREST": get_status_rest,
    "testGetModelMetadataREST": get_model_metadata_rest,
    "testPrometheusEndpoint": prometheus_endpoint,
}


@pytest.mark.parametrize("name", CASES)
def test_tf_serving_case(server, name):
    CASES[name](server)


def test_model_config(folder, tmp_path):
    """testGoodModelConfig, testModelConfigReload: a file that is reloaded every second."""
    config = tmp_path / "models.config"
    two, three = folder / "half_plus_two", folder / "half_plus_three"
    config.write_text(models(half_plus_two=two, half_plus_three=three))
    flags = (f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1")
    with Running(*flags) as server:
        assert server.predict("half_plus_two") == [3.0]
        assert server.predict("half_plus_three") == [4.0]
        config.write_text(models(half_plus_two=two, another=three))
        wait_for(lambda: server.has("another", [4.0]))
        wait_for(lambda: server.has("half_plus_three", None))
        assert server.predict("half_plus_two") == [3.0]


def test_model_config_is_read_once(folder, tmp_path):
    """testModelConfigReloadWithZeroPollPeriod; and models saved by TF 2 and Keras.

    test_tf_saved_model_save, test_tf_saved_model_save_multiple_signatures,
    test_sequential_keras_saved_model_save, test_distrat_sequential_keras_saved_model_save.
    """

    root = tf.train.Checkpoint(v1=tf.Variable(3.0), v2=tf.Variable(2.0))
    product = tf.function(lambda x: {"y": root.v1 * root.v2 * x})
    any_shape = tf.TensorSpec(None, tf.float32, "x")
    tf.saved_model.save(root, str(tmp_path / "one" / "1"), product.get_concrete_function(any_shape))
    both = {
        "serving_default": tf.function(lambda x: {"y": 1.0}, [any_shape]),
        "custom_signature_key": tf.function(lambda x: {"y": 2.0}, [any_shape]),
    }
    tf.saved_model.save(tf.Module(), str(tmp_path / "two" / "1"), both)
    for name, strategy in (
        ("keras", tf.distribute.get_strategy()), ("mirrored", tf.distribute.MirroredStrategy()),
    ):  # fmt: skip
        with strategy.scope():
            ones = keras.initializers.Ones()
            layer = keras.layers.Dense(1, use_bias=False, kernel_initializer=ones)
            net = keras.Sequential([keras.layers.Input((1,), name="x"), layer])
        net.export(tmp_path / name / "1", verbose=False)
    config = tmp_path / "models.config"
    folders = {name: tmp_path / name for name in ("one", "two", "keras", "mirrored")}
    config.write_text(models(**folders))
    with Running(f"--model_config_file={config}") as server:
        config.write_text(models(half_plus_two=folder / "half_plus_two"))
        assert server.predict("one") == [12.0]
        assert server.predict("two") == [1.0]
        assert server.predict("two", signature="custom_signature_key") == [2.0]
        for name in ("keras", "mirrored"):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([[2.0]], np.float32)))
            reply = server.prediction.Predict(request, timeout=20)
            assert list(reply.outputs["output_0"].float_val) == [2.0]
        assert server.has("half_plus_two", None)


def test_bad_model_config(tmp_path):
    """testBadModelConfig: the process reports the error and exits."""
    config = tmp_path / "models.config"
    config.write_text("config { name: }")
    done = subprocess.run(
        [sys.executable, "-m", "tfface.serve", f"--model_config_file={config}"],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in done.stderr
