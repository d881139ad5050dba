"""`python -m tfface.edit RUN INPUT...`: edits images, or folders of images.

`--server ADDRESS` instead of a run edits with a served model.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tfface.cli import Parser, command, import_tensorflow, server_address
from tfface.config import Crop
from tfface.editing import KINDS, OPTIONS, OptionError
from tfface.errors import UserError
from tfface.shipped import run_folder

if TYPE_CHECKING:
    import numpy as np

    from tfface.client import FaceClient
    from tfface.client.packing import Encoded
    from tfface.data.marks import Mark
    from tfface.editing import Editor

BATCH = 16
_MOST_SEEDS = 1000


# Argument of `load_label_map`: whether to expect line drawings, by `Editor.takes`.
_LINES = {"label_map": False, "lines": True, "condition": None}


def _seeds(text: str) -> list[int]:
    """Parses `3`, or a range `1..8` that includes both ends."""
    first, dots, last = text.partition("..")
    try:
        seeds = list(range(int(first), int(last if dots else first) + 1))
    except ValueError:
        seeds = []
    if not 1 <= len(seeds) <= _MOST_SEEDS or not 0 <= seeds[0] <= seeds[-1] < 2**63:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a number of 0 or more, or FIRST..LAST with at most {_MOST_SEEDS} "
            f"seeds"
        )
    return seeds


def _face(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of at least 1")
    return int(text)


class _Joined(argparse.Action):
    """Concatenates the lists parsed from an option's words, without duplicates."""

    def __call__(self, parser, namespace, values, option_string=None):
        joined = [value for parsed in values for value in parsed]
        setattr(namespace, self.dest, list(dict.fromkeys(joined)))


_PARSED: dict[str, dict[str, Any]] = {
    "name": {"nargs": "+"},
    "image": {"nargs": "+"},
    "strength": {"nargs": "+", "type": float},
    "seed": {"nargs": "+", "type": _seeds, "action": _Joined},
    "count": {"type": int},
}


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "edit",
        description="Edit images or folders of images, or generate faces from label maps. The "
        "central square of an image is edited, or with --align the largest face of a photograph; "
        "the image keeps its size and detail.",
        epilog="examples: %(prog)s runs/00000-sargan-synthetic me.jpg --expression happy sad; "
        "%(prog)s runs/00001-elegant-celeba faces/ --attribute Eyeglasses --reference glasses.jpg "
        "--strength 0.5 1 --grid; "
        "%(prog)s runs/00002-domain_alignment-synthetic --condition map.png --exemplar face.jpg; "
        "%(prog)s runs/00003-mask_guided-synthetic --mask map.png --seed 1..8; "
        "%(prog)s --server 127.0.0.1:8500 --model faces me.jpg --expression happy; "
        "%(prog)s runs/00004-sargan-celeba holiday.jpg --align --expression happy",
    )
    parser.add_argument(
        "run",
        nargs="?",
        help="run folder, or a shipped model such as sargan/faces64; omitted with --server",
    )
    parser.add_argument("input", nargs="*", help="images, or folders of images")
    parser.add_argument(
        "--server",
        type=server_address,
        metavar="ADDRESS",
        help="edit with a served model instead of a run: HOST:PORT (gRPC) or http://HOST:PORT "
        "(REST)",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="name of the model on the server (default: 'default')"
    )
    parser.add_argument(
        "--align",
        action="store_true",
        help="find the largest face of each photograph, align it to the crop of the model's "
        "images, and add the edit to the photograph, which stays the same outside the face; "
        "needs mtcnn: pip install 'tfface[align]'",
    )
    parser.add_argument(
        "--face",
        type=_face,
        metavar="N",
        help="with --align: number of the face to edit, from the largest (default: 1)",
    )
    parser.add_argument(
        "--crop",
        choices=get_args(Crop),
        help="with --align: crop of the model's images (default: as stated by the model)",
    )
    parser.add_argument("--out", default="edited", help="output folder (default: %(default)s)")
    parser.add_argument(
        "--inspect",
        nargs="+",
        metavar="FILE",
        help="edit nothing; print what image files state about how they were made",
    )
    parser.add_argument("--step", type=int, help="step of the checkpoint (default: latest)")
    parser.add_argument(
        "--grid", action="store_true", help="also write all results side by side, as grid.png"
    )
    parser.add_argument(
        "--condition",
        "--mask",
        metavar="MAP",
        help="instead of input images, for models that generate faces: a label map or a line "
        "drawing (PNG, see tfface.prepare), depending on the model; or a folder of them",
    )
    added = set()
    for kind in KINDS.values():
        group = parser.add_argument_group(kind.title)
        for name in kind.options:
            if name not in added:
                added.add(name)
                option = OPTIONS[name]
                words = {"metavar": option.metavar, "help": option.help, **_PARSED[option.kind]}
                group.add_argument(f"--{name}", **words)
    args = parser.parse_args(argv)
    if args.inspect:
        return args
    if args.server:
        args.input = [args.run, *args.input] if args.run else args.input
        if args.step is not None:
            raise UserError("--step cannot be combined with --server")
    elif args.model:
        raise UserError("--model needs --server")
    elif not args.run:
        raise UserError("expected a run folder, or --server")
    else:
        run_folder(args.run)  # Raises if there is none.
    for name in ("face", "crop"):
        if getattr(args, name) and not args.align:
            raise UserError(f"--{name} needs --align")
    if bool(args.input) == (args.condition is not None):
        raise UserError("expected either images to edit, or --condition with a label map")
    return args


@command
def main(argv: list[str] | None = None) -> int:
    """Edits; returns the exit status."""
    args = _parse(argv)
    if args.inspect:
        return _inspect(args.inspect)
    from tfface.client.packing import Encoded
    from tfface.data.images import list_images

    sources = [Path(source) for source in args.input or [args.condition]]
    files = [p for s in sources for p in (list_images(s) if s.is_dir() else [s])]
    paths = list(dict.fromkeys(files))
    stems = _stems(paths)
    options = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    for name in options:
        if OPTIONS[name].kind == "image":
            options[name] = [Encoded.read(path) for path in options[name]]
    if len(paths) == 1 and args.condition is None:
        Encoded.read(paths[0])  # Reports an unreadable image before the slow import.
    try:
        with _editor(args, options) as (described, editor, mark):
            return _edit_all(args, described, editor, mark, paths, stems, _examples(options))
    except OptionError as error:
        raise UserError(f"--{error}") from error


def _examples(options: dict[str, Any]) -> list[list[tuple]]:
    """Rows of a grid with the references or exemplars."""
    return [
        [(f"{name} {number}", image.seen) for number, image in enumerate(images, 1)]
        for name, images in options.items()
        if OPTIONS[name].kind == "image"
    ]


def _inspect(files: list[str]) -> int:
    from tfface.data.images import read_mark

    for file in files:
        mark = read_mark(file)
        print(f"{file}: {mark.describe() if mark else 'states nothing'}")
    return 0


@contextlib.contextmanager
def _editor(
    args: argparse.Namespace, options: dict[str, Any]
) -> Iterator[tuple[str, Editor, Mark]]:
    """Yields the beginning of a sentence about the model, its editor, and the mark of its edits."""
    align = {"align": args.crop or args.align, "face": args.face or 1}
    if not args.server:
        import_tensorflow()

        import tfface

        trained = tfface.load(args.run, args.step)
        _check_crop(args, trained.client, args.run)
        described = f"{args.run} is a run of {trained.name}, which"
        yield described, trained.editor(options, **align), trained.mark
        return
    from tfface.client import FaceClient
    from tfface.data.marks import Mark
    from tfface.editing import Editor, Model, as_user_errors

    if not args.server.startswith(("http://", "https://")):
        import_tensorflow()
    name = args.model or "default"
    with as_user_errors(), FaceClient(args.server, name, **align) as client:
        _check_crop(args, client, f"model {name} at {args.server}")
        editor = Editor(Model.of(client), options)
        served = [v for v, status in client.status().items() if status.state == "AVAILABLE"]
        mark = Mark.of_model(editor.takes, name, f"version {max(served)}" if served else "")
        yield f"model {name} at {args.server}", editor, mark


def _check_crop(args: argparse.Namespace, client: FaceClient, model: str) -> None:
    if args.align and not args.crop and client.about().crop is None:
        raise UserError(
            f"{model} does not state the crop of its training images; name it with --crop (one of "
            f"{', '.join(get_args(Crop))})"
        )


def _edit_all(
    args: argparse.Namespace,
    described: str,
    editor: Editor,
    mark: Mark,
    paths: list[Path],
    stems: dict[Path, str],
    examples: list[list[tuple]],
) -> int:
    from tfface.client.packing import Encoded
    from tfface.data.label_maps import load_label_map

    def read(path: Path) -> Encoded | np.ndarray:
        if not of_images:
            return load_label_map(path, _LINES[editor.takes])
        image = editor.aligned(Encoded.read(path))
        _report_faces(image)
        return image

    of_images = editor.takes == "image"
    if of_images != (args.condition is None):
        needed = "an image to edit" if of_images else "--condition"
        raise UserError(f"{described} needs {needed}")
    bad, sheet = [], []
    for start in range(0, len(paths), BATCH):
        inputs = {}
        for path in paths[start : start + BATCH]:
            try:
                inputs[path] = read(path)
            except UserError as error:
                if len(paths) == 1:
                    raise
                bad.append(path)
                print(f"skipped: {error}", file=sys.stderr)
        if inputs:
            results = editor.edit(list(inputs.values()))
            sheet += _save(inputs, results, Path(args.out), stems, mark, keep=args.grid)
    if args.grid and sheet:
        _save_grid([*examples, *sheet], Path(args.out), max(editor.size, 128))
    done = "edited" if of_images else "generated faces for"
    what = "image(s)" if of_images else "label map(s)"
    print(f"{done} {len(paths) - len(bad)} {what}, written to {args.out}")
    if bad:
        raise UserError(f"{len(bad)} of {len(paths)} images were skipped")
    return 0


def _report_faces(image: Encoded) -> None:
    """Prints which face of a photograph with several is edited."""
    from tfface.client.packing import Aligned
    from tfface.data.alignment import numbered

    if isinstance(image, Aligned) and len(image.face.faces) > 1:
        number, found = image.face.number, numbered(image.face.faces)
        print(f"{image.name}: {found}; face {number} is edited, choose another with --face N")


def _stems(paths: list[Path]) -> dict[Path, str]:
    """Base names of the results: without the suffix, unless inputs differ only in that."""
    counts = Counter(path.stem for path in paths)
    stems = {p: p.stem if counts[p.stem] == 1 else p.name.replace(".", "_") for p in paths}
    repeated = [stem for stem, count in Counter(stems.values()).items() if count > 1]
    if repeated:
        raise UserError(f"several images would be written to {repeated[0]}-*.png; rename one")
    return stems


def _save(
    inputs: dict, results: list, out: Path, stems: dict, mark: Mark, keep: bool
) -> list[list[tuple]]:
    """Saves the results; returns the rows of the grid if `keep` is set."""
    from PIL import Image

    from tfface.client.packing import Aligned, Encoded
    from tfface.data.images import save_image
    from tfface.data.label_maps import colour

    sheet = []
    for (path, source), rows in zip(inputs.items(), results, strict=True):
        shown = source.seen if isinstance(source, Encoded) else Image.fromarray(colour(source))
        for row in rows:
            for name, edited in row:
                save_image(edited, out / f"{stems[path]}-{name}.png", mark)
            if keep and isinstance(source, Aligned):
                row = [(name, source.face.cut(edited)) for name, edited in row]
            if keep:
                sheet.append([("input", shown), *row])
    return sheet


def _save_grid(sheet: list[list[tuple]], out: Path, side: int) -> None:
    from tfface.data.images import grid, save_image, to_array

    # Names differ from row to row, so each image has its caption.
    tiles = [[grid([[to_array(image, side)]], [name]) for name, image in row] for row in sheet]
    save_image(grid(tiles), out / "grid.png")


if __name__ == "__main__":
    sys.exit(main())
