"""A small stand-in for TF Serving's REST API, with the documented paths, bodies and statuses."""

from __future__ import annotations

import base64
import http.server
import io
import json
import re
import ssl
import threading

import numpy as np
from client_helpers import TLS
from PIL import Image
from tiny_models import SIZE, png

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata|:\w+)?")
NAME, VERSION, LABEL = "faces", 3, "stable"


def _tensor(dtype, *sizes):
    dims = [{"size": str(size), "name": ""} for size in sizes]
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": "t:0"}


_TEXT = _tensor("DT_STRING", -1)
_IMAGE = _tensor("DT_FLOAT", -1, SIZE, SIZE, 3)
_ANY_RANK = {
    "dtype": "DT_DOUBLE",
    "tensor_shape": {"dim": [], "unknown_rank": True},
    "name": "u:0",
}
_SIGNATURES = {
    "serving_default": {
        "inputs": {"image": _IMAGE, "expression": _TEXT},
        "outputs": {"image": _IMAGE, "count": _tensor("DT_INT32")},
    },
    "bytes": {
        "inputs": {"image_bytes": _TEXT, "expression": _TEXT},
        "outputs": {"image_bytes": _TEXT},
    },
    "types": {
        "inputs": {"x": _tensor("DT_FLOAT", -1)},
        "outputs": {
            "f": _tensor("DT_FLOAT", -1),
            "h": _tensor("DT_BFLOAT16", -1),
            "i": _tensor("DT_INT64", -1),
            "u": _tensor("DT_UINT8", -1),
            "b": _tensor("DT_BOOL", -1),
            "s": _TEXT,
        },
    },
    "free": {"inputs": {"x": _ANY_RANK}, "outputs": {"x": _ANY_RANK}},
    "__saved_model_init_op": {
        "inputs": {},
        "outputs": {"__saved_model_init_op": _tensor("DT_INVALID")},
    },
}


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def _negative(value):
    image = Image.open(io.BytesIO(base64.b64decode(value["b64"])))
    data = png(Image.fromarray(255 - np.asarray(image)))
    return {"b64": base64.b64encode(data).decode()}


def _bytes(inputs):
    if "unhappy" in inputs["expression"]:
        message = "assertion failed: [unknown expression; expected one of happy, sad; received]"
        raise Refused(400, message + ' ["unhappy"]\n\t [[{{node Assert}}]]')
    return {"image_bytes": [_negative(value) for value in inputs["image_bytes"]]}


def _types(inputs):
    x = inputs["x"]
    return {
        "f": x,
        "h": x,
        "i": [2**53 + 1] * len(x),
        "u": [255] * len(x),
        "b": [bool(value) for value in x],
        "s": [str(value) for value in x],
    }


_FUNCTIONS = {
    "serving_default": lambda inputs: {
        "image": (-np.array(inputs["image"], np.float32)).tolist(),
        "count": len(inputs["image"]),
    },
    "bytes": _bytes,
    "types": _types,
    "free": lambda inputs: {"x": inputs["x"]},
}


def answer(method, path, body):
    """Status and JSON of the answer to a request."""
    try:
        return 200, _answer(method, path, body)
    except Refused as error:
        return error.status, {"error": str(error)}


def _answer(method, path, body):
    matched = _PATH.fullmatch(path)
    if not matched or (method == "POST") != (matched[4] or "").startswith(":"):
        raise Refused(400, f"Malformed request: {method} {path}")
    name, version, label, verb = matched.groups()
    if label is not None and label != LABEL:
        raise Refused(400, f"Unrecognized servable version label: {label}")
    if name != NAME or version not in (None, str(VERSION)):
        wanted = f"Specific({name}, {version})" if version else f"Latest({name})"
        raise Refused(404, f"Servable not found for request: {wanted}")
    if verb is None:
        status = {"error_code": "OK", "error_message": ""}
        return {
            "model_version_status": [
                {"version": str(VERSION), "state": "AVAILABLE", "status": status}
            ]
        }
    if verb == "/metadata":
        return {
            "model_spec": {"name": name, "signature_name": "", "version": str(VERSION)},
            "metadata": {"signature_def": {"signature_def": _SIGNATURES}},
        }
    request = json.loads(body)
    signature = request.get("signature_name") or "serving_default"
    if signature not in _FUNCTIONS:
        message = f'Serving signature name: "{signature}" not found in signature def'
        raise Refused(400, message)
    outputs = _FUNCTIONS[signature](request["inputs"])
    return {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}


class RestStandIn:
    """Context manager that serves the API.

    Attributes:
        url: URL of the server.
        asked: Method, path and body of every request.
        answer: The function that answers requests; a test may replace it, and the replacement may
            return the body as bytes.
    """

    def __init__(self, port=0, tls=False):
        self.asked = []
        self.answer = answer
        stand_in = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):  # noqa: N802
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = (self.command, self.path, body)
                stand_in.asked.append(asked)
                status, reply = stand_in.answer(*asked)
                data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # Ignore disconnected clients.
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
            context.load_verify_locations(TLS / "ca.pem")
            context.verify_mode = ssl.CERT_REQUIRED
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
