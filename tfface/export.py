"""`python -m tfface.export RUN OUT`: exports a run as a SavedModel for TF Serving."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tfface.cli import Parser, command, import_tensorflow
from tfface.errors import UserError, invocation
from tfface.paths import is_pattern
from tfface.shipped import run_folder
from tfface.version import __version__

if TYPE_CHECKING:
    from tfface.methods.trained import Trained

# Largest accepted difference between the networks and their export. Both compute in float32 on the
# same machine, but the graph optimiser groups operations differently.
TOLERANCE = 1e-4
# Share of pixels of a label map that may differ, where two classes are equally likely.
TIES = 1e-3


def export_run(trained: Trained, out: str | Path) -> Path:
    """Exports a run as the next numbered version in a folder, atomically.

    The version contains the method's signatures, a warm-up request for each, and a model card.
    Before it is published it is loaded the way TF Serving loads it, and its outputs are compared
    with those of the networks.

    Args:
        trained: A loaded run.
        out: The model's base path; created if missing.

    Returns:
        Folder of the version.

    Raises:
        UserError: `out` is a file or cannot be written, or tensorflow-serving-api is missing.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{out} is not a folder") from error
    except PermissionError as error:
        raise UserError(f"{out}: cannot be written") from error
    # TF Serving ignores folders whose names are not numbers.
    temporary = out / f".export-{uuid.uuid4().hex}"
    try:
        outputs = _save(trained, temporary)
        _write_warm_up(trained, temporary)
        (temporary / "assets.extra" / "model_card.md").write_text(model_card(trained, outputs))
        _check(trained, temporary)
        return _number(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _save(trained: Trained, path: Path) -> dict[str, list[str]]:
    """Writes the SavedModel; returns the names of each signature's outputs."""
    import tensorflow as tf

    module = tf.Module()
    # Raw variables: tracking the Keras 3 models would save every variable twice, and TF Serving's
    # loader restores only one of the two.
    module.weights = [
        v.value for name in trained.method.averaged for v in trained.nets[name].variables
    ]
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


def _check(trained: Trained, path: Path) -> None:
    """Compares the outputs of the export, loaded like TF Serving loads it, with the networks'."""
    import numpy as np
    import tensorflow as tf

    from tfface.server.saved_model import SavedModel

    saved = SavedModel(path)
    try:
        for name, signature in trained.method.signatures(trained.nets).items():
            inputs = {key: np.asarray(value) for key, value in signature.example.items()}
            expected = signature.function(**signature.example)
            exported = saved.run(saved.signatures[name], inputs, list(expected))
            for key, value in expected.items():
                pair = [exported[key], value.numpy()]
                if value.dtype == tf.string:
                    pair = [tf.io.decode_png(p[0]).numpy() / 127.5 for p in pair]
                if key.startswith("label_map") and np.mean(pair[0] != pair[1]) <= TIES:
                    continue
                difference = float(np.max(np.abs(pair[0] - pair[1])))
                # Encoded images may round to neighbouring levels.
                if difference > TOLERANCE + (1 / 127.5 if value.dtype == tf.string else 0):
                    raise RuntimeError(
                        f"the export differs from the networks by {difference:.2g} in output "
                        f"{key!r} of signature {name!r}"
                    )
    finally:
        saved.close()


def _number(temporary: Path, out: Path) -> Path:
    """Renames a complete version to the next free number."""
    while True:
        numbers = [int(p.name) for p in out.iterdir() if re.fullmatch(r"[0-9]{1,18}", p.name)]
        target = out / str(max(numbers, default=0) + 1)
        try:
            os.rename(temporary, target)
            return target
        except OSError:
            if not target.exists():
                raise


def model_card(trained: Trained, outputs: dict[str, list[str]]) -> str:
    """The model card of an exported model, as Markdown; `outputs` has names by signature."""
    import tensorflow as tf

    from tfface.data.alignment import crop_of

    config = trained.method.config
    averaged = "averaged" if config.train.ema_half_life else "last"
    lines = [
        f"# {type(trained.method).__name__}: {type(trained.method).__doc__.splitlines()[0]}",
        "",
        f"- weights: {averaged}, step {trained.step} of run {trained.path.name}",
        f"- labels: {', '.join(trained.method.labels)}",
        f"- images: central square, {config.data.size} x {config.data.size} pixels",
        f"- crop of a photograph's face: {crop_of(config.data) or 'unknown'} (see tfface.align)",
        f"- training data: {config.data.name} {Path(config.data.path).name}".rstrip()
        + " (its terms of use also apply to the weights)",
        f"- exported with tfface {__version__}, TensorFlow {tf.__version__}, "
        f"{time.strftime('%Y-%m-%d')}",
        "",
        "| signature | inputs | outputs |",
        "|---|---|---|",
    ]
    for name, signature in trained.method.signatures(trained.nets).items():
        inputs = ", ".join(
            f"`{key}` {spec.dtype.name} {spec.shape}" for key, spec in signature.inputs.items()
        )
        named = ", ".join(f"`{key}`" for key in outputs[name])
        lines.append(f"| `{name}` | {inputs} | {named} |")
    lines += [
        "",
        "Float images are RGB in [-1,1]. Encoded images are JPEG or PNG; results are PNG of the "
        "same size. Edits are computed at the networks' size; the difference is upscaled and added "
        "to the central square of the original.",
        "",
        "Encoded results state in their metadata that a model generated or edited them. Edited "
        "faces are not evidence of anything: do not present them as photographs of real events, do "
        "not judge from them what anybody feels, and edit people only with their consent.",
        "",
    ]
    return "\n".join(lines)


@command
def main(argv: list[str] | None = None) -> int:
    """Exports; returns the exit status."""
    parser = Parser(
        "export",
        description="Export a run as the next version of a SavedModel, for TF Serving or "
        "tfface.serve.",
    )
    parser.add_argument("run", help="run folder, or a shipped model such as sargan/faces64")
    parser.add_argument("out", help="base path of the model; versions are OUT/1, OUT/2, ...")
    parser.add_argument("--step", type=int, help="step of the checkpoint (default: latest)")
    args = parser.parse_args(argv)
    run_folder(args.run)  # Raises if there is none.
    import_tensorflow()

    import tfface

    version = export_run(tfface.load(args.run, args.step), args.out)
    folder = version.parent.resolve()
    if is_pattern(folder):
        print(
            f"warning: {folder} contains [ ] ? * or \\, which TF Serving treats as a pattern and "
            f"does not find; tfface.serve does. Move the folder before serving it with TF Serving",
            file=sys.stderr,
        )
    words = shlex.quote(f"--model_base_path={folder}")
    print(f"wrote {version}; serve it with: {invocation('serve')} {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
