"""What can be said of a model's folder and of an address at once, without TensorFlow or gRPC."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from tfface.errors import UserError


def find_versions(base_path: Path) -> dict[int, Path]:
    """The version folders in a model's folder, by number (leading zeros are fine)."""
    try:
        entries = sorted(base_path.iterdir())
    except OSError:
        return {}
    return {
        int(entry.name): entry
        for entry in entries
        if entry.name.isascii() and entry.name.isdigit() and entry.is_dir()
    }


def check_base_path(path: Path) -> None:
    """Checks that there is something to load.

    Raises:
        UserError: No such folder, or no version in it.
    """
    if not path.is_dir():
        raise UserError(f"--model_base_path {path}: no such folder")
    if find_versions(path):
        return
    hint = ""
    if (path / "saved_model.pb").exists():
        hint = "; it is a version itself: name it by a number and give the folder that it is in"
    raise UserError(
        f"--model_base_path {path}: no version in it (a folder named by a number, such as "
        f"{path / '1'}, that holds a SavedModel){hint}"
    )


def check_address(host: str, port: int) -> None:
    """Checks that an address can be listened on; gRPC itself would only say that it failed.

    Raises:
        UserError: Says why not.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason = "the port is in use by another program (--port 0 takes a free one)"
        raise UserError(f"cannot listen on {host}:{port}: {reason}") from error
