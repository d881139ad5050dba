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
OPTIONS = (
    "expression", "attribute", "reference", "strength", "matrix", "exemplar", "seed", "interpolate",
)  # fmt: skip
_MOST_SEEDS = 1000
PICTURES = {"reference", "exemplar"}  # Options whose values are picture files.


def edit_pictures(
    trained: Trained, inputs: list[Any], options: dict[str, Any]
) -> list[list[list[tuple[str, Image]]]]:
    """Edits pictures with a trained run, or makes pictures from label maps.

    Args:
        trained: A loaded run.
        inputs: RGB pictures of any size, whose central squares are edited; for methods that take
            label maps or lines, uint8 [H,W] as from `load_label_map`.
        options: As `Method.edits`, with `reference` and `exemplar` lists of pictures.

    Returns:
        For each input the rows of (name of the edit, picture): of the original's size; the square
        that the networks made from a label map; or the square's label map, in its colours.

    Raises:
        UserError: As `Method.edits`.
    """
    import numpy as np
    import tensorflow as tf
    from PIL import Image

    from tfface.data.label_maps import colour, to_labels
    from tfface.data.pictures import paste_back, to_array, to_picture

    size = trained.method.config.data.size
    for name in PICTURES & options.keys():
        arrays = [to_array(picture, size) for picture in options[name]]
        options = {**options, name: arrays}
    rows = trained.method.edits(trained.nets, options)
    of_pictures = trained.method.takes == "image"
    batch = tf.stack([(to_array if of_pictures else to_labels)(x, size) for x in inputs])
    edited = [[(name, np.asarray(function(batch))) for name, function in row] for row in rows]

    def finished(i: int, made: np.ndarray) -> Image.Image:
        if made.dtype.kind == "i":
            return Image.fromarray(colour(made[i]))
        return paste_back(inputs[i], made[i]) if of_pictures else to_picture(made[i])

    return [
        [[(name, finished(i, made)) for name, made in row] for row in edited]
        for i in range(len(inputs))
    ]


def _seeds(text: str) -> list[int]:
    """`3`, or `1..8` with both ends."""
    first, dots, last = text.partition("..")
    try:
        seeds = list(range(int(first), int(last if dots else first) + 1))
    except ValueError:
        seeds = []
    if not 1 <= len(seeds) <= _MOST_SEEDS or not 0 <= seeds[0] <= seeds[-1] < 2**63:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a number from 0 on, or FIRST..LAST of at most {_MOST_SEEDS}"
        )
    return seeds


class _Joined(argparse.Action):
    """Stores the lists that the words of an option are as one, each value once."""

    def __call__(self, parser, namespace, values, option_string=None):
        joined = [value for some in values for value in some]
        setattr(namespace, self.dest, list(dict.fromkeys(joined)))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "edit",
        description="Edit a picture, or all pictures of a folder: the central square is edited, "
        "the picture keeps its size. Or make faces from label maps.",
        epilog="examples: %(prog)s runs/00000-sargan-synthetic me.jpg --expression happy sad; "
        "%(prog)s runs/00001-elegant-celeba faces/ --attribute Eyeglasses --reference glasses.jpg "
        "--strength 0.5 1 --grid; "
        "%(prog)s runs/00002-domain_alignment-synthetic --condition map.png --exemplar face.jpg; "
        "%(prog)s runs/00003-mask_guided-synthetic --mask map.png --seed 1..8",
    )
    parser.add_argument("run", help="run folder")
    parser.add_argument("input", nargs="?", help="a picture, or a folder of pictures")
    parser.add_argument("--out", default="edited", help="folder for the results (%(default)s)")
    parser.add_argument("--step", type=int, help="step of the checkpoint (default: the newest)")
    parser.add_argument("--grid", action="store_true", help="also write a side-by-side grid.png")
    expressions = parser.add_argument_group("SARGAN and seg_hierarchical")
    expressions.add_argument(
        "--expression", nargs="+", metavar="NAME", help='names, or "all" (default)'
    )
    elegant = parser.add_argument_group("ELEGANT")
    elegant.add_argument("--attribute", nargs="+", metavar="NAME", help="the exchanged attribute")
    elegant.add_argument(
        "--reference",
        nargs="+",
        metavar="PICTURE",
        help="faces to take it from; of mask-guided synthesis: faces whose style is taken",
    )
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
    maps = parser.add_argument_group("domain alignment and mask-guided synthesis")
    maps.add_argument(
        "--condition",
        "--mask",
        metavar="MAP",
        help="in place of the input: a label map or, if the run takes them, a drawing of lines, as "
        "PNG (see tfface.prepare); or a folder of them",
    )
    maps.add_argument(
        "--exemplar",
        nargs="+",
        metavar="PICTURE",
        help="of domain alignment: faces whose style the results shall have",
    )
    guided = parser.add_argument_group("mask-guided synthesis")
    guided.add_argument(
        "--seed",
        nargs="+",
        type=_seeds,
        action=_Joined,
        metavar="N",
        help="styles by number, also as 1..8; the same on every map (default, without --reference: "
        "1..4)",
    )
    guided.add_argument(
        "--interpolate",
        type=int,
        metavar="N",
        help="N faces from each style to the next one, both ends included",
    )
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Edits; returns the exit status."""
    from tfface.data.label_maps import load_label_map
    from tfface.data.pictures import list_pictures, load_picture

    args = _parse(argv)
    if not Path(args.run).is_dir():
        raise UserError(f"{args.run}: no such run folder")
    if (args.input is None) == (args.condition is None):
        raise UserError("expected one of: a picture to edit, or --condition with a label map")
    source = Path(args.input or args.condition)
    paths = list_pictures(source) if source.is_dir() else [source]
    options = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    for name in PICTURES & options.keys():
        options[name] = [load_picture(path) for path in options[name]]
    if len(paths) == 1:
        load_picture(paths[0])  # What is wrong with it is told before the slow import.
    import_tensorflow()

    import tfface

    trained = tfface.load(args.run, args.step)
    takes = trained.method.takes
    if (takes == "image") != (args.condition is None):
        wanted = "a picture to edit" if takes == "image" else "--condition"
        raise UserError(f"{args.run} is a run of {trained.name}, which needs {wanted}")

    def load(path: Path):
        return load_picture(path) if takes == "image" else load_label_map(path, takes == "lines")

    bad, sheet, stems = [], [], _stems(paths)
    for start in range(0, len(paths), BATCH):
        inputs = {}
        for path in paths[start : start + BATCH]:
            try:
                inputs[path] = load(path)
            except UserError as error:
                if len(paths) == 1:
                    raise
                bad.append(path)
                print(f"skipped: {error}", file=sys.stderr)
        if inputs:
            made = edit_pictures(trained, list(inputs.values()), options)
            sheet += _save(inputs, made, Path(args.out), stems, keep=args.grid)
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


def _save(inputs: dict, made: list, out: Path, stems: dict, keep: bool) -> list[list[tuple]]:
    """Saves the results; returns the rows of the grid if they are to be kept."""
    from PIL import Image

    from tfface.data.label_maps import colour
    from tfface.data.pictures import save_picture

    sheet = []
    for (path, given), rows in zip(inputs.items(), made, strict=True):
        shown = given if isinstance(given, Image.Image) else Image.fromarray(colour(given))
        for row in rows:
            for name, edited in row:
                save_picture(edited, out / f"{stems[path]}-{name}.png")
            if keep:
                sheet.append([("input", shown), *row])
    return sheet


def _save_grid(sheet: list[list[tuple]], out: Path, size: int) -> None:
    from tfface.data.pictures import grid, save_picture, to_array

    side = max(size, 128)
    rows = [[to_array(picture, side) for _, picture in row] for row in sheet]
    save_picture(grid(rows, [name for name, _ in sheet[0]]), out / "grid.png")


if __name__ == "__main__":
    sys.exit(main())
