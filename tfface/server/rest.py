"""Routing and handling of TF Serving's REST API, and of the Prometheus metrics."""

from __future__ import annotations

import gzip
import io
import logging
import re
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from tfface.server import rest_replies, rest_requests
from tfface.server.handlers import Handlers
from tfface.server.monitoring import METRICS_TYPE
from tfface.server.status import ServingError, invalid

logger = logging.getLogger("tfface.server")

LARGEST_BODY = 2**26
_PIECE = 2**20
# Limits of a decompressed body: a fixed size, plus a factor of the compressed size. Floats in JSON
# become three times as long, text five times.
_FREE_UNPACKED = 2**24
_UNPACKED_PER_BYTE = 16
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


JSON = "application/json"


@dataclass(frozen=True)
class Request:
    """A complete HTTP request.

    Attributes:
        method: GET, POST, ...
        path: The path without the query.
        encoding: Content-Encoding of the body in lower case; empty: none.
        body: The body as received.
    """

    method: str
    path: str
    encoding: str = ""
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """An HTTP reply."""

    status: int
    body: bytes = b""
    content_type: str = JSON


class TooLarge(Exception):
    """A body that is too large."""

    def __init__(self, limit: int = LARGEST_BODY):
        super().__init__(f"the body has more than {limit} bytes")


class RestApi:
    """TF Serving's REST API: model status, metadata, predict, classify and regress.

    A body has at most 64 MiB (`LARGEST_BODY`) after decompression, and less if it is highly
    compressed. Only one request is decompressed at a time, so that many small ones together cannot
    fill the memory either.

    Args:
        handlers: Request handlers.
        timeout: Timeout of a computation in seconds; None: no timeout.
        metrics_path: Path of the Prometheus metrics; None: no metrics.
        allow_cors: Allow web pages of any origin to call the API.

    Attributes:
        headers: Headers to add to every reply.
    """

    def __init__(
        self,
        handlers: Handlers,
        timeout: float | None,
        metrics_path: str | None = None,
        allow_cors: bool = False,
    ):
        self.headers: Mapping[str, str] = _CORS if allow_cors else {}
        self._handlers = handlers
        self._timeout = timeout
        self._metrics_path = metrics_path
        self._unpacking = threading.Lock()

    def answer(self, request: Request) -> Reply:
        """Handles a request; errors are returned as replies."""
        method, path = request.method, request.path
        if path == self._metrics_path:
            return Reply(200, self._handlers.monitor.text().encode(), METRICS_TYPE)
        if not path.lower().startswith("/v1/"):
            return Reply(404, rest_replies.error(f"Not found: {method} {path}"))
        if method == "OPTIONS" and self.headers:  # CORS preflight
            return Reply(200)
        if method == "POST" and (match := _POST.fullmatch(path)):
            return Reply(*self._inference(request, match))
        if method == "GET" and (match := _GET.fullmatch(path)):
            _, status, body = _answer(lambda: self._information(match))
            return Reply(status, body)
        return Reply(400, rest_replies.error(f"Malformed request: {method} {path}"))

    def _inference(self, request: Request, match: re.Match) -> tuple[int, bytes]:
        started = time.perf_counter()
        method = match["method"].lower()
        infer = getattr(self, f"_{method}")
        code, status, body = _answer(lambda: infer(_spec(match), self._document(request)))
        seconds = time.perf_counter() - started
        self._handlers.monitor.request(method, "REST", unquote(match["name"]), code, seconds)
        return status, body

    def _document(self, request: Request) -> dict:
        if request.encoding != "gzip":
            return rest_requests.parse(request.body)
        with self._unpacking:
            return rest_requests.parse(_unpacked(request.body))

    def _predict(self, spec: model_pb2.ModelSpec, document: dict) -> bytes:
        spec.signature_name = rest_requests.signature_name(document)
        name = spec.signature_name or "serving_default"
        with self._handlers.models.use(spec) as (_, model):
            if name not in model.signatures:
                raise invalid(f'Serving signature name: "{name}" not found in signature def')
            inputs = model.signatures[name].definition.inputs
            dtypes = {name: info.dtype for name, info in inputs.items()}
        request = rest_requests.predict_request(document, spec, dtypes)
        outputs, _ = self._handlers.predict(request, self._timeout)
        write = rest_replies.predictions if "instances" in document else rest_replies.outputs
        return write(outputs)

    def _classify(self, spec: model_pb2.ModelSpec, document: dict) -> bytes:
        spec.signature_name = rest_requests.signature_name(document)
        examples = rest_requests.examples(document)
        request = classification_pb2.ClassificationRequest(model_spec=spec, input=examples)
        return rest_replies.classifications(self._handlers.classify(request, self._timeout))

    def _regress(self, spec: model_pb2.ModelSpec, document: dict) -> bytes:
        spec.signature_name = rest_requests.signature_name(document)
        examples = rest_requests.examples(document)
        request = regression_pb2.RegressionRequest(model_spec=spec, input=examples)
        return rest_replies.regressions(self._handlers.regress(request, self._timeout))

    def _information(self, match: re.Match) -> bytes:
        if not any(match.groups()):
            return rest_replies.models(self._handlers.statuses())
        if not match["name"]:
            raise invalid("Missing model name in request.")
        spec = _spec(match)
        if match["method"]:
            request = get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec=spec, metadata_field=["signature_def"]
            )
            return rest_replies.metadata(self._handlers.metadata(request))
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return rest_replies.status(self._handlers.status(request))


def _unpacked(body: bytes) -> bytes:
    """Decompresses a body piece by piece, to stop early if it becomes too large."""
    limit = min(LARGEST_BODY, _FREE_UNPACKED + _UNPACKED_PER_BYTE * len(body))
    unpacked = bytearray()
    bounds = rest_requests.Bounds()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
            while piece := file.read(_PIECE):
                bounds.add(piece)
                unpacked += piece
                if len(unpacked) > limit:
                    raise TooLarge(limit)
    except (OSError, EOFError, zlib.error) as error:
        raise invalid(f"the body is not complete gzip data: {error}") from error
    return bytes(unpacked)


def http_status(code: grpc.StatusCode) -> int:
    """The HTTP status of a gRPC status."""
    return _STATUS.get(code, 500)


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
    """The gRPC status, the HTTP status and the body that a call results in."""
    try:
        return _Code.OK, 200, call()
    except ServingError as error:
        code, message = error.code, error.message
    except UnicodeEncodeError as error:  # JSON can contain a lone surrogate
        code, message = _Code.INVALID_ARGUMENT, f"JSON Value: text is not Unicode: {error}"
    except TooLarge as error:
        return _Code.INVALID_ARGUMENT, 413, rest_replies.error(str(error))
    except Exception as error:
        logger.exception("a request failed")
        code, message = _Code.INTERNAL, f"{type(error).__name__}: {error}"
    return code, http_status(code), rest_replies.error(message)
