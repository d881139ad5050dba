"""CelebA in its native layout: aligned faces with 40 attributes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tfface.data import check_path
from tfface.data.files import FileSource, check_names, logger, shortened, split_by_name
from tfface.errors import UserError

_IMAGES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
_ATTRIBUTES = tuple(
    folder + "list_attr_celeba" + suffix for folder in ("", "Anno/") for suffix in (".txt", ".csv")
)
PARTITION = tuple(
    folder + "list_eval_partition" + kind for folder in ("", "Eval/") for kind in (".txt", ".csv")
)
_BLANKS = {ord(character): None for character in " \t\r,"}


class CelebA(FileSource):
    """CelebA as downloaded: everything in one folder or in `Img/`, `Anno/` and `Eval/`.

    Needs `img_align_celeba/` and `list_attr_celeba.txt`; `list_eval_partition.txt` defines the
    splits (without it they follow from a hash of the names, 90 : 5 : 5). The `.csv` files of the
    Kaggle copy work too. The networks see the central square of the aligned images, 178 x 178 of
    178 x 218 pixels. Batches have `image` and `attributes`; there are no expression classes.
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


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, without trailing empty lines."""
    return path.read_text(encoding="utf-8", errors="replace").rstrip().split("\n")


def read_attributes(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Reads an attribute file: image names, attribute names, and values bool [N,A]."""
    lines = read_lines(path)
    if path.suffix == ".csv":
        separator, header, rows = ",", lines[0].replace(",", " ").split()[1:], lines[1:]
    else:
        separator, header, rows = None, lines[1].split() if len(lines) > 1 else [], lines[2:]
        if lines[0].strip() != str(len(rows)):
            raise UserError(
                f"{path}: its first line should be the number of images, {len(rows)} as in the "
                f"rows below, but is {lines[0].strip()[:40]!r}: the file is incomplete or was "
                "edited"
            )
    if not header or not rows:
        raise UserError(f"{path}: has no attribute names or no rows")
    names, bits = [], []
    for row in rows:
        name, values, *_ = (*row.split(separator, 1), "", "")
        names.append(name)
        bits.append(values.replace("-1", "0").translate(_BLANKS))
    for i, values in enumerate(bits):
        if len(values) != len(header) or values.strip("01"):
            raise UserError(
                f"{path}: expected {len(header)} values of 1 and -1 after the name in the row "
                f"of {names[i]!r}"
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
    split_of = {}
    for line in read_lines(path):
        words = line.replace(",", " ").split()
        if len(words) == 2 and words[1] in ("0", "1", "2"):
            split_of[words[0]] = int(words[1])
        elif words[1:] != ["partition"]:
            raise UserError(f"{path}: expected a name and 0, 1 or 2, not {line[:60]!r}")
    unknown = [name for name in names if name not in split_of]
    if unknown:
        raise UserError(f"{path}: has no row for {shortened(unknown)}")
    return np.array([split_of[name] for name in names], np.int8)
