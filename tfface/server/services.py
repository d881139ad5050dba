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
    model_service_pb2,
    predict_pb2,
    prediction_service_pb2,
    regression_pb2,
)

from tfface.server import tensors
from tfface.server.handlers import Handlers
from tfface.server.status import ServingError, shortened

logger = logging.getLogger("tfface.server")

PREDICTION = prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
MODEL = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
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

    def counted(api: str, answer: Callable, request_type: type) -> Rpc:
        record = functools.partial(handlers.monitor.request, api, "GRPC")
        return _rpc(RUN, answer, request_type, record)

    prediction = {
        "Predict": counted("Predict", predict, predict_pb2.PredictRequest),
        "Classify": counted(
            "Classify", timed(handlers.classify), classification_pb2.ClassificationRequest
        ),
        "Regress": counted("Regress", timed(handlers.regress), regression_pb2.RegressionRequest),
        "MultiInference": _rpc(
            RUN, timed(handlers.multi_inference), inference_pb2.MultiInferenceRequest
        ),
        "GetModelMetadata": _rpc(
            QUERY, plain(handlers.metadata), get_model_metadata_pb2.GetModelMetadataRequest
        ),
    }
    model = {
        "GetModelStatus": _rpc(
            QUERY, plain(handlers.status), get_model_status_pb2.GetModelStatusRequest
        ),
        "HandleReloadConfigRequest": _rpc(
            LOAD, plain(reload), model_management_pb2.ReloadConfigRequest
        ),
    }
    return {PREDICTION: prediction, MODEL: model}


def _rpc(kind: str, answer: Callable, request_type: type, record: Callable | None = None) -> Rpc:
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
