"""Checkpoints: networks, averaged weights, optimisers and the step, a file each.

The format is NumPy's: TensorFlow's own checkpoints take the names of folders as patterns, and so
read and delete what lies beside a run whose name has brackets.
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
_NOTES = "notes"  # The member that holds JSON: the step, and what the trainer adds.
# What reading a file raises that was cut, overwritten or never written.
_DAMAGE = (OSError, EOFError, ValueError, KeyError, NotImplementedError, struct.error)
_DAMAGE += (zipfile.BadZipFile, zlib.error)


class Damaged(UserError):
    """A file that does not hold what was once written to it."""


class Checkpoints:
    """Saves and restores; the networks are those given, wherever the files came from.

    Args:
        folder: Where the checkpoints are: `step-N.npz`.
        nets: Networks by name.
        averages: Averaged networks by name.
        optimizers: Optimisers by name; None when only the networks are wanted.
        keep: How many to keep.

    Attributes:
        notes: What was saved beside the weights of the checkpoint restored last.
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
                # Raw variables in a fixed order: also those that Keras does not show to
                # TensorFlow's tracking, such as the states of its seed generators.
                for i, variable in enumerate(owner.variables):
                    self._variables[f"{part}/{name}/{i}"] = variable.value

    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, in order."""
        return sorted(checkpoint_files(self.folder))

    def state(self) -> State:
        """A copy of all values, by name."""
        return {name: np.array(variable.numpy()) for name, variable in self._variables.items()}

    def assign(self, state: State) -> None:
        """The inverse of `state`."""
        for name, variable in self._variables.items():
            variable.assign(state[name].astype(variable.dtype.as_numpy_dtype))

    def save(self, step: int, notes: dict[str, Any] | None = None) -> None:
        """Saves; an earlier checkpoint stays until this one is complete.

        Args:
            step: Training steps done.
            notes: What else is needed to go on, for JSON.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # One process trains in a folder: a name that is always the same leaves one rest at most.
        temporary = self.folder / "incomplete.npz"
        write_state(self.folder / f"step-{step}.npz", self.state(), notes or {}, temporary)
        for old in self.steps()[: -self._keep]:
            (self.folder / f"step-{old}.npz").unlink(missing_ok=True)

    def restore(self, step: int | None = None) -> int:
        """Restores the newest checkpoint that is whole, or that of a step.

        A damaged one is told of; in training it is renamed `step-N.npz.damaged`.

        Returns:
            Its step; 0 when there is none and none was named.

        Raises:
            UserError: No such checkpoint, none that is whole, or one of other networks.
        """
        steps = self.steps()
        if step is not None and step not in steps:
            raise UserError(
                f"{self.folder} has no checkpoint of step {step}; "
                f"it has {', '.join(map(str, steps)) or 'none'}"
            )
        if step is None and not steps:
            self._check_empty()
            return 0
        damaged = []
        for candidate in [step] if step is not None else reversed(steps):
            path = self.folder / f"step-{candidate}.npz"
            try:
                state, notes = read_state(path, self._wanted)
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
                logger.warning("the checkpoint of step %d is taken instead", candidate)
            return candidate
        raise UserError(
            f"{', '.join(path.name for path in damaged)} in {self.folder}: damaged, and there is "
            f"no other checkpoint; remove {'it' if len(damaged) == 1 else 'them'} to begin anew"
        )

    def initialize(self, folder: Path) -> int:
        """Takes the networks' weights from the newest whole checkpoint of another run.

        Averaged networks begin with the averages there, or with the weights themselves where there
        are none; optimisers stay new.

        Args:
            folder: The checkpoints of the other run.

        Returns:
            The step of its checkpoint.

        Raises:
            UserError: It has no checkpoint, or one of other networks.
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
        raise UserError(f"{folder} has no checkpoint that is whole")

    def _fill_averages(self, state: State) -> None:
        """Averages that a state lacks are the weights themselves."""
        for name in self._variables:
            weights = name.replace("averages/", "nets/", 1)
            if name.startswith("averages/") and name not in state and weights in state:
                state[name] = state[weights]

    def _check_empty(self) -> None:
        old = [p.name for p in self.folder.iterdir()] if self.folder.is_dir() else []
        if any(name.endswith(".index") for name in old):
            raise UserError(
                f"{self.folder} has checkpoints of an earlier version of tfface, in TensorFlow's "
                f"format; this version cannot read them: train anew in another folder"
            )
        if damaged := sorted(name for name in old if name.endswith(".damaged")):
            raise UserError(
                f"{self.folder} has only damaged checkpoints: {', '.join(damaged)}; remove them to "
                f"begin anew"
            )

    def _wanted(self, names: set[str]) -> set[str]:
        return names if self._trains else {n for n in names if not n.startswith("optimizers/")}

    def _check_fits(self, path: Path, state: dict[str, np.ndarray | None]) -> None:
        """Raises a UserError if the values are not those of these networks and optimisers."""
        here = {name: tuple(variable.shape) for name, variable in self._variables.items()}
        there = {name: value.shape for name, value in state.items() if value is not None}
        for name in sorted({*here, *there}, key=_natural):
            if here.get(name) != there.get(name):
                shapes = [f"of shape {s[name]}" if name in s else "missing" for s in (there, here)]
                raise UserError(
                    f"{path}: cannot be restored, it is of other networks: {name} is {shapes[0]} "
                    f"there, {shapes[1]} here"
                )

    def _set_aside(self, damaged: list[Path]) -> None:
        if self._trains:
            for path in damaged:
                os.replace(path, path.with_name(f"{path.name}.damaged"))


def _natural(name: str) -> tuple:
    owner, _, number = name.rpartition("/")
    return owner, int(number)


def write_state(path: Path, state: State, notes: dict[str, Any], temporary: Path) -> None:
    """Writes named arrays, and what is for JSON beside them, whole or not at all.

    Args:
        path: The file, `.npz`; each array in it has a checksum.
        state: The arrays.
        notes: Anything that JSON holds.
        temporary: Where it is written before it gets its name.
    """

    def write(file: BinaryIO) -> None:
        text = np.frombuffer(json.dumps(notes).encode(), np.uint8)
        np.savez(file, **state, **{_NOTES: text})

    write_whole(path, write, temporary)


def write_replay(
    path: Path, method: str, config: Any, number: int, state: State, batch: dict[str, np.ndarray]
) -> None:
    """Writes a step.

    Args:
        path: The file, `.npz`.
        method: The method's name.
        config: Its config.
        number: The step, counted from 0.
        state: All values before it, as of `Checkpoints.state`.
        batch: Its batch, over all devices.
    """
    arrays = {f"state/{name}": value for name, value in state.items()}
    arrays |= {f"batch/{name}": value for name, value in batch.items()}
    notes = {"replay": method, "config": to_dict(config), "number": number}
    write_state(path, arrays, notes, path.with_name(f".{path.name}.tmp"))


def read_state(
    path: Path, choose: Callable[[set[str]], set[str]] = set
) -> tuple[State, dict[str, Any]]:
    """What `write_state` has written.

    Args:
        path: The file.
        choose: Which of the names to read.

    Raises:
        Damaged: The file is not whole.
        UserError: There is no such file, or it may not be read.
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
