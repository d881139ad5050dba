"""Exceptions for user errors and interruptions, and messages shared by several modules."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """A mistake that the user can fix.

    The message names the value or file at fault and what was expected. Commands print it in one
    line, without a traceback, and exit with status 2.
    """


class NotFinite(UserError):
    """Training diverged: a loss or a weight is not a finite number."""


class Interrupted(Exception):
    """A signal stopped the training; its state is saved.

    Args:
        message: Where it stopped, and how to continue.
        signal: Number of the signal.

    Attributes:
        status: Exit status of the command: 128 plus the signal number, as in shells.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal
        self.status = 128 + signal


def one_for_each(references: Sequence[T], attributes: Sequence[str]) -> list[T]:
    """One reference per attribute, for attributes that are transferred together.

    Args:
        references: One reference per attribute, or one for all.
        attributes: Names of the attributes.

    Raises:
        UserError: Any other number of references.
    """
    if len(references) not in (1, len(attributes)):
        raise UserError(
            f"{len(references)} references for {len(attributes)} attributes: expected "
            f"{len(attributes)}, one for each in order, or 1 for all of them"
        )
    return list(references) * (len(attributes) if len(references) == 1 else 1)


def invocation(verb: str) -> str:
    """The shell command that starts a verb with this Python, such as `python -m tfface.train`."""
    script = Path(sys.argv[0])
    if script.stem == "tfface":
        return shlex.join([_shortest("tfface", script), verb])
    return shlex.join([_shortest("python", Path(sys.executable)), "-m", f"tfface.{verb}"])


def _shortest(name: str, file: Path) -> str:
    """The bare name if the shell's search path finds this file under it; else the full path."""
    path = shutil.which(name)
    # Not `samefile`: virtual environments link to the same interpreter.
    return name if path and Path(path).absolute() == file.absolute() else str(file.absolute())
