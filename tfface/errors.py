"""The exceptions that a user's own mistake or wish raises, and how messages name a command."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


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
