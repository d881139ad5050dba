"""The versions of a model: found in its folder, loaded, warmed up, made available, unloaded."""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from tfface.server import examples
from tfface.server.checks import find_versions
from tfface.server.predict import predict
from tfface.server.saved_model import SavedModel
from tfface.server.status import ServingError, invalid

logger = logging.getLogger("tfface.server")

WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
_MOST_WARM_UP_RECORDS = 1000
_WARM_UPS = {
    "predict_log": predict,
    "classify_log": examples.classify,
    "regress_log": examples.regress,
    "multi_inference_log": examples.multi_inference,
}


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

    state: State = State.START
    error: ServingError | None = None
    model: SavedModel | None = None
    users: int = 0
    failed_as: tuple = field(default=())


class Model:
    """A named model of which the newest version is served (TF Serving's policy "latest 1").

    A new version is loaded and warmed up before the old one goes, and the old one stays loaded
    until its last request is answered: no request fails. If the newest folder is removed, the model
    goes back to the one before; if all are gone, it stays as it is.

    Args:
        name: The name that clients use.
        base_path: Folder of version folders, which are named by numbers.
        warm_up: Run the requests in `assets.extra/tf_serving_warmup_requests` before a version
            becomes available; one that fails makes the load fail.
    """

    def __init__(self, name: str, base_path: Path, warm_up: bool = True):
        self.name = name
        self.base_path = Path(base_path)
        self._warm_up = warm_up
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
        """Looks at the folder and brings what is loaded in line with it; errors go to `status`."""
        numbers = find_versions(self.base_path)
        if not numbers:
            return
        wanted = max(numbers)
        if wanted not in self.available() and not self._load(wanted, numbers[wanted]):
            return
        for number in self.available():
            if number != wanted:
                self._retire(number)

    def close(self) -> None:
        """Unloads everything once it is no longer used."""
        for number in self.available():
            self._retire(number)

    def _load(self, number: int, path: Path) -> bool:
        """Whether the version is now available. A failure is tried again when its files change."""
        files = _fingerprint(path)
        with self._lock:
            version = self._versions.get(number)
            if version is not None and version.failed_as == files:
                return False
            if version is None or version.state is State.END:
                version = self._versions[number] = _Version(State.LOADING)
            else:  # an old one that is still answering its last requests
                return False
        model = None
        try:
            model = SavedModel(path)
            if self._warm_up:
                _run_warm_up(model, number, path / WARM_UP_FILE)
        except Exception as error:
            if not isinstance(error, ServingError):
                error = ServingError(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")
            if model is not None:
                model.close()
            logger.error("model %s: version %d cannot be loaded: %s", self.name, number, error)
            with self._lock:
                version.state, version.error, version.failed_as = State.END, error, files
            return False
        with self._lock:
            version.model, version.state = model, State.AVAILABLE
        logger.info("model %s: version %d is available", self.name, number)
        return True

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


def _run_warm_up(model: SavedModel, number: int, path: Path) -> None:
    if not path.exists():
        return
    try:
        for count, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()):
            if count >= _MOST_WARM_UP_RECORDS:
                raise invalid(
                    "Number of warmup records exceeds the maximum "
                    f"({_MOST_WARM_UP_RECORDS}) at {path}"
                )
            log = prediction_log_pb2.PredictionLog.FromString(record)
            kind = log.WhichOneof("log_type")
            if kind not in _WARM_UPS:
                raise ServingError(
                    grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}"
                )
            _WARM_UPS[kind](model, number, getattr(log, kind).request, None)
    except DecodeError as error:
        raise invalid(f"Failed to parse warmup record from {path}") from error
    except tf.errors.DataLossError as error:
        raise ServingError(
            grpc.StatusCode.DATA_LOSS,
            f"{error.message}. Please verify your warmup data is in TFRecord format.",
        ) from error
