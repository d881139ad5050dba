"""The server: loads the models, opens the ports and polls for new model versions."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.cli import wait_for
from tfface.errors import UserError
from tfface.server.checks import check_addresses, check_models
from tfface.server.config import ModelConfig, Options, read_models
from tfface.server.grpc_server import GrpcServer
from tfface.server.handlers import Handlers
from tfface.server.models import Models
from tfface.server.status import ServingError, shortened
from tfface.server.tls import check_tls
from tfface.server.workers import EventLoop

if TYPE_CHECKING:
    from tfface.server.rest_server import RestServer

logger = logging.getLogger("tfface.server")


class Server:
    """TF Serving's API in this process.

    Also a context manager: `with Server(folder) as server: FaceClient(f"127.0.0.1:{server.port}")`.

    Args:
        models: Folder whose numbered sub-folders are versions of a SavedModel; or a list of models.
        model_name: Name that clients use for the model, if `models` is a folder.
        **options: Fields of `tfface.server.config.Options`.

    Attributes:
        models: The models.
        port: The gRPC port, valid after `start`; 0 if the server listens only on a socket.
        rest_port: The REST port, valid after `start`; None if there is no REST API.
        addresses: All addresses, as HOST:PORT, unix:PATH and, for the REST API, http://HOST:PORT;
            valid after `start`.
    """

    def __init__(
        self,
        models: str | Path | Sequence[ModelConfig],
        *,
        model_name: str = "default",
        **options: Any,
    ):
        if isinstance(models, str | Path):
            models = [ModelConfig(model_name, Path(models))]
        self._configs = models
        self._options = Options(**options)
        self.models = Models(self._options)
        self.port = self._options.port
        self.rest_port = self._options.rest_port
        self.addresses: list[str] = []
        self._front: EventLoop | None = None
        self._grpc: GrpcServer | None = None
        self._rest: RestServer | None = None
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._watchers: list[threading.Thread] = []

    def start(self) -> Server:
        """Loads the models, then opens the ports: an open port means that the server is ready.

        Raises:
            UserError: No model to load, a model that cannot be loaded, or an address that cannot be
                listened on.
        """
        options = self._options
        try:
            check_addresses(options)
            if options.tls is not None:
                check_tls(options.tls)
            self._load()
            self._front = EventLoop()
            self._front.run(self._open(Handlers(self.models)))
        except UserError:
            self.stop()
            raise
        self._watch("versions", options.poll_seconds, self.models.update)
        if options.model_config_file:
            self._watch("models", options.config_poll_seconds, self._config_reloader())
        return self

    def wait(self) -> None:
        """Blocks until another thread stops the server."""
        wait_for(self._stopped)

    def stop(self, grace: float | None = None) -> bool:
        """Refuses new requests, lets running ones finish and unloads the models.

        Args:
            grace: Seconds that running requests have to finish; None: `Options.grace`.

        Returns:
            Whether everything has ended. If not, threads of this process are still computing or
            loading a model, and are no longer waited for.
        """
        grace = self._options.grace if grace is None else grace
        deadline = time.monotonic() + grace
        self._stopping.set()
        ended = True
        if self._front is not None:
            ended = self._front.run(self._close(grace))
            self._front.close()
            self._front = None
        for watcher in self._watchers:
            watcher.join(max(0.0, deadline - time.monotonic()))
            ended = ended and not watcher.is_alive()
        if ended:
            self.models.close()
        self._stopped.set()
        return ended

    async def _open(self, handlers: Handlers) -> None:
        options = self._options
        self._grpc = GrpcServer(handlers, options)
        await self._grpc.start()
        self.port, self.addresses = self._grpc.port, self._grpc.addresses
        if options.rest_port is not None:
            if options.tls is not None:
                logger.warning(
                    "the REST API is not encrypted: --ssl_config_file applies to gRPC only; put a "
                    "TLS proxy in front, or leave out --rest_api_port"
                )
            from tfface.server.rest_server import RestServer

            self._rest = RestServer(handlers, options)
            self._rest.start()
            self.rest_port = self._rest.port
            self.addresses += [f"http://{address}" for address in self._rest.addresses]

    async def _close(self, grace: float) -> bool:
        opened = [server for server in (self._grpc, self._rest) if server is not None]
        return all(await asyncio.gather(*(server.stop(grace) for server in opened)))

    def describe(self) -> str:
        """One line that lists every model with its available versions."""
        lines = [
            f"model {model.name}, version {', '.join(map(str, model.available()))}"
            for model in self.models
        ]
        return "; ".join(lines) or "no models"

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    def _load(self) -> None:
        check_models(self._configs, self._options)
        try:
            self.models.configure(self._configs)
        except ServingError as error:
            raise UserError(self._why(error)) from error

    def _why(self, error: ServingError) -> str:
        for model in self.models:
            failed = [(n, e) for n, (_, e) in model.status().items() if e]
            if failed and not model.available():
                number, error = failed[0]
                reason = " ".join(shortened(error.message).split())
                return (
                    f"version {number} in {model.config.base_path} cannot be loaded: "
                    f"{error.code.name}: {reason}"
                )
        return error.message

    def _watch(self, name: str, seconds: float, poll: Callable[[], None]) -> None:
        def watch() -> None:
            while not self._stopping.wait(seconds):
                poll()

        if seconds > 0:
            self._watchers.append(threading.Thread(target=watch, name=name, daemon=True))
            self._watchers[-1].start()

    def _config_reloader(self) -> Callable[[], None]:
        """A function that reloads the model config file; a repeated error is logged once."""
        file, logged = self._options.model_config_file, ""

        def reload() -> None:
            nonlocal logged
            problem = ""
            try:
                self.models.configure(read_models(file))
            except UserError as error:  # names the file
                problem = str(error)
            except ServingError as error:
                problem = f"--model_config_file {file}: {error}"
            if problem and problem != logged:
                logger.error("%s", problem)
            logged = problem

        return reload
