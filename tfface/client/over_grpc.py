"""Transport over TF Serving's gRPC API."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.client.driving import Awaiting, Blocking, settled
from tfface.client.types import Model, ServerError, Signatures, Tls, VersionStatus, dtype_name
from tfface.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # By default the pauses between connection attempts grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class GrpcTransport:
    """Calls over a gRPC channel; see `Transport` for the methods.

    Args:
        target: HOST:PORT, or another gRPC target name.
        model: The model to call.
        tls: TLS settings; None: no TLS.
        driver: Blocking or asyncio.

    Raises:
        UserError: tensorflow-serving-api is missing.
    """

    def __init__(self, target: str, model: Model, tls: Tls | None, driver: Blocking | Awaiting):
        # These import TensorFlow: now, not while the first request's time runs.
        try:
            from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        except ModuleNotFoundError as error:
            raise UserError(
                "gRPC needs tensorflow-serving-api: pip install 'tfface[serving]'"
            ) from error
        self._prediction_stub = prediction_service_pb2_grpc.PredictionServiceStub
        self._model_stub = model_service_pb2_grpc.ModelServiceStub
        self._target = target
        self._model = model
        self._tls = tls
        self._blocking = driver.blocking
        if driver.blocking:  # create it now, as several threads may make the first call
            _ = self._channel

    @functools.cached_property
    def _channel(self):
        """The channel; with asyncio, it belongs to the event loop running at its creation."""
        import grpc

        module = grpc if self._blocking else grpc.aio
        if self._tls is None:
            return module.insecure_channel(self._target, _OPTIONS)
        files = (self._tls.key, self._tls.certificate)
        key, certificate = (None if file is None else Path(file).read_bytes() for file in files)
        credentials = grpc.ssl_channel_credentials(self._tls.roots(), key, certificate)
        return module.secure_channel(self._target, credentials, _OPTIONS)

    @functools.cached_property
    def _prediction(self):
        return self._prediction_stub(self._channel)

    @functools.cached_property
    def _models(self):
        return self._model_stub(self._channel)

    async def predict(
        self, inputs: dict[str, np.ndarray], signature: str, timeout: float
    ) -> dict[str, np.ndarray]:
        """Runs a signature."""
        from tensorflow_serving.apis import predict_pb2

        from tfface.server import tensors

        request = self._addressed(predict_pb2.PredictRequest())
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tensors.to_proto(value))
        response = await _call(self._prediction.Predict, request, timeout)
        return {name: tensors.to_array(proto) for name, proto in response.outputs.items()}

    async def status(self, timeout: float) -> dict[int, VersionStatus]:
        """State of the versions."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = self._addressed(get_model_status_pb2.GetModelStatusRequest())
        response = await _call(self._models.GetModelStatus, request, timeout)
        return {
            v.version: VersionStatus(_STATES[v.state], v.status.error_message)
            for v in response.model_version_status
        }

    async def metadata(self, timeout: float) -> Signatures:
        """The signatures."""
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._addressed(request)
        response = await _call(self._prediction.GetModelMetadata, request, timeout)
        found = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        return {
            name: {"inputs": _described(d.inputs), "outputs": _described(d.outputs)}
            for name, d in sorted(found.signature_def.items())
        }

    async def close(self) -> None:
        """Closes the channel."""
        await settled(self._channel.close())

    def size(self, value: Any) -> int:
        """Bytes of an element, with the field's tag and length; numbers take at most 8."""
        if isinstance(value, str):
            value = value.encode()
        return len(value) + 6 if isinstance(value, bytes) else 8

    def _addressed(self, request):
        spec = request.model_spec
        spec.name = self._model.name
        if self._model.version is not None:
            spec.version.value = self._model.version
        elif self._model.label is not None:
            spec.version_label = self._model.label
        return request


async def _call(method: Callable, request, timeout: float):
    import grpc

    try:
        return await settled(method(request, timeout=timeout))
    except grpc.RpcError as error:
        raise ServerError(error.code().name, error.details() or "") from error


def _described(tensors) -> dict[str, dict[str, Any]]:
    from tensorflow.core.framework import types_pb2

    return {
        name: {
            "dtype": dtype_name(types_pb2.DataType.Name(info.dtype)),
            "shape": None
            if info.tensor_shape.unknown_rank
            else tuple(None if d.size < 0 else d.size for d in info.tensor_shape.dim),
        }
        for name, info in sorted(tensors.items())
    }
