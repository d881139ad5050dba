"""TF Serving's text files: models, batching, monitoring, TLS. Read without TensorFlow.

`tensorflow-serving-api` has the messages of the model file only; those of the other three are made
here, with the fields of TF Serving's `session_bundle_config.proto`, `monitoring_config.proto` and
`ssl_config.proto`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message,
    message_factory,
    text_format,
    wrappers_pb2,
)

from tfface.errors import UserError

_Message = TypeVar("_Message", bound=message.Message)
_PACKAGE = "tfface.serving"
_INT64 = f".{wrappers_pb2.Int64Value.DESCRIPTOR.full_name}"
_BOOL = f".{wrappers_pb2.BoolValue.DESCRIPTOR.full_name}"
_STRING = f".{wrappers_pb2.StringValue.DESCRIPTOR.full_name}"
_MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": _INT64,
        "batch_timeout_micros": _INT64,
        "max_enqueued_batches": _INT64,
        "num_batch_threads": _INT64,
        "thread_pool_name": _STRING,
        "allowed_batch_sizes": [int],
        "pad_variable_length_inputs": bool,
        "enable_large_batch_splitting": _BOOL,
        "max_execution_batch_size": _INT64,
    },
    "PrometheusConfig": {"enable": bool, "path": str},
    "MonitoringConfig": {"prometheus_config": f".{_PACKAGE}.PrometheusConfig"},
    "SSLConfig": {"server_key": str, "server_cert": str, "custom_ca": str, "client_verify": bool},
}
_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {int: _Field.TYPE_INT64, bool: _Field.TYPE_BOOL, str: _Field.TYPE_STRING}


def _build() -> dict[str, type[message.Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="tfface/serving.proto", package=_PACKAGE, syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in _MESSAGES.items():
        made = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            label = _Field.LABEL_REPEATED if isinstance(kind, list) else _Field.LABEL_OPTIONAL
            kind = kind[0] if isinstance(kind, list) else kind
            entry = made.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                entry.type, entry.type_name = _Field.TYPE_MESSAGE, kind
            else:
                entry.type = _TYPES[kind]
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _build()
BatchingParameters = _CLASSES["BatchingParameters"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
SSLConfig = _CLASSES["SSLConfig"]


def read_text(path: str | Path, kind: type[_Message], flag: str) -> _Message:
    """Reads a text protocol buffer.

    Args:
        path: The file.
        kind: Its message.
        flag: The option that names the file, for errors.

    Raises:
        UserError: It cannot be read, or is not such a message; names the file, line and column.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"{flag} {path}: {reason}") from error
    try:
        return text_format.Parse(text, kind())
    except text_format.ParseError as error:
        raise UserError(
            f"{flag} {path}: Error parsing text-format tensorflow.serving.{kind.DESCRIPTOR.name}: "
            f"{error}"
        ) from error
