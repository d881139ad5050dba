"""TF Serving's gRPC services: each RPC from the bytes of its request to the bytes of its reply."""

from __future__ import annotations

import logging

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from tfface.server.predict import predict
from tfface.server.status import ServingError, invalid, shortened
from tfface.server.versions import Model, not_found

logger = logging.getLogger("tfface.server")

_SIGNATURE_DEF = "signature_def"
_NO_DEADLINE = 1e8  # seconds; a call without a deadline says some centuries


def prediction_service(models: dict[str, Model]) -> grpc.GenericRpcHandler:
    """PredictionService: Predict, GetModelMetadata."""

    def answer_predict(request: predict_pb2.PredictRequest, context) -> bytes:
        with _look_up(models, request).use(_version(request.model_spec)) as (number, model):
            return predict(model, number, request, _remaining(context))

    def answer_metadata(request: get_model_metadata_pb2.GetModelMetadataRequest, context) -> bytes:
        return _metadata(models, request).SerializeToString()

    return grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService",
        {
            "Predict": _handler(answer_predict, predict_pb2.PredictRequest),
            "GetModelMetadata": _handler(
                answer_metadata, get_model_metadata_pb2.GetModelMetadataRequest
            ),
        },
    )


def model_service(models: dict[str, Model]) -> grpc.GenericRpcHandler:
    """ModelService: GetModelStatus."""

    def answer_status(request: get_model_status_pb2.GetModelStatusRequest, context) -> bytes:
        return _status(models, request).SerializeToString()

    return grpc.method_handlers_generic_handler(
        "tensorflow.serving.ModelService",
        {"GetModelStatus": _handler(answer_status, get_model_status_pb2.GetModelStatusRequest)},
    )


def _handler(answer, request_type) -> grpc.RpcMethodHandler:
    """An RPC whose reply is bytes already, and whose errors have TF Serving's codes and texts."""

    def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return answer(request_type.FromString(data), context)
        except ServingError as error:
            code, message = error.code, error.message
        except DecodeError:
            code, message = grpc.StatusCode.INTERNAL, "the request cannot be parsed"
        except Exception as error:
            logger.exception("a request failed")
            code, message = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
        context.abort(code, shortened(message))

    return grpc.unary_unary_rpc_method_handler(handle)


def _look_up(models: dict[str, Model], request) -> Model:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    if spec.WhichOneof("version_choice") == "version_label":
        raise invalid(f"Unrecognized servable version label: {spec.version_label}")
    if spec.name not in models:
        raise not_found(spec.name, _version(spec))
    return models[spec.name]


def _version(spec: model_pb2.ModelSpec) -> int | None:
    """The version asked for; one that is set to 0 is version 0, not the newest."""
    return spec.version.value if spec.HasField("version") else None


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


def _metadata(models, request) -> get_model_metadata_pb2.GetModelMetadataResponse:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for name in request.metadata_field:
        if name != _SIGNATURE_DEF:
            raise invalid(f"Metadata field {name} is not supported")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with _look_up(models, request).use(_version(request.model_spec)) as (number, model):
        for name, signature in model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature.definition)
            signatures.signature_def[name].ClearField("defaults")
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = number
    response.metadata[_SIGNATURE_DEF].Pack(signatures)
    return response


def _status(models, request) -> get_model_status_pb2.GetModelStatusResponse:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    name, number = request.model_spec.name, _version(request.model_spec)
    found = models[name].status() if name in models else {}
    if number is not None:
        if number not in found:
            raise ServingError(
                grpc.StatusCode.NOT_FOUND, f"Could not find version {number} of model {name}"
            )
        found = {number: found[number]}
    if not found:
        raise ServingError(
            grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}"
        )
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, (state, error) in found.items():
        status = response.model_version_status.add(version=version, state=int(state))
        status.status.error_code = error.code.value[0] if error else 0
        status.status.error_message = shortened(error.message) if error else ""
    return response
