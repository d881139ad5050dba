"""Classify, Regress and MultiInference: from tf.Examples to labels and numbers.

A signature for these has a single input, `inputs`, of serialized tf.Examples. Its method name is
not checked: TF Serving does so only with --enable_signature_method_name_check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from tfface.server import tensors
from tfface.server.limits import LARGEST_UNSENT, check_images
from tfface.server.predict import DEFAULT_SIGNATURE
from tfface.server.saved_model import SavedModel, Signature
from tfface.server.status import ServingError, invalid

_INPUT = "inputs"
_SCORES, _CLASSES, _REGRESSION = "scores", "classes", "outputs"


def classify(
    model: SavedModel,
    version: int,
    request: classification_pb2.ClassificationRequest,
    timeout: float | None,
) -> classification_pb2.ClassificationResponse:
    """Runs a Classify request on a model.

    Args:
        model: The loaded model version.
        version: Its number, for the reply.
        request: The request.
        timeout: Seconds left; None: no deadline.

    Raises:
        ServingError: No examples, a signature that is not for classification, or an error of the
            graph.
    """
    signature = _signature(model, request.model_spec)
    outputs = _classification_outputs(signature)
    examples = _examples(request.input, model.max_pixels)
    values = model.run(signature, {_INPUT: examples}, outputs, timeout)
    return classification_pb2.ClassificationResponse(
        model_spec=_spec(request.model_spec, version),
        result=_classification(values, len(examples)),
    )


def regress(
    model: SavedModel,
    version: int,
    request: regression_pb2.RegressionRequest,
    timeout: float | None,
) -> regression_pb2.RegressionResponse:
    """Runs a Regress request on a model; see `classify`."""
    signature = _signature(model, request.model_spec)
    outputs = _regression_outputs(signature)
    examples = _examples(request.input, model.max_pixels)
    values = model.run(signature, {_INPUT: examples}, outputs, timeout)
    return regression_pb2.RegressionResponse(
        model_spec=_spec(request.model_spec, version),
        result=_regression(values, len(examples)),
    )


def multi_inference(
    model: SavedModel,
    version: int,
    request: inference_pb2.MultiInferenceRequest,
    timeout: float | None,
) -> inference_pb2.MultiInferenceResponse:
    """Runs all tasks of a MultiInference request in one run of the model; see `classify`."""
    tasks: dict[str, tuple[Signature, list[str]]] = {}
    for task in request.tasks:
        name = _signature_name(task.model_spec)
        tasks[name] = _task(model, request, task, name in tasks)
    if not tasks:
        raise invalid("Found no task in a MultiInferenceRequest.")
    examples = _examples(request.input, model.max_pixels)
    together = _together(tasks)
    inputs = dict.fromkeys(together.inputs, examples)
    values = model.run(together, inputs, list(together.outputs), timeout)
    response = inference_pb2.MultiInferenceResponse()
    for task in request.tasks:
        name = _signature_name(task.model_spec)
        outputs = {output: values[name, output] for output in tasks[name][1]}
        result = response.results.add(model_spec=_spec(task.model_spec, version))
        if task.method_name == tf.saved_model.CLASSIFY_METHOD_NAME:
            result.classification_result.CopyFrom(_classification(outputs, len(examples)))
        else:
            result.regression_result.CopyFrom(_regression(outputs, len(examples)))
    return response


def _together(tasks: dict[str, tuple[Signature, list[str]]]) -> Signature:
    """One signature for all tasks, with an input for each tensor that receives examples."""
    together = Signature(meta_graph_pb2.SignatureDef(), {}, {})
    for name, (signature, outputs) in tasks.items():
        tensor = signature.inputs[_INPUT]
        together.inputs[tensor] = tensor
        together.definition.inputs[tensor].CopyFrom(signature.definition.inputs[_INPUT])
        for output in outputs:
            together.outputs[name, output] = signature.outputs[output]
    return together


def _task(
    model: SavedModel,
    request: inference_pb2.MultiInferenceRequest,
    task: inference_pb2.InferenceTask,
    seen: bool,
) -> tuple[Signature, list[str]]:
    """A task's signature and the outputs that it needs."""
    if not task.model_spec.name:
        raise invalid("Found ModelSpec with an empty model name.")
    if task.model_spec.name != request.tasks[0].model_spec.name:
        raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    name = _signature_name(task.model_spec)
    if seen:
        raise invalid(f"Duplicate evaluation of signature: {name}")
    if name not in model.signatures:
        raise invalid(f"Requested signature not found in model graph: {name}")
    signature = model.signatures[name]
    if task.method_name == tf.saved_model.CLASSIFY_METHOD_NAME:
        return signature, _classification_outputs(signature)
    if task.method_name == tf.saved_model.REGRESS_METHOD_NAME:
        return signature, _regression_outputs(signature)
    raise ServingError(
        grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
    )


def _signature_name(spec: model_pb2.ModelSpec) -> str:
    return spec.signature_name or DEFAULT_SIGNATURE


def _signature(model: SavedModel, spec: model_pb2.ModelSpec) -> Signature:
    name = _signature_name(spec)
    if name not in model.signatures:
        raise invalid(f"No signature was found with the name: {name}")
    return model.signatures[name]


def _spec(requested: model_pb2.ModelSpec, version: int) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=requested.name, signature_name=_signature_name(requested))
    spec.version.value = version
    return spec


def _examples(request_input: input_pb2.Input, max_pixels: int) -> np.ndarray:
    """The serialized examples, object [N].

    The context is prepended to each: concatenated protobuf messages parse as their merger.
    """
    with_context = request_input.example_list_with_context
    context = with_context.context.SerializeToString()
    examples = with_context.examples or request_input.example_list.examples
    if not examples:
        raise invalid("Input is empty.")
    if len(context) * len(examples) > LARGEST_UNSENT:
        raise invalid(
            f"the context ({len(context)} bytes) is too large to be added to each of "
            f"{len(examples)} examples"
        )
    check_images(_strings([with_context.context, *examples]), max_pixels)
    return np.array([context + e.SerializeToString() for e in examples], object)


def _strings(examples: Iterable[example_pb2.Example]) -> Iterator[bytes]:
    for example in examples:
        for feature in example.features.feature.values():
            yield from feature.bytes_list.value


def _classification_outputs(signature: Signature) -> list[str]:
    count = len(signature.outputs)
    _check(signature, "classification", 2, f"Expected one or two output Tensors, found {count}")
    found = [name for name in (_CLASSES, _SCORES) if name in signature.outputs]
    if not found:
        raise invalid(
            "Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}". Signature was: {signature.definition}'
        )
    return found


def _regression_outputs(signature: Signature) -> list[str]:
    _check(signature, "regression", 1, "Expected one output Tensor.")
    if _REGRESSION not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature.definition}")
    return [_REGRESSION]


def _check(signature: Signature, kind: str, max_outputs: int, wrong_outputs: str) -> None:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if not 1 <= len(signature.outputs) <= max_outputs:
        raise invalid(wrong_outputs)
    if _INPUT not in signature.inputs:
        raise invalid(f"No {kind} inputs found in SignatureDef: {signature.definition}")


def _classification(
    values: dict[str, np.ndarray], count: int
) -> classification_pb2.ClassificationResult:
    arrays = {name: tensors.as_array(value) for name, value in values.items()}
    for name, dtype in ((_CLASSES, types_pb2.DT_STRING), (_SCORES, types_pb2.DT_FLOAT)):
        if name in arrays:
            _check_matrix(name, arrays[name], dtype, count)
    widths = [array.shape[1] for array in arrays.values()]
    if len(set(widths)) > 1:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[1]}"
        )
    shape = (count, widths[0])
    classes = arrays.get(_CLASSES, np.full(shape, b"", object))
    scores = arrays.get(_SCORES, np.zeros(shape, np.float32))
    result = classification_pb2.ClassificationResult()
    for labels, numbers in zip(classes, scores, strict=True):
        row = result.classifications.add()
        for label, score in zip(labels, numbers, strict=True):
            row.classes.add(label=label.decode(errors="replace"), score=score)
    return result


def _check_matrix(name: str, array: np.ndarray, dtype: int, count: int) -> None:
    if array.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
    expected = types_pb2.DataType.Name(dtype)
    _check_type(array, dtype, f"Expected {name} Tensor of {expected}. ")
    if len(array) != count:
        raise invalid(f"Expected {name} output batch size of {count}. Got: {len(array)}")


def _regression(values: dict[str, np.ndarray], count: int) -> regression_pb2.RegressionResult:
    array = tensors.as_array(values[_REGRESSION])
    if array.ndim != 1 and (array.ndim != 2 or array.shape[1] != 1):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(array)}"
        )
    if len(array) != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    _check_type(array, types_pb2.DT_FLOAT, "Expected output Tensor of DT_FLOAT.  ")
    result = regression_pb2.RegressionResult()
    for value in array.ravel():
        result.regressions.add(value=value)
    return result


def _check_type(array: np.ndarray, dtype: int, refusal: str) -> None:
    found = tensors.data_type(array)
    if found != dtype:
        raise invalid(f"{refusal}Got: {types_pb2.DataType.Name(found)}")


def _shape(array: np.ndarray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"
