"""TF Serving's gRPC services: each RPC from the bytes of its request to the bytes of its reply."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable

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

from tfface.server import wire
from tfface.server.answers import Answers
from tfface.server.status import ServingError, shortened

logger = logging.getLogger("tfface.server")

PREDICTION = prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
MODEL = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
_NO_DEADLINE = 1e8  # seconds; a call without a deadline says some centuries


def services(answers: Answers, tensor_content: bool = False) -> tuple[grpc.GenericRpcHandler, ...]:
    """PredictionService and ModelService.

    Args:
        answers: What answers.
        tensor_content: Answer Predict with `tensor_content` rather than typed fields.
    """

    def answer_predict(request: predict_pb2.PredictRequest, timeout: float | None) -> bytes:
        return wire.response(*answers.predict(request, timeout), tensor_content)

    def answer_reload(
        request: model_management_pb2.ReloadConfigRequest,
    ) -> model_management_pb2.ReloadConfigResponse:
        answers.models.reload(request.config)
        return model_management_pb2.ReloadConfigResponse(status={"error_code": 0})  # OK

    def message(answer: Callable) -> Callable:
        return lambda request, timeout: answer(request).SerializeToString()

    def timed(answer: Callable) -> Callable:
        return lambda request, timeout: answer(request, timeout).SerializeToString()

    def counted(api: str, answer: Callable, request_type) -> grpc.RpcMethodHandler:
        return _handler(
            answer, request_type, functools.partial(answers.monitor.request, api, "GRPC")
        )

    prediction = {
        "Predict": counted("Predict", answer_predict, predict_pb2.PredictRequest),
        "Classify": counted(
            "Classify", timed(answers.classify), classification_pb2.ClassificationRequest
        ),
        "Regress": counted("Regress", timed(answers.regress), regression_pb2.RegressionRequest),
        "MultiInference": _handler(
            timed(answers.multi_inference), inference_pb2.MultiInferenceRequest
        ),
        "GetModelMetadata": _handler(
            message(answers.metadata), get_model_metadata_pb2.GetModelMetadataRequest
        ),
    }
    model = {
        "GetModelStatus": _handler(
            message(answers.status), get_model_status_pb2.GetModelStatusRequest
        ),
        "HandleReloadConfigRequest": _handler(
            message(answer_reload), model_management_pb2.ReloadConfigRequest
        ),
    }
    return (
        grpc.method_handlers_generic_handler(PREDICTION, prediction),
        grpc.method_handlers_generic_handler(MODEL, model),
    )


def _handler(
    answer: Callable, request_type, record: Callable | None = None
) -> grpc.RpcMethodHandler:
    """An RPC whose reply is bytes already, and whose errors have TF Serving's codes and texts.

    `record` gets the model's name, the status and the seconds it took.
    """

    def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
        started = time.perf_counter()
        request = request_type()
        code, message = grpc.StatusCode.OK, ""
        try:
            request.ParseFromString(data)
            reply = answer(request, _remaining(context))
        except ServingError as error:
            code, message = error.code, error.message
        except DecodeError:
            code, message = grpc.StatusCode.INTERNAL, "the request cannot be parsed"
        except Exception as error:
            logger.exception("a request failed")
            code, message = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
        if record is not None:
            record(request.model_spec.name, code, time.perf_counter() - started)
        if code is grpc.StatusCode.OK:
            return reply
        context.abort(code, shortened(message))

    return grpc.unary_unary_rpc_method_handler(handle)


def _remaining(context: grpc.ServicerContext) -> float | None:
    """Seconds until the caller gives up; None: never. Nothing is computed for one who has gone."""
    if not context.is_active():
        raise ServingError(grpc.StatusCode.CANCELLED, "the caller has gone")
    seconds = context.time_remaining()
    if seconds is None or seconds > _NO_DEADLINE:
        return None
    if seconds <= 0:
        raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    return seconds
