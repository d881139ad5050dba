"""The server: models, services and ports put together, and the look-out for new versions."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from tfface.errors import UserError
from tfface.server import services
from tfface.server.answers import Answers
from tfface.server.checks import check_address, check_addresses, check_models
from tfface.server.config import ModelConfig, Options, read_models
from tfface.server.models import Models
from tfface.server.status import ServingError, shortened

logger = logging.getLogger("tfface.server")

_CHANNEL_ARGUMENTS = {
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": -1,
    # Otherwise two servers can share a port without knowing it, each getting some of the calls.
    "grpc.so_reuseport": 0,
}
_HEALTH_NAMES = ("", "ModelService", "PredictionService")


class Server:
    """TF Serving's API in this process.

    Also a context manager: `with Server(folder) as server: FaceClient(f"127.0.0.1:{server.port}")`.

    Args:
        models: Folder whose sub-folders, named by numbers, are versions of a SavedModel; or any
            number of models.
        model_name: The name that clients use for the model in the folder.
        **options: Fields of `tfface.server.config.Options`.

    Attributes:
        models: The models.
        port: The gRPC port; known after `start`; 0: there is only a socket.
        rest_port: The REST port; known after `start`; None: there is none.
        addresses: All addresses, as HOST:PORT, unix:PATH and, of the REST API, http://HOST:PORT;
            known after `start`.
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
        self._rest = None
        self._stopping = threading.Event()
        self._watchers: list[threading.Thread] = []
        threads = self._options.threads or 4 * (os.cpu_count() or 1)
        self._threads = futures.ThreadPoolExecutor(threads)
        arguments = {**_CHANNEL_ARGUMENTS, **self._options.channel_arguments}
        self._grpc = grpc.server(self._threads, options=list(arguments.items()))

    def start(self) -> Server:
        """Loads the models, then opens the ports: an open port means that all is ready.

        Raises:
            UserError: Nothing to load, it cannot be loaded, or an address cannot be had.
        """
        options = self._options
        try:
            check_addresses(options)
            self._load()
            answers = Answers(self.models)
            handlers = services.services(answers, options.tensor_content)
            self._grpc.add_generic_rpc_handlers(handlers)
            self._add_health_and_reflection()
            self._listen()
            if options.rest_port is not None:
                self._start_rest(answers)
        except UserError:
            self.stop()
            raise
        self._grpc.start()
        self._watch("versions", options.poll_seconds, self.models.update)
        if options.model_config_file:
            self._watch("models", options.config_poll_seconds, self._read_models_again())
        return self

    def wait(self) -> None:
        """Returns when the server has been stopped by another thread."""
        self._grpc.wait_for_termination()

    def stop(self, grace: float = 10.0) -> None:
        """Takes no more requests, lets those that run finish for `grace` seconds, unloads."""
        self._stopping.set()
        stopped = self._grpc.stop(grace)
        if self._rest is not None:
            self._rest.stop()
        stopped.wait()
        self._threads.shutdown(wait=False)
        for watcher in self._watchers:
            watcher.join()
        self.models.close()

    def describe(self) -> str:
        """One line: every model with the versions that answer."""
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

    def _listen(self) -> None:
        options = self._options
        if options.socket_path:
            self._bind(f"unix:{options.socket_path}")
            if self.port == 0:
                return
        if options.host is not None:
            self._bind_host(options.host)
            return
        self._bind_host("127.0.0.1")
        if _has_loopback_v6():
            try:
                self._bind_host("::1")
            except UserError:
                if options.port:  # somebody else would get the calls to localhost
                    raise

    def _bind_host(self, host: str) -> None:
        check_address(host, self.port)
        name = f"[{host}]" if ":" in host else host
        self.port = self._bind(f"{name}:{self.port}", name)

    def _bind(self, address: str, name: str | None = None) -> int:
        tls = self._options.tls
        try:
            if tls is None:
                port = self._grpc.add_insecure_port(address)
            else:
                port = self._grpc.add_secure_port(address, _credentials(tls))
        except RuntimeError as error:
            doubt = "; are key and certificate of --ssl_config_file right?" if tls else ""
            raise UserError(f"cannot listen on {address}{doubt}") from error
        self.addresses.append(f"{name}:{port}" if name else address)
        return port

    def _start_rest(self, answers: Answers) -> None:
        from tfface.server.rest import RestServer

        options = self._options
        rest = RestServer(
            answers,
            host=options.host,
            port=options.rest_port,
            threads=options.rest_threads or 4 * (os.cpu_count() or 1),
            timeout=options.rest_timeout,
            metrics_path=options.metrics_path,
            allow_cors=options.rest_cors,
        )
        rest.start()
        self._rest, self.rest_port = rest, rest.port
        self.addresses += [f"http://{address}" for address in rest.addresses]

    def _add_health_and_reflection(self) -> None:
        names = [services.PREDICTION, services.MODEL, reflection.SERVICE_NAME]
        if self._options.health:
            from grpc_health.v1 import health, health_pb2, health_pb2_grpc

            servicer = health.HealthServicer()
            for name in _HEALTH_NAMES:
                servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
            health_pb2_grpc.add_HealthServicer_to_server(servicer, self._grpc)
            names.append(health.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._grpc)

    def _watch(self, name: str, seconds: float, look: Callable[[], None]) -> None:
        def watch() -> None:
            while not self._stopping.wait(seconds):
                look()

        if seconds > 0:
            self._watchers.append(threading.Thread(target=watch, name=name, daemon=True))
            self._watchers[-1].start()

    def _read_models_again(self) -> Callable[[], None]:
        """What to do every so often; the same mistake is told once."""
        file, told = self._options.model_config_file, ""

        def look() -> None:
            nonlocal told
            problem = ""
            try:
                self.models.configure(read_models(file))
            except UserError as error:  # names the file
                problem = str(error)
            except ServingError as error:
                problem = f"--model_config_file {file}: {error}"
            if problem and problem != told:
                logger.error("%s", problem)
            told = problem

        return look


def _credentials(tls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.server_key.encode(), tls.server_cert.encode())],
        root_certificates=tls.custom_ca.encode() or None,
        require_client_auth=tls.client_verify,
    )


def _has_loopback_v6() -> bool:
    try:
        check_address("::1", 0)
    except UserError:
        return False
    return True
