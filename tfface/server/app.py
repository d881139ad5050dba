"""The server: models, services and ports put together, and the look-out for new versions."""

from __future__ import annotations

import logging
import os
import threading
from concurrent import futures
from pathlib import Path

import grpc

from tfface.errors import UserError
from tfface.server.answers import Answers
from tfface.server.checks import check_address, check_base_path
from tfface.server.models import Models
from tfface.server.services import services
from tfface.server.status import shortened
from tfface.server.versions import Model

logger = logging.getLogger("tfface.server")

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Otherwise two servers can share a port without knowing it, each getting some of the calls.
    ("grpc.so_reuseport", 0),
]
_HEALTH_NAMES = ("", "ModelService", "PredictionService")


class Server:
    """TF Serving's gRPC API in this process.

    Also a context manager: `with Server(folder) as server: FaceClient(f"127.0.0.1:{server.port}")`.

    Args:
        model_base_path: Folder whose sub-folders, named by numbers, are versions of a SavedModel.
        model_name: The name that clients use.
        host: Address to listen on; None: the loopback addresses 127.0.0.1 and, where there is one,
            ::1.
        port: 0: any free one.
        threads: Requests that run at the same time; None: four times the number of CPUs.
        warm_up: Run a version's warm-up requests before it becomes available.
        health: Offer the standard gRPC health service.
        poll_seconds: Time between two looks for new versions; 0 or less: look only at the start.

    Attributes:
        models: The models.
        port: The port; known after `start`.
        addresses: All addresses listened on, as HOST:PORT; known after `start`.
    """

    def __init__(
        self,
        model_base_path: str | Path,
        *,
        model_name: str = "default",
        host: str | None = None,
        port: int = 0,
        threads: int | None = None,
        warm_up: bool = True,
        health: bool = False,
        poll_seconds: float = 1.0,
    ):
        self.models = Models([Model(model_name, Path(model_base_path), warm_up)])
        self.host = host
        self.port = port
        self.addresses: list[str] = []
        self._health = health
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="versions", daemon=True)
        self._threads = futures.ThreadPoolExecutor(threads or 4 * (os.cpu_count() or 1))
        self._grpc = grpc.server(self._threads, options=_OPTIONS)

    def start(self) -> Server:
        """Loads the models, then opens the port: an open port means that all is ready.

        Raises:
            UserError: Nothing to load, it cannot be loaded, or the address cannot be had.
        """
        check_address(self.host or "127.0.0.1", self.port)
        try:
            for model in self.models:
                _load_first(model)
            self._grpc.add_generic_rpc_handlers(services(Answers(self.models)))
            if self._health:
                _add_health_service(self._grpc)
            self._listen()
        except UserError:
            self.stop()
            raise
        self._grpc.start()
        if self._poll_seconds > 0:
            self._watcher.start()
        return self

    def wait(self) -> None:
        """Returns when the server has been stopped by another thread."""
        self._grpc.wait_for_termination()

    def stop(self, grace: float = 10.0) -> None:
        """Takes no more requests, lets those that run finish for `grace` seconds, unloads."""
        self._stopping.set()
        self._grpc.stop(grace).wait()
        self._threads.shutdown(wait=False)
        if self._watcher.is_alive():
            self._watcher.join()
        self.models.close()

    def describe(self) -> str:
        """One line: every model with the versions that answer."""
        return "; ".join(
            f"model {model.name}, version {', '.join(map(str, model.available()))}"
            for model in self.models
        )

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    def _listen(self) -> None:
        if self.host is not None:
            self._bind(self.host)
            return
        fixed = self.port != 0
        self._bind("127.0.0.1")
        if _has_loopback_v6():
            try:
                self._bind("::1")
            except UserError:
                if fixed:  # somebody else would get the calls to localhost
                    raise

    def _bind(self, host: str) -> None:
        name = f"[{host}]" if ":" in host else host
        check_address(host, self.port)
        try:
            port = self._grpc.add_insecure_port(f"{name}:{self.port}")
        except RuntimeError as error:
            raise UserError(f"cannot listen on {name}:{self.port}") from error
        self.port = port
        self.addresses.append(f"{name}:{port}")

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            self.models.update()


def _load_first(model: Model) -> None:
    path = model.base_path
    check_base_path(path)
    model.update()
    if not model.available():
        failed = [(n, error) for n, (_, error) in model.status().items() if error]
        number, error = failed[0]
        reason = " ".join(shortened(error.message).split())
        raise UserError(f"version {number} in {path} cannot be loaded: {error.code.name}: {reason}")


def _has_loopback_v6() -> bool:
    try:
        check_address("::1", 0)
    except UserError:
        return False
    return True


def _add_health_service(server: grpc.Server) -> None:
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    servicer = health.HealthServicer()
    for name in _HEALTH_NAMES:
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
