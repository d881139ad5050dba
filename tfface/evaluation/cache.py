"""Cache of trained judge networks in a folder."""

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


def load_or_train(
    folder: str | Path | None,
    kind: str,
    arguments: tuple[Any, ...],
    files: Iterable[str],
    train: Callable[[], Trained],
) -> Trained:
    """Loads a network and its accuracy from a cache folder, or trains and saves it there.

    Args:
        folder: The cache folder; None: no cache.
        kind: Prefix of the file names.
        arguments: Everything the training depends on; values with an unambiguous `repr`.
        files: Python files the training depends on, besides those that draw faces.
        train: Trains the network; returns it with its accuracy.

    Returns:
        The network and its accuracy.
    """
    if folder is None:
        return train()
    path = Path(folder) / f"{kind}-{_key(arguments, files)}"
    if path.with_suffix(".json").exists():
        accuracy = json.loads(path.with_suffix(".json").read_text())
        return keras.models.load_model(path.with_suffix(".keras")), accuracy
    model, accuracy = train()
    _save(model, accuracy, path)
    return model, accuracy


def _key(arguments: tuple[Any, ...], files: Iterable[str]) -> str:
    """Hash of everything that determines the weights: arguments, versions and source files."""
    digest = hashlib.sha256(repr((arguments, tf.__version__, keras.__version__)).encode())
    for file in (*sorted(Path(synthetic.__file__).parent.glob("*.py")), *files):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]


def _save(model: keras.Model, accuracy: dict[str, float], path: Path) -> None:
    """Writes both files atomically; the JSON file last, so its existence implies the model's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.keras")
    try:
        model.save(temporary)
        os.replace(temporary, path.with_suffix(".keras"))
        temporary.write_text(json.dumps(accuracy, indent=1))
        os.replace(temporary, path.with_suffix(".json"))
    finally:
        temporary.unlink(missing_ok=True)
