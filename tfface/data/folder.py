"""Expression data sets: a folder of images for each class, and RaFD, KDEF and CFEE."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from tfface.data import check_path
from tfface.data.base import SPLITS
from tfface.data.files import FileSource, check_names, logger, split_by_name
from tfface.data.images import FORMATS, is_image_name
from tfface.errors import UserError

# File names that identify the person, in the expression data sets that have such names.
_RAFD = re.compile(
    r"Rafd(?P<angle>\d{3})_(?P<person>\d{2})_(?:Caucasian|Moroccan|Kid)_(?:fe)?male_"
    r"(?P<expression>[a-z]+)_[a-z]+\.\w+"
)
_KDEF = re.compile(  # Session, gender and number of the person, expression, angle.
    r"[AB](?P<person>[FM]\d{2})(?P<expression>AF|AN|DI|HA|NE|SA|SU)(?P<angle>FL|HL|S|HR|FR)\.\w+"
)
_CFEE = re.compile(r"(?P<expression>\d{2})_(?P<person>\d{3})_\d{4}\.\w+")

_SPLIT_OF = {
    **dict.fromkeys(("train", "training", "train_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "val_set"), "val"),
    **dict.fromkeys(("test", "testing", "test_set"), "test"),
}
"""Splits by the usual names of their folders."""

_SYSTEM_FILES = ("thumbs.db", "desktop.ini")
_FRONT = ("090", "S", None)  # Angles of RaFD and KDEF; CFEE's names have none.


class ExpressionFiles(FileSource):
    """Images with one expression class each. Batches have `image` and `expression`."""

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes, fields)
        check_path(data)
        if attributes:
            raise UserError(
                f"{data.path}: the data set {data.name!r} has no attributes "
                f"(requested: {', '.join(attributes)})"
            )

    def _choose_classes(self, classes: tuple[str, ...], known: list[str], where: Path) -> None:
        check_names("class", classes, known, where)
        self.classes = tuple(classes) or tuple(known)

    def _set_classes(
        self,
        root: Path,
        names: list[str],
        labels: np.ndarray,
        splits: np.ndarray,
        known: set[str],
        present: np.ndarray | None = None,
    ) -> None:
        """Defines the images.

        Args:
            root: The folder that the names are relative to.
            names: File names of the images.
            labels: Indices into `classes`, int32 [N].
            splits: Indices into SPLITS, int8 [N].
            known: Splits that the data set defines; the others are taken from its "train".
            present: Whether each file exists, bool [N]; None: all do.
        """
        held_out = [split for split in SPLITS if split not in known]
        if held_out:
            train = splits == SPLITS.index("train")
            images = [name for name, in_train in zip(names, train, strict=True) if in_train]
            splits[train] = self._split(root, images, labels[train], held_out)
        self._set_files(root, names, splits, {"expression": labels}, {}, present)

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


class ClassFolders(ExpressionFiles):
    """Images in a folder per class, `PATH/CLASS/*.jpg`, or `PATH/{train,val,test}/CLASS/*.jpg`.

    The folder names are the class names (any names: SARGAN's AFS, ANS, ... or RaFD's angry, ...),
    indexed in alphabetical order. Other usual names of split folders are known, such as `Train`,
    `valid` and `validation`. A split without a folder gets 5 % of the training images: by person
    where the file name identifies the person (RaFD, KDEF, CFEE), so that nobody is in two splits,
    otherwise by a hash of the name. Files that are not used are counted, see `unused`.
    """

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes, fields)
        root = Path(data.path)
        split_folders = _split_folders(root)
        train_folder = split_folders["train"]
        known = _subfolders(train_folder)
        if not known:
            raise UserError(
                f"{train_folder}: has no folders; expected a folder of images per class, "
                f"for example {root}/happy/001.jpg or {root}/train/happy/001.jpg"
            )
        self._choose_classes(classes, known, train_folder)
        if train_folder != root:
            splits_named = {folder.name for folder in split_folders.values()}
            for name in sorted(set(_subfolders(root)) - splits_named):
                self._count_unused(_files_below(root / name), f"in {name}/, which is no split")
        names, splits, labels = [], [], []
        for split, folder in split_folders.items():
            if split != "train":
                check_names("class", _subfolders(folder), known, train_folder)
            beside = [name for name in os.listdir(folder) if is_image_name(name)]
            self._count_unused(beside, f"beside the class folders of {folder}")
            for index, name in enumerate(self.classes):
                files = self._images_of(folder / name, required=split == "train")
                names += [os.path.relpath(folder / name / file, root) for file in files]
                labels += [index] * len(files)
                splits += [SPLITS.index(split)] * len(files)
        splits, labels = np.array(splits, np.int8), np.array(labels, np.int32)
        self._set_classes(root, names, labels, splits, set(split_folders))

    def _images_of(self, folder: Path, required: bool) -> list[str]:
        """Names of the images directly in a class folder; counts everything else in it."""
        images = []
        for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
            if is_image_name(name):
                images.append(name)
            elif (folder / name).is_dir():
                below = _files_below(folder / name)
                self._count_unused(below, f"in subfolders of class folders, such as {name}/")
            elif not _is_system(name):
                suffix = os.path.splitext(name)[1].lower() or "no suffix"
                self.unused[f"with {suffix} (supported: {' '.join(FORMATS)})"] += 1
        if not images and required:
            counted = self._unused_counts("files ")
            raise UserError(f"{folder}: has no images" + (f" ({counted})" if counted else ""))
        return images

    def _count_unused(self, files: list[str], reason: str) -> None:
        if files:  # A reason without files is not one to list.
            self.unused[reason] += len(files)


class NamedFaces(ExpressionFiles):
    """RaFD, KDEF or CFEE as downloaded: file names state the person and the expression.

    Images may be in any folders below `data.path`. Frontal images are used (angle 090 of RaFD,
    "S" of KDEF; CFEE has no others). Classes are RaFD's names (angry, ...), KDEF's codes with the
    angle as in SARGAN's folders (AFS, ANS, DIS, HAS, NES, SAS, SUS), and CFEE's category numbers
    (01 is neutral). 5 % of the people are in "val" and 5 % in "test". Other files are counted, see
    `unused`. The reader of CFEE has not been tried on the original data set.
    """

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes, fields)
        root = Path(data.path)
        pattern = {"rafd": _RAFD, "kdef": _KDEF, "cfee": _CFEE}[data.name]
        found: list[tuple[str, str]] = []
        for name in _files_below(root):
            base = os.path.basename(name)
            match = pattern.fullmatch(base)
            if match is None or not is_image_name(base):
                self.unused[f"with names that are not {data.name.upper()}'s"] += 1
                continue
            values = match.groupdict()
            if values.get("angle") not in _FRONT:
                self.unused["from other angles than the front"] += 1
                continue
            code = values["expression"] + ("S" if data.name == "kdef" else "")
            found.append((name, code))
        if not found:
            counted = self._unused_counts("files ")
            raise UserError(
                f"{root}: has no images with names of {data.name.upper()} ({counted or 'empty'})"
            )
        self._choose_classes(classes, sorted({code for _, code in found}), root)
        found = [(name, code) for name, code in found if code in self.classes]
        labels = np.array([self.classes.index(code) for _, code in found], np.int32)
        names = [name for name, _ in found]
        self._set_classes(root, names, labels, np.zeros(len(names), np.int8), {"train"})


def person_of(name: str) -> str | None:
    """The person in an image according to its file name; None if the name does not identify one."""
    for pattern in (_RAFD, _KDEF, _CFEE):
        if match := pattern.fullmatch(os.path.basename(name)):
            return match["person"]
    return None


def _split_folders(root: Path) -> dict[str, Path]:
    """The folders of the splits by split name; without any, all is "train"."""
    folders: dict[str, Path] = {}
    for name in _subfolders(root):
        split = _SPLIT_OF.get(name.lower())
        if split in folders:
            raise UserError(
                f"{root}: both {folders[split].name}/ and {name}/ are names of the split "
                f"{split!r}; keep one of them"
            )
        if split:
            folders[split] = root / name
    if "train" not in folders:
        # Folders of this name that hold images are classes.
        if any(_subfolders(folder) for folder in folders.values()):
            names = ", ".join(f"{folder.name}/" for folder in folders.values())
            raise UserError(
                f"{root}: has {names} but no folder of training images; expected "
                f"{root}/train, with a folder of images per class"
            )
        return {"train": root}
    for split, folder in folders.items():
        if folder.name != split:
            logger.info("%s: %s/ is used as the split %r", root, folder.name, split)
    return folders


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _files_below(folder: Path) -> list[str]:
    """All files below a folder, relative to it and sorted, without those of file managers."""
    found = []
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.relpath(os.path.join(path, name), folder)
            for name in names
            if not _is_system(name)
        ]
    return sorted(found)


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder}: no such folder") from error
