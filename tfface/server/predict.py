"""Predict, with TF Serving's checks in TF Serving's order."""

from __future__ import annotations

import grpc
import numpy as np
from tensorflow_serving.apis import model_pb2, predict_pb2

from tfface.server import tensors
from tfface.server.saved_model import SavedModel, Signature
from tfface.server.status import ServingError, invalid

DEFAULT_SIGNATURE = "serving_default"


def predict(
    model: SavedModel, version: int, request: predict_pb2.PredictRequest, timeout: float | None
) -> tuple[dict[str, np.ndarray], model_pb2.ModelSpec]:
    """Runs a Predict request on a model.

    Args:
        model: The loaded model version.
        version: Its number, for the reply.
        request: The request.
        timeout: Seconds left; None: no deadline.

    Returns:
        The outputs by name, and the model, version and signature that were run.

    Raises:
        ServingError: A request that does not match the signature, or an error of the graph.
    """
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(signature_name)
    if signature is None:
        raise ServingError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f'Serving signature key "{signature_name}" not found.',
        )
    inputs = _inputs(signature, request)
    outputs = _outputs(signature, request)
    values = model.run(signature, inputs, outputs, timeout)
    spec = model_pb2.ModelSpec(name=request.model_spec.name, signature_name=signature_name)
    spec.version.value = version
    return values, spec


def _inputs(signature: Signature, request) -> dict[str, np.ndarray]:
    definition, given = signature.definition, request.inputs
    wanted = set(definition.inputs)
    if len(given) > len(wanted) or (len(given) < len(wanted) and not definition.defaults):
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(wanted)} "
            f"len({_names(given)}) != len({_names(wanted)}). "
            f"Sent extra: {_names(set(given) - wanted)}. "
            f"Missing but required: {_names(wanted - set(given))}."
        )
    inputs = {}
    for name, info in definition.inputs.items():
        if name not in given and name not in definition.defaults:
            raise invalid(
                f"Signature input alias: {name}(feed name: {info.name}) not found in request and "
                f"no default value provided. Inputs expected to be in the request {_names(given)}, "
                f"or default input alias set: {','.join(sorted(definition.defaults))}"
            )
        try:
            inputs[name] = tensors.to_array(
                given[name] if name in given else definition.defaults[name]
            )
        except ValueError as error:
            raise invalid(f"tensor parsing error: {name}") from error
    used = wanted & set(given)
    if len(used) != len(given):
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {','.join(sorted(used))}, "
            f"request input: {','.join(sorted(given))}"
        )
    return inputs


def _outputs(signature: Signature, request) -> list[str]:
    seen: list[str] = []
    for name in request.output_filter:
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in "
                f"the set {_names(signature.outputs)}."
            )
        if name in seen:
            raise invalid(f"duplicate output tensor alias: {name}")
        seen.append(name)
    return seen or list(signature.outputs)


def _names(names) -> str:
    return "{" + ",".join(sorted(names)) + "}"
