"""Trained runs, for use."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf  # noqa: F401  (before Keras: sets its backend's log level)

from tfface.config import from_dict
from tfface.engine.checkpoint import Checkpoints
from tfface.engine.run import Run
from tfface.errors import UserError
from tfface.methods import get_config, get_method
from tfface.methods.base import Method, Networks

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained run.

    Attributes:
        name: The method's name.
        method: The method.
        nets: Its networks; those with averaged weights hold these.
        step: Training step of the weights.
        path: The run folder.
    """

    name: str
    method: Method
    nets: Networks
    step: int
    path: Path

    def edit(self, picture: str | Path | Image | np.ndarray, **options: Any) -> dict[str, Image]:
        """Edits a picture, or makes pictures from a label map, as the command `edit` does.

        Args:
            picture: A file or an RGB picture; for methods that take label maps or lines a PNG, or
                integers [H,W].
            **options: Those of the command, such as `expression=["happy", "sad"]`; one value or a
                list. `reference` and `exemplar` are files or pictures.

        Returns:
            What was made, by the names of the edits.

        Raises:
            UserError: A picture that cannot be read, or as of `Method.edits`.
        """
        from tfface.data.label_maps import load_label_map
        from tfface.data.pictures import load_picture
        from tfface.edit import NUMBERS, PICTURES, edit_pictures

        def opened(value: Any) -> Any:
            return load_picture(value) if isinstance(value, str | Path) else value

        for name in options.keys() - NUMBERS:
            values = options[name]
            values = list(values) if isinstance(values, list | tuple | range) else [values]
            options[name] = [opened(v) for v in values] if name in PICTURES else values
        takes = self.method.takes
        if takes == "image":
            picture = opened(picture)
        elif isinstance(picture, str | Path):
            picture = load_label_map(picture, takes == "lines")
        return {name: x for row in edit_pictures(self, [picture], options)[0] for name, x in row}


def load_run(path: str | Path, step: int | None = None) -> Trained:
    """Loads a run; see `tfface.load`."""
    run = Run(path)
    name, values = run.read_config()
    method = get_method(name)(from_dict(get_config(name), values))
    nets = method.build()
    averages = averaged(method, nets)
    checkpoints = Checkpoints(run.path / "checkpoints", nets, averages)
    found = checkpoints.restore(step)
    if not checkpoints.steps():
        raise UserError(f"{run.path} has no checkpoint yet")
    return Trained(name, method, {**nets, **averages}, found, run.path)


def averaged(method: Method, nets: Networks) -> Networks:
    """Copies of the networks whose weights are averaged; none when the config asks for none."""
    if not method.config.train.ema_half_life:
        return {}
    copies = {
        name: type(nets[name]).from_config(nets[name].get_config()) for name in method.averaged
    }
    for name, copy in copies.items():
        for mine, theirs in zip(copy.variables, nets[name].variables, strict=True):
            mine.assign(theirs)
    return copies


def write_run(path: str | Path, name: str, method: Method, nets: Networks) -> None:
    """Writes networks made elsewhere as a run folder that can be loaded, edited with and exported.

    Raises:
        UserError: The folder holds something else.
    """
    run = Run.create(name, method.config, str(path))
    Checkpoints(run.path / "checkpoints", nets, averaged(method, nets)).save(0)
