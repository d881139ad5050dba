"""What the server answers, whichever way it is asked: gRPC and REST both call this."""

from __future__ import annotations

import numpy as np
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from tfface.server.models import Models
from tfface.server.monitoring import Monitor
from tfface.server.predict import predict
from tfface.server.status import invalid, shortened

_SIGNATURE_DEF = "signature_def"


class Answers:
    """The RPCs of TF Serving, from a request to its answer.

    Each raises ServingError with TF Serving's code and text.

    Args:
        models: The models that answer.

    Attributes:
        models: The models that answer.
        monitor: What has been asked of them, and how long it took.
    """

    def __init__(self, models: Models):
        self.models = models
        self.monitor = Monitor(models)

    def predict(
        self, request: predict_pb2.PredictRequest, timeout: float | None = None
    ) -> tuple[dict[str, np.ndarray], model_pb2.ModelSpec]:
        """Runs a signature.

        Args:
            request: What a client has sent.
            timeout: Seconds left; None: no deadline.

        Returns:
            The outputs by name, strings as object arrays of bytes (a scalar one as bytes), and the
            model, version and signature that answered.
        """
        spec = _spec(request)
        with (
            self.models.use(spec) as (number, model),
            self.monitor.running("Predict", spec.name),
        ):
            return predict(model, number, request, timeout)

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a model."""
        spec = _spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != _SIGNATURE_DEF:
                raise invalid(f"Metadata field {name} is not supported")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self.models.use(spec) as (number, model):
            for name, signature in model.signatures.items():
                signatures.signature_def[name].CopyFrom(signature.definition)
                signatures.signature_def[name].ClearField("defaults")
        response.model_spec.name = spec.name
        response.model_spec.version.value = number
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of a model's versions."""
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, (state, error) in self.models.status(_spec(request)).items():
            status = response.model_version_status.add(version=version, state=int(state))
            status.status.error_code = error.code.value[0] if error else 0
            status.status.error_message = shortened(error.message) if error else ""
        return response


def _spec(request) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec
