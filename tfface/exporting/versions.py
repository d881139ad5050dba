"""Numbered versions of an exported model: OUT/1, OUT/2, ..."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from tfface.errors import UserError


def publish(out: str | Path, write: Callable[[Path], None]) -> Path:
    """Writes the next version of a model; it appears at once and complete.

    Args:
        out: Folder of the versions; created if missing.
        write: Writes the version into the folder that it is given.

    Returns:
        Folder of the version.

    Raises:
        UserError: `out` is a file or cannot be written.
    """
    out = Path(out)
    # TF Serving ignores folders whose names are not numbers.
    temporary = out / f".export-{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{out} is not a folder") from error
    except PermissionError as error:
        raise UserError(f"{out}: cannot be written") from error
    try:
        write(temporary)
        return _number(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _number(temporary: Path, out: Path) -> Path:
    """Renames a complete version to the next free number."""
    while True:
        numbers = [int(p.name) for p in out.iterdir() if re.fullmatch(r"[0-9]{1,18}", p.name)]
        target = out / str(max(numbers, default=0) + 1)
        try:
            os.rename(temporary, target)
            return target
        except OSError:
            if not target.exists():
                raise
