"""The versions of a model: discovery, loading, warm-up and unloading."""

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
    """States of a version, with the numbers of `ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class _Version:
    """A version; `failed_as` is the fingerprint of its folder when loading failed."""

    path: Path
    state: State = State.LOADING
    error: ServingError | None = None
    model: SavedModel | None = None
    users: int = 0
    failed_as: tuple = ()
    failures: int = 0
    retry_at: float = 0.0


class Model:
    """A named model, which serves the versions chosen by its version policy.

    A new version is loaded and warmed up before an old one is unloaded, and the old one stays
    loaded until its last request has finished, so that no request fails. If none of the chosen
    versions can be loaded, or the folder cannot be read, the current versions stay loaded. If the
    folder has no version that the policy would choose, all are unloaded. As in TF Serving, an
    available version is not reloaded when `config` changes to a folder with the same number.

    Args:
        config: Location of the versions, and which of them to serve.
        options: Server settings.

    Attributes:
        config: May be replaced, and takes effect at the next `update`; None: serve no version.
    """

    def __init__(self, config: ModelConfig, options: Options):
        self.name = config.name
        self.config: ModelConfig | None = config
        self._options = options
        self._versions: dict[int, _Version] = {}
        self._lock = threading.Lock()

    def available(self) -> list[int]:
        """Numbers of the available versions, in ascending order."""
        with self._lock:
            return self._available()

    def _available(self) -> list[int]:
        return sorted(n for n, v in self._versions.items() if v.state is State.AVAILABLE)

    def status(self) -> dict[int, tuple[State, ServingError | None]]:
        """State of every version ever seen, and its loading error if any; newest first."""
        with self._lock:
            newest_first = sorted(self._versions.items(), reverse=True)
            return {number: (v.state, v.error) for number, v in newest_first}

    @contextlib.contextmanager
    def use(self, number: int | None = None) -> Iterator[tuple[int, SavedModel]]:
        """Keeps a version loaded while a request runs on it.

        Args:
            number: The version; None: the highest available one.

        Yields:
            Its number and the loaded model.

        Raises:
            ServingError: NOT_FOUND: the version is not available.
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
        """Loads and unloads versions according to the folder and `config`.

        Loading errors are reported by `status`. Not thread-safe.
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
        """Unloads all versions as soon as no request uses them."""
        for number in self.available():
            self._retire(number)

    def _load(self, number: int, path: Path) -> None:
        """Makes a version available; a failed version is retried only when its retry is due."""
        files = _fingerprint(path)
        with self._lock:
            old, failures = self._versions.get(number), 0
            if old is not None and old.failed_as == files:
                failures = old.failures
                if failures > self._options.max_load_retries or time.monotonic() < old.retry_at:
                    return
            if old is not None and old.model is not None and old.path == path:
                old.state = State.AVAILABLE  # it was still running its last requests
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
        gc.collect()  # graphs have reference cycles, and would keep memory


def not_found(name: str, number: int | None) -> ServingError:
    """TF Serving's error for an unknown model or version."""
    servable = f"Latest({name})" if number is None else f"Specific({name}, {number})"
    return ServingError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {servable}")


def _fingerprint(path: Path) -> tuple:
    """Names, sizes and times of a folder's files, which change when the folder is repaired."""
    try:
        stats = [(str(file), file.stat()) for file in sorted(path.rglob("*"))]
    except OSError:  # it is changing right now
        return ()
    return ((str(path), 0, 0), *((name, s.st_size, s.st_mtime_ns) for name, s in stats))
