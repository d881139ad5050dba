"""AffectNet: faces from the web with eight expressions, in two layouts."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from tfface.data.base import SPLITS
from tfface.data.celeba import find, read_rows
from tfface.data.folder import ExpressionFiles
from tfface.data.images import is_image_name
from tfface.errors import UserError

# Names of the labels 0 to 7; rows with the others are not used.
EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
_OTHERS = {8: "none", 9: "uncertain", 10: "no face"}

_IMAGES = (
    "Manually_Annotated_Images",
    "Manually_Annotated/Manually_Annotated_Images",
    "Manually_Annotated",
)
_LISTS = {
    split: tuple(
        folder + prefix + name
        for folder in ("Manually_Annotated_file_lists/", "")
        for prefix in ("", "Manually_")
    )
    for split, name in (("train", "training.csv"), ("val", "validation.csv"))
}
_PATH, _LABEL = "subDirectory_filePath", "expression"
_COLUMNS = [
    _PATH,
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    _LABEL,
    "valence",
    "arousal",
]
"""The columns, also of a list without a header."""

_FOLDERS = {"train": "train_set", "val": "val_set"}


class AffectNet(ExpressionFiles):
    """AffectNet as downloaded: the manually annotated images with lists, or the later release.

    With lists: `Manually_Annotated_Images/` and `training.csv` and `validation.csv`, with or
    without a header. The later release: `train_set/` and `val_set/`, each with `images/ID.jpg` and
    `annotations/ID_exp.npy`. The published validation images are "val"; 5 % of the training images
    are "test", by file name, as nothing tells who is shown: a person may be in more than one split.
    Classes are `EXPRESSIONS`; images without one of these labels are counted, see `unused`. The
    reader has not been tried on the original data set.
    """

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes, fields)
        root = Path(data.path)
        later = (root / _FOLDERS["train"]).is_dir()
        if later:
            base, listed = root, self._annotated(root)
        else:
            base = find(root, _IMAGES, "images of AffectNet (or train_set/ of its later release)")
            listed = self._listed(root)
        labels = Counter(label for *_, label in listed)
        for label, name in _OTHERS.items():
            if labels[label]:
                self.unused[f"with the label {label} ({name})"] = labels[label]
        known = [name for label, name in enumerate(EXPRESSIONS) if labels[label]]
        self._choose_classes(classes, known, root)
        index = {EXPRESSIONS.index(name): i for i, name in enumerate(self.classes)}
        used = [(name, split, index[label]) for name, split, label in listed if label in index]
        names = [name for name, *_ in used]
        self._set_classes(
            base,
            names,
            np.array([label for *_, label in used], np.int32),
            np.array([SPLITS.index(split) for _, split, _ in used], np.int8),
            set(_FOLDERS),
            # Those of the later release were found by listing its folders.
            present=None if later else np.array([(base / name).exists() for name in names]),
        )

    def _listed(self, root: Path) -> list[tuple[str, str, int]]:
        """Names, splits and labels of the images in the lists."""
        found = []
        for split, candidates in _LISTS.items():
            path = find(root, candidates, f"list of AffectNet's images for {split!r}")
            rows = read_rows(path)
            columns, first = _COLUMNS, 1
            if rows and _PATH in rows[0]:
                columns, rows, first = rows[0], rows[1:], 2
            if _LABEL not in columns:
                raise UserError(f"{path}: has no column {_LABEL!r}; it has {', '.join(columns)}")
            for number, row in enumerate(rows, first):
                where = f"{path}: row {number}"
                if len(row) != len(columns):
                    raise UserError(f"{where} has {len(row)} values: expected {len(columns)}")
                values = dict(zip(columns, row, strict=True))
                found.append((values[_PATH], split, _label(values[_LABEL], where)))
        return found

    def _annotated(self, root: Path) -> list[tuple[str, str, int]]:
        """Names, splits and labels of the images with an annotation file."""
        found = []
        for split, folder in _FOLDERS.items():
            images, annotations = (root / folder / name for name in ("images", "annotations"))
            for path in (images, annotations):
                if not path.is_dir():
                    raise UserError(f"{path}: no such folder")
            for name in sorted(filter(is_image_name, os.listdir(images))):
                path = annotations / f"{Path(name).stem}_exp.npy"
                if not path.exists():
                    self.unused["without an annotation"] += 1
                    continue
                try:
                    value = np.load(path).item()
                except (ValueError, EOFError) as error:
                    raise UserError(f"{path}: not the number of an expression: {error}") from None
                found.append((f"{folder}/images/{name}", split, _label(str(value), str(path))))
        return found


def _label(text: str, where: str) -> int:
    """A label from 0 to 10; raises a UserError that names the place for others."""
    if not text.isdecimal() or int(text) >= len(EXPRESSIONS) + len(_OTHERS):
        raise UserError(f"{where}: the expression is {text!r}: expected a number from 0 to 10")
    return int(text)
