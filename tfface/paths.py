"""Folders that appear whole, and those whose names TensorFlow would treat as glob patterns."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

_SPECIAL = set("[]?*\\")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Creates a folder that appears when it is complete, or not at all.

    Args:
        path: The folder; it must not exist, or be empty.

    Yields:
        A temporary folder beside it, which becomes the folder at the end of the block.
    """
    temporary = path.absolute().with_name(f".{path.absolute().name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            path.rmdir()
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_pattern(path: str | Path) -> bool:
    """Whether TensorFlow's readers would treat the absolute path as a glob pattern."""
    return not _SPECIAL.isdisjoint(str(Path(path).absolute()))


@contextlib.contextmanager
def plain(path: str | Path) -> Iterator[Path]:
    """Provides the path, or a temporary symbolic link to it if it would be a pattern.

    Args:
        path: An existing path.

    Yields:
        A path that TensorFlow can read; valid until the end of the block.
    """
    if not is_pattern(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="tfface-") as folder:
        link = Path(folder) / "link"
        link.symlink_to(Path(path).absolute())
        yield link
