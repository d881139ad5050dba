"""Models for devices: LiteRT and ONNX files, written from a run.

A file contains what needs no strings, no encoded images and no random numbers. Labels, such as an
expression, are therefore indices into the list of names in `model.json`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfface.config import Data
from tfface.data.synthetic import SyntheticFaces
from tfface.errors import UserError
from tfface.exporting.card import model_card
from tfface.exporting.versions import publish
from tfface.methods.base import Signature
from tfface.metrics.images import psnr
from tfface.version import __version__

if TYPE_CHECKING:
    from tfface.methods.trained import Trained

Arrays = dict[str, np.ndarray]

FACES = 8
"""Number of built-in faces on which a file is compared with the networks."""

TOLERANCE = 1e-3
"""Largest accepted difference of an output, as a share of the largest value of that output."""

INT8_PSNR = 40.0
"""Lowest accepted PSNR in dB of the images of a file with 8-bit weights."""

AGREEMENT, INT8_AGREEMENT = 0.99, 0.95
"""Lowest accepted share of equal values of a label map, of float and of 8-bit weights."""

OPSET = 18  # The latest that tf2onnx writes.


def export_litert(trained: Trained, out: str | Path, int8: bool = False) -> Path:
    """Exports a run as one LiteRT file for phones and small computers, `OUT/N/model.tflite`.

    The file has a signature for each of `functions`, with images one at a time (batch 1).

    Args:
        trained: A loaded run.
        out: Folder of the versions; created if missing.
        int8: Stores weights as 8-bit integers, a quarter of the size. Images then differ slightly.

    Returns:
        Folder of the version.

    Raises:
        UserError: `out` cannot be written, ai-edge-litert is missing, or the outputs of the file
            differ from those of the networks.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise UserError("a LiteRT file needs: pip install 'tfface[litert]'") from error
    included, left_out = functions(trained)

    def write(folder: Path) -> None:
        file = folder / "model.tflite"
        file.write_bytes(_litert(trained, included, folder / "saved_model", int8))
        interpreter = Interpreter(str(file), num_threads=os.cpu_count())
        runners = {name: interpreter.get_signature_runner(name) for name in included}
        runs = {name: functools.partial(_one_by_one, run) for name, run in runners.items()}
        _finish(trained, folder, included, left_out, runs, {n: file.name for n in included}, int8)

    return publish(out, write)


def export_onnx(trained: Trained, out: str | Path) -> Path:
    """Exports a run as ONNX files, `OUT/N/SIGNATURE.onnx`, one for each of `functions`.

    The batch size is free. A name may occur once in an ONNX graph: an output whose name is also
    that of an input ends in `_out`.

    Args:
        trained: A loaded run.
        out: Folder of the versions; created if missing.

    Returns:
        Folder of the version.

    Raises:
        UserError: `out` cannot be written, tf2onnx or onnxruntime is missing, or the outputs of the
            files differ from those of the networks.
    """
    try:
        import onnxruntime
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise UserError("ONNX files need: pip install 'tfface[onnx]'") from error
    included, left_out = functions(trained)

    def write(folder: Path) -> None:
        runs = {}
        for name, function in included.items():
            file = folder / f"{name}.onnx"
            file.write_bytes(_onnx(trained, function))
            session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
            runs[name] = functools.partial(_run_session, session)
        files = {name: f"{name}.onnx" for name in included}
        _finish(trained, folder, included, left_out, runs, files)

    return publish(out, write)


def functions(trained: Trained) -> tuple[dict[str, Signature], dict[str, str]]:
    """The signatures that files for devices can contain, with labels as indices.

    Args:
        trained: A loaded run.

    Returns:
        The signatures, whose string inputs are replaced by int32; and why each other signature of
        the export is left out.
    """
    included, left_out = {}, {}
    for name, signature in trained.method.signatures(trained.nets).items():
        if any(key.endswith("_bytes") for key in signature.inputs):
            left_out[name] = "has encoded images"
        elif "Random" in _operations(signature):
            left_out[name] = "draws random numbers"
        else:
            included[name] = _with_indices(signature)
    return included, left_out


def _operations(signature: Signature) -> str:
    """The types of all operations in the graph of a signature."""
    specs = {key: tf.TensorSpec(s.shape, s.dtype) for key, s in signature.inputs.items()}
    graph = tf.function(signature.function, autograph=False).get_concrete_function(**specs).graph
    definition = graph.as_graph_def()
    inner = [node for function in definition.library.function for node in function.node_def]
    return " ".join(node.op for node in (*definition.node, *inner))


def _with_indices(signature: Signature) -> Signature:
    """The signature with int32 indices in place of names."""
    inputs, example = dict(signature.inputs), dict(signature.example)
    for key, spec in signature.inputs.items():
        if spec.dtype == tf.string:
            inputs[key] = tf.TensorSpec(spec.shape, tf.int32)
            example[key] = tf.zeros(tf.shape(example[key]), tf.int32)
    return dataclasses.replace(signature, inputs=inputs, example=example)


def _litert(trained: Trained, included: dict[str, Signature], temporary: Path, int8: bool) -> bytes:
    """Converts all functions to one LiteRT file."""
    module = tf.Module()
    module.weights = trained.weights
    concrete = {
        name: tf.function(function.function, autograph=False).get_concrete_function(
            **{
                key: tf.TensorSpec([1, *spec.shape[1:]], spec.dtype, name=key)
                for key, spec in function.inputs.items()
            }
        )
        for name, function in included.items()
    }
    tf.saved_model.save(module, str(temporary), signatures=concrete)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(temporary), signature_keys=list(included)
    )
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    content = converter.convert()
    shutil.rmtree(temporary)
    return content


def _onnx(trained: Trained, function: Signature) -> bytes:
    """Converts one function to an ONNX file that states its labels."""
    import onnx
    import tf2onnx

    names = list(function.inputs)
    specs = [tf.TensorSpec(s.shape, s.dtype, name=k) for k, s in function.inputs.items()]

    def call(*values):
        results = function.function(**dict(zip(names, values, strict=True)))
        return {_onnx_name(key, function): value for key, value in results.items()}

    with _quiet("tf2onnx"):
        model, _ = tf2onnx.convert.from_function(
            tf.function(call, autograph=False, input_signature=specs),
            input_signature=specs,
            opset=OPSET,
        )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(
        model, {"labels": json.dumps(trained.method.labels), "size": str(_size(trained))}
    )
    model.producer_name, model.producer_version = "tfface", __version__
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _onnx_name(output: str, function: Signature) -> str:
    return f"{output}_out" if output in function.inputs else output


@contextlib.contextmanager
def _quiet(name: str):
    """Without the notes of a library about its own progress."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _one_by_one(run: Callable[..., Arrays], inputs: Arrays) -> Arrays:
    count = len(next(iter(inputs.values())))
    rows = [run(**{k: v[i : i + 1] for k, v in inputs.items()}) for i in range(count)]
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def _run_session(session: Any, inputs: Arrays) -> Arrays:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _finish(
    trained: Trained,
    folder: Path,
    included: dict[str, Signature],
    left_out: dict[str, str],
    runs: dict[str, Callable[[Arrays], Arrays]],
    files: dict[str, str],
    int8: bool = False,
) -> None:
    """Compares the files with the networks; writes `model.json` and the model card."""
    described, faces = {}, _faces(_size(trained))
    for name, function in included.items():
        inputs = _inputs(trained, function, faces)
        expected = {k: v.numpy() for k, v in function.function(**inputs).items()}
        try:
            results = runs[name]({key: value.numpy() for key, value in inputs.items()})
        except Exception as error:  # The runtimes have exceptions of their own.
            first = str(error).partition("\n")[0]
            raise UserError(
                f"{files[name]} was converted, but does not run: {first}; try another --format"
            ) from error
        if any(key not in results for key in expected):  # ONNX has other names for these.
            expected = {_onnx_name(key, function): value for key, value in expected.items()}
        described[name] = {
            "file": files[name],
            "inputs": {k: _describe(s.dtype.name, s.shape) for k, s in function.inputs.items()},
            "outputs": {
                key: _describe(value.dtype.name, (None, *value.shape[1:]))
                | _compare(f"{key} of {name}", value, results[key], int8)
                for key, value in expected.items()
            },
        }
    description = {
        "model": trained.mark.model,
        "step": trained.step,
        "labels": list(trained.method.labels),
        "size": _size(trained),
        "weights": "int8" if int8 else "float32",
        "signatures": described,
        "left_out": left_out,
        "tfface": __version__,
    }
    (folder / "model.json").write_text(json.dumps(description, indent=1) + "\n")
    outputs = {name: list(entry["outputs"]) for name, entry in described.items()}
    (folder / "model_card.md").write_text(model_card(trained, included, outputs))


def _faces(size: int) -> dict[str, tf.Tensor]:
    """Built-in faces, as `image` and `label_map`."""
    source = SyntheticFaces(Data(size=size), fields=("image", "label_map"))
    return next(iter(source.batches("val", FACES, seed=0)))


def _inputs(
    trained: Trained, function: Signature, faces: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Inputs of a function: the faces, their label maps, and each label in turn."""
    inputs, used = {}, 0  # Each image input has other faces.
    for key, spec in function.inputs.items():
        example = np.asarray(function.example[key])
        value = np.repeat(example, FACES, 0)
        if spec.shape.rank >= 4:  # An image, or several.
            count = value[0, ..., 0, 0, 0].size
            rows = [np.roll(faces["image"], used + i, 0) for i in range(count)]
            value, used = np.stack(rows, 1).reshape(value.shape), used + count
        elif spec.dtype == tf.int32 and spec.shape.rank == 3:
            value = faces["label_map"]
        elif spec.dtype == tf.int32:
            value = np.arange(value.size).reshape(value.shape) % len(trained.method.labels)
        inputs[key] = tf.cast(value, spec.dtype)
    return inputs


def _compare(name: str, expected: np.ndarray, result: np.ndarray, int8: bool) -> dict[str, float]:
    """How far a result of a file is from that of the networks; raises if it is too far."""
    if expected.dtype.kind == "i":
        agreement = float(np.mean(expected == result))
        if agreement < (INT8_AGREEMENT if int8 else AGREEMENT):
            raise UserError(
                f"the converted model is wrong: output {name} agrees with that of the networks in "
                f"{agreement:.1%} of its values only; try another --format"
            )
        return {"agreement": agreement}
    difference = np.abs(expected - result)
    largest = float(difference.max())
    decibels = psnr(expected, result)
    if not int8 and largest > TOLERANCE * np.abs(expected).max():
        raise UserError(
            f"the converted model is wrong: output {name} differs by {largest:.2g} from that of "
            f"the networks; try another --format"
        )
    if int8 and decibels < INT8_PSNR:
        raise UserError(
            f"with 8-bit weights, {name} is {decibels:.1f} dB from that of the networks on "
            f"built-in faces; at least {INT8_PSNR:g} dB are expected: export this model without "
            f"--int8"
        )
    return {"largest_difference": largest, "psnr": decibels}


def _describe(dtype: str, shape) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape)}


def _size(trained: Trained) -> int:
    return trained.method.config.data.size
