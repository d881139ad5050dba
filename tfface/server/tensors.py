"""Conversion between NumPy arrays and TF Serving's protocol buffers.

TF Serving replies in typed fields (`float_val`, `string_val`), and clients read those. Filling
them element by element takes longer than the rest of a call. As a serialized packed `float_val` is
just the raw little-endian floats, replies are assembled as bytes, at almost no cost.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from tfface.server.limits import check_strings, check_unfolded

_INTEGERS = (types_pb2.DT_INT32, types_pb2.DT_INT16, types_pb2.DT_INT8, types_pb2.DT_UINT16,
             types_pb2.DT_UINT8)  # fmt: skip
_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    **dict.fromkeys(_INTEGERS, "int_val"),
}
# Types whose packed field has the same bytes as the array in memory.
_RAW = ("float_val", "double_val", "scomplex_val", "dcomplex_val", "bool_val")
_NUMBERS = {field.name: field.number for field in tensor_pb2.TensorProto.DESCRIPTOR.fields}


def to_array(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """Converts a TensorProto, with values in any of its fields, to an array; strings are bytes.

    As in TensorFlow, missing values repeat the last value, or are zero if there is none.

    Raises:
        ValueError: Not a valid dense tensor, or a shape with far more values than were sent.
    """
    field = _FIELDS.get(proto.dtype)
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if field is None or proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise ValueError("not a dense tensor")
    count = math.prod(shape)
    dtype = np.dtype(tf.dtypes.as_dtype(proto.dtype).as_numpy_dtype)
    if proto.tensor_content:
        if field == "string_val" or len(proto.tensor_content) != count * dtype.itemsize:
            raise ValueError("tensor_content does not have the size of its shape")
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    given = getattr(proto, field)
    # An empty tensor [0,2**40] takes no memory, but a graph's operations on it may.
    claimed = math.prod(size or 1 for size in shape)
    if field == "string_val":
        check_strings(claimed, len(given), len(given[-1]) if given else 0)
    else:
        check_unfolded(claimed, dtype.itemsize, len(given))
    values = _values(proto, field, dtype)[:count]
    if len(values) < count:
        filler = values[-1] if len(values) else (b"" if dtype.hasobject else dtype.type(0))
        padded = np.full(count, filler, dtype)
        padded[: len(values)] = values
        values = padded
    return values.reshape(shape)


def _values(proto, field: str, dtype: np.dtype) -> np.ndarray:
    values = getattr(proto, field)
    if field == "half_val":
        return np.array(values, np.int32).astype(np.uint16).view(dtype)
    if field == "int_val":
        return np.array(values, np.int32).astype(dtype)
    if field in ("scomplex_val", "dcomplex_val"):
        real = np.array(values, dtype.type().real.dtype)
        return real[: len(real) // 2 * 2].view(dtype)
    if field == "string_val":
        return np.array([*values, None], object)[:-1]  # None prevents a fixed-width string dtype
    return np.array(values, dtype)


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Converts an array to a TensorProto with `tensor_content`; object arrays hold bytes or str."""
    if array.dtype == object:
        values = [v.encode() if isinstance(v, str) else v for v in array.ravel()]
        return _head(array, types_pb2.DT_STRING, string_val=values)
    proto = _head(array, tf.dtypes.as_dtype(array.dtype).as_datatype_enum)
    proto.tensor_content = array.tobytes()
    return proto


def _head(array: np.ndarray, dtype: int, **values) -> tensor_pb2.TensorProto:
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in array.shape]
    shape = tensor_shape_pb2.TensorShapeProto(dim=dims)
    return tensor_pb2.TensorProto(dtype=dtype, tensor_shape=shape, **values)


def as_array(value) -> np.ndarray:
    """Converts an output to an array: a Session returns a scalar as a NumPy scalar, or as bytes."""
    # NumPy would convert bytes to a fixed-width string, which loses trailing zeros.
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def data_type(array: np.ndarray) -> int:
    """TensorFlow's DataType of an array; object arrays are strings."""
    if array.dtype == object:
        return types_pb2.DT_STRING
    return tf.dtypes.as_dtype(array.dtype).as_datatype_enum


def response(
    outputs: dict[str, np.ndarray], spec: model_pb2.ModelSpec, tensor_content: bool = False
) -> bytes:
    """Serializes a PredictResponse.

    Args:
        outputs: Outputs by name, as returned by a Session.
        spec: Model name, version and signature that were run.
        tensor_content: Send all values except strings in `tensor_content` instead of typed fields
            (TF Serving's --enable_serialization_as_tensor_content).
    """
    chunks: list = []
    for name, value in outputs.items():
        key = _field(1, [name.encode()])
        tensor = _field(2, _tensor(as_array(value), tensor_content))
        chunks += _field(1, key + tensor)  # a map is a list of (key, value)
    chunks.append(predict_pb2.PredictResponse(model_spec=spec).SerializeToString())
    return b"".join(chunks)


def _tensor(array: np.ndarray, tensor_content: bool) -> list:
    dtype = data_type(array)
    field = _FIELDS.get(dtype)
    if dtype != types_pb2.DT_STRING and (tensor_content or field in _RAW):
        chunks = [_head(array, dtype).SerializeToString()]
        if array.size:
            number = _NUMBERS["tensor_content" if tensor_content else field]
            chunks += _field(number, [memoryview(array.reshape(-1).view(np.uint8))])
        return chunks
    if field is None:
        return [tf.make_tensor_proto(array).SerializeToString()]
    if field == "half_val":
        values = array.ravel().view(np.uint16).tolist()
    else:
        values = array.ravel().tolist()
    return [_head(array, dtype, **{field: values}).SerializeToString()]


def _field(number: int, chunks: list) -> list:
    """A length-delimited field: tag, length and content."""
    return [_varint(number << 3 | 2) + _varint(sum(map(len, chunks))), *chunks]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
