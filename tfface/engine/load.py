"""Loading and writing of run folders."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf  # noqa: F401  (before Keras: sets its backend's log level)

from tfface.engine.checkpoint import Checkpoints
from tfface.engine.run import Run
from tfface.errors import UserError
from tfface.layers import copied, fix_norms
from tfface.methods import get_config, get_method
from tfface.methods.base import Method, Networks
from tfface.methods.trained import Trained
from tfface.shipped import run_folder


def load_run(path: str | Path, step: int | None = None) -> Trained:
    """Loads a run; see `tfface.load`."""
    run = Run(run_folder(path))
    name, _ = run.read_config()
    method = get_method(name)(run.config(get_config(name)))
    nets = method.build()
    averages = averaged(method, nets)
    checkpoints = Checkpoints(run.path / "checkpoints", nets, averages)
    restored = checkpoints.restore(step)
    if not checkpoints.steps():
        raise UserError(f"{run.path} has no checkpoint yet")
    nets = {**nets, **averages}
    for net in nets.values():
        fix_norms(net)
    return Trained(name, method, nets, restored, run.path)


def averaged(method: Method, nets: Networks) -> Networks:
    """Copies of the networks whose weights are averaged; {} if averaging is disabled."""
    if not method.config.train.ema_half_life:
        return {}
    return {name: copied(nets[name]) for name in method.averaged}


def write_run(path: str | Path, name: str, method: Method, nets: Networks) -> None:
    """Writes networks as a run folder, for loading, editing and export.

    Args:
        path: The run folder.
        name: Name of the method.
        method: The method.
        nets: Its networks.

    Raises:
        UserError: The folder contains something else.
    """
    run = Run.create(name, method.config, str(path))
    Checkpoints(run.path / "checkpoints", nets, averaged(method, nets)).save(0)
