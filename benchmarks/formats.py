"""Size and speed of the shipped models in each format: `python benchmarks/formats.py`.

Exports each model as SavedModels that compute in float32 and in bfloat16, LiteRT with float and
with 8-bit weights, and ONNX, times one call with one built-in face, all in turns in one process,
and prints a table. `--write` also writes it into `docs/devices.md`.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import Cells, fastest, table_command, threads

from tfface.cli import command
from tfface.methods import METHODS

PAGE = Path(__file__).parents[1] / "docs" / "devices.md"
MARK = "<!-- formats -->"
FORMATS = ("SavedModel", "LiteRT", "LiteRT, 8-bit weights", "ONNX")
REDUCED = "SavedModel in bfloat16"
HEADER = ["model, function", *(f"{name}: MiB" for name in FORMATS),
          *(f"{name}: ms" for name in (FORMATS[0], REDUCED, *FORMATS[1:])),
          "8-bit weights: PSNR"]  # fmt: skip


def measure(shipped: str, folder: Path, seconds: float) -> list[str]:
    """The row of a shipped model."""
    import numpy as np
    import onnxruntime
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    import tfface
    from tfface.exporting import portable, saved_model
    from tfface.server.saved_model import SavedModel

    trained = tfface.load(shipped)
    name, function = next(iter(portable.functions(trained)[0].items()))
    folders = {p: folder / f"savedmodel-{p}" for p in ("float32", "bfloat16")}
    saved = [SavedModel(saved_model.export_run(trained, f, p)) for p, f in folders.items()]
    versions = [
        portable.export_litert(trained, folder / "litert"),
        portable.export_litert(trained, folder / "litert", int8=True),
        portable.export_onnx(trained, folder / "onnx"),
    ]
    indices = {key: np.asarray(value) for key, value in function.example.items()}
    originals = trained.method.signatures(trained.nets)[name].example
    inputs = {key: np.asarray(value) for key, value in originals.items()}
    runs: list[Callable[[], Any]] = [
        functools.partial(model.run, model.signatures[name], inputs, ["image"]) for model in saved
    ]
    for version in versions[:2]:
        interpreter = Interpreter(str(version / "model.tflite"), num_threads=threads())
        runs.append(functools.partial(interpreter.get_signature_runner(name), **indices))
    session = onnxruntime.InferenceSession(versions[2] / f"{name}.onnx")
    runs.append(functools.partial(session.run, None, indices))
    files = [saved_files(folders["float32"]), *map(portable_files, versions)]
    times = fastest(runs, seconds)
    for model in saved:
        model.close()
    tf.keras.backend.clear_session()
    described = json.loads((versions[1] / "model.json").read_text())["signatures"][name]
    psnr = described["outputs"]["image"]["psnr"]
    return [
        f"{shipped}, `{name}`",
        *(f"{size / 2**20:.1f}" for size in files),
        *(f"{1e3 * value:.1f}" for value in times),
        f"{psnr:.0f} dB",
    ]


def saved_files(folder: Path) -> int:
    """Bytes of a SavedModel: graph and weights."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def portable_files(version: Path) -> int:
    """Bytes of the files of a version that a device needs; of ONNX, its largest file."""
    return max(path.stat().st_size for path in version.iterdir())


def measure_all(seconds: float) -> tuple[Cells, str]:
    """The table, and TensorFlow's version."""
    import tensorflow as tf

    table: Cells = [HEADER]
    for method in METHODS:
        with tempfile.TemporaryDirectory() as folder:
            table.append(measure(f"{method}/faces64", Path(folder), seconds))
    return table, f"TensorFlow {tf.__version__}"


@command
def main(argv: list[str] | None = None) -> int:
    """Measures and prints the table; returns the exit status."""
    about = __doc__.split("\n")[0]
    return table_command(argv, about, PAGE, MARK, (5.0, "time a model"), measure_all)


if __name__ == "__main__":
    sys.exit(main())
