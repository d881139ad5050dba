"""The run folder: what was asked for, what happened, and where the weights are."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shlex
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import yaml

from tfface.config import from_dict, to_dict
from tfface.errors import UserError

logger = logging.getLogger("tfface")


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class Run:
    """A run folder.

    Holds `method.txt`, `config.yaml` (resolved options; `train --config` takes it), `command.txt`,
    `environment.json`, `log.txt`, `metrics.jsonl`, `tensorboard/`, `previews/` and `checkpoints/`.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @classmethod
    def create(cls, method: str, config: Any, path: str = "", label: str = "") -> Run:
        """Opens the folder of a run, new or to be continued.

        Args:
            method: The method's name.
            config: Its config, with labels resolved.
            path: The folder; "": the next free `runs/NNNNN-METHOD-LABEL`.
            label: End of a new folder's name.

        Raises:
            UserError: The folder holds something else, or a run with other options.
        """
        run = cls(path or _next_free(Path("runs"), "-".join(filter(None, (method, label)))))
        values = to_dict(config)
        if (run.path / "config.yaml").exists():
            run._check_same(method, config)
        elif run.path.exists() and any(run.path.iterdir()):
            raise UserError(f"{run.path} exists, and is no run folder: it has no config.yaml")
        try:
            for folder in ("previews", "checkpoints"):
                (run.path / folder).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise UserError(f"{run.path}: cannot be made a run folder: {error.strerror}") from error
        write_text(run.path / "method.txt", method + "\n")
        write_text(run.path / "config.yaml", yaml.safe_dump(values, sort_keys=False))
        return run

    def _check_same(self, method: str, config: Any) -> None:
        """Only how long and how often may change when a run is continued."""
        free = {"steps", "log_every", "preview_every", "evaluate_every", "save_every", "keep"}
        free |= {"replicas", "jit"}
        before_method, before = self.read_config()
        if before_method == method:
            # An option that is newer than the run had its default there.
            before = to_dict(from_dict(type(config), before))
        pairs = _differences(
            {"method": before_method, **before}, {"method": method, **to_dict(config)}
        )
        different = [
            f"{name} was {old!r}, is {new!r}"
            for name, old, new in pairs
            if not (name.startswith("train.") and name.split(".")[1] in free)
        ]
        if different:
            raise UserError(
                f"{self.path} is a run with other options: {'; '.join(different)}. "
                f"To continue it: {self.resume_command()}"
            )

    def resume_command(self) -> str:
        """The command line, for a shell, that continues the run with its options."""
        method, _ = self.read_config()
        words = ["python", "-m", "tfface.train", method]
        return shlex.join(
            [*words, "--config", str(self.path / "config.yaml"), "--run", str(self.path)]
        )

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

        import tfface

        command = shlex.join([sys.executable, *getattr(sys, "orig_argv", sys.argv)[1:]])
        with open(self.path / "command.txt", "a") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {command}\n")
        versions = {
            "python": platform.python_version(),
            "tfface": tfface.__version__,
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


def _differences(before: Any, now: Any, name: str = ""):
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(k for k in now if k not in before)]:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield name, before, now
