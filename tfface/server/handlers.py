"""Request handlers, shared by the gRPC and the REST API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from tfface.server import classify_regress
from tfface.server.models import Models
from tfface.server.monitoring import Monitor
from tfface.server.predict import predict
from tfface.server.saved_model import SavedModel
from tfface.server.status import ServingError, invalid, shortened
from tfface.server.versions import State

_SIGNATURE_DEF = "signature_def"


class Handlers:
    """Handlers of TF Serving's RPCs.

    Each raises ServingError with TF Serving's code and message.

    Args:
        models: The models to serve.

    Attributes:
        models: The models to serve.
        monitor: Request counts and latencies.
    """

    def __init__(self, models: Models):
        self.models = models
        self.monitor = Monitor(models)

    def predict(
        self, request: predict_pb2.PredictRequest, timeout: float | None = None
    ) -> tuple[dict[str, np.ndarray], model_pb2.ModelSpec]:
        """Runs a signature.

        Args:
            request: The request.
            timeout: Seconds left; None: no deadline.

        Returns:
            The outputs by name, strings as object arrays of bytes (a scalar one as bytes), and the
            model, version and signature that were run.
        """
        with self._running("Predict", request) as (number, model):
            return predict(model, number, request, timeout)

    def classify(
        self, request: classification_pb2.ClassificationRequest, timeout: float | None = None
    ) -> classification_pb2.ClassificationResponse:
        """Classifies tf.Examples; `timeout` is in seconds, None: no deadline."""
        with self._running("Classify", request) as (number, model):
            return classify_regress.classify(model, number, request, timeout)

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout: float | None = None
    ) -> regression_pb2.RegressionResponse:
        """Predicts a number for each tf.Example; `timeout` is in seconds, None: no deadline."""
        with self._running("Regress", request) as (number, model):
            return classify_regress.regress(model, number, request, timeout)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout: float | None = None
    ) -> inference_pb2.MultiInferenceResponse:
        """Runs several classifications and regressions on the same tf.Examples; see `classify`."""
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        with self.models.use(spec) as (number, model):
            return classify_regress.multi_inference(model, number, request, timeout)

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Returns the signatures of a model."""
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
        """Returns the state of a model's versions."""
        return _states(self.models.status(_spec(request)))

    def statuses(self) -> dict[str, get_model_status_pb2.GetModelStatusResponse]:
        """Returns the states of the versions of every model, by model name."""
        return {model.name: _states(model.status()) for model in self.models}

    @contextlib.contextmanager
    def _running(self, api: str, request) -> Iterator[tuple[int, SavedModel]]:
        """Holds the requested version and records its runtime latency."""
        spec = _spec(request)
        with self.models.use(spec) as used, self.monitor.running(api, spec.name):
            yield used


def _states(
    states: dict[int, tuple[State, ServingError | None]],
) -> get_model_status_pb2.GetModelStatusResponse:
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, (state, error) in states.items():
        status = response.model_version_status.add(version=version, state=int(state))
        status.status.error_code = error.code.value[0] if error else 0
        status.status.error_message = shortened(error.message) if error else ""
    return response


def _spec(request) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec
