"""Trained models shipped with the package; each is a small run folder with a name."""

from __future__ import annotations

import os
from pathlib import Path

from tfface.config import nearest
from tfface.errors import UserError, invocation

_METHODS = Path(__file__).parent / "methods"


def shipped() -> dict[str, Path]:
    """Run folders of the shipped models by name, METHOD/NAME.

    A folder contains the files of a run of that preset, with half-precision weights (averaged ones
    where there are any, no optimiser state), a model card `README.md`, and `figures.json`.
    """
    folders = {}
    for method in sorted(os.listdir(_METHODS)):
        folder = _METHODS / method / "models"
        for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
            if (folder / name / "config.yaml").exists():
                folders[f"{method}/{name}"] = folder / name
    return folders


def is_shipped(run: Path) -> bool:
    """Whether a run folder belongs to a shipped model."""
    return run in shipped().values()


def run_folder(run: str | Path) -> Path:
    """The folder of a run, given as a path or as the name of a shipped model.

    Raises:
        UserError: There is neither such a folder nor such a model.
    """
    path, models = Path(run), shipped()
    if path.is_dir():
        return path
    if str(run) in models:
        return models[str(run)]
    if path.exists():
        raise UserError(f"{run} is a file: expected a run folder, or the name of a shipped model")
    raise UserError(
        f"{run}: no such run folder or shipped model{nearest(str(run), models)}; "
        f"`{invocation('models')}` lists the shipped models"
    )
