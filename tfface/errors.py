"""The exceptions that a user's own mistake or wish raises, and messages that modules share."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """A mistake that the user can mend.

    The message names the value or the file at fault and what was expected. Commands print it as one
    line and end with status 2; no traceback is shown.
    """


class NotFinite(UserError):
    """Training diverged: a loss or a weight is not a finite number."""


class Interrupted(Exception):
    """A signal asked to stop; what was learned is saved.

    Args:
        message: Where it stopped, and how to go on.
        signal: The signal's number.

    Attributes:
        status: What a command ends with, as shells tell it: 128 and the signal's number.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal
        self.status = 128 + signal


def one_for_each(references: Sequence[T], attributes: Sequence[str]) -> list[T]:
    """The references of attributes that are exchanged together: as many, or one for all of them.

    Raises:
        UserError: Another number of references.
    """
    if len(references) not in (1, len(attributes)):
        raise UserError(
            f"{len(references)} references for {len(attributes)} attributes: expected "
            f"{len(attributes)}, one for each in order, or 1 for all of them"
        )
    return list(references) * (len(attributes) if len(references) == 1 else 1)


def invocation(verb: str) -> str:
    """How a shell starts a verb of tfface with this Python: `python -m tfface.train`."""
    script = Path(sys.argv[0])
    if script.stem == "tfface":
        return shlex.join([_shortest("tfface", script), verb])
    return shlex.join([_shortest("python", Path(sys.executable)), "-m", f"tfface.{verb}"])


def _shortest(name: str, file: Path) -> str:
    """The bare name, where the shell's search path leads to this very file; else the file."""
    found = shutil.which(name)
    # Not `samefile`: the interpreters of virtual environments are links to one.
    return name if found and Path(found).absolute() == file.absolute() else str(file.absolute())
