"""CelebA in its native layout: aligned faces with 40 attributes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tfface.data import check_path
from tfface.data.files import FileSource, check_names, logger, shortened, split_by_name
from tfface.data.images import is_image_name
from tfface.errors import UserError

_IMAGES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
_ATTRIBUTES = tuple(
    folder + "list_attr_celeba" + suffix for folder in ("", "Anno/") for suffix in (".txt", ".csv")
)
PARTITION = tuple(
    folder + "list_eval_partition" + kind for folder in ("", "Eval/") for kind in (".txt", ".csv")
)
_BIT = {"1": "1", "1.0": "1", "-1": "0", "-1.0": "0", "0": "0", "0.0": "0"}
_NAME_HEADERS = ("image_id", "image", "file", "filename", "name", "index", "unnamed: 0")


class CelebA(FileSource):
    """CelebA as downloaded: everything in one folder or in `Img/`, `Anno/` and `Eval/`.

    Needs `img_align_celeba/` and `list_attr_celeba.txt`; `list_eval_partition.txt` defines the
    splits (without it they follow from a hash of the names, 90 : 5 : 5). The lists may also be
    `.csv` files, of the Kaggle copy or as spreadsheets and pandas write them. The networks see the
    central square of the aligned images, 178 x 178 of 178 x 218 pixels. Batches have `image` and
    `attributes`; there are no expression classes.
    """

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes, fields)
        check_path(data)
        root = Path(data.path)
        if classes:
            raise UserError(
                f"{root}: CelebA has no expression classes (requested: {', '.join(classes)}); "
                "`python -m tfface.prepare folders` creates a folder per class from its attributes"
            )
        attribute_file = find(root, _ATTRIBUTES, "attributes of CelebA")
        names, known, table = read_attributes(attribute_file)
        check_names("attribute", attributes, known, attribute_file)
        folder = find(root, _IMAGES, "images of CelebA")
        with os.scandir(folder) as entries:
            existing = {entry.name for entry in entries}
        unlisted = sorted(filter(is_image_name, existing - set(names)))
        if unlisted:
            logger.warning(
                "%s: not used: %d images that %s does not list, such as %s",
                root, len(unlisted), attribute_file.name, unlisted[0],
            )  # fmt: skip
        columns = [known.index(name) for name in attributes]
        self._set_files(
            folder,
            names,
            read_partition(root, names),
            labels={"attributes": table[:, columns].astype(np.int32)} if columns else {},
            tags={name: table[:, i] for i, name in enumerate(known)},
            present=np.array([name in existing for name in names]),
        )

    @property
    def known_attributes(self) -> tuple[str, ...]:
        """All attributes of the data set."""
        return tuple(self._tags)


def find(root: Path, candidates: tuple[str, ...], content: str) -> Path:
    """The first candidate that exists; raises a UserError that names the missing content."""
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    raise UserError(f"{root}: {content} not found; expected one of {', '.join(candidates)}")


def read_rows(path: Path) -> list[list[str]]:
    """Reads a list of CelebA: cells of each line that is not empty.

    Cells are separated by blanks, as in the original files, or by commas, semicolons or tabs, as
    spreadsheets and pandas write them; quotes and a byte order mark are removed.
    """
    content = path.read_bytes()
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = content.decode("utf-16" if utf16 else "utf-8-sig", errors="replace").replace('"', "")
    lines = [line for line in text.splitlines() if line.strip()]
    first = "".join(lines[:2])
    separator = next((mark for mark in ",;\t" if mark in first), None)
    if separator is None:
        return [line.split() for line in lines]
    return [[cell.strip() for cell in line.split(separator)] for line in lines]


def _name_column(path: Path, row: list[str]) -> int:
    """The column of the image names; pandas may write a column of row numbers before it."""
    for column, cell in enumerate(row[:2]):
        if is_image_name(cell):
            return column
    raise UserError(
        f"{path}: expected the name of an image, such as 000001.jpg, in the row "
        f"{' '.join(row)[:60]!r}"
    )


def read_attributes(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Reads an attribute file: image names, attribute names, and values bool [N,A]."""
    rows = read_rows(path)
    if rows and len(rows[0]) == 1:
        count, *rows = rows
        if count != [str(len(rows) - 1)]:
            raise UserError(
                f"{path}: its first line should be the number of images, {len(rows) - 1} as in the "
                f"rows below, but is {count[0][:40]!r}: the file is incomplete or was edited"
            )
    if len(rows) < 2 or not rows[0]:
        raise UserError(f"{path}: has no attribute names or no rows")
    header, *rows = rows
    column = _name_column(path, rows[0])
    # The original header has no cell above the names.
    header = [cell for cell in header if cell and cell.lower() not in _NAME_HEADERS]
    names, bits = [], []
    for row in rows:
        name, *values = row[column:] or [""]
        names.append(name)
        bits.append("".join(_BIT.get(value, "?") for value in values if value))
    for name, values in zip(names, bits, strict=True):
        if len(values) != len(header) or "?" in values:
            raise UserError(
                f"{path}: expected {len(header)} values of 1 and -1 after the name in the row "
                f"of {name!r}"
            )
    table = np.frombuffer("".join(bits).encode(), np.uint8).reshape(len(names), len(header))
    return names, header, table == ord("1")


def read_partition(root: Path, names: list[str]) -> np.ndarray:
    """The split of each image, as indices into SPLITS, int8 [N]."""
    try:
        path = find(root, PARTITION, "splits of CelebA")
    except UserError:
        logger.info("%s: no list_eval_partition.txt: images are split by their names", root)
        return split_by_name(names)
    rows = read_rows(path)
    if rows and "partition" in rows[0]:
        del rows[0]
    column = _name_column(path, rows[0]) if rows else 0
    split_of = {}
    for row in rows:
        name, *value = row[column:] or [""]
        if value not in (["0"], ["1"], ["2"]):
            raise UserError(f"{path}: expected a name and 0, 1 or 2, not {' '.join(row)[:60]!r}")
        split_of[name] = int(value[0])
    unknown = [name for name in names if name not in split_of]
    if unknown:
        raise UserError(f"{path}: has no row for {shortened(unknown)}")
    return np.array([split_of[name] for name in names], np.int8)
