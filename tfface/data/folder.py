"""A folder of images for each expression class."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from tfface.data.base import SPLITS
from tfface.data.files import FileSource, check_names, logger, split_by_name
from tfface.data.images import is_image_name
from tfface.errors import UserError

# File names that tell who is shown, of the data sets of expressions that have such names.
_PEOPLE = tuple(
    map(
        re.compile,
        (
            # RaFD: angle, person, group, gender, expression, gaze.
            r"Rafd\d{3}_(\d{2})_(?:Caucasian|Moroccan|Kid)_(?:fe)?male_[a-z]+_[a-z]+\.\w+",
            # KDEF: session, gender and number of the person, expression, angle.
            r"[AB]([FM]\d{2})(?:AF|AN|DI|HA|NE|SA|SU)(?:FL|HL|S|HR|FR)\.\w+",
            # CFEE: category, person, number of the image.
            r"\d{2}_(\d{3})_\d{4}\.\w+",
        ),
    )
)


class ClassFolders(FileSource):
    """Images in a folder per class, `PATH/CLASS/*.jpg`, or `PATH/{train,val,test}/CLASS/*.jpg`.

    The names of the folders are the names of the classes (any names: SARGAN's AFS, ANS, ... or
    RaFD's angry, ...), their alphabetical order the index. Splits that have no folder are taken
    from the training images, 5 % each: by person where the file's name tells who is shown (RaFD,
    KDEF, CFEE), so that nobody is in two splits, else by a hash of the name. Batches have `image`
    and `expression`.
    """

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes, fields)
        root = Path(data.path)
        if attributes:
            raise UserError(
                f"{root}: a folder per class has no attributes (asked for: {', '.join(attributes)})"
            )
        found = _subfolders(root)
        given = {split: root / split for split in SPLITS if split in found}
        if "train" not in given:
            given = {"train": root}
        known = found if given["train"] == root else _subfolders(given["train"])
        if not known:
            raise UserError(
                f"{given['train']}: has no folders; expected a folder of images per class, "
                f"for example {root}/happy/001.jpg or {root}/train/happy/001.jpg"
            )
        check_names("class", classes, known, given["train"])
        self.classes = tuple(classes) or tuple(known)
        names, splits, labels = [], [], []
        for split, folder in given.items():
            if split != "train":
                check_names("class", _subfolders(folder), known, given["train"])
            for index, name in enumerate(self.classes):
                files = _images(folder / name, required=split == "train")
                names += [os.path.relpath(folder / name / file, root) for file in files]
                labels += [index] * len(files)
                splits += [SPLITS.index(split)] * len(files)
        splits, labels = np.array(splits, np.int8), np.array(labels, np.int32)
        held_out = [split for split in SPLITS if split not in given]
        if held_out:
            train = splits == SPLITS.index("train")
            images = [name for name, here in zip(names, train, strict=True) if here]
            splits[train] = self._split(root, images, labels[train], held_out)
        self._set_files(root, names, splits, {"expression": labels}, tags={})

    def _split(self, root: Path, names: list[str], labels: np.ndarray, held_out: list[str]):
        """Indices in SPLITS, int8 [N], of training images some of which are held out."""
        people = [person_of(name) for name in names]
        known = sorted({person for person in people if person})
        split_of = dict(zip(known, split_by_name(known, held_out).tolist(), strict=True))
        splits = np.array([split_of.get(person, -1) for person in people], np.int8)
        told = np.count_nonzero(splits >= 0)
        for index, name in enumerate(self.classes):
            rest = np.flatnonzero((labels == index) & (splits < 0))
            # By class and file, wherever the folder lies.
            files = [f"{name}/{os.path.basename(names[row])}" for row in rest]
            splits[rest] = split_by_name(files, held_out)
            if splits[labels == index].all():
                raise UserError(
                    f"{root}: all people of the class {name!r} would be held out, none is left to "
                    f"train on; choose them yourself: expected {root}/train/{name}, "
                    f"{root}/val/{name} and {root}/test/{name}"
                )
        how = f"by person, whom the names of {told} of {len(names)} images tell"
        if told < len(names):
            how += "; the others by name, so that a person may be in more than one split"
        logger.info("%s: no folders for %s: taken from train %s", root, ", ".join(held_out), how)
        return splits


def person_of(name: str) -> str | None:
    """Who is shown, told from an image's file name; None if the name does not tell."""
    for pattern in _PEOPLE:
        if found := pattern.fullmatch(os.path.basename(name)):
            return found[1]
    return None


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder}: no such folder") from error


def _images(folder: Path, required: bool) -> list[str]:
    names = os.listdir(folder) if folder.is_dir() else []
    found = sorted(name for name in names if is_image_name(name))
    if not found and required:
        raise UserError(f"{folder}: has no images")
    return found
