"""SavedModels for TF Serving and the embedded server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.errors import UserError
from tfface.exporting.card import model_card
from tfface.exporting.versions import publish

if TYPE_CHECKING:
    from tfface.methods.trained import Trained

# Largest accepted difference between the networks and their export. Both compute in float32 on the
# same machine, but the graph optimiser groups operations differently.
TOLERANCE = 1e-4
# Share of the pixels of a label map, or of other whole numbers, that may differ: where two classes
# are equally likely, or two blocks equally similar.
TIES = {"label_map": 1e-3, "index": 1e-2}


BFLOAT16_PSNR = 40.0
"""Lowest accepted PSNR in dB of the images of an export in bfloat16, against those in float32."""

BFLOAT16_TIES = 0.05
"""Share of the pixels of a label map, or of other whole numbers, that may differ in bfloat16."""


def export_run(trained: Trained, out: str | Path, precision: str = "float32") -> Path:
    """Exports a run as the next numbered version in a folder, atomically.

    The version contains the method's signatures, a warm-up request for each, and a model card.
    Before it is published it is loaded the way TF Serving loads it, and its outputs are compared
    with those of the networks.

    Args:
        trained: A loaded run.
        out: The model's base path; created if missing.
        precision: "float32", or "bfloat16": the networks compute in bfloat16, which can be
            faster on CPUs and GPUs with units for it. Weights, inputs and outputs stay float32.

    Returns:
        Folder of the version.

    Raises:
        UserError: `out` is a file or cannot be written, tensorflow-serving-api is missing, or
            bfloat16 changes an output too much.
    """
    reduced = precision == "bfloat16"
    exported = trained.in_precision("mixed_bfloat16") if reduced else trained

    def write(folder: Path) -> None:
        outputs = _save(exported, folder)
        _write_warm_up(trained, folder)
        lowest = _check(trained, folder, reduced)
        signatures = trained.method.signatures(trained.nets)
        computes = (
            f"bfloat16; PSNR {lowest:.0f} dB to float32, of the warm-up requests"
            if reduced
            else "float32"
        )
        card = model_card(trained, signatures, outputs, computes)
        (folder / "assets.extra" / "model_card.md").write_text(card)

    return publish(out, write)


def _save(trained: Trained, path: Path) -> dict[str, list[str]]:
    """Writes the SavedModel; returns the names of each signature's outputs."""
    import tensorflow as tf

    module = tf.Module()
    # Raw variables: tracking the Keras 3 models would save every variable twice, and TF Serving's
    # loader restores only one of the two.
    module.weights = trained.weights
    functions = {}
    for name, signature in trained.signatures().items():
        specs = {
            key: tf.TensorSpec(spec.shape, spec.dtype, name=key)
            for key, spec in signature.inputs.items()
        }
        function = tf.function(_marked(signature.function, trained), autograph=False)
        functions[name] = function.get_concrete_function(**specs)
    tf.saved_model.save(module, str(path), signatures=functions)
    return {name: list(function.structured_outputs) for name, function in functions.items()}


def _marked(function: Callable, trained: Trained) -> Callable:
    """The function of a signature, with a mark in each encoded image that it generates."""
    from tfface.data.image_ops import mark_pngs

    mark = trained.mark

    def call(**inputs):
        return {
            key: mark_pngs(value, mark) if _is_generated_image(key) else value
            for key, value in function(**inputs).items()
        }

    return call


def _is_generated_image(output: str) -> bool:
    return output.endswith("_bytes") and output != "label_map_bytes"


def _write_warm_up(trained: Trained, path: Path) -> None:
    """Writes one request for each signature, in TF Serving's format."""
    import tensorflow as tf

    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError as error:
        raise UserError(
            "an export needs tensorflow-serving-api: pip install 'tfface[serving]'"
        ) from error
    (path / "assets.extra").mkdir()
    warm_up = path / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(warm_up)) as writer:
        for name, signature in trained.method.signatures(trained.nets).items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = trained.name
            request.model_spec.signature_name = name
            for key, value in signature.example.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


def ties(output: str) -> float:
    """The share of an output that may differ from the networks'."""
    return TIES.get(output.removesuffix("_bytes"), 0.0)


def _check(trained: Trained, path: Path, reduced: bool = False) -> float:
    """Compares the outputs of the export, loaded like TF Serving loads it, with the networks'.

    Args:
        trained: The run, whose networks compute in float32.
        path: Folder of the export.
        reduced: Whether the export computes in bfloat16.

    Returns:
        The lowest PSNR of an image.

    Raises:
        UserError: bfloat16 changes an output too much.
        RuntimeError: An export in float32 differs from the networks.
    """
    import numpy as np
    import tensorflow as tf

    from tfface.server.saved_model import SavedModel

    # Each signature runs once: optimising its graph would take longer.
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    saved = SavedModel(path, session_config=config)
    lowest = np.inf
    try:
        for name, signature in trained.method.signatures(trained.nets).items():
            inputs = {key: np.asarray(value) for key, value in signature.example.items()}
            expected = signature.function(**signature.example)
            exported = saved.run(saved.signatures[name], inputs, list(expected))
            for key, value in expected.items():
                pair = [exported[key], value.numpy()]
                if value.dtype == tf.string:
                    pair = [tf.io.decode_png(p[0]).numpy() / 127.5 for p in pair]
                where = f"output {key!r} of signature {name!r}"
                if reduced:
                    lowest = min(lowest, _check_reduced(*pair, ties(key) > 0, where))
                elif np.mean(pair[0] != pair[1]) > ties(key):
                    difference = float(np.max(np.abs(pair[0] - pair[1])))
                    # Encoded images may round to neighbouring levels.
                    if difference > TOLERANCE + (1 / 127.5 if value.dtype == tf.string else 0):
                        raise RuntimeError(
                            f"the export differs from the networks by {difference:.2g} in {where}"
                        )
    finally:
        saved.close()
    return lowest


def _check_reduced(exported: Any, expected: Any, discrete: bool, where: str) -> float:
    """Compares an output in bfloat16 with that in float32; returns its PSNR, if it is an image."""
    import numpy as np

    from tfface.metrics.images import psnr

    if discrete:
        share = np.mean(exported != expected)
        if share > BFLOAT16_TIES:
            raise UserError(
                f"bfloat16 changes {share:.1%} of {where}: expected at most {BFLOAT16_TIES:.0%}; "
                f"export in float32"
            )
        return np.inf
    decibels = psnr(exported, expected)
    if decibels < BFLOAT16_PSNR:
        raise UserError(
            f"bfloat16 changes {where} too much: PSNR {decibels:.1f} dB to that of float32, "
            f"expected at least {BFLOAT16_PSNR:g} dB; export in float32"
        )
    return decibels
