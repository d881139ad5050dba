"""Checkpoints: networks, averaged weights, optimisers and the step, in one file each.

The format is NumPy's `.npz`: TensorFlow's checkpoints treat folder names as glob patterns, and
would read and delete files of other runs if a folder name contains brackets.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np
import tensorflow as tf

from tfface.config import to_dict
from tfface.engine.run import checkpoint_files, write_whole
from tfface.errors import UserError

logger = logging.getLogger("tfface")
State = dict[str, np.ndarray]
_NOTES = "notes"  # Member with JSON metadata.
# Exceptions raised when reading a truncated, overwritten or empty file.
_DAMAGE = (OSError, EOFError, ValueError, KeyError, NotImplementedError, struct.error)
_DAMAGE += (zipfile.BadZipFile, zlib.error)


class Damaged(UserError):
    """A damaged file."""


class Checkpoints:
    """Saves and restores networks and optimisers.

    Args:
        folder: Folder of the checkpoints, `step-N.npz`.
        nets: Networks by name.
        averages: Averaged networks by name.
        optimizers: Optimisers by name; None to restore networks only.
        keep: Number of checkpoints to keep.

    Attributes:
        notes: Metadata of the checkpoint that was restored last.
    """

    def __init__(
        self,
        folder: Path,
        nets: dict[str, keras.Model],
        averages: dict[str, keras.Model],
        optimizers: dict[str, keras.Optimizer] | None = None,
        keep: int = 1,
    ):
        self.folder, self.notes, self._keep = folder, {}, keep
        self._trains = optimizers is not None
        self._variables: dict[str, tf.Variable] = {}
        parts = {"nets": nets, "averages": averages, "optimizers": optimizers or {}}
        for part, owners in parts.items():
            for name, owner in owners.items():
                # Raw variables in a fixed order, including those that Keras hides from
                # TensorFlow's tracking, such as the states of seed generators.
                for i, variable in enumerate(owner.variables):
                    self._variables[f"{part}/{name}/{i}"] = variable.value

    def steps(self) -> list[int]:
        """Steps of the existing checkpoints, in ascending order."""
        return sorted(checkpoint_files(self.folder))

    def state(self) -> State:
        """A copy of all values, by name."""
        return {name: np.array(variable.numpy()) for name, variable in self._variables.items()}

    def assign(self, state: State) -> None:
        """The inverse of `state`."""
        for name, variable in self._variables.items():
            variable.assign(state[name].astype(variable.dtype.as_numpy_dtype))

    def save(self, step: int, notes: dict[str, Any] | None = None) -> None:
        """Saves a checkpoint; earlier ones are deleted only after it is complete.

        Args:
            step: Number of completed training steps.
            notes: Other state needed to resume, JSON-serialisable.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # Only one process trains in a folder; a fixed name leaves at most one incomplete file.
        temporary = self.folder / "incomplete.npz"
        write_state(self.folder / f"step-{step}.npz", self.state(), notes or {}, temporary)
        for old in self.steps()[: -self._keep]:
            (self.folder / f"step-{old}.npz").unlink(missing_ok=True)

    def restore(self, step: int | None = None) -> int:
        """Restores the latest intact checkpoint, or the one of a step.

        Damaged checkpoints are logged, and when training renamed to `step-N.npz.damaged`.

        Args:
            step: Step of the checkpoint; None for the latest.

        Returns:
            Its step; 0 if there are no checkpoints and `step` is None.

        Raises:
            UserError: No checkpoint of this step, only damaged ones, or one of other networks.
        """
        steps = self.steps()
        if step is not None and step not in steps:
            raise UserError(
                f"{self.folder} has no checkpoint of step {step}; "
                f"available: {', '.join(map(str, steps)) or 'none'}"
            )
        if step is None and not steps:
            self._check_empty()
            return 0
        damaged = []
        for candidate in [step] if step is not None else reversed(steps):
            path = self.folder / f"step-{candidate}.npz"
            try:
                state, notes = read_state(path, self._needed)
            except Damaged as error:
                damaged.append(path)
                logger.warning("%s", error)
                continue
            if not self._trains:
                self._fill_averages(state)
            self._check_fits(path, state)
            self.assign(state)
            self.notes = notes
            if damaged:
                self._set_aside(damaged)
                logger.warning("using the checkpoint of step %d instead", candidate)
            return candidate
        raise UserError(
            f"{', '.join(path.name for path in damaged)} in {self.folder}: damaged, and there is "
            f"no other checkpoint; remove {'it' if len(damaged) == 1 else 'them'} to start over"
        )

    def initialize(self, folder: Path) -> int:
        """Loads the networks' weights from the latest intact checkpoint of another run.

        Averaged networks are initialised with its averages, or with its weights where there are no
        averages; optimisers keep their initial state.

        Args:
            folder: Folder of the other run's checkpoints.

        Returns:
            Step of the checkpoint.

        Raises:
            UserError: There is no intact checkpoint, or it is of other networks.
        """
        files = checkpoint_files(folder)
        for step in sorted(files, reverse=True):
            try:
                state, _ = read_state(files[step])
            except Damaged as error:
                logger.warning("%s", error)
                continue
            self._fill_averages(state)
            fresh = {n: v for n, v in self.state().items() if n.startswith("optimizers/")}
            state = {**state, **fresh}
            self._check_fits(files[step], state)
            self.assign(state)
            return step
        raise UserError(f"{folder} has no intact checkpoint")

    def _fill_averages(self, state: State) -> None:
        """Adds missing averages to a state, as copies of the weights."""
        for name in self._variables:
            weights = name.replace("averages/", "nets/", 1)
            if name.startswith("averages/") and name not in state and weights in state:
                state[name] = state[weights]

    def _check_empty(self) -> None:
        old = [p.name for p in self.folder.iterdir()] if self.folder.is_dir() else []
        if any(name.endswith(".index") for name in old):
            raise UserError(
                f"{self.folder} has checkpoints of an earlier version of tfface, in TensorFlow's "
                f"format, which this version cannot read; start a new run in another folder"
            )
        if damaged := sorted(name for name in old if name.endswith(".damaged")):
            raise UserError(
                f"{self.folder} has only damaged checkpoints: {', '.join(damaged)}; remove them to "
                f"start over"
            )

    def _needed(self, names: set[str]) -> set[str]:
        return names if self._trains else {n for n in names if not n.startswith("optimizers/")}

    def _check_fits(self, path: Path, state: dict[str, np.ndarray | None]) -> None:
        """Raises a UserError if a state does not match these networks and optimisers."""
        expected = {name: tuple(variable.shape) for name, variable in self._variables.items()}
        saved = {name: value.shape for name, value in state.items() if value is not None}
        for name in sorted({*expected, *saved}, key=_natural):
            if expected.get(name) != saved.get(name):
                shapes = [
                    f"of shape {s[name]}" if name in s else "missing" for s in (saved, expected)
                ]
                raise UserError(
                    f"{path}: cannot be restored, it is of other networks: {name} is {shapes[0]} "
                    f"in the file, {shapes[1]} in this run"
                )

    def _set_aside(self, damaged: list[Path]) -> None:
        if self._trains:
            for path in damaged:
                os.replace(path, path.with_name(f"{path.name}.damaged"))


def _natural(name: str) -> tuple:
    owner, _, number = name.rpartition("/")
    return owner, int(number)


def write_state(
    path: Path, state: State, notes: dict[str, Any], temporary: Path, compress: bool = False
) -> None:
    """Writes named arrays and metadata, atomically.

    Args:
        path: The `.npz` file; it contains a checksum for each array.
        state: Arrays by name.
        notes: Metadata, JSON-serialisable.
        temporary: Temporary file, which is renamed to `path`.
        compress: Compress the arrays: smaller, and slower.
    """

    def write(file: BinaryIO) -> None:
        text = np.frombuffer(json.dumps(notes).encode(), np.uint8)
        (np.savez_compressed if compress else np.savez)(file, **state, **{_NOTES: text})

    write_whole(path, write, temporary)


def write_replay(
    path: Path, method: str, config: Any, number: int, state: State, batch: dict[str, np.ndarray]
) -> None:
    """Writes a training step to a file, for `tfface.engine.replay`.

    Args:
        path: The `.npz` file.
        method: Name of the method.
        config: Config of the method.
        number: Number of the step, from 0.
        state: All values before the step, see `Checkpoints.state`.
        batch: Batch of the step, over all devices.
    """
    arrays = {f"state/{name}": value for name, value in state.items()}
    arrays |= {f"batch/{name}": value for name, value in batch.items()}
    notes = {"replay": method, "config": to_dict(config), "number": number}
    write_state(path, arrays, notes, path.with_name(f".{path.name}.tmp"))


def read_state(
    path: Path, choose: Callable[[set[str]], set[str]] = set
) -> tuple[State, dict[str, Any]]:
    """Reads a file written by `write_state`.

    Args:
        path: The file.
        choose: Selects the names to read.

    Returns:
        The arrays by name, and the metadata.

    Raises:
        Damaged: The file is damaged.
        UserError: The file does not exist or cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = choose({*file.files} - {_NOTES})
            notes = json.loads(file[_NOTES].tobytes())
            return {name: file[name] for name in names}, notes
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except _DAMAGE as error:
        raise Damaged(f"{path} is damaged: {error}") from error
