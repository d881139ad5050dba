"""Data sets: built-in faces, and readers of images on disk."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tfface.errors import UserError

if TYPE_CHECKING:
    from tfface.config import Data, MethodConfig
    from tfface.data.base import Source

SOURCES = {
    "synthetic": "tfface.data.synthetic:SyntheticFaces",
    "celeba": "tfface.data.celeba:CelebA",
    "celebamask_hq": "tfface.data.celebamask:CelebAMaskHQ",
    "folder": "tfface.data.folder:ClassFolders",
}


def open_source(
    data: Data,
    attributes: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
    fields: tuple[str, ...] = (),
) -> Source:
    """Opens the data set that `data` names; arguments and errors are those of `Source`."""
    module, name = SOURCES[data.name].split(":")
    return getattr(importlib.import_module(module), name)(data, attributes, classes, fields)


def check_path(data: Data, option: str = "data.path", way: str = "") -> None:
    """Raises a UserError when the folder of a data set is missing; imports no TensorFlow.

    Args:
        data: The data set.
        option: What messages call its folder.
        way: The option of the command that names another folder; "": `--` and `option`.
    """
    from pathlib import Path

    if data.name != "synthetic" and not Path(data.path).is_dir():
        raise UserError(
            f"{option} is {data.path!r}: no such folder; name where it is with "
            f"{way or '--' + option}"
        )


def check_paths(config: MethodConfig) -> None:
    """`check_path` of all data sets that a method's config names."""
    for name, data in config.datasets().items():
        check_path(data, f"{name}.path")
