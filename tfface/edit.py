"""`python -m tfface.edit RUN INPUT`: edits a picture, or a folder of pictures, with a run."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.cli import Parser, command, import_tensorflow
from tfface.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from tfface.engine.load import Trained

BATCH = 16


def edit_pictures(
    trained: Trained, pictures: list[Image], options: dict[str, Any]
) -> list[list[list[tuple[str, Image]]]]:
    """Edits pictures with a trained run.

    Args:
        trained: A loaded run.
        pictures: RGB pictures of any size; their central squares are edited.
        options: As `Method.edits`, with `reference` a list of pictures.

    Returns:
        For each picture the rows of (name of the edit, picture of the original size).

    Raises:
        UserError: As `Method.edits`.
    """
    import numpy as np
    import tensorflow as tf

    from tfface.data.pictures import paste_back, to_array

    size = trained.method.config.data.size
    if "reference" in options:
        arrays = [to_array(picture, size) for picture in options["reference"]]
        options = {**options, "reference": arrays}
    rows = trained.method.edits(trained.nets, options)
    images = tf.stack([to_array(picture, size) for picture in pictures])
    edited = [[(name, np.asarray(function(images))) for name, function in row] for row in rows]
    return [
        [[(name, paste_back(picture, made[i])) for name, made in row] for row in edited]
        for i, picture in enumerate(pictures)
    ]


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "edit",
        description="Edit a picture, or all pictures of a folder. The central square is edited; "
        "the picture keeps its size.",
        epilog="examples: %(prog)s runs/00000-sargan-synthetic me.jpg --expression happy sad; "
        "%(prog)s runs/00001-elegant-celeba faces/ --attribute Eyeglasses --reference glasses.jpg "
        "--strength 0.5 1 --grid",
    )
    parser.add_argument("run", help="run folder")
    parser.add_argument("input", help="a picture, or a folder of pictures")
    parser.add_argument("--out", default="edited", help="folder for the results (%(default)s)")
    parser.add_argument("--step", type=int, help="step of the checkpoint (default: the newest)")
    parser.add_argument("--grid", action="store_true", help="also write a side-by-side grid.png")
    sargan = parser.add_argument_group("SARGAN")
    sargan.add_argument("--expression", nargs="+", metavar="NAME", help='names, or "all" (default)')
    elegant = parser.add_argument_group("ELEGANT")
    elegant.add_argument("--attribute", nargs="+", metavar="NAME", help="the exchanged attribute")
    elegant.add_argument("--reference", nargs="+", metavar="PICTURE", help="faces to take it from")
    elegant.add_argument(
        "--strength",
        nargs="+",
        type=float,
        metavar="A",
        help="0 leaves the picture as it is, 1 exchanges fully (default: 1)",
    )
    elegant.add_argument(
        "--matrix",
        type=int,
        metavar="N",
        help="N x N matrix between the picture and three references of one "
        "attribute, or two attributes of one reference each",
    )
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Edits; returns the exit status."""
    from tfface.data.pictures import list_pictures, load_picture

    args = _parse(argv)
    if not Path(args.run).is_dir():
        raise UserError(f"{args.run}: no such run folder")
    source = Path(args.input)
    paths = list_pictures(source) if source.is_dir() else [source]
    names = ("expression", "attribute", "reference", "strength", "matrix")
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "reference" in options:
        options["reference"] = [load_picture(path) for path in options["reference"]]
    if len(paths) == 1:
        load_picture(paths[0])  # What is wrong with it is told before the slow import.
    import_tensorflow()

    import tfface

    trained = tfface.load(args.run, args.step)
    bad, sheet, stems = [], [], _stems(paths)
    for start in range(0, len(paths), BATCH):
        pictures = {}
        for path in paths[start : start + BATCH]:
            try:
                pictures[path] = load_picture(path)
            except UserError as error:
                bad.append(path)
                print(f"skipped: {error}", file=sys.stderr)
        if pictures:
            made = edit_pictures(trained, list(pictures.values()), options)
            sheet += _save(pictures, made, Path(args.out), stems, keep=args.grid)
    if args.grid and sheet:
        _save_grid(sheet, Path(args.out), trained.method.config.data.size)
    print(f"edited {len(paths) - len(bad)} picture(s); see {args.out}")
    if bad:
        raise UserError(f"{len(bad)} of {len(paths)} pictures could not be read")
    return 0


def _stems(paths: list[Path]) -> dict[Path, str]:
    """Names for the results: without suffix, unless two pictures differ in nothing else."""
    counts = Counter(path.stem for path in paths)
    return {p: p.stem if counts[p.stem] == 1 else p.name.replace(".", "_") for p in paths}


def _save(pictures: dict, made: list, out: Path, stems: dict, keep: bool) -> list[list[tuple]]:
    """Saves the edits; returns the rows of the grid if they are to be kept."""
    from tfface.data.pictures import save_picture

    sheet = []
    for (path, picture), rows in zip(pictures.items(), made, strict=True):
        for row in rows:
            for name, edited in row:
                save_picture(edited, out / f"{stems[path]}-{name}.png")
            if keep:
                sheet.append([("input", picture), *row])
    return sheet


def _save_grid(sheet: list[list[tuple]], out: Path, size: int) -> None:
    from tfface.data.pictures import grid, save_picture, to_array

    side = max(size, 128)
    rows = [[to_array(picture, side) for _, picture in row] for row in sheet]
    save_picture(grid(rows, [name for name, _ in sheet[0]]), out / "grid.png")


if __name__ == "__main__":
    sys.exit(main())
