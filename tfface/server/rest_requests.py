"""Parsing of TF Serving's REST request bodies into messages."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from itertools import chain, islice

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import input_pb2, model_pb2, predict_pb2

from tfface.server import tensors
from tfface.server.rest_json import loads
from tfface.server.status import ServingError, invalid

_TYPE_NAMES = {
    type(None): "Null",
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}
_FLOATS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE, types_pb2.DT_HALF, types_pb2.DT_BFLOAT16)
_BLANKS = dict.fromkeys(map(ord, " \t\n\v\f\r"))  # `base64 FILE` writes lines
_LONGEST_SHOWN = 200  # characters
# An empty list has two characters but takes the memory of fifty, and numbers take long to parse:
# without bounds a small body could keep a server busy. 15 float images of 256 x 256 have about
# this number of lists, 21 this number of values.
MAX_LISTS = 2**20
MAX_VALUES = 2**22
# Integers above these limits are not all exactly representable as float32 or float64.
_LARGEST_WHOLE = {np.dtype(np.float32): 2**24 - 1, np.dtype(np.float64): 2**53 - 1}


class Bounds:
    """Limits the number of lists and values of a body that arrives in pieces."""

    def __init__(self):
        self._lists = self._values = 0

    def add(self, piece: bytes) -> None:
        """Counts another piece.

        Raises:
            ServingError: There are more than `MAX_LISTS` lists or `MAX_VALUES` values.
        """
        self._lists += piece.count(b"[") + piece.count(b"{")
        self._values += piece.count(b",")
        if self._lists > MAX_LISTS:
            raise invalid(f"JSON Parse error: more than {MAX_LISTS} lists and objects")
        if self._values >= MAX_VALUES:
            raise invalid(f"JSON Parse error: more than {MAX_VALUES} values")


def parse(body: bytes) -> dict:
    """Parses a request body, which must be an object; NaN, Infinity and -Infinity are numbers.

    Raises:
        ServingError: It is not JSON, not an object, or has more than `MAX_LISTS` lists
            or `MAX_VALUES` values.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    Bounds().add(body)
    try:
        document = loads(body)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except RecursionError as error:
        raise invalid("JSON Parse error: nested too deeply") from error
    except ValueError as error:  # not UTF-8, or an integer with thousands of digits
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def signature_name(document: dict) -> str:
    """The signature name in a request; empty if there is none.

    Raises:
        ServingError: It is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_shown(name)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def predict_request(
    document: dict, spec: model_pb2.ModelSpec, dtypes: Mapping[str, int]
) -> predict_pb2.PredictRequest:
    """Converts a predict request in row format (key `instances`) or columnar format (key `inputs`).

    Args:
        document: The body.
        spec: The requested model, version and signature.
        dtypes: TensorFlow DataType by input name of the signature.

    Raises:
        ServingError: Invalid format, or values of a wrong type.
    """
    if not dtypes:
        raise invalid(f"Failed to get input map for signature: {spec.signature_name or 'DEFAULT'}")
    if "instances" in document and "inputs" in document:
        raise invalid(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        columns = _columns_of_rows(document["instances"], dtypes)
    elif "inputs" in document:
        columns = _columns(document["inputs"], dtypes)
    else:
        raise invalid("Missing 'inputs' or 'instances' key")
    request = predict_pb2.PredictRequest(model_spec=spec)
    for name, values in columns.items():
        request.inputs[name].CopyFrom(tensors.to_proto(_tensor(name, values, dtypes[name])))
    return request


def examples(document: dict) -> input_pb2.Input:
    """Converts the examples of a classify or regress request, and their context if present.

    Args:
        document: The body.

    Raises:
        ServingError: No examples, or a feature with mixed types.
    """
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {_shown(document)} When method is classify, key 'examples' is expected "
            "and was not found"
        )
    given = document["examples"]
    if not isinstance(given, list):
        raise invalid(f"JSON Value: {_shown(given)} Expecting 'examples' value to be an list/array")
    if not given:
        raise invalid(f"JSON Value: {_shown(given)} 'examples' value is an empty array")
    result = input_pb2.Input()
    if "context" in document:
        result.example_list_with_context.context.CopyFrom(_example(document["context"]))
        result.example_list_with_context.examples.extend(map(_example, given))
    else:
        result.example_list.examples.extend(map(_example, given))
    return result


def _example(features) -> example_pb2.Example:
    if not isinstance(features, dict):
        raise invalid(f"Example must be JSON object but got JSON {_kind(features)}")
    example = example_pb2.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        example.features.feature[name].CopyFrom(_feature(name, values))
    return example


def _feature(name: str, values: list) -> feature_pb2.Feature:
    for value in values:
        if value is None or isinstance(value, list) or _is_object(value):
            raise invalid(f"Feature: {name} has element with unexpected JSON type: {_kind(value)}")
    types = set(map(type, values))
    if types <= {str, dict}:
        bytes_list = feature_pb2.BytesList(value=map(_bytes, values))
        return feature_pb2.Feature(bytes_list=bytes_list)
    if types <= {int, bool}:
        array = _array([int(value) for value in values], {int}, types_pb2.DT_INT64)
        return feature_pb2.Feature(int64_list=feature_pb2.Int64List(value=array))
    if types == {float}:
        array = _floats(values, np.dtype(np.float32), types_pb2.DT_FLOAT)
        return feature_pb2.Feature(float_list=feature_pb2.FloatList(value=array))
    first = type(values[0])
    kind = {str: "bytes", dict: "bytes", float: "float"}.get(first, "int64")
    raise invalid(f"Unexpected element type in feature: {name} expecting type: {kind}")


def _columns_of_rows(instances, dtypes: Mapping[str, int]) -> dict[str, object]:
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {_shown(instances)} Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid(f"JSON Value: {_shown(instances)} No values in 'instances' array")
    objects = _is_object(instances[0])
    if not objects and len(dtypes) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    for number, instance in enumerate(instances):
        if _is_object(instance) != objects:
            expected, got = ("object", "list") if objects else ("value/list", "object")
            raise invalid(f"Expecting {expected} but got {got} at item {number} of input list")
        if objects and instance.keys() != dtypes.keys():
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: keys are "
                f"{','.join(sorted(instance))} but keys must be equal to: "
                f"{','.join(sorted(dtypes))}"
            )
    if objects:
        return {name: [instance[name] for instance in instances] for name in dtypes}
    return dict.fromkeys(dtypes, instances)


def _columns(inputs, dtypes: Mapping[str, int]) -> dict[str, object]:
    if not _is_object(inputs):
        if len(dtypes) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        return dict.fromkeys(dtypes, inputs)
    for name in dtypes:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: inputs[name] for name in dtypes}


def _is_object(value) -> bool:
    """Whether it is an object other than `{"b64": ...}`, which represents bytes."""
    return isinstance(value, dict) and not _is_bytes(value)


def _is_bytes(value: dict) -> bool:
    return len(value) == 1 and isinstance(value.get("b64"), str)


def _tensor(name: str, value, data_type: int) -> np.ndarray:
    """Converts nested lists to an array; strings become an object array."""
    shape: list[int] = []
    values, types = [value], {type(value)}
    while types == {list}:
        size = len(values[0])
        for other in set(map(len, values)) - {size}:
            raise invalid(
                f"input {name}: Encountered list at unexpected size: {other} at level: "
                f"{len(shape)} expected size: {size}"
            )
        shape.append(size)
        values = list(chain.from_iterable(values))
        types = set(map(type, values))
    if list in types:
        raise invalid(f"input {name}: lists and values are mixed at level: {len(shape)}")
    try:
        return _array(values, types, data_type).reshape(shape)
    except ServingError as error:
        raise ServingError(error.code, f"input {name}: {error.message}") from error
    except ValueError as error:  # more dimensions than NumPy allows, or a lone surrogate
        raise invalid(f"input {name}: {error}") from error


def _array(values: list, types: set[type], data_type: int) -> np.ndarray:
    dtype = np.dtype(tf.dtypes.as_dtype(data_type).as_numpy_dtype)
    if data_type == types_pb2.DT_STRING:
        _check_types(values, types, {str, dict}, data_type)
        return np.array([*map(_bytes, values), None], object)[:-1]
    if data_type == types_pb2.DT_BOOL:
        _check_types(values, types, {bool}, data_type)
        return np.array(values, dtype)
    if dtype.kind in "iu":
        _check_types(values, types, {int}, data_type)
        limits = np.iinfo(dtype)
        # Checked here: NumPy 2.1.0 and 2.1.1 let values wrap around in all threads but the first.
        if values and not limits.min <= min(values) <= max(values) <= limits.max:
            wrong = next(v for v in values if not limits.min <= v <= limits.max)
            raise _wrong_type(wrong, data_type)
        return np.array(values, dtype)
    if data_type not in _FLOATS:
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {_shown(values)} to type: {_type_name(data_type)}",
        )
    _check_types(values, types, {int, float}, data_type)
    return _floats(values, dtype, data_type)


def _floats(values: list, dtype: np.dtype, data_type: int) -> np.ndarray:
    try:
        exact = np.array(values, np.float64)
    except OverflowError as error:
        raise _lossy(max(values, key=abs), data_type) from error
    with np.errstate(over="ignore"):
        array = exact.astype(dtype)
    largest_whole = _LARGEST_WHOLE.get(dtype, np.inf)
    large = np.isfinite(exact) & ((np.abs(exact) > largest_whole) | ~np.isfinite(array))
    for index in np.flatnonzero(large):
        if isinstance(values[index], int) or not np.isfinite(array[index]):
            raise _lossy(values[index], data_type)
    return array


def _check_types(values: list, types: set[type], allowed: set[type], data_type: int) -> None:
    if not types <= allowed:
        raise _wrong_type(next(v for v in values if type(v) not in allowed), data_type)


def _wrong_type(value, data_type: int) -> ServingError:
    return invalid(
        f"JSON Value: {_shown(value)} Type: {_kind(value)} is not of expected type: "
        f"{_type_name(data_type)}"
    )


def _lossy(value, data_type: int) -> ServingError:
    return invalid(
        f"Cannot convert JSON value: {_shown(value)} to {_type_name(data_type)} without loss of "
        "precision."
    )


def _bytes(value: str | dict) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not _is_bytes(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    data = value["b64"].translate(_BLANKS)
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def _kind(value) -> str:
    """The JSON type name of a value."""
    return str(value) if isinstance(value, bool) else _TYPE_NAMES[type(value)]


def _type_name(data_type: int) -> str:
    return types_pb2.DataType.Name(data_type).removeprefix("DT_").lower()


def _shown(value) -> str:
    """A value as shown in a message, shortened; only the shown part is serialized."""
    if isinstance(value, str):
        value = value[:_LONGEST_SHOWN]
    text = "".join(islice(json.JSONEncoder().iterencode(value), _LONGEST_SHOWN))
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
