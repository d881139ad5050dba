"""`python -m tfface.export RUN OUT`: exports a run for TF Serving or for devices."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from tfface.cli import Parser, command, import_tensorflow
from tfface.errors import invocation
from tfface.paths import is_pattern
from tfface.shipped import run_folder


@command
def main(argv: list[str] | None = None) -> int:
    """Exports; returns the exit status."""
    parser = Parser(
        "export",
        description="Export a run as the next version of a model: a SavedModel for TF Serving or "
        "tfface.serve, or files for devices.",
    )
    parser.add_argument("run", help="run folder, or a shipped model such as sargan/faces64")
    parser.add_argument("out", help="base path of the model; versions are OUT/1, OUT/2, ...")
    parser.add_argument("--step", type=int, help="step of the checkpoint (default: latest)")
    parser.add_argument(
        "--format",
        choices=("savedmodel", "litert", "onnx"),
        default="savedmodel",
        help="savedmodel: for servers; litert: one file for phones and small computers (needs the "
        "extra [litert]); onnx: files for ONNX Runtime, also in browsers (needs the extra [onnx]) "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="with --format litert: 8-bit weights, a quarter of the size, slightly other images",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="with --format savedmodel: bfloat16 can be faster on processors with units for it "
        "(AVX-512 bf16, AMX, GPUs), with slightly other images (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    if args.int8 and args.format != "litert":
        parser.error(f"--int8 needs --format litert, not {args.format}")
    if args.precision != "float32" and args.format != "savedmodel":
        parser.error(f"--precision {args.precision} needs --format savedmodel, not {args.format}")
    run_folder(args.run)  # Raises if there is none.
    import_tensorflow()

    import tfface

    trained = tfface.load(args.run, args.step)
    if args.format == "savedmodel":
        from tfface.exporting.saved_model import export_run

        version = export_run(trained, args.out, args.precision)
        print(f"wrote {version}; {_how_to_serve(version.parent.resolve())}")
        return 0
    from tfface.exporting.portable import export_litert, export_onnx

    if args.format == "onnx":
        version = export_onnx(trained, args.out)
    else:
        version = export_litert(trained, args.out, args.int8)
    print(f"wrote {version}; {version / 'model.json'} lists its functions, inputs and labels")
    return 0


def _how_to_serve(folder: Path) -> str:
    """How to serve a model; warns of names of folders that TF Serving does not find."""
    if is_pattern(folder):
        print(
            f"warning: {folder} contains [ ] ? * or \\, which TF Serving treats as a pattern and "
            f"does not find; tfface.serve does. Move the folder before serving it with TF Serving",
            file=sys.stderr,
        )
    return f"serve it with: {invocation('serve')} {shlex.quote(f'--model_base_path={folder}')}"


if __name__ == "__main__":
    sys.exit(main())
