"""`python -m tfface.prepare`: look at a data set, or make what training reads."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import uuid
from pathlib import Path

from tfface.cli import Parser, command, import_tensorflow
from tfface.config import Data
from tfface.data import SOURCES
from tfface.data.base import SPLITS
from tfface.errors import UserError

_FOLDERS = """\
Sorts CelebA's pictures into a folder per class, by rules on their attributes:

  python -m tfface.prepare folders --path CELEBA --out FACES \\
      --rule neutral=-Smiling,-Mouth_Slightly_Open \\
      --rule smiling=+Smiling,-Mouth_Slightly_Open \\
      --rule open=-Smiling,+Mouth_Slightly_Open

copies every picture that has neither attribute to FACES/{train,val,test}/neutral, and so on.
Pictures that answer no rule are left out; one that answers two rules is a mistake. Train on the
result with `--data.name folder --data.path FACES`.
"""
_LINES = """\
Draws the outlines of a label map's parts, and with --photo also the edges that a photograph has
outside the inner face, as a PNG in the colours of the parts (white: other lines), to be edited by
hand if wanted and given to models whose condition is a line drawing. Lines are one pixel wide and
break when the drawing is made smaller: give the model's own size with --size.
"""
_COLUMNS = 8
_DRAWN = 256

Rules = dict[str, tuple[tuple[str, bool], ...]]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of at least 1")
    return int(text)


def _rule(text: str) -> tuple[str, tuple[tuple[str, bool], ...]]:
    name, _, conditions = text.partition("=")
    words = conditions.split(",")
    if not name.replace("_", "").replace("-", "").isalnum() or any(
        len(word) < 2 or word[0] not in "+-" for word in words
    ):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a rule like happy=+Smiling,-Eyeglasses"
        )
    return name, tuple((word[1:], word[0] == "+") for word in words)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("prepare", description=__doc__.split(": ", 1)[1])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    about = "draw a contact sheet of a data set and count what is in it"
    sheet = verbs.add_parser("preview", help=about, description=about)
    add = sheet.add_argument
    add("--data.name", choices=tuple(SOURCES), default="synthetic", help="data set (synthetic)")
    add("--data.path", default="", metavar="FOLDER", help="folder of the data set")
    add("--data.size", type=_count, default=64, metavar="N", help="side of the pictures (64)")
    add("--attributes", nargs="+", default=[], metavar="NAME",
        help="a row of pictures with and one without each of these")  # fmt: skip
    add("--classes", nargs="+", default=[], metavar="NAME", help="only these classes (all)")
    add("--split", choices=SPLITS, default="train", help="split to show (train)")
    add("--count", type=_count, default=64, metavar="N", help="pictures to show, about (64)")
    add("--out", default="sheet.png", metavar="FILE", help="picture to write (sheet.png)")

    about = "make class folders from CelebA"
    as_it_is = argparse.RawDescriptionHelpFormatter
    sort = verbs.add_parser("folders", help=about, description=_FOLDERS, formatter_class=as_it_is)
    add = sort.add_argument
    add("--path", required=True, metavar="FOLDER", help="folder of CelebA")
    add("--out", required=True, metavar="FOLDER", help="folder to make")
    add("--rule", type=_rule, action="append", required=True, metavar="CLASS=RULE",
        help="attributes that the pictures of a class have (+) or lack (-)")  # fmt: skip
    add("--limit", type=_count, metavar="N", help="most pictures per class and split (all)")

    about = "compose the part masks of CelebAMask-HQ to label maps, which are read much faster"
    compose = verbs.add_parser("label_maps", help=about, description=about)
    compose.add_argument("--path", required=True, metavar="FOLDER", help="folder of CelebAMask-HQ")

    about = "draw the lines of a label map"
    drawing = verbs.add_parser("lines", help=about, description=_LINES, formatter_class=as_it_is)
    add = drawing.add_argument
    add("map", metavar="MAP.png", help="label map, of class ids or in the classes' colours")
    add("--photo", metavar="FILE", help="photograph that the label map belongs to")
    add("--size", type=_count, metavar="N", help="side of the drawing (as the label map's square)")
    add("--out", default="lines.png", metavar="FILE", help="picture to write (lines.png)")

    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Runs the verb."""
    arguments = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="tfface.prepare: %(message)s")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if arguments.verb == "preview":
        options = vars(arguments)
        data = Data(options["data.name"], options["data.path"], options["data.size"])
        preview(
            data,
            tuple(arguments.attributes),
            tuple(arguments.classes),
            split=arguments.split,
            count=arguments.count,
            out=Path(arguments.out),
        )
    elif arguments.verb == "label_maps":
        compose_label_maps(Path(arguments.path))
    elif arguments.verb == "lines":
        draw(arguments.map, arguments.photo, arguments.size, Path(arguments.out))
    else:
        rules = dict(arguments.rule)
        if len(rules) < len(arguments.rule):
            raise UserError("--rule: each class needs one rule, but a class is named twice")
        folders(Path(arguments.path), Path(arguments.out), rules, arguments.limit)
    return 0


def preview(
    data: Data,
    attributes: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
    *,
    split: str = "train",
    count: int = 64,
    out: Path = Path("sheet.png"),
) -> None:
    """Writes a contact sheet, and prints the numbers of pictures.

    With attributes: a row with and a row without each. Otherwise a row per class, for built-in
    faces a row per person and a column per expression, for CelebAMask-HQ a row of label maps under
    every row of pictures.

    Args:
        data: The data set.
        attributes: Attributes to compare.
        classes: Classes to show; empty: all.
        split: Split to show.
        count: Number of pictures, about.
        out: File to write.

    Raises:
        UserError: As from `tfface.data.open_source`; or the file cannot be written.
    """
    import_tensorflow()

    from tfface.data import label_maps, open_source, pictures

    mapped = data.name == "celebamask_hq" and not attributes
    source = open_source(data, attributes, classes, ("label_map",) if mapped else ())
    for name in SPLITS:
        number = source.count(name)
        print(f"{name:5}  {'endless' if number is None else number}")
    _print_histogram(data, source, split)
    columns: tuple[str, ...] = ()
    if attributes:
        named = [(f"no {name}", (name, False)) for name in attributes]
        named += [(name, (name, True)) for name in attributes]
        named.sort(key=lambda item: attributes.index(item[1][0]))
        each = -(-count // len(named))
        rows = [(name, _first(source, split, each, where)) for name, where in named]
    elif data.name == "synthetic":
        columns, rows = _people(source, split, count)
    elif source.classes:
        each = -(-count // len(source.classes))
        rows = [
            (name, _first(open_source(data, classes=(name,)), split, each))
            for name in source.classes
        ]
    else:
        faces = _first(source, split, count)
        rows = [("", faces[i : i + _COLUMNS]) for i in range(0, len(faces), _COLUMNS)]
        if mapped:
            maps = _first(source, split, count, field="label_map")
            maps = [pictures.Image.fromarray(label_maps.colour(labels)) for labels in maps]
            under = [("", maps[i : i + _COLUMNS]) for i in range(0, len(maps), _COLUMNS)]
            rows = [row for pair in zip(rows, under, strict=True) for row in pair]
    sheet = pictures.grid([row for _, row in rows], columns, [name for name, _ in rows])
    pictures.save_picture(sheet, out)
    print(f"wrote {out}")


def _first(
    source,
    split: str,
    count: int,
    where: tuple[str, bool] | None = None,
    field: str = "image",
) -> list:
    """The first pictures of a split, fewer if it has fewer: arrays [S,S,3] in [-1,1]."""
    if source.data.name == "synthetic":
        return _draw(source, source.factors(split, 0, count, where))
    from tfface.data.files import user_errors

    with user_errors(source):
        return list(next(iter(source.batches(split, count, where=where)))[field].numpy())


def _draw(source, factors: dict) -> list:
    """Built-in faces; drawn eagerly, as tracing their pipeline takes longer than a few faces do."""
    from tfface.data import synthetic

    return list(synthetic.render(factors, source.data.size, ("image",))["image"].numpy())


def _people(source, split: str, count: int) -> tuple[tuple[str, ...], list]:
    """Built-in faces: captions and rows of the same person under every expression."""
    from tfface.data import synthetic

    number = -(-count // len(source.classes))
    factors = source.factors(split, 0, number)
    by_expression = [
        _draw(source, synthetic.with_expression(factors, synthetic.EXPRESSIONS.index(name)))
        for name in source.classes
    ]
    return source.classes, [("", list(faces)) for faces in zip(*by_expression, strict=True)]


def _print_histogram(data: Data, source, split: str) -> None:
    if data.name == "synthetic":
        from tfface.data import synthetic

        drawn = synthetic.render(source.factors(split, 0, _DRAWN), 32, ("attributes",))
        values = drawn["attributes"].numpy().sum(axis=0)
        number, found = _DRAWN, dict(zip(synthetic.ATTRIBUTES, values, strict=True))
    else:
        number, found = source.count(split), source.histogram(split)
    print(f"\nof {number} in {split}:")
    for name, members in found.items():
        print(f"  {members:7}  {members / max(number, 1):4.0%}  {name}")


def folders(path: Path, out: Path, rules: Rules, limit: int | None = None) -> None:
    """Copies CelebA's pictures into `out/{train,val,test}/CLASS`; whole or not at all.

    Args:
        path: Folder of CelebA.
        out: Folder to make; must not exist, or be empty.
        rules: Attributes that the pictures of each class have (True) or lack (False).
        limit: Most pictures per class and split.

    Raises:
        UserError: `out` has something in it, an unknown attribute, a picture that answers two
            rules, a rule that no training picture answers.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: is not empty; name a new folder, or remove this one first")
    import_tensorflow()

    from tfface.data import open_source

    source = open_source(Data("celeba", str(path)))
    chosen = {
        split: {name: source.select(split, *where) for name, where in rules.items()}
        for split in SPLITS
    }
    for split, classes in chosen.items():
        _check_exclusive(classes)
        for name, files in classes.items():
            if split == "train" and not files:
                raise UserError(f"--rule {name}: no training picture answers it")
            classes[name] = files[:limit]
    temporary = out.absolute().with_name(f".{out.absolute().name}.{uuid.uuid4().hex}.tmp")
    try:
        for split, classes in chosen.items():
            for name, files in classes.items():
                (temporary / split / name).mkdir(parents=True)
                for file in files:
                    shutil.copyfile(file, temporary / split / name / file.name)
                print(f"{split:5}  {len(files):7}  {name}")
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"wrote {out}")


def compose_label_maps(path: Path) -> None:
    """Writes `CelebAMask-HQ-label/{i}.png` for every picture that has none yet.

    Args:
        path: Folder of CelebAMask-HQ.

    Raises:
        UserError: No such data set, too many bad masks, or a file cannot be written.
    """
    import_tensorflow()

    from tfface.data import open_source

    written = open_source(Data("celebamask_hq", str(path))).write_label_maps()
    print(f"wrote {written} label maps")


def draw(label_map: str | Path, photo: str | Path | None, size: int | None, out: Path) -> None:
    """Writes a line drawing; see `tfface.data.lines`.

    Args:
        label_map: A label map; its central square is drawn.
        photo: The photograph that it belongs to, of any size.
        size: Side of the drawing in pixels; None: as the central square.
        out: File to write.

    Raises:
        UserError: A file cannot be read or written, or the two are not of one shape.
    """
    from tfface.data import lines, pictures
    from tfface.data.label_maps import load_label_map, save_colours, to_labels

    labels, image = load_label_map(label_map), None
    size = size or min(labels.shape)
    if photo:
        picture = pictures.load_picture(photo)
        (height, width), (across, down) = labels.shape, picture.size
        if abs(across * height - down * width) > max(across, down):
            raise UserError(
                f"--photo {photo}: is {across}x{down}, but {label_map} is {width}x{height}; "
                "expected the same proportions"
            )
        image = pictures.to_array(picture, size)
    save_colours(lines.draw_lines(to_labels(labels, size), image), out)
    print(f"wrote {out}")


def _check_exclusive(classes: dict[str, list[Path]]) -> None:
    owner: dict[Path, str] = {}
    for name, files in classes.items():
        for file in files:
            other = owner.setdefault(file, name)
            if other != name:
                raise UserError(
                    f"--rule: {file.name} answers both {other} and {name}; "
                    "add attributes so that each picture answers one rule"
                )


if __name__ == "__main__":
    sys.exit(main())
