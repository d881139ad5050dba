"""Conversion of tensors to and from protocol buffers, and SavedModels of every kind."""

from __future__ import annotations

import grpc
import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2
from tiny_models import CODES, request, save, spec

from tfface.server import tensors as codec
from tfface.server.predict import predict
from tfface.server.saved_model import SavedModel
from tfface.server.status import ServingError

Code = grpc.StatusCode

NUMERIC = [np.dtype(dtype.as_numpy_dtype) for dtype in
           (*CODES, tf.int8, tf.int16, tf.uint16, tf.uint64, tf.complex128)]  # fmt: skip
SHAPES = arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)


@st.composite
def tensors(draw):
    """Arrays of every dtype and shape with arbitrary bits (including NaN); strings as bytes."""
    shape, dtype = draw(SHAPES), draw(st.sampled_from([*NUMERIC, np.dtype(object)]))
    size = int(np.prod(shape))
    if dtype.hasobject:
        values = draw(st.lists(st.binary(max_size=3), min_size=size, max_size=size))
        return np.array([*values, None], object)[:-1].reshape(shape)
    data = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    if dtype.kind == "b":
        data = bytes(byte % 2 for byte in data)
    return np.frombuffer(data, dtype).reshape(shape)


def same(a, b):
    if a.dtype == object:
        return b.dtype == object and a.shape == b.shape and a.tolist() == b.tolist()
    # A signalling NaN may become a quiet one.
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype != bool)


@hypothesis.settings(deadline=None)
@hypothesis.given(tensors(), st.booleans())
def test_any_tensor_round_trips(array, tensor_content):
    assert same(codec.to_array(codec.to_proto(array)), array)
    reply = predict_pb2.PredictResponse.FromString(
        codec.response({"a": array}, spec(), tensor_content)
    )
    proto = reply.outputs["a"]
    assert bool(proto.tensor_content) == (
        tensor_content and array.size > 0 and array.dtype != object
    )
    assert same(codec.to_array(proto), array)
    assert same(tf.make_ndarray(proto).astype(array.dtype), array)


@hypothesis.settings(deadline=None)
@hypothesis.given(
    st.integers(0, 30) | st.just(101),
    st.lists(st.sampled_from([0, 1, 2, 3, -1, 2**20, 2**33, 2**62, 2**63 - 1]), max_size=5)
    | st.just([1] * 70),
    st.fixed_dictionaries(
        {},
        optional={
            "tensor_content": st.binary(max_size=16),
            "float_val": st.lists(st.floats(width=32), max_size=4),
            "int_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
            "half_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
            "string_val": st.lists(st.binary(max_size=2), max_size=4),
            "scomplex_val": st.lists(st.floats(width=32), max_size=5),
        },
    ),
)
@hypothesis.example(types_pb2.DT_BFLOAT16, [1], {})
def test_any_tensor_proto_converts_or_raises_value_error(dtype, dims, values):
    proto = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in dims:
        proto.tensor_shape.dim.add(size=size)
    try:
        array = codec.to_array(proto)
    except ValueError:
        return
    assert array.shape == tuple(dims)
    assert codec.data_type(array) == dtype


def ask(model, signature="serving_default", outputs=(), **inputs):
    return predict(model, 1, request(signature, outputs, **inputs), None)[0]


def refusal(model, *arguments, **inputs):
    with pytest.raises(ServingError) as caught:
        ask(model, *arguments, **inputs)
    return caught.value.code, caught.value.message


class Odd(tf.Module):
    """Signatures of kinds that no exported face model has."""

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x"),
                                  tf.TensorSpec([], tf.string, "name")])  # fmt: skip
    def serving_default(self, x, name):
        return {"rank": tf.rank(x), "sum": tf.reduce_sum(x), "name": name + "\0"}


@pytest.fixture
def odd(tmp_path):
    """Saves `Odd` with a modified signature; returns the loaded model."""
    loaded = []

    def load(change=lambda definition: None):
        module = Odd()
        path = tmp_path / "odd"
        tf.saved_model.save(module, str(path), {"serving_default": module.serving_default})
        file = path / "saved_model.pb"
        proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        change(proto.meta_graphs[0].signature_def["serving_default"])
        file.write_bytes(proto.SerializeToString())
        loaded.append(SavedModel(path))
        return loaded[-1]

    yield load
    for model in loaded:
        model.close()


def test_scalars_strings_and_any_rank(odd):
    model = odd()
    for shape in ((), (2,), (0, 2**20), (1, 1, 1, 1, 1, 1, 1)):
        values = ask(model, x=np.ones(shape, np.float32), name=b"n")
        assert values == {"rank": len(shape), "sum": np.prod(shape), "name": b"n\0"}
    # As in TF Serving, other shapes of up to two dimensions are checked by TensorFlow only.
    assert list(ask(model, x=1.0, name=[b"n"])["name"]) == [b"n\0"]


def test_impossible_sizes_are_refused(odd):
    model = odd()
    for dims in ([-1], [0, 2**62], [2**32, 2**32], [0, 2**32, 2**32], [2**30], [1] * 70):
        proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
        for size in dims:
            proto.tensor_shape.dim.add(size=size)
        assert refusal(model, x=proto, name=b"n") == (
            Code.INVALID_ARGUMENT, "tensor parsing error: x"
        )  # fmt: skip


def test_inputs_with_defaults_may_be_left_out(odd):
    def add(definition):
        definition.defaults["name"].CopyFrom(tf.make_tensor_proto(b"unknown"))

    model = odd(add)
    assert ask(model, x=1.0)["name"] == b"unknown\0"
    assert ask(model, x=1.0, name=b"known")["name"] == b"known\0"
    code, message = refusal(model, name=b"known")
    assert code is Code.INVALID_ARGUMENT
    assert message.endswith("or default input alias set: name")


def test_sparse_and_unknown_tensors_are_refused(odd):
    def make_sparse(info):
        info.coo_sparse.values_tensor_name = info.name

    def change(definition):
        make_sparse(definition.outputs["sum"])
        definition.outputs["rank"].name = "nothing:0"

    model = odd(change)
    good = {"x": 1.0, "name": b"n"}
    assert ask(model, outputs=["name"], **good) == {"name": b"n\0"}
    assert refusal(model, "serving_default", ["sum"], **good) == (
        Code.INVALID_ARGUMENT,
        "output sum is a sparse or composite tensor; only dense ones can be sent and received",
    )
    code, message = refusal(model, "serving_default", ["rank"], **good)
    assert (code, message) == (
        Code.OUT_OF_RANGE,
        "output rank: the graph has no tensor nothing:0",
    )
    model = odd(lambda definition: make_sparse(definition.inputs["x"]))
    assert refusal(model, **good)[1].startswith("input x is a sparse or composite tensor")


def test_keras_export_can_be_served(tmp_path):
    image = keras.Input((2,), name="image")
    network = keras.Model(image, {"fake": keras.layers.Dense(3, name="dense")(image)})
    network.export(str(tmp_path), verbose=False)
    model = SavedModel(tmp_path)
    x = np.ones((4, 2), np.float32)
    np.testing.assert_allclose(ask(model, image=x)["fake"], network(x)["fake"], rtol=1e-5)
    model.close()


def test_session_and_tags_can_be_chosen(tmp_path):
    save(tmp_path, ["types"])
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, log_device_placement=False)
    model = SavedModel(tmp_path, session_config=config, tags=("serve",))
    assert model._session._config.intra_op_parallelism_threads == 1
    model.close()
    with pytest.raises(ServingError, match="could not be found in SavedModel"):
        SavedModel(tmp_path, tags=("serve", "gpu"))


def test_data_types_without_a_field_of_their_own():
    array = np.array([1, 2], tf.dtypes.as_dtype(types_pb2.DT_FLOAT8_E5M2).as_numpy_dtype)
    for content in (False, True):
        reply = predict_pb2.PredictResponse.FromString(
            codec.response({"a": array}, spec(), content)
        )
        assert reply.outputs["a"].dtype == types_pb2.DT_FLOAT8_E5M2
        assert np.array_equal(tf.make_ndarray(reply.outputs["a"]), array)
