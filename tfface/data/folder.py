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

# File names that identify the person, in the expression data sets that have such names.
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

    The folder names are the class names (any names: SARGAN's AFS, ANS, ... or RaFD's angry, ...),
    indexed in alphabetical order. A split without a folder gets 5 % of the training images: by
    person where the file name identifies the person (RaFD, KDEF, CFEE), so that nobody is in two
    splits, otherwise by a hash of the name. Batches have `image` and `expression`.
    """

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes, fields)
        root = Path(data.path)
        if attributes:
            raise UserError(
                f"{root}: a folder per class has no attributes (requested: {', '.join(attributes)})"
            )
        subfolders = _subfolders(root)
        split_folders = {split: root / split for split in SPLITS if split in subfolders}
        if "train" not in split_folders:
            split_folders = {"train": root}
        train_folder = split_folders["train"]
        known = subfolders if train_folder == root else _subfolders(train_folder)
        if not known:
            raise UserError(
                f"{train_folder}: has no folders; expected a folder of images per class, "
                f"for example {root}/happy/001.jpg or {root}/train/happy/001.jpg"
            )
        check_names("class", classes, known, train_folder)
        self.classes = tuple(classes) or tuple(known)
        names, splits, labels = [], [], []
        for split, folder in split_folders.items():
            if split != "train":
                check_names("class", _subfolders(folder), known, train_folder)
            for index, name in enumerate(self.classes):
                files = _images(folder / name, required=split == "train")
                names += [os.path.relpath(folder / name / file, root) for file in files]
                labels += [index] * len(files)
                splits += [SPLITS.index(split)] * len(files)
        splits, labels = np.array(splits, np.int8), np.array(labels, np.int32)
        held_out = [split for split in SPLITS if split not in split_folders]
        if held_out:
            train = splits == SPLITS.index("train")
            images = [name for name, in_train in zip(names, train, strict=True) if in_train]
            splits[train] = self._split(root, images, labels[train], held_out)
        self._set_files(root, names, splits, {"expression": labels}, tags={})

    def _split(self, root: Path, names: list[str], labels: np.ndarray, held_out: list[str]):
        """Holds out some of the training images; returns indices into SPLITS, int8 [N]."""
        people = [person_of(name) for name in names]
        known = sorted({person for person in people if person})
        split_of = dict(zip(known, split_by_name(known, held_out).tolist(), strict=True))
        splits = np.array([split_of.get(person, -1) for person in people], np.int8)
        by_person = np.count_nonzero(splits >= 0)
        for index, name in enumerate(self.classes):
            rest = np.flatnonzero((labels == index) & (splits < 0))
            # By class and file name, independent of the path of the folder.
            files = [f"{name}/{os.path.basename(names[row])}" for row in rest]
            splits[rest] = split_by_name(files, held_out)
            if splits[labels == index].all():
                raise UserError(
                    f"{root}: all people of the class {name!r} would be held out and none left for "
                    f"training; provide the splits as folders: {root}/train/{name}, "
                    f"{root}/val/{name} and {root}/test/{name}"
                )
        how = f"by person, as named in the file names of {by_person} of {len(names)} images"
        if by_person < len(names):
            how += "; the others by file name, so a person may be in more than one split"
        logger.info("%s: no folders for %s: taken from train %s", root, ", ".join(held_out), how)
        return splits


def person_of(name: str) -> str | None:
    """The person in an image according to its file name; None if the name does not identify one."""
    for pattern in _PEOPLE:
        if match := pattern.fullmatch(os.path.basename(name)):
            return match[1]
    return None


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder}: no such folder") from error


def _images(folder: Path, required: bool) -> list[str]:
    names = os.listdir(folder) if folder.is_dir() else []
    images = sorted(name for name in names if is_image_name(name))
    if not images and required:
        raise UserError(f"{folder}: has no images")
    return images
