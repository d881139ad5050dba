"""TF Serving's REST API, and Prometheus's metrics beside it."""

from __future__ import annotations

import contextlib
import gzip
import logging
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable
from urllib.parse import unquote

import grpc
import waitress
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)
from waitress import wasyncore
from waitress.server import TcpWSGIServer
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from tfface.errors import UserError
from tfface.server import rest_replies, rest_requests
from tfface.server.answers import Answers
from tfface.server.checks import check_address
from tfface.server.monitoring import METRICS_TYPE
from tfface.server.status import ServingError, invalid

logger = logging.getLogger("tfface.server")

LARGEST_BODY = 2**26
_IN_MEMORY = 2**24  # bytes of a request or reply; longer ones wait in a temporary file
_CONNECTIONS = 1000
_LARGEST_VERSION = 2**63 - 1

_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_WHICH}:(?P<method>classify|regress|predict)", re.I | re.A
)
_GET = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?:/(?P<method>metadata))?", re.I | re.A
)
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_Code = grpc.StatusCode
_STATUS = {
    _Code.CANCELLED: 499,
    _Code.INVALID_ARGUMENT: 400,
    _Code.DEADLINE_EXCEEDED: 504,
    _Code.NOT_FOUND: 404,
    _Code.ALREADY_EXISTS: 409,
    _Code.PERMISSION_DENIED: 403,
    _Code.RESOURCE_EXHAUSTED: 429,
    _Code.FAILED_PRECONDITION: 400,
    _Code.ABORTED: 409,
    _Code.OUT_OF_RANGE: 400,
    _Code.UNIMPLEMENTED: 501,
    _Code.UNAVAILABLE: 503,
    _Code.UNAUTHENTICATED: 401,
}  # 500 for all others


class RestServer:
    """TF Serving's REST API: model status, metadata, predict, classify and regress.

    A body holds at most 64 MiB (`LARGEST_BODY`), counted after decompression; larger ones are
    answered with status 413 and never held in memory whole. Compressed bodies are unpacked one at
    a time, so that small requests cannot fill the memory together either.

    Args:
        answers: What answers the requests.
        host: Address to listen on; None: the loopback addresses 127.0.0.1 and, where there is one,
            ::1.
        port: 0: any free one.
        threads: Requests that run at the same time.
        timeout: Seconds after which a computation is given up; None: never.
        metrics_path: Path of Prometheus's metrics; None: they are not offered.
        allow_cors: Let web pages from anywhere call the API.

    Attributes:
        port: The port; known after `start`.
        addresses: All addresses listened on, as HOST:PORT; known after `start`.
    """

    def __init__(
        self,
        answers: Answers,
        *,
        host: str | None,
        port: int,
        threads: int,
        timeout: float | None,
        metrics_path: str | None = None,
        allow_cors: bool = False,
    ):
        self.port = port
        self.addresses: list[str] = []
        self._answers = answers
        self._host = host
        self._workers = threads
        self._timeout = timeout
        self._metrics_path = metrics_path
        self._cors = _CORS if allow_cors else {}
        self._unpacking = threading.Lock()
        self._channels: dict = {}
        self._loop: threading.Thread | None = None

    def start(self) -> RestServer:
        """Opens the port.

        Raises:
            UserError: The address cannot be had.
        """
        # A queue is what threads are for; a line in the log for each request in it helps nobody.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        server = waitress.create_server(
            self._application,
            map=self._channels,
            sockets=self._listen(),
            threads=self._workers,
            ident="tfface",
            connection_limit=_CONNECTIONS,
            asyncore_use_poll=True,
            recv_bytes=2**18,
            inbuf_overflow=_IN_MEMORY,
            outbuf_overflow=_IN_MEMORY,
            max_request_body_size=LARGEST_BODY,
        )
        self._loop = threading.Thread(target=server.run, name="rest", daemon=True)
        self._loop.start()
        return self

    def stop(self, grace: float = 10.0) -> None:
        """Takes no more requests, lets those that run finish for `grace` seconds."""
        if self._loop is None or not self._loop.is_alive():
            return
        deadline = time.monotonic() + grace
        listeners = [c for c in self._channels.values() if isinstance(c, TcpWSGIServer)]
        # Only the loop's own thread may take sockets away from under it.
        for listener in listeners:
            trigger = listener.trigger
            trigger.pull_trigger(lambda listener=listener: wasyncore.dispatcher.close(listener))
        listeners[0].task_dispatcher.shutdown(timeout=grace)
        while time.monotonic() < deadline and _is_sending(listeners):
            time.sleep(0.01)
        with contextlib.suppress(OSError):  # The loop has ended by itself, and closed its trigger.
            trigger.pull_trigger(lambda: wasyncore.close_all(self._channels))
        self._loop.join()

    def _listen(self) -> list[socket.socket]:
        if self._host is not None:
            return [self._bind(self._host)]
        fixed = self.port != 0
        sockets = [self._bind("127.0.0.1")]
        try:
            check_address("::1", 0)
        except UserError:  # there is no such address here
            return sockets
        try:
            sockets.append(self._bind("::1"))
        except UserError:
            if fixed:  # somebody else would get the calls to localhost
                sockets[0].close()
                raise
        return sockets

    def _bind(self, host: str) -> socket.socket:
        check_address(host, self.port)
        family, *_, address = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)[0]
        bound = socket.create_server(address, family=family)
        self.port = bound.getsockname()[1]
        self.addresses.append(f"{f'[{host}]' if ':' in host else host}:{self.port}")
        return bound

    def _application(self, environ: dict, start_response: Callable):
        response = self._respond(Request(environ))
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        path = request.environ["REQUEST_URI"].partition("?")[0]
        if path == self._metrics_path:
            return Response(self._answers.monitor.text(), content_type=METRICS_TYPE)
        if not path.lower().startswith("/v1/"):
            body = rest_replies.error(f"Not found: {request.method} {path}")
            return Response(body, 404, content_type="application/json")
        if request.method == "OPTIONS" and self._cors:  # a browser asks before it calls
            return Response(headers=self._cors)
        if request.method == "POST" and (match := _POST.fullmatch(path)):
            status, body = self._inference(request, match)
        elif request.method == "GET" and (match := _GET.fullmatch(path)):
            _, status, body = _answer(lambda: self._information(match))
        else:
            status, body = 400, rest_replies.error(f"Malformed request: {request.method} {path}")
        return Response(body, status, self._cors, content_type="application/json")

    def _inference(self, request: Request, match: re.Match) -> tuple[int, bytes]:
        started = time.perf_counter()
        method = match["method"].lower()
        infer = getattr(self, f"_{method}")
        code, status, body = _answer(lambda: infer(_spec(match), self._document(request)))
        seconds = time.perf_counter() - started
        self._answers.monitor.request(method, "REST", unquote(match["name"]), code, seconds)
        return status, body

    def _document(self, request: Request) -> dict:
        if request.headers.get("Content-Encoding", "").lower() != "gzip":
            return rest_requests.parse(request.get_data(cache=False))
        with self._unpacking:
            try:
                with gzip.GzipFile(fileobj=request.stream) as file:
                    body = file.read(LARGEST_BODY + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise invalid(f"the body is not whole gzip data: {error}") from error
            if len(body) > LARGEST_BODY:
                raise RequestEntityTooLarge(f"the body holds more than {LARGEST_BODY} bytes")
            return rest_requests.parse(body)

    def _predict(self, spec: model_pb2.ModelSpec, document: dict) -> bytes:
        spec.signature_name = rest_requests.signature_name(document)
        name = spec.signature_name or "serving_default"
        with self._answers.models.use(spec) as (_, model):
            if name not in model.signatures:
                raise invalid(f'Serving signature name: "{name}" not found in signature def')
            inputs = model.signatures[name].definition.inputs
            dtypes = {name: info.dtype for name, info in inputs.items()}
        request = rest_requests.predict_request(document, spec, dtypes)
        outputs, _ = self._answers.predict(request, self._timeout)
        write = rest_replies.predictions if "instances" in document else rest_replies.outputs
        return write(outputs)

    def _classify(self, spec: model_pb2.ModelSpec, document: dict) -> bytes:
        spec.signature_name = rest_requests.signature_name(document)
        examples = rest_requests.examples(document)
        request = classification_pb2.ClassificationRequest(model_spec=spec, input=examples)
        return rest_replies.classifications(self._answers.classify(request, self._timeout))

    def _regress(self, spec: model_pb2.ModelSpec, document: dict) -> bytes:
        spec.signature_name = rest_requests.signature_name(document)
        examples = rest_requests.examples(document)
        request = regression_pb2.RegressionRequest(model_spec=spec, input=examples)
        return rest_replies.regressions(self._answers.regress(request, self._timeout))

    def _information(self, match: re.Match) -> bytes:
        if not match["name"]:
            raise invalid("Missing model name in request.")
        spec = _spec(match)
        if match["method"]:
            request = get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec=spec, metadata_field=["signature_def"]
            )
            return rest_replies.metadata(self._answers.metadata(request))
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return rest_replies.status(self._answers.status(request))


def _spec(match: re.Match) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(match["name"]))
    version = match["version"]
    if version:
        if len(version) > 19 or int(version) > _LARGEST_VERSION:
            raise invalid(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    elif match["label"]:
        spec.version_label = unquote(match["label"])
    return spec


def _answer(call: Callable[[], bytes]) -> tuple[grpc.StatusCode, int, bytes]:
    """The gRPC status, the HTTP status and the body that a call ends with."""
    try:
        return _Code.OK, 200, call()
    except ServingError as error:
        code, message = error.code, error.message
    except UnicodeEncodeError as error:  # JSON can name half a character
        code, message = _Code.INVALID_ARGUMENT, f"JSON Value: text is not Unicode: {error}"
    except HTTPException as error:
        return _Code.INVALID_ARGUMENT, error.code, rest_replies.error(error.description)
    except Exception as error:
        logger.exception("a request failed")
        code, message = _Code.INTERNAL, f"{type(error).__name__}: {error}"
    return code, _STATUS.get(code, 500), rest_replies.error(message)


def _is_sending(listeners: list[TcpWSGIServer]) -> bool:
    channels = [c for listener in listeners for c in list(listener.active_channels.values())]
    return any(channel.total_outbufs_len for channel in channels)
