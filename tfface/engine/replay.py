"""A training step kept in a file, with all it depends on, to be repeated on its own."""

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
    """Repeats a step that `write_replay` has written.

    Args:
        path: The file.
        method: The name of the method that it must be of.

    Returns:
        The terms of the losses, by "PHASE/TERM", and the Euclidean norm of what each network has
        moved by, as "moved/NETWORK".

    Raises:
        UserError: No such file, a damaged one, or one of another method.
    """
    arrays, notes = read_state(Path(path))
    kind = notes.get("replay")
    if kind != method:
        told = f"a step of {kind}" if kind else "no step: a checkpoint, perhaps"
        raise UserError(f"{path} holds {told}; expected a file that `train {method}` has written")
    config = from_dict(get_config(method), notes["config"])
    trainer = Trainer(get_method(method)(config), None, Run(Path(path).parent))
    split = {part: {} for part in ("state", "batch")}
    for name, value in arrays.items():
        part, _, rest = name.partition("/")
        split[part][rest] = value
    trainer.checkpoints.assign(split["state"])
    data = trainer.strategy.experimental_distribute_dataset(
        tf.data.Dataset.from_tensors(split["batch"])
    )
    names, values = trainer.step(notes["number"], next(iter(data)))
    terms = dict(zip(names, map(float, values.numpy()), strict=True))
    return {**terms, **_moved(trainer, split["state"])}


def _moved(trainer: Trainer, before: State) -> dict[str, float]:
    squares: dict[str, float] = {}
    for name, value in trainer.checkpoints.state().items():
        part, network, _ = name.split("/")
        if part == "nets":
            change = value.astype(np.float64) - before[name].astype(np.float64)
            squares[network] = squares.get(network, 0.0) + float(np.sum(change**2))
    return {f"moved/{network}": float(np.sqrt(total)) for network, total in squares.items()}


def check_finite(values: dict[str, float]) -> None:
    """Raises a NotFinite that names the values of a repeated step that are not finite."""
    if bad := [name for name, value in values.items() if not np.isfinite(value)]:
        raise NotFinite(f"not finite again: {', '.join(bad)}")
