"""The embedded server against TF Serving's contract, called with plain gRPC stubs."""

from __future__ import annotations

import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)
from tiny_models import (
    CODES,
    SIZE,
    Stubs,
    faces,
    failure,
    good,
    image,
    png,
    request,
    save,
    spec,
    status_request,
    wait_for,
)

from tfface.server import tensors
from tfface.server.app import Server
from tfface.server.versions import State

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    save(path, ("serving_default", "bytes", "types", "slow", "quotes"))
    return path


@pytest.fixture(scope="module")
def stubs(export):
    with Server(export.parent, model_name="g", health=True) as server:
        yield Stubs(server)


def test_predict_replies_in_typed_fields(stubs):
    response = stubs.predict(good())
    image = response.outputs["image"]
    assert not image.tensor_content
    assert np.array_equal(np.reshape(image.float_val, (2, SIZE, SIZE, 3)), -faces())
    assert np.array_equal(tf.make_ndarray(image), -faces())
    assert response.outputs["count"].int_val == [2]
    assert response.model_spec == spec(version=1, signature="serving_default")


def test_output_filter_and_version(stubs):
    response = stubs.predict(good(outputs=["count"], model_spec=spec(version=1)))
    assert list(response.outputs) == ["count"]


def test_typed_request_fields_repeat_their_last_value(stubs):
    image = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[0.5])
    for size in (1, SIZE, SIZE, 3):
        image.tensor_shape.dim.add(size=size)
    response = stubs.predict(request(image=image, expression=[b"happy"]))
    assert set(response.outputs["image"].float_val) == {-0.5}


def test_every_dtype_is_returned_in_its_field(stubs):
    values = np.array([0, 1, 2.5], np.float32)
    outputs = stubs.predict(request("types", x=values)).outputs
    for dtype in CODES:
        proto = outputs[dtype.name]
        assert not proto.tensor_content
        assert np.array_equal(tf.make_ndarray(proto), tf.cast(values, dtype).numpy()), dtype
    assert outputs["string"].string_val == [b"0.000000", b"1.000000", b"2.500000"]
    assert outputs["scalar"].float_val == [3.5]
    assert not outputs["scalar"].tensor_shape.dim
    empty = stubs.predict(request("types", x=np.zeros(0, np.float32))).outputs
    assert tf.make_ndarray(empty["float32"]).shape == (0,)


@pytest.mark.parametrize("dtype", CODES, ids=lambda dtype: dtype.name)
def test_tensors_round_trip(dtype):
    array = tf.cast([[0, 1, 2], [3, 4, 5]], dtype).numpy()
    assert np.array_equal(tensors.to_array(tensors.to_proto(array)), array)
    response = predict_pb2.PredictResponse.FromString(tensors.response({"a": array}, spec()))
    back = tensors.to_array(response.outputs["a"])
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_strings_round_trip():
    array = np.array([[b"a\0", b""], [b"\xff", b"b"]], object)
    assert np.array_equal(tensors.to_array(tensors.to_proto(array)), array)
    outputs = {"a": array, "scalar": b"x\0", "empty": np.zeros((0, 2), object)}
    response = predict_pb2.PredictResponse.FromString(tensors.response(outputs, spec()))
    assert np.array_equal(tf.make_ndarray(response.outputs["a"]), array)
    assert response.outputs["scalar"].string_val == [b"x\0"]
    assert tensors.to_array(response.outputs["empty"]).shape == (0, 2)


def test_bytes_signature(stubs):
    files = [png(image(seed)) for seed in range(3)]
    reply = stubs.predict(request("bytes", image_bytes=files, expression=["sad"] * 3))
    for seed, data in enumerate(reply.outputs["image_bytes"].string_val):
        negative = 255 - np.asarray(image(seed))
        assert np.array_equal(tf.io.decode_png(data).numpy(), negative)


def test_messages_larger_than_grpc_allows_by_default(stubs):
    image = faces(1).repeat(2500, axis=0)
    reply = stubs.predict(request(image=image, expression=["happy"] * 2500))
    assert reply.ByteSize() > 7e6


HUGE = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[0])
for _size in (10**7, SIZE, SIZE, 3):
    HUGE.tensor_shape.dim.add(size=_size)
SHORT = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"123")
SHORT.tensor_shape.dim.add(size=1)
SHAPE = (
    "input image must have as many dimensions as the signature's shape "
    f"[-1,{SIZE},{SIZE},3] but has shape "
)
LABEL = ["happy", "sad"]

# (case, request, code, message)
REFUSED = [
    ("no model_spec", predict_pb2.PredictRequest(), Code.INVALID_ARGUMENT, "Missing ModelSpec"),
    ("no name", request(model_spec=spec(""), x=1), Code.INVALID_ARGUMENT,
     "ModelSpec has no name specified."),
    ("unknown model", request(model_spec=spec("nope")), Code.NOT_FOUND,
     "Servable not found for request: Latest(nope)"),
    ("unknown version", request(model_spec=spec(version=99)), Code.NOT_FOUND,
     "Servable not found for request: Specific(g, 99)"),
    ("version 0 is a version", good(model_spec=spec(version=0)), Code.NOT_FOUND,
     "Servable not found for request: Specific(g, 0)"),
    ("unknown label", request(model_spec=spec(label="canary")), Code.INVALID_ARGUMENT,
     "Unrecognized servable version label: canary"),
    ("unknown signature", request("nope"), Code.FAILED_PRECONDITION,
     'Serving signature key "nope" not found.'),
    ("missing inputs", request(), Code.INVALID_ARGUMENT,
     "input size does not match signature: 0!=2 len({}) != len({expression,image}). "
     "Sent extra: {}. Missing but required: {expression,image}."),
    ("extra input", request("types", x=[1.0], z=1), Code.INVALID_ARGUMENT,
     "input size does not match signature: 2!=1 len({x,z}) != len({x}). "
     "Sent extra: {z}. Missing but required: {}."),
    ("wrong input name", request("types", img=[1.0]), Code.INVALID_ARGUMENT,
     "Signature input alias: x(feed name: types_x:0) not found in request and no default value "
     "provided. Inputs expected to be in the request {img}, or default input alias set: "),
    ("unknown output", good(outputs=["nope"]), Code.INVALID_ARGUMENT,
     "output tensor alias not found in signature: nope Outputs expected to be in the set "
     "{count,image}."),
    ("output twice", good(outputs=["image", "image"]), Code.INVALID_ARGUMENT,
     "duplicate output tensor alias: image"),
    ("wrong dtype", request("types", x=np.zeros(2)), Code.INVALID_ARGUMENT,
     "Expects arg[0] to be float but double is provided"),
    ("string for float", request("types", x=["a"]), Code.INVALID_ARGUMENT,
     "Expects arg[0] to be float but string is provided"),
    ("invalid dtype", request("types", x=tensor_pb2.TensorProto()), Code.INVALID_ARGUMENT,
     "tensor parsing error: x"),
    ("content too short", request("types", x=SHORT), Code.INVALID_ARGUMENT,
     "tensor parsing error: x"),
    ("a few bytes that claim to be 30 GB", request(image=HUGE, expression=LABEL),
     Code.INVALID_ARGUMENT, "tensor parsing error: image"),
    ("wrong rank", request(image=faces(1)[0], expression=LABEL), Code.INVALID_ARGUMENT,
     f"{SHAPE}[{SIZE},{SIZE},3]"),
    ("rank 5", request(image=faces(2)[None], expression=LABEL), Code.INVALID_ARGUMENT,
     f"{SHAPE}[1,2,{SIZE},{SIZE},3]"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case[0])
def test_invalid_requests_get_tf_servings_errors(stubs, case):
    _, bad, code, message = case
    assert failure(stubs.predict, bad) == (code, message)
    assert stubs.predict(good()).outputs["count"].int_val == [2]  # the server still works


def test_sizes_and_small_ranks_are_left_to_tensorflow(stubs):
    """As in TF Serving; its own tests send [1] for a signature with shape [-1,1]."""
    narrow = stubs.predict(request(image=faces()[:, :8], expression=LABEL)).outputs["image"]
    assert [dim.size for dim in narrow.tensor_shape.dim] == [2, 8, SIZE, 3]
    matrix = stubs.predict(request("types", x=np.ones((2, 3), np.float32))).outputs["float64"]
    assert [dim.size for dim in matrix.tensor_shape.dim] == [2, 3]


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"no image", "Unknown image file format."), (b"", "Input is empty.")],
)
def test_invalid_image_bytes_are_refused(stubs, data, message):
    bad = request("bytes", image_bytes=[data], expression=["sad"])
    code, details = failure(stubs.predict, bad)
    assert code is Code.INVALID_ARGUMENT
    assert message in details


def test_init_op_signature_cannot_be_called(stubs):
    assert failure(stubs.predict, request("__saved_model_init_op"))[0] is Code.OUT_OF_RANGE


def test_long_error_messages_are_truncated(stubs):
    code, details = failure(stubs.predict, request(image=faces(1), expression=["nothing"]))
    assert code is Code.INVALID_ARGUMENT
    assert len(details) == 1024 + len("...TRUNCATED")
    assert details.endswith("...TRUNCATED")


def test_error_messages_with_invalid_utf8_are_sent(stubs):
    expression = np.array([b"nothing\xff"], object)
    code, details = failure(stubs.predict, request("quotes", x=tensors.to_proto(expression)))
    assert (code, "nothing\ufffd" in details) == (Code.INVALID_ARGUMENT, True)


def test_unparsable_request_is_refused(stubs):
    raw = stubs.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    assert failure(raw, b"\xff\xff\xff")[0] is Code.INTERNAL
    assert failure(stubs.channel.unary_unary("/no.Service/Method"), b"")[0] is Code.UNIMPLEMENTED


def test_deadline_stops_the_computation(stubs):
    def idle():
        used = time.process_time()
        time.sleep(0.3)
        return time.process_time() - used < 0.15

    bad = request("slow", x=np.zeros((1, 8), np.float32))
    assert failure(stubs.predict, bad, timeout=0.3)[0] is Code.DEADLINE_EXCEEDED
    wait_for(idle)  # without the deadline it would go on for minutes


def test_concurrent_requests(stubs):
    errors = []

    def work(seed):
        try:
            for count in range(1, 6):
                image = faces(count, seed)
                reply = stubs.predict(request(image=image, expression=["sad"] * count))
                assert np.array_equal(tf.make_ndarray(reply.outputs["image"]), -image)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def metadata_request(*fields, model_spec=None):
    return get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=model_spec or spec(), metadata_field=fields
    )


def test_metadata(stubs, export):
    reply = stubs.prediction.GetModelMetadata(metadata_request("signature_def"))
    assert reply.model_spec == spec(version=1)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(found)
    assert set(found.signature_def) >= {"serving_default", "bytes", "types", "slow"}
    image = found.signature_def["serving_default"].inputs["image"]
    assert [dim.size for dim in image.tensor_shape.dim] == [-1, SIZE, SIZE, 3]


@pytest.mark.parametrize(
    ("bad", "code", "message"),
    [
        (get_model_metadata_pb2.GetModelMetadataRequest(), Code.INVALID_ARGUMENT,
         "Missing ModelSpec"),
        (metadata_request(), Code.INVALID_ARGUMENT,
         "GetModelMetadataRequest must specify at least one metadata_field"),
        (metadata_request("x"), Code.INVALID_ARGUMENT, "Metadata field x is not supported"),
        (metadata_request("signature_def", model_spec=spec("nope")), Code.NOT_FOUND,
         "Servable not found for request: Latest(nope)"),
    ],
)  # fmt: skip
def test_invalid_metadata_requests_are_refused(stubs, bad, code, message):
    assert failure(stubs.prediction.GetModelMetadata, bad) == (code, message)


def test_status(stubs):
    for asked in (status_request(), status_request(version=1)):
        (status,) = stubs.model.GetModelStatus(asked).model_version_status
        assert (status.version, status.state) == (1, State.AVAILABLE)
        assert status.status.error_code == 0


@pytest.mark.parametrize(
    ("bad", "code", "message"),
    [
        (get_model_status_pb2.GetModelStatusRequest(), Code.INVALID_ARGUMENT, "Missing ModelSpec"),
        (status_request(name="nope"), Code.NOT_FOUND, "Could not find any versions of model nope"),
        (status_request(version=9), Code.NOT_FOUND, "Could not find version 9 of model g"),
    ],
)
def test_invalid_status_requests_are_refused(stubs, bad, code, message):
    assert failure(stubs.model.GetModelStatus, bad) == (code, message)


def test_health(stubs):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    health = health_pb2_grpc.HealthStub(stubs.channel)
    for name in ("", "ModelService", "PredictionService"):
        reply = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
