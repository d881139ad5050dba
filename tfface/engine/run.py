"""The run folder: options, logs, metrics and checkpoints of a run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import platform
import re
import shlex
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from tfface.config import from_dict, to_dict
from tfface.errors import UserError, invocation
from tfface.version import __version__

logger = logging.getLogger("tfface")

_LOCK = ".lock"
_FOLDERS = ("previews", "checkpoints")
_CHECKPOINT = re.compile(r"step-(\d+)\.npz")
# Data folders are stored, but not compared when a run is continued: data may move.
_DATA_PATHS = ("data.path", "labelled.path")
# Length, intervals and devices may change whenever a run is continued.
_FREE = (
    "train.steps", "train.log_every", "train.preview_every", "train.evaluate_every",
    "train.save_every", "train.keep", "train.replicas", "train.jit", "train.deterministic",
    "train.accumulate", "train.steps_per_call", "train.profile",
)  # fmt: skip


def write_whole(path: Path, write: Callable[[BinaryIO], None], temporary: Path) -> None:
    """Writes a file atomically and durably: it is on disk when this function returns.

    Args:
        path: The file.
        write: Writes the content to an open file.
        temporary: Temporary file in the same folder, which is renamed to `path`.
    """
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    write_whole(path, lambda file: file.write(text.encode()), temporary)


def checkpoint_files(folder: Path) -> dict[int, Path]:
    """The checkpoints in a folder by step, unordered."""
    names = os.listdir(folder) if folder.is_dir() else []
    return {int(m[1]): folder / name for name in names if (m := _CHECKPOINT.fullmatch(name))}


def fingerprint(config: Any) -> int:
    """A checksum of all options but the data folders, which may differ between machines."""
    values = to_dict(config)
    for name in _DATA_PATHS:
        group, _, option = name.partition(".")
        (values.get(group) or {}).pop(option, None)
    return zlib.crc32(json.dumps(values).encode())


class Run:
    """A run folder.

    Contains `method.txt`, `config.yaml` (resolved options, for `train --config`), `command.txt`,
    `environment.json`, `log.txt`, `metrics.jsonl`, `tensorboard/`, `previews/`, `checkpoints/`, and
    `history.jsonl` if options have changed or weights came from another run.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @classmethod
    def create(
        cls, method: str, config: Any, path: str = "", label: str = "", change: bool = False
    ) -> Run:
        """Creates the folder of a new run, or opens that of a run to continue.

        Args:
            method: Name of the method.
            config: Config of the method, with labels resolved.
            path: The folder; "" for the next free `runs/NNNNN-METHOD-LABEL`.
            label: Suffix for the name of a new folder.
            change: Allow another optimiser (`adam.*`), precision or batch size.

        Raises:
            UserError: The folder contains something else, a run with other options, or a run that
                another process is training.
        """
        _check_name(path)
        run = cls(path or _next_free(Path("runs"), "-".join(filter(None, (method, label)))))
        continued = (run.path / "config.yaml").exists()
        if not continued and run.path.exists() and not run._is_unfinished():
            raise UserError(f"{run.path} exists, but is not a run folder: it has no config.yaml")
        try:
            for folder in _FOLDERS:
                (run.path / folder).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise UserError(f"{run.path}: cannot create a run folder: {error.strerror}") from error
        with run.alone():
            if continued:
                run._check_same(method, config, change)
            write_text(run.path / "method.txt", method + "\n")
            values = yaml.safe_dump(_absolute(to_dict(config)), sort_keys=False)
            write_text(run.path / "config.yaml", values)
        return run

    def _is_unfinished(self) -> bool:
        """Whether the folder is empty, or has only what `create` makes before `config.yaml`."""
        try:
            entries = list(self.path.iterdir())
        except NotADirectoryError as error:
            raise UserError(f"{self.path}: cannot create a run folder: it is a file") from error
        return all(
            entry.name in (_LOCK, "method.txt")
            or entry.name in _FOLDERS
            and not any(entry.iterdir())
            or entry.name.startswith((".method.txt.", ".config.yaml."))
            for entry in entries
        )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Locks the folder against training by other processes, until the end of the block.

        Raises:
            UserError: Another process is training the run.
        """
        with open(self.path / _LOCK, "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{self.path} is in use: another process is training this run; wait for it, "
                    f"or choose another run folder"
                ) from None
            except OSError as error:  # Some network file systems do not support locks.
                logger.warning("%s cannot be locked: %s", self.path, error.strerror)
            yield

    def _check_same(self, method: str, config: Any, change: bool) -> None:
        """Rejects options that a run cannot continue with; records changes that are allowed."""
        before_method, before = self.read_config()
        if before_method == method:
            # Options that are newer than the run had their defaults.
            before = to_dict(self.config(type(config)))
        before, now = _absolute(before), _absolute(to_dict(config))
        changes = {
            name: (old, new)
            for name, old, new in _differences(
                {"method": before_method, **before}, {"method": method, **now}
            )
        }
        checked = {n: v for n, v in changes.items() if n not in (*_DATA_PATHS, *_FREE)}
        fixed = {name: v for name, v in checked.items() if not _changeable(name, v)}
        if fixed or (checked and not change):
            listed = "; ".join(f"{n} was {old!r}, is {new!r}" for n, (old, new) in checked.items())
            raise UserError(
                f"{self.path} is a run with other options: {listed}. "
                + (
                    "These need a new run folder (option run); if the networks are the same, the "
                    "new run can start from the weights of this one (option init). "
                    if fixed
                    else "To continue with the new values, set the option change. "
                )
                + f"To continue with the old values: {self.resume_command()}"
            )
        if changes:
            self.remember("changed", {name: list(pair) for name, pair in changes.items()})

    def remember(self, event: str, details: Any) -> None:
        """Appends an event, with the step at which it happened, to `history.jsonl`."""
        step = max(checkpoint_files(self.path / "checkpoints"), default=0)
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "step": step, event: details}
        with open(self.path / "history.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def config(self, config_class: type) -> Any:
        """The options as a config; raises a UserError for unknown options."""
        try:
            return from_dict(config_class, self.read_config()[1])
        except UserError as error:
            raise UserError(
                f"{self.path / 'config.yaml'}: {error}; runs of another version of tfface may have "
                f"other options"
            ) from error

    def resume_command(self) -> str:
        """The shell command that continues the run with its options."""
        method, _ = self.read_config()
        config = self.path / "config.yaml"
        words = shlex.join([method, "--config", str(config), "--run", str(self.path)])
        return f"{invocation('train')} {words}"

    def read_config(self) -> tuple[str, dict]:
        """The method's name and the options; raises a UserError if the folder is not a run."""
        path = self.path / "config.yaml"
        try:
            method = (self.path / "method.txt").read_text().strip()
            values = yaml.safe_load(path.read_text())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"{self.path} is not a run folder: it has no {Path(error.filename).name}"
            ) from error
        except yaml.YAMLError as error:
            raise UserError(f"{path}: not YAML: {error}") from error
        if not isinstance(values, dict):
            raise UserError(f"{path}: expected the options of a run")
        return method, values

    def describe(self, devices: list[str]) -> None:
        """Writes environment.json, and appends the command line to command.txt."""
        import keras
        import numpy
        import tensorflow as tf

        command = shlex.join([sys.executable, *getattr(sys, "orig_argv", sys.argv)[1:]])
        with open(self.path / "command.txt", "a") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {command}\n")
        versions = {
            "python": platform.python_version(),
            "tfface": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": numpy.__version__,
            "platform": platform.platform(),
            "devices": devices,
        }
        write_text(self.path / "environment.json", json.dumps(versions, indent=1) + "\n")

    def truncate_metrics(self, step: int) -> None:
        """Removes metrics after `step`, which a resumed run repeats."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                logger.warning("%s: dropped a damaged line", path)
        write_text(path, "".join(kept))

    def add_metrics(self, step: int, values: dict[str, float]) -> None:
        """Appends a line of metrics."""
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def _next_free(root: Path, label: str) -> Path:
    """Creates and returns the next `root/NNNNN-label`; safe if several runs start at once."""
    while True:
        names = [p.name for p in root.iterdir()] if root.is_dir() else []
        numbers = [int(m[1]) for name in names if (m := re.match(r"(\d{5})-", name))]
        path = root / f"{max(numbers, default=-1) + 1:05d}-{label}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue


def _check_name(path: str | Path) -> None:
    """Raises a UserError for an unsuitable folder name."""
    if "://" in str(path):
        raise UserError(f"the run folder is {str(path)!r}: expected a local folder")
    try:
        str(Path(path).absolute()).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the run folder is {str(path)!r}: its name is not UTF-8") from error


def _changeable(name: str, values: tuple[Any, Any]) -> bool:
    """Whether a run can continue with another value: networks, labels and data cannot change."""
    if name == "train.precision":
        return "mixed_float16" not in values  # Its optimisers have additional state.
    return name.startswith("adam.") or name.endswith(".batch_size")


def _absolute(values: dict) -> dict:
    """Options with the data folders as absolute, normalised paths."""
    values = {k: dict(v) if isinstance(v, dict) else v for k, v in values.items()}
    for name in _DATA_PATHS:
        group, _, option = name.partition(".")
        data = values.get(group)
        if isinstance(data, dict) and data.get(option):
            data[option] = str(Path(data[option]).resolve())
    return values


def _differences(before: Any, now: Any, name: str = ""):
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(k for k in now if k not in before)]:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield name, before, now
