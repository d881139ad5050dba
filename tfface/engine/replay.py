"""Repeats a single training step from a file that contains its weights, optimisers and batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from tfface.config import from_dict
from tfface.engine.checkpoint import State, read_state
from tfface.engine.run import Run
from tfface.engine.trainer import Trainer
from tfface.errors import NotFinite, UserError
from tfface.methods import get_config, get_method


def replay(path: str | Path, method: str) -> dict[str, float]:
    """Repeats a step from a file written by `write_replay`.

    Args:
        path: The file.
        method: Expected name of the method.

    Returns:
        The loss terms by "PHASE/TERM", the norms of the gradients as "PHASE/gradient_norm", and the
        Euclidean norm of each network's weight update as "moved/NETWORK".

    Raises:
        UserError: A missing or damaged file, or one of another method.
    """
    arrays, notes = read_state(Path(path))
    kind = notes.get("replay")
    if kind != method:
        content = f"a step of {kind}" if kind else "no step; perhaps it is a checkpoint"
        raise UserError(f"{path} contains {content}; expected a file written by `train {method}`")
    config = from_dict(get_config(method), notes["config"])
    trainer = Trainer(get_method(method)(config), None, Run(Path(path).parent))
    parts = {part: {} for part in ("state", "batch")}
    for name, value in arrays.items():
        part, _, key = name.partition("/")
        parts[part][key] = value
    trainer.checkpoints.assign(parts["state"])
    data = trainer.distribute(tf.data.Dataset.from_tensors(parts["batch"]))
    names, values = trainer.step(notes["number"], next(iter(data)))
    terms = dict(zip(names, map(float, values.numpy()), strict=True))
    return {**terms, **_moved(trainer, parts["state"])}


def _moved(trainer: Trainer, before: State) -> dict[str, float]:
    squares: dict[str, float] = {}
    for name, value in trainer.checkpoints.state().items():
        part, network, _ = name.split("/")
        if part == "nets":
            change = value.astype(np.float64) - before[name].astype(np.float64)
            squares[network] = squares.get(network, 0.0) + float(np.sum(change**2))
    return {f"moved/{network}": float(np.sqrt(total)) for network, total in squares.items()}


def check_finite(values: dict[str, float]) -> None:
    """Raises a NotFinite that names the non-finite values of a repeated step."""
    if bad := [name for name, value in values.items() if not np.isfinite(value)]:
        raise NotFinite(f"not finite: {', '.join(bad)}")
