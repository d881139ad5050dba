"""The run folder: what was asked for, what happened, and where the weights are."""

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from tfface.config import from_dict, to_dict
from tfface.errors import UserError, invocation
from tfface.version import __version__

logger = logging.getLogger("tfface")

_LOCK = ".lock"
_CHECKPOINT = re.compile(r"step-(\d+)\.npz")
# Where the data lie is no option of a run: these are kept, but never compared.
_PLACES = ("data.path", "labelled.path")
# How long, how often and on which devices: may change whenever a run is continued.
_FREE = (
    "train.steps", "train.log_every", "train.preview_every", "train.evaluate_every",
    "train.save_every", "train.keep", "train.replicas", "train.jit", "train.deterministic",
)  # fmt: skip


def write_whole(path: Path, write: Callable[[BinaryIO], None], temporary: Path) -> None:
    """Writes a file whole or not at all, so that it is on the disk when this returns.

    Args:
        path: The file.
        write: Writes to an open file.
        temporary: Beside it; where it is written before it gets its name.
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
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    write_whole(path, lambda file: file.write(text.encode()), temporary)


def checkpoint_files(folder: Path) -> dict[int, Path]:
    """The checkpoints in a folder, by step, in no order."""
    names = os.listdir(folder) if folder.is_dir() else []
    return {int(m[1]): folder / name for name in names if (m := _CHECKPOINT.fullmatch(name))}


class Run:
    """A run folder.

    Holds `method.txt`, `config.yaml` (resolved options; `train --config` takes it), `command.txt`,
    `environment.json`, `log.txt`, `metrics.jsonl`, `tensorboard/`, `previews/`, `checkpoints/`, and
    `history.jsonl`, if options have changed or weights came from another run.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @classmethod
    def create(
        cls, method: str, config: Any, path: str = "", label: str = "", change: bool = False
    ) -> Run:
        """Opens the folder of a run, new or to be continued.

        Args:
            method: The method's name.
            config: Its config, with labels resolved.
            path: The folder; "": the next free `runs/NNNNN-METHOD-LABEL`.
            label: End of a new folder's name.
            change: Lets a run go on with another optimiser (`adam.*`), precision or batch size.

        Raises:
            UserError: The folder holds something else, a run with other options, or one that
                another process is training.
        """
        _check_name(path)
        run = cls(path or _next_free(Path("runs"), "-".join(filter(None, (method, label)))))
        continued = (run.path / "config.yaml").exists()
        if not continued and run.path.exists() and any(p.name != _LOCK for p in run._entries()):
            raise UserError(f"{run.path} exists, and is no run folder: it has no config.yaml")
        try:
            for folder in ("previews", "checkpoints"):
                (run.path / folder).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise UserError(f"{run.path}: cannot be made a run folder: {error.strerror}") from error
        with run.alone():
            if continued:
                run._check_same(method, config, change)
            write_text(run.path / "method.txt", method + "\n")
            values = yaml.safe_dump(_absolute(to_dict(config)), sort_keys=False)
            write_text(run.path / "config.yaml", values)
        return run

    def _entries(self) -> list[Path]:
        try:
            return list(self.path.iterdir())
        except NotADirectoryError as error:
            raise UserError(f"{self.path}: cannot be made a run folder: it is a file") from error

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other processes from training in the folder until the end of the block.

        Raises:
            UserError: Another process does.
        """
        with open(self.path / _LOCK, "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{self.path} is in use: another process is training this run; wait for it, "
                    f"or name another folder with --run"
                ) from None
            except OSError as error:  # Some network file systems have no locks.
                logger.warning("%s cannot be locked: %s", self.path, error.strerror)
            yield

    def _check_same(self, method: str, config: Any, change: bool) -> None:
        """Refuses options that a run cannot go on with; notes those that it goes on with."""
        before_method, before = self.read_config()
        if before_method == method:
            # An option that is newer than the run had its default there.
            before = to_dict(self.config(type(config)))
        before, now = _absolute(before), _absolute(to_dict(config))
        changes = {
            name: (old, new)
            for name, old, new in _differences(
                {"method": before_method, **before}, {"method": method, **now}
            )
        }
        asked = {n: v for n, v in changes.items() if n not in (*_PLACES, *_FREE)}
        never = {name: v for name, v in asked.items() if not _changeable(name, v)}
        if never or (asked and not change):
            told = "; ".join(f"{n} was {old!r}, is {new!r}" for n, (old, new) in asked.items())
            raise UserError(
                f"{self.path} is a run with other options: {told}. "
                + (
                    "These need a new run, with another --run, which may begin with the weights of "
                    "this one if its networks are the same (--init). "
                    if never
                    else "To go on with the new ones add --change. "
                )
                + f"To continue it as it was: {self.resume_command()}"
            )
        if changes:
            self.remember("changed", {name: list(pair) for name, pair in changes.items()})

    def remember(self, event: str, what: Any) -> None:
        """Adds a line to the history of the run: what happened after which step."""
        step = max(checkpoint_files(self.path / "checkpoints"), default=0)
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "step": step, event: what}
        with open(self.path / "history.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def config(self, config_class: type) -> Any:
        """The options as a config; raises a UserError for those that the method does not have."""
        try:
            return from_dict(config_class, self.read_config()[1])
        except UserError as error:
            raise UserError(
                f"{self.path / 'config.yaml'}: {error}; a run that another version of tfface has "
                f"made may have other options"
            ) from error

    def resume_command(self) -> str:
        """The command line, for a shell, that continues the run with its options."""
        method, _ = self.read_config()
        config = self.path / "config.yaml"
        words = shlex.join([method, "--config", str(config), "--run", str(self.path)])
        return f"{invocation('train')} {words}"

    def read_config(self) -> tuple[str, dict]:
        """The method's name and the options; raises a UserError when the folder is no run."""
        path = self.path / "config.yaml"
        try:
            method = (self.path / "method.txt").read_text().strip()
            values = yaml.safe_load(path.read_text())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"{self.path} is no run folder: it has no {Path(error.filename).name}"
            ) from error
        except yaml.YAMLError as error:
            raise UserError(f"{path}: not YAML: {error}") from error
        if not isinstance(values, dict):
            raise UserError(f"{path}: expected the options of a run")
        return method, values

    def describe(self, devices: list[str]) -> None:
        """Writes the command line and the versions; appends on a resume."""
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
        """Drops lines of steps after `step`: a resumed run does these again."""
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
    """Makes and returns `root/NNNNN-label` of the next number, also when several start at once."""
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
    """Raises a UserError for a name that some part of a run could not use."""
    if "://" in str(path):
        raise UserError(f"the run folder is {str(path)!r}: expected a folder on this machine")
    try:
        str(Path(path).absolute()).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the run folder is {str(path)!r}: its name is not UTF-8") from error


def _changeable(name: str, values: tuple[Any, Any]) -> bool:
    """Whether a run can go on with another value: networks, labels and data must be the same."""
    if name == "train.precision":
        return "mixed_float16" not in values  # Its optimisers have one more state.
    return name.startswith("adam.") or name.endswith(".batch_size")


def _absolute(values: dict) -> dict:
    """Options with the folders of the data as absolute paths, in one spelling."""
    values = {k: dict(v) if isinstance(v, dict) else v for k, v in values.items()}
    for name in _PLACES:
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
