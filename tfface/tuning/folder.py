"""The folder of a study: what it keeps of the study, and which process may use it."""

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
_FREE = {"trials", "also", "preset", "config"}  # What the last two come to is in the base.


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Makes the folder of a study, or opens it again, for one process at a time.

    Raises:
        UserError: It is in use, is no study, or cannot be made.
    """
    check(str(out).isprintable(), f"{str(out)!r}: expected a folder's name without line breaks")
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = [path.name for path in out.iterdir() if not path.name.startswith(".")]
        check(not files or FILE in files, f"{out} exists, and is no study: it has no {FILE}")
        lock = open(out / ".lock", "w")
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"{out}: cannot be made a study's folder: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{out} is in use by another process; for several trials at once see --workers"
            ) from None
        yield


def keep(plan: Plan, out: Path) -> None:
    """Writes the study, with the configuration that its trials start from, into its folder.

    Until the first trial begins anything may change.

    Raises:
        UserError: The folder's trials are of another study.
    """
    check_same(plan, out)
    now = _values(plan)
    file, measures = out / FILE, out / "measures.json"
    if measures.exists():
        before = _read(file)
        if any(before.get(key) != now[key] for key in ("method", "base")):
            measures.unlink()  # They are of other networks or images.
    write_text(file, yaml.safe_dump(now, sort_keys=False))


def check_same(plan: Plan, out: Path) -> None:
    """Raises a UserError that names all differences if the folder has trials of another study.

    Where data lie is none.
    """
    if not (out / "oracle" / "oracle.json").exists():
        return
    before, now = _read(out / FILE), _values(plan)
    kept, base = before.pop("base", None), now.pop("base")
    check(isinstance(kept, dict), f"{out / FILE} has no base, which trials start from; {_ANEW}")
    if before["method"] == plan.method:
        try:  # An option that is newer than the study had its default there.
            kept = _plain(to_dict(from_dict(type(plan.base), kept)))
        except UserError as error:
            raise UserError(f"{out / FILE}: base: {error}; {_ANEW}") from error
    pairs = [*_differences(before, now, _FREE), *_differences(kept, base, PATHS)]
    told = "; ".join(f"{name} was {old}, is {new}" for name, old, new in pairs)
    check(not pairs, f"{out} is of another study: {told}; {_ANEW}")


_ANEW = "another --out begins anew"


def _read(file: Path) -> dict:
    try:
        return read_yaml(file)
    except UserError as error:
        raise UserError(f"{file}: {error}; {_ANEW}") from error


def _values(plan: Plan) -> dict:
    study = {"method": plan.method, **dataclasses.asdict(plan.study)}
    return _plain({**study, "base": to_dict(plan.base)})


def _plain(values: dict) -> dict:
    """The values as YAML gives them back."""
    return yaml.safe_load(yaml.safe_dump(values))


def _differences(before: dict, now: dict, free: set[str]) -> Iterator[tuple[str, str, str]]:
    """Dotted names of what differs, with both values for people."""
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
