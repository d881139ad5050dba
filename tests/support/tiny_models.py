"""A SavedModel with the signatures of an exported face model, and gRPC stubs to call it."""

from __future__ import annotations

import io
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import wrappers_pb2
from PIL import Image
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

SIZE = 16
CODES = (tf.float32, tf.float64, tf.int32, tf.uint8, tf.int64, tf.bool, tf.float16, tf.bfloat16,
         tf.complex64, tf.uint32)  # fmt: skip


def _strings(name, rank=1):
    return tf.TensorSpec([None] * rank, tf.string, name)


def _images(name):
    return tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name)


def _negate_file(data):
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    return tf.io.encode_png(255 - image)


def _paint(pair):
    codes = tf.io.decode_png(pair[0], 1)
    face = tf.io.decode_image(pair[1], channels=3, expand_animations=False)
    style = tf.broadcast_to(face[:1, :1, 1:], [*tf.unstack(tf.shape(codes)[:2]), 2])
    return tf.io.encode_png(tf.concat([codes, style], -1))


def _guided(pair):
    codes = tf.io.decode_png(pair[0], 1)
    style = tf.fill([*tf.unstack(tf.shape(codes)[:2]), 2], tf.cast(pair[1], tf.uint8))
    return tf.io.encode_png(tf.concat([codes, style], -1))


class TinyModel(tf.Module):
    """Turns every face into its negative; has plain variables, like an export."""

    def __init__(self):
        super().__init__()
        self.sign = tf.Variable(-1.0)

    @tf.function(input_signature=[_images("image"), _strings("expression")])
    def serving_default(self, image, expression):
        known = tf.debugging.Assert(
            tf.reduce_all(expression != "nothing"), [tf.fill([30], "x" * 60)], summarize=30
        )
        with tf.control_dependencies([known]):
            return {"image": image * self.sign, "count": tf.shape(image)[0]}

    @tf.function(input_signature=[_strings("image_bytes"), _strings("expression")])
    def bytes(self, image_bytes, expression):
        files = tf.map_fn(_negate_file, image_bytes, fn_output_signature=tf.string)
        return {"image_bytes": files}

    @tf.function(
        input_signature=[
            _strings("source_bytes"),
            _strings("reference_bytes"),
            _strings("attribute"),
            tf.TensorSpec([None], tf.float32, "strength"),
        ]
    )
    def transfer(self, source_bytes, reference_bytes, attribute, strength):
        chosen = tf.where(strength > 0.5, reference_bytes, source_bytes)
        return {"image_bytes": tf.map_fn(_negate_file, chosen, fn_output_signature=tf.string)}

    @tf.function(
        input_signature=[
            _strings("source_bytes"),
            _strings("reference_bytes", 2),
            _strings("attribute", 2),
            tf.TensorSpec([None, None], tf.float32, "strength"),
        ]
    )
    def several(self, source_bytes, reference_bytes, attribute, strength):
        """The negative of the reference with the largest strength, or of the source for "none"."""
        most = tf.argmax(strength, 1)
        reference, attribute = (
            tf.gather(x, most, axis=1, batch_dims=1) for x in (reference_bytes, attribute)
        )
        chosen = tf.where(attribute == "none", source_bytes, reference)
        return {"image_bytes": tf.map_fn(_negate_file, chosen, fn_output_signature=tf.string)}

    @tf.function(input_signature=[_strings("condition_bytes"), _strings("exemplar_bytes")])
    def paint(self, condition_bytes, exemplar_bytes):
        pairs = (condition_bytes, exemplar_bytes)
        return {"image_bytes": tf.map_fn(_paint, pairs, fn_output_signature=tf.string)}

    @tf.function(
        input_signature=[_strings("label_map_bytes"), tf.TensorSpec([None], tf.int64, "seed")]
    )
    def guided(self, label_map_bytes, seed):
        pairs = (label_map_bytes, seed)
        return {"image_bytes": tf.map_fn(_guided, pairs, fn_output_signature=tf.string)}

    @tf.function(input_signature=[_strings("label_map_bytes"), _strings("reference_bytes")])
    def guided_by_face(self, label_map_bytes, reference_bytes):
        pairs = (label_map_bytes, reference_bytes)
        return {"image_bytes": tf.map_fn(_paint, pairs, fn_output_signature=tf.string)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def types(self, x):
        outputs = {dtype.name: tf.cast(x, dtype) for dtype in CODES}
        return outputs | {"string": tf.strings.as_string(x), "scalar": tf.reduce_sum(x)}

    @tf.function(input_signature=[_strings("x")])
    def quotes(self, x):
        """Rejects every input with a message that quotes it."""
        refused = tf.debugging.Assert(tf.equal(tf.size(x), -1), ["received", x])
        with tf.control_dependencies([refused]):
            return {"x": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, "x")])
    def slow(self, x):
        def body(i, y):
            return i + 1, tf.cos(y)

        return {"y": tf.while_loop(lambda i, _: i < 10**9, body, (0, x))[1]}


def save(path, signatures=("serving_default", "bytes", "types", "slow")):
    """Writes the model; `bytes=transfer` exports `transfer` under the name `bytes`."""
    model = TinyModel()
    pairs = [name.partition("=")[::2] for name in signatures]
    tf.saved_model.save(
        model, str(path), {name: getattr(model, method or name) for name, method in pairs}
    )


def faces(count=2, seed=0):
    """float32 [count,SIZE,SIZE,3] in [-1,1]."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, SIZE, SIZE, 3)).astype(np.float32)


def image(seed=0, size=(24, 20)):
    """A Pillow image of coloured noise."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


def png(image):
    """The PNG file of an image, as bytes."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


class Stubs:
    def __init__(self, server):
        limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", limits)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def predict(self, request, timeout=20):
        return self.prediction.Predict(request, timeout=timeout)


def spec(name="g", version=None, label=None, signature=""):
    result = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        result.version.CopyFrom(wrappers_pb2.Int64Value(value=version))
    if label is not None:
        result.version_label = label
    return result


def request(signature="", outputs=(), model_spec=None, **inputs):
    result = predict_pb2.PredictRequest(
        model_spec=model_spec or spec(signature=signature), output_filter=outputs
    )
    for name, value in inputs.items():
        if not isinstance(value, tensor_pb2.TensorProto):
            value = tf.make_tensor_proto(value)
        result.inputs[name].CopyFrom(value)
    return result


def good(**changes):
    return request(image=faces(), expression=[b"happy", b"sad"], **changes)


def failure(call, *arguments, **options):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value.code(), caught.value.details()


def status_request(**options):
    return get_model_status_pb2.GetModelStatusRequest(model_spec=spec(**options))


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
