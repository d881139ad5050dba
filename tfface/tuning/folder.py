"""The folder of a study: the stored study, and its lock."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tfface.config import check, from_dict, to_dict
from tfface.engine.run import write_text
from tfface.errors import UserError
from tfface.tuning.study import PATHS, Plan, read_yaml

FILE = "tune.yaml"
_FREE = {"trials", "also", "preset", "config"}  # The last two are contained in the base.


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Creates or opens the folder of a study, and locks it until the end of the block.

    Raises:
        UserError: The folder is in use, is not a study, or cannot be created.
    """
    check(str(out).isprintable(), f"{str(out)!r}: expected a folder name without line breaks")
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = [path.name for path in out.iterdir() if not path.name.startswith(".")]
        check(not files or FILE in files, f"{out} exists, but is not a study: it has no {FILE}")
        lock = open(out / ".lock", "w")
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"{out}: cannot create the folder of a study: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{out} is in use by another process; use several workers for parallel trials"
            ) from None
        yield


def keep(plan: Plan, out: Path) -> None:
    """Stores the study, with the base configuration of its trials, in its folder.

    The study can change until the first trial begins.

    Raises:
        UserError: The folder has trials of another study.
    """
    check_same(plan, out)
    now = _values(plan)
    file, measures = out / FILE, out / "measures.json"
    if measures.exists():
        before = _read(file)
        if any(before.get(key) != now[key] for key in ("method", "base")):
            measures.unlink()  # Of other networks or data.
    write_text(file, yaml.safe_dump(now, sort_keys=False))


def check_same(plan: Plan, out: Path) -> None:
    """Raises a UserError that lists the differences if the folder has trials of another study.

    Paths of data may differ.
    """
    if not (out / "oracle" / "oracle.json").exists():
        return
    before, now = _read(out / FILE), _values(plan)
    stored, base = before.pop("base", None), now.pop("base")
    check(isinstance(stored, dict), f"{out / FILE} has no base configuration; {_RESTART}")
    if before["method"] == plan.method:
        try:  # Options that are newer than the study had their defaults.
            stored = _plain(to_dict(from_dict(type(plan.base), stored)))
        except UserError as error:
            raise UserError(f"{out / FILE}: base: {error}; {_RESTART}") from error
    pairs = [*_differences(before, now, _FREE), *_differences(stored, base, PATHS)]
    listed = "; ".join(f"{name} was {old}, is {new}" for name, old, new in pairs)
    check(not pairs, f"{out} contains another study: {listed}; {_RESTART}")


_RESTART = "to start over, choose another output folder"


def _read(file: Path) -> dict:
    try:
        return read_yaml(file)
    except UserError as error:
        raise UserError(f"{file}: {error}; {_RESTART}") from error


def _values(plan: Plan) -> dict:
    study = {"method": plan.method, **dataclasses.asdict(plan.study)}
    return _plain({**study, "base": to_dict(plan.base)})


def _plain(values: dict) -> dict:
    """The values as loaded from YAML."""
    return yaml.safe_load(yaml.safe_dump(values))


def _differences(before: dict, now: dict, free: set[str]) -> Iterator[tuple[str, str, str]]:
    """Dotted names of differing values, with both values as text."""
    old, new = dict(_flat(before)), dict(_flat(now))
    for name in dict.fromkeys([*old, *new]):
        if name not in free and (name not in old or name not in new or old[name] != new[name]):
            yield name, *(repr(v[name]) if name in v else "not given" for v in (old, new))


def _flat(values: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
