"""Folders whose names TensorFlow would take as patterns."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SPECIAL = set("[]?*\\")


def is_pattern(path: str | Path) -> bool:
    """Whether TensorFlow's readers would take some part of the absolute path as a pattern."""
    return not _SPECIAL.isdisjoint(str(Path(path).absolute()))


@contextlib.contextmanager
def plain(path: str | Path) -> Iterator[Path]:
    """The path, or a link to it with a name that is no pattern, until the end of the block.

    Args:
        path: Any that exists.

    Yields:
        What TensorFlow can be told to read.
    """
    if not is_pattern(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="tfface-") as folder:
        link = Path(folder) / "link"
        link.symlink_to(Path(path).absolute())
        yield link
