"""The versions of a model: found in its folder, loaded, warmed up, made available, unloaded."""

from __future__ import annotations

import contextlib
import enum
import gc
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from tfface.server.checks import find_versions
from tfface.server.config import ModelConfig, Options
from tfface.server.loading import load
from tfface.server.saved_model import SavedModel
from tfface.server.status import ServingError

logger = logging.getLogger("tfface.server")


class State(enum.IntEnum):
    """What a version goes through; the numbers of `ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class _Version:
    """What is known of a version; `failed_as` is what its folder held when loading failed."""

    path: Path
    state: State = State.LOADING
    error: ServingError | None = None
    model: SavedModel | None = None
    users: int = 0
    failed_as: tuple = ()
    failures: int = 0
    retry_at: float = 0.0


class Model:
    """A named model of which those versions are served that its policy chooses.

    New versions are loaded and warmed up before old ones go, and an old one stays loaded until its
    last request is answered: no request fails. If none that the policy chooses can be loaded, what
    is there goes on, as it does while the folder cannot be read; but of a folder without any of
    them nothing is served. As in TF Serving, a version that is available is not loaded again when
    `config` names another folder that holds the same number.

    Args:
        config: Where the versions are, and which are served.
        options: The server's.

    Attributes:
        config: May be replaced, which `update` then carries out; None: serve no version.
    """

    def __init__(self, config: ModelConfig, options: Options):
        self.name = config.name
        self.config: ModelConfig | None = config
        self._options = options
        self._versions: dict[int, _Version] = {}
        self._lock = threading.Lock()

    def available(self) -> list[int]:
        """Numbers of the versions that answer requests, in ascending order."""
        with self._lock:
            return self._available()

    def _available(self) -> list[int]:
        return sorted(n for n, v in self._versions.items() if v.state is State.AVAILABLE)

    def status(self) -> dict[int, tuple[State, ServingError | None]]:
        """State of every version ever seen, and why it could not be loaded; newest first."""
        with self._lock:
            newest_first = sorted(self._versions.items(), reverse=True)
            return {number: (v.state, v.error) for number, v in newest_first}

    @contextlib.contextmanager
    def use(self, number: int | None = None) -> Iterator[tuple[int, SavedModel]]:
        """Holds a version while a request runs on it.

        Args:
            number: The version; None: the highest available.

        Yields:
            Its number and the loaded model.

        Raises:
            ServingError: NOT_FOUND: it is not available.
        """
        with self._lock:
            available = self._available()
            if number is None and available:
                number = available[-1]
            elif number not in available:
                raise not_found(self.name, number)
            version = self._versions[number]
            version.users += 1
        try:
            yield number, version.model
        finally:
            with self._lock:
                version.users -= 1
            self._unload_if_unused(number, version)

    def update(self) -> None:
        """Looks at the folder and brings what is loaded in line with it and with `config`.

        Errors of loading go to `status`. One call at a time.
        """
        config = self.config
        if config is None:
            self.close()
            return
        try:
            numbers = find_versions(config.base_path)
        except OSError:
            return
        chosen = config.choose(numbers)
        for number in chosen:
            if number not in self.available():
                self._load(number, numbers[number])
        available = set(self.available())
        if available.intersection(chosen) or not chosen:
            for number in available.difference(chosen):
                self._retire(number)

    def close(self) -> None:
        """Unloads everything once it is no longer used."""
        for number in self.available():
            self._retire(number)

    def _load(self, number: int, path: Path) -> None:
        """Makes a version available; one that has failed is tried again when it is time to."""
        files = _fingerprint(path)
        with self._lock:
            old, failures = self._versions.get(number), 0
            if old is not None and old.failed_as == files:
                failures = old.failures
                if failures > self._options.max_load_retries or time.monotonic() < old.retry_at:
                    return
            if old is not None and old.model is not None and old.path == path:
                old.state = State.AVAILABLE  # it was still answering its last requests
                return
            version = self._versions[number] = _Version(path)
        try:
            model = load(path, number, self._options)
        except Exception as error:
            if not isinstance(error, ServingError):
                error = ServingError(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")
            logger.error("model %s: version %d cannot be loaded: %s", self.name, number, error)
            with self._lock:
                version.state, version.error, version.failed_as = State.END, error, files
                version.failures = failures + 1
                version.retry_at = time.monotonic() + self._options.retry_seconds
            return
        with self._lock:
            version.model, version.state = model, State.AVAILABLE
        logger.info("model %s: version %d is available", self.name, number)

    def _retire(self, number: int) -> None:
        with self._lock:
            version = self._versions[number]
            version.state = State.UNLOADING
        self._unload_if_unused(number, version)

    def _unload_if_unused(self, number: int, version: _Version) -> None:
        with self._lock:
            if version.state is not State.UNLOADING or version.users or version.model is None:
                return
            model, version.model = version.model, None
        model.close()
        with self._lock:
            version.state = State.END
        logger.info("model %s: version %d is unloaded", self.name, number)
        del model
        gc.collect()  # A graph is full of cycles: left alone, each version would leave some memory.


def not_found(name: str, number: int | None) -> ServingError:
    """TF Serving's answer to a model or version that is not there."""
    what = f"Latest({name})" if number is None else f"Specific({name}, {number})"
    return ServingError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {what}")


def _fingerprint(path: Path) -> tuple:
    """Names, sizes and times of a folder's files: another value once somebody has mended it."""
    try:
        stats = [(str(file), file.stat()) for file in sorted(path.rglob("*"))]
    except OSError:  # it is changing right now
        return ()
    return ((str(path), 0, 0), *((name, s.st_size, s.st_mtime_ns) for name, s in stats))
