"""TF Serving's gRPC services: RPCs as functions from request bytes to reply bytes."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from tfface.server import reflection, tensors
from tfface.server.handlers import Handlers
from tfface.server.status import ServingError, shortened

logger = logging.getLogger("tfface.server")

# Not from the generated modules of the two services: protobuf refuses those of
# tensorflow-serving-api 2.20.
PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
_PREDICTION_RPCS = {
    "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    "Classify": (
        classification_pb2.ClassificationRequest,
        classification_pb2.ClassificationResponse,
    ),
    "Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
    "MultiInference": (inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
    "GetModelMetadata": (
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
    ),
}
_MODEL_RPCS = {
    "GetModelStatus": (
        get_model_status_pb2.GetModelStatusRequest,
        get_model_status_pb2.GetModelStatusResponse,
    ),
    "HandleReloadConfigRequest": (
        model_management_pb2.ReloadConfigRequest,
        model_management_pb2.ReloadConfigResponse,
    ),
}
FILES = (
    reflection.service_file(
        "tensorflow_serving/apis/prediction_service.proto", PREDICTION, _PREDICTION_RPCS
    ),
    reflection.service_file("tensorflow_serving/apis/model_service.proto", MODEL, _MODEL_RPCS),
)
# Which threads run an RPC: those for inference, for status and metadata, or for reloading.
RUN, QUERY, LOAD = "run", "query", "load"
_Result = tuple[grpc.StatusCode, bytes | str]


@dataclass(frozen=True)
class Rpc:
    """An RPC as a function from request bytes to reply bytes, with TF Serving's errors.

    Attributes:
        kind: RUN, QUERY or LOAD.
        answer: Called with the request and its deadline, a time.monotonic time or None; returns OK
            and the reply, or another status and the error message.
        record: Called with the model's name, the status and the seconds it took; None: the RPC is
            not counted.
    """

    kind: str
    answer: Callable[[bytes, float | None], _Result]
    record: Callable[[str, grpc.StatusCode, float], None] | None = None


def services(handlers: Handlers, tensor_content: bool = False) -> dict[str, dict[str, Rpc]]:
    """The RPCs of PredictionService and ModelService: by service name, then by RPC name.

    Args:
        handlers: Request handlers.
        tensor_content: Reply to Predict with `tensor_content` instead of typed fields.
    """

    def predict(request: predict_pb2.PredictRequest, timeout: float | None) -> bytes:
        return tensors.response(*handlers.predict(request, timeout), tensor_content)

    def reload(
        request: model_management_pb2.ReloadConfigRequest,
    ) -> model_management_pb2.ReloadConfigResponse:
        handlers.models.reload(request.config)
        return model_management_pb2.ReloadConfigResponse(status={"error_code": 0})  # OK

    def plain(answer: Callable) -> Callable:
        return lambda request, timeout: answer(request).SerializeToString()

    def timed(answer: Callable) -> Callable:
        return lambda request, timeout: answer(request, timeout).SerializeToString()

    def record(api: str) -> Callable:
        return functools.partial(handlers.monitor.request, api, "GRPC")

    prediction = {
        "Predict": (RUN, predict, record("Predict")),
        "Classify": (RUN, timed(handlers.classify), record("Classify")),
        "Regress": (RUN, timed(handlers.regress), record("Regress")),
        "MultiInference": (RUN, timed(handlers.multi_inference), None),
        "GetModelMetadata": (QUERY, plain(handlers.metadata), None),
    }
    model = {
        "GetModelStatus": (QUERY, plain(handlers.status), None),
        "HandleReloadConfigRequest": (LOAD, plain(reload), None),
    }

    def rpcs(messages: dict, handling: dict) -> dict[str, Rpc]:
        return {name: _rpc(messages[name][0], *how) for name, how in handling.items()}

    return {PREDICTION: rpcs(_PREDICTION_RPCS, prediction), MODEL: rpcs(_MODEL_RPCS, model)}


def _rpc(request_type: type, kind: str, answer: Callable, record: Callable | None) -> Rpc:
    """Makes an RPC of `answer`, a function of a message and the seconds left to reply bytes."""

    def handle(data: bytes, deadline: float | None) -> _Result:
        started = time.perf_counter()
        request = request_type()
        code, reply = grpc.StatusCode.OK, b""
        try:
            request.ParseFromString(data)
            reply = answer(request, _remaining(deadline))
        except ServingError as error:
            code, reply = error.code, error.message
        except DecodeError:
            code, reply = grpc.StatusCode.INTERNAL, "the request cannot be parsed"
        except Exception as error:
            logger.exception("a request failed")
            code, reply = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
        if record is not None:
            record(request.model_spec.name, code, time.perf_counter() - started)
        return code, reply if isinstance(reply, bytes) else shortened(reply)

    return Rpc(kind, handle, record)


def _remaining(deadline: float | None) -> float | None:
    """Seconds until the deadline; None: no deadline."""
    if deadline is None:
        return None
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    return seconds
