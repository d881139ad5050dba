"""Bodies of TF Serving's REST replies."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import numpy as np
from google.protobuf import json_format, message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    regression_pb2,
)

from tfface.server.rest_json import dumps
from tfface.server.status import invalid

_BYTES_SUFFIX = "_bytes"


def predictions(outputs: Mapping[str, np.ndarray]) -> bytes:
    """The reply in row format: one item for each row of the batch.

    Args:
        outputs: Outputs by name, as returned by a Session.

    Raises:
        ServingError: An output without a batch dimension, different batch sizes, or a dtype that
            JSON cannot represent.
    """
    size = None
    for name, value in outputs.items():
        if np.ndim(value) == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if size not in (None, len(value)):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(value)} expecting: {size}"
            )
        size = len(value)
    columns = {name: _column(name, value) for name, value in outputs.items()}
    if len(columns) == 1:
        (rows,) = columns.values()
    else:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return dumps({"predictions": rows}, _floats(columns))


def outputs(outputs: Mapping[str, np.ndarray]) -> bytes:
    """The reply in columnar format: each output as a whole; a single output without its name.

    Raises:
        ServingError: A dtype that JSON cannot represent.
    """
    columns = {name: _column(name, value) for name, value in outputs.items()}
    (only,) = columns.values() if len(columns) == 1 else (columns,)
    return dumps({"outputs": only}, _floats(columns))


def _floats(columns: dict) -> list[np.ndarray]:
    return [c for c in columns.values() if isinstance(c, np.ndarray) and c.dtype.kind == "f"]


def _column(name: str, value: np.ndarray | bytes):
    """An output in a JSON-compatible form: a contiguous array or nested lists of strings."""
    if isinstance(value, bytes):
        return _string(name, value)
    array = np.asarray(value)
    if array.dtype.kind == "O":
        return _strings(name, array.tolist())
    if array.dtype.kind == "c":
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype.name}")
    if array.dtype.itemsize == 2 and array.dtype.kind not in "iu":  # half or bfloat16
        array = array.astype(np.float32)
    return np.ascontiguousarray(array) if array.ndim else array[()]


def _strings(name: str, value: list | bytes):
    if isinstance(value, list):
        return [_strings(name, item) for item in value]
    return _string(name, value)


def _string(name: str, value: bytes) -> str | dict[str, str]:
    if name.endswith(_BYTES_SUFFIX):
        return {"b64": base64.b64encode(value).decode()}
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise invalid(
            f"Tensor name: {name} is not UTF-8 text; only outputs whose names end in "
            f"{_BYTES_SUFFIX} are sent as base64"
        ) from error


def classifications(response: classification_pb2.ClassificationResponse) -> bytes:
    """The reply to classify: a list of (label, score) for each example."""
    examples = response.result.classifications
    scores = np.array([c.score for example in examples for c in example.classes], np.float32)
    in_order = iter(scores)
    results = [[[c.label, next(in_order)] for c in example.classes] for example in examples]
    return dumps({"results": results}, [scores])


def regressions(response: regression_pb2.RegressionResponse) -> bytes:
    """The reply to regress: a value for each example."""
    values = np.array([r.value for r in response.result.regressions], np.float32)
    return dumps({"results": values}, [values])


def status(response: get_model_status_pb2.GetModelStatusResponse) -> bytes:
    """The states of a model's versions; enums as names, versions as strings."""
    return dumps(_fields(response), [])


def models(statuses: Mapping[str, get_model_status_pb2.GetModelStatusResponse]) -> bytes:
    """All models with the states of their versions; an addition to TF Serving's API."""
    listed = [{"name": name, **_fields(status)} for name, status in statuses.items()]
    return dumps({"models": listed}, [])


def metadata(response: get_model_metadata_pb2.GetModelMetadataResponse) -> bytes:
    """The signatures of a model."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    document = {
        "model_spec": _fields(response.model_spec),
        "metadata": {"signature_def": _fields(signatures)},
    }
    return dumps(document, [])


def error(text: str) -> bytes:
    """The body of an error reply."""
    return json.dumps({"error": text}).encode()


def _fields(proto: message.Message) -> dict:
    return json_format.MessageToDict(
        proto, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
