"""Data sets: built-in faces, and readers of images on disk and of shards."""

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
    "rafd": "tfface.data.folder:NamedFaces",
    "kdef": "tfface.data.folder:NamedFaces",
    "cfee": "tfface.data.folder:NamedFaces",
    "affectnet": "tfface.data.affectnet:AffectNet",
}


def open_source(
    data: Data,
    attributes: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
    fields: tuple[str, ...] = (),
) -> Source:
    """Opens the data set named in `data`, or its shards; for arguments and errors see `Source`."""
    if data.name != "synthetic":
        from tfface.data import shards

        if shards.is_sharded(data.path):
            return shards.ShardedFaces(data, attributes, classes, fields)
    module, name = SOURCES[data.name].split(":")
    return getattr(importlib.import_module(module), name)(data, attributes, classes, fields)


def check_path(data: Data, option: str = "data.path", way: str = "") -> None:
    """Raises a UserError if the folder of a data set is missing; imports no TensorFlow.

    Args:
        data: The data set.
        option: Name of the path option in messages.
        way: Command line option that sets another folder; "": `--` and `option`.
    """
    from pathlib import Path

    if data.name == "synthetic" or "://" in data.path:  # Shards on remote storage.
        return
    if not Path(data.path).is_dir():
        raise UserError(
            f"{option} is {data.path!r}: no such folder; set the folder with {way or '--' + option}"
        )


def check_paths(config: MethodConfig) -> None:
    """Checks the paths of all data sets in a method's config with `check_path`."""
    for name, data in config.datasets().items():
        check_path(data, f"{name}.path")
