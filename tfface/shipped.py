"""Trained models that come with the package; each is a small run folder, known by its name."""

from __future__ import annotations

import os
from pathlib import Path

from tfface.config import nearest
from tfface.errors import UserError, invocation

_METHODS = Path(__file__).parent / "methods"


def shipped() -> dict[str, Path]:
    """The models, METHOD/NAME to run folder.

    A folder holds what a run of that preset would, its weights in half precision (averaged ones in
    place of those in training, and no optimiser), a card `README.md`, and `figures.json`.
    """
    found = {}
    for method in sorted(os.listdir(_METHODS)):
        folder = _METHODS / method / "models"
        for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
            if (folder / name / "config.yaml").exists():
                found[f"{method}/{name}"] = folder / name
    return found


def is_shipped(run: Path) -> bool:
    """Whether a run folder is that of a shipped model."""
    return run in shipped().values()


def run_folder(run: str | Path) -> Path:
    """The folder of a run: that of this path or, if there is none, of a shipped model's name.

    Raises:
        UserError: There is neither.
    """
    path, models = Path(run), shipped()
    if path.is_dir():
        return path
    if str(run) in models:
        return models[str(run)]
    if path.exists():
        raise UserError(f"{run} is a file: expected a run folder, or the name of a shipped model")
    raise UserError(
        f"{run}: no such run folder, nor a shipped model{nearest(str(run), models)}; "
        f"`{invocation('models')}` lists these"
    )
