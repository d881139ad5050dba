"""A folder of pictures for each expression class."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tfface.data.base import SPLITS
from tfface.data.files import FileSource, check_names, logger, split_by_name
from tfface.data.pictures import is_picture_name
from tfface.errors import UserError


class ClassFolders(FileSource):
    """Pictures in a folder per class, `PATH/CLASS/*.jpg`, or `PATH/{train,val,test}/CLASS/*.jpg`.

    The names of the folders are the names of the classes (any names: SARGAN's AFS, ANS, ... or
    RaFD's angry, ...), their alphabetical order the index. Splits that have no folder are taken
    from the training pictures by a hash of the file's name, 5 % each. Batches have `image` and
    `expression`.
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
                f"{given['train']}: has no folders; expected a folder of pictures per class, "
                f"for example {root}/happy/001.jpg or {root}/train/happy/001.jpg"
            )
        check_names("class", classes, known, given["train"])
        self.classes = tuple(classes) or tuple(known)
        names, splits, labels = [], [], []
        for split, folder in given.items():
            if split != "train":
                check_names("class", _subfolders(folder), known, given["train"])
            for index, name in enumerate(self.classes):
                files = _pictures(folder / name, required=split == "train")
                names += [os.path.relpath(folder / name / file, root) for file in files]
                labels += [index] * len(files)
                if split == "train":
                    held_out = [other for other in ("val", "test") if other not in given]
                    splits.append(split_by_name([f"{name}/{file}" for file in files], held_out))
                else:
                    splits.append(np.full(len(files), SPLITS.index(split), np.int8))
        if len(given) < len(SPLITS):
            missing = ", ".join(split for split in SPLITS if split not in given)
            logger.info("%s: no folders for %s: taken from train by name", root, missing)
        labels = {"expression": np.array(labels, np.int32)}
        self._set_files(root, names, np.concatenate(splits), labels, tags={})


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder}: no such folder") from error


def _pictures(folder: Path, required: bool) -> list[str]:
    names = os.listdir(folder) if folder.is_dir() else []
    found = sorted(name for name in names if is_picture_name(name))
    if not found and required:
        raise UserError(f"{folder}: has no pictures")
    return found
