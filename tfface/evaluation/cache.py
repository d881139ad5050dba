"""Trained networks kept in a folder, where they are found the next time."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfface.data import synthetic

Trained = tuple[keras.Model, dict[str, float]]


def kept(
    folder: str | Path | None,
    kind: str,
    arguments: tuple[Any, ...],
    files: Iterable[str],
    train: Callable[[], Trained],
) -> Trained:
    """A network trained on built-in faces, and its accuracy: from a folder, or made and put there.

    Args:
        folder: Where it is kept; None: it is not.
        kind: What the files' names begin with.
        arguments: All that `train` was told, of values whose `repr` says what they are.
        files: Python files that `train` follows, besides those that draw faces.
        train: Makes the network and its accuracy.

    Returns:
        What `train` gave, now or then.
    """
    if folder is None:
        return train()
    path = Path(folder) / f"{kind}-{_key(arguments, files)}"
    if path.with_suffix(".json").exists():
        accuracy = json.loads(path.with_suffix(".json").read_text())
        return keras.models.load_model(path.with_suffix(".keras")), accuracy
    model, accuracy = train()
    _keep(model, accuracy, path)
    return model, accuracy


def _key(arguments: tuple[Any, ...], files: Iterable[str]) -> str:
    """Hash of all that determines the weights: arguments, versions, and how faces are drawn."""
    digest = hashlib.sha256(repr((arguments, tf.__version__, keras.__version__)).encode())
    for file in (*sorted(Path(synthetic.__file__).parent.glob("*.py")), *files):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]


def _keep(model: keras.Model, accuracy: dict[str, float], path: Path) -> None:
    """Writes both files whole or not at all; the second one says that the first is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.keras")
    try:
        model.save(temporary)
        os.replace(temporary, path.with_suffix(".keras"))
        temporary.write_text(json.dumps(accuracy, indent=1))
        os.replace(temporary, path.with_suffix(".json"))
    finally:
        temporary.unlink(missing_ok=True)
