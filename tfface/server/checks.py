"""Fast checks of models and addresses that need neither TensorFlow nor gRPC."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from pathlib import Path

from tfface.errors import UserError
from tfface.server.config import ModelConfig, Options

_LARGEST_VERSION = 2**63 - 1


def find_versions(base_path: Path) -> dict[int, Path]:
    """The version folders in a model's folder, by number (leading zeros are allowed).

    As in TF Serving, names above 2^63-1 are ignored, and if several names stand for the same
    number, the last one in alphabetical order is used.

    Raises:
        OSError: The folder cannot be read.
    """
    return {int(entry.name): entry for entry in sorted(base_path.iterdir()) if _is_version(entry)}


def _is_version(entry: Path) -> bool:
    name = entry.name
    if not (name.isascii() and name.isdigit()):
        return False
    # Python refuses to parse numbers with thousands of digits.
    digits = name.lstrip("0")
    if len(digits) > 19 or int(digits or "0") > _LARGEST_VERSION:
        return False
    try:
        return entry.is_dir()
    except OSError:
        return False


def check_models(models: Iterable[ModelConfig], options: Options) -> None:
    """Checks, before anything is loaded, that every model has a version to load.

    Raises:
        UserError: A folder is missing or has no version that would be served, or a model has
            labels, which cannot point to an available version before the start.
    """
    for model in models:
        _check_folder(model)
        if model.labels and not options.allow_unavailable_labels:
            number = next(iter(model.labels.values()))
            raise UserError(
                f"Request to assign label to version {number} of model {model.name}, which is not "
                "currently available for inference: at the start no version is available; use "
                "--allow_version_labels_for_unavailable_models"
            )


def _check_folder(model: ModelConfig) -> None:
    path = model.base_path
    if not path.is_dir():
        raise UserError(f"model {model.name}: {path}: no such folder")
    try:
        found = find_versions(path)
    except OSError as error:
        raise UserError(f"model {model.name}: {path}: {error.strerror}") from error
    if model.choose(found):
        return
    if found:
        raise UserError(
            f"model {model.name}: {path}: has none of the requested versions "
            f"{_listed(model.specific)}, only {_listed(found)}"
        )
    hint = ""
    if (path / "saved_model.pb").exists():
        hint = "; this folder is itself a version: rename it to a number and pass its parent folder"
    raise UserError(
        f"model {model.name}: {path}: contains no version (a numbered folder with a SavedModel, "
        f"such as {path / '1'}){hint}"
    )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def check_address(host: str, port: int) -> None:
    """Checks that an address can be listened on, as gRPC does not report the reason of a failure.

    Raises:
        UserError: It cannot; the message has the reason.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason = "the port is in use by another program (--port 0 chooses a free one)"
        raise UserError(f"cannot listen on {host}:{port}: {reason}") from error


def check_addresses(options: Options) -> None:
    """Checks that a server can listen on its addresses.

    Raises:
        UserError: It cannot; the message has the reason.
    """
    host = options.host or "127.0.0.1"
    if options.port or not options.socket_path:
        check_address(host, options.port)
    if options.rest_port is not None:
        if options.rest_port == options.port != 0:
            raise UserError(f"the REST API cannot use the gRPC API's port {options.port}")
        check_address(host, options.rest_port)


def has_loopback_v6() -> bool:
    """Whether this machine has the address ::1."""
    try:
        check_address("::1", 0)
    except UserError:
        return False
    return True
