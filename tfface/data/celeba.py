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
_BETWEEN = {ord(character): None for character in " \t,;"}  # Between values.
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
            reason = f"images that {attribute_file.name} does not list, such as {unlisted[0]}"
            self.unused[reason] = len(unlisted)
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


def _read_lines(path: Path) -> tuple[list[str], str | None]:
    """Lines of a list that are not empty, and the separator of their cells; None: any blanks.

    Cells are separated by blanks, as in the original files, or by commas, semicolons or tabs, as
    spreadsheets and pandas write them; quotes and a byte order mark are removed.
    """
    content = path.read_bytes()
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = content.decode("utf-16" if utf16 else "utf-8-sig", errors="replace").replace('"', "")
    lines = [line for line in text.splitlines() if line.strip()]
    first = "".join(lines[:2])
    return lines, next((mark for mark in ",;\t" if mark in first), None)


def _cells(line: str, separator: str | None) -> list[str]:
    return [cell.strip() for cell in line.split(separator)]


def read_rows(path: Path) -> list[list[str]]:
    """The cells of each line of a list, see `_read_lines`."""
    lines, separator = _read_lines(path)
    return [_cells(line, separator) for line in lines]


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
    lines, separator = _read_lines(path)
    if lines and len(count := _cells(lines[0], separator)) == 1:
        del lines[0]
        if count != [str(len(lines) - 1)]:
            raise UserError(
                f"{path}: its first line should be the number of images, {len(lines) - 1} as in "
                f"the rows below, but is {count[0][:40]!r}: the file is incomplete or was edited"
            )
    if len(lines) < 2:
        raise UserError(f"{path}: has no attribute names or no rows")
    header, *rows = lines
    column = _name_column(path, _cells(rows[0], separator))
    # The original header has no cell above the names.
    header = [c for c in _cells(header, separator) if c and c.lower() not in _NAME_HEADERS]
    names, bits = [], []
    for row in rows:  # 8 million values: the cells are not made one by one.
        name, values, *_ = (*row.split(separator, column + 1)[column:], "", "")
        names.append(name.strip())
        bits.append(values.replace(".0", "").replace("-1", "0").translate(_BETWEEN))
    for name, values in zip(names, bits, strict=True):
        if len(values) != len(header) or values.strip("01"):
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
