"""Transport over TF Serving's REST API; imports neither TensorFlow nor gRPC."""

from __future__ import annotations

import base64
import json
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tfface.client.driving import Awaiting, Blocking, settled
from tfface.client.types import Model, ServerError, Signatures, Tls, VersionStatus, dtype_name
from tfface.errors import UserError

if TYPE_CHECKING:
    import numpy as np

# TF Serving also sends 400 for FAILED_PRECONDITION and OUT_OF_RANGE, and 500 for UNKNOWN and
# DATA_LOSS. 408, 413 and 502 come from proxies; 413 corresponds to gRPC's RESOURCE_EXHAUSTED.
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class RestTransport:
    """Calls over HTTP; see `Transport` for the methods.

    Args:
        target: http://HOST:PORT or https://HOST:PORT, optionally with a path prefix.
        model: The model to call.
        tls: TLS settings, for https only; None: trust the system's certificate authorities.
        driver: Blocking or asyncio.

    Raises:
        UserError: An invalid address, TLS with http, or httpx is not installed.
    """

    def __init__(self, target: str, model: Model, tls: Tls | None, driver: Blocking | Awaiting):
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise UserError("REST needs httpx: pip install 'tfface[serving]'") from error
        try:
            url = httpx.URL(target)
        except httpx.InvalidURL as error:
            raise UserError(f"{target}: {error}; expected e.g. http://HOST:8501") from error
        if not url.host:
            raise UserError(f"{target}: no host name; expected e.g. http://HOST:8501")
        context: ssl.SSLContext | bool = False
        if url.scheme == "https":
            context = (tls or Tls()).context()
        elif tls is not None:
            raise UserError(f"{target}: TLS needs https://")
        self._driver = driver
        kind: Any = httpx.Client if driver.blocking else httpx.AsyncClient
        self._http = kind(base_url=url, verify=context)
        self._path = f"v1/models/{quote(model.name, safe='')}"
        if model.version is not None:
            self._path += f"/versions/{model.version}"
        elif model.label is not None:
            self._path += f"/labels/{quote(model.label, safe='')}"
        self._outputs: dict[str, dict[str, Any]] = {}

    async def predict(
        self, inputs: dict[str, np.ndarray], signature: str, timeout: float
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Replies contain output names only if there are several outputs, and no dtypes, so the
        model's metadata is requested once as well.
        """
        deadline = time.monotonic() + timeout
        body = await self._driver.work(_body, inputs, signature)
        reply = await self._send("POST", ":predict", timeout, body)
        if signature not in self._outputs:
            described = await self.metadata(max(deadline - time.monotonic(), 0.001))
            self._outputs = {name: d["outputs"] for name, d in described.items()}
        return await self._driver.work(_arrays, reply["outputs"], self._outputs[signature])

    async def status(self, timeout: float) -> dict[int, VersionStatus]:
        """State of the versions."""
        reply = await self._send("GET", "", timeout)
        return {
            int(v["version"]): VersionStatus(
                v["state"], v.get("status", {}).get("error_message", "")
            )
            for v in reply["model_version_status"]
        }

    async def metadata(self, timeout: float) -> Signatures:
        """The signatures."""
        reply = await self._send("GET", "/metadata", timeout)
        return {
            name: {"inputs": _described(d["inputs"]), "outputs": _described(d["outputs"])}
            for name, d in sorted(reply["metadata"]["signature_def"]["signature_def"].items())
        }

    async def close(self) -> None:
        """Closes the connections."""
        await settled(self._http.close() if self._driver.blocking else self._http.aclose())

    def size(self, value: Any) -> int:
        """Bytes of an element as JSON: base64 in an object; numbers take at most 25 characters."""
        if isinstance(value, bytes):
            return len(value) * 4 // 3 + 16
        return len(json.dumps(value)) + 2 if isinstance(value, str) else 27

    async def _send(self, method: str, path: str, timeout: float, body: bytes | None = None) -> Any:
        """Sends a request; returns the JSON of its reply."""
        import httpx

        try:
            response = await settled(
                self._http.request(
                    method,
                    self._path + path,
                    content=body,
                    headers={"Content-Type": "application/json"} if body else None,
                    timeout=timeout,
                )
            )
        except httpx.ConnectTimeout as error:
            raise ServerError("UNAVAILABLE", "connection timed out") from error
        except httpx.TimeoutException as error:
            raise ServerError("DEADLINE_EXCEEDED", "Deadline Exceeded") from error
        except httpx.TransportError as error:
            raise ServerError("UNAVAILABLE", str(error) or type(error).__name__) from error
        reply: Any
        try:
            reply = await self._driver.work(json.loads, response.content)
        except ValueError:
            reply = None
        if response.is_success and isinstance(reply, dict):
            return reply
        message = reply.get("error") if isinstance(reply, dict) else None
        code = "UNKNOWN" if response.is_success else _CODES.get(response.status_code, "UNKNOWN")
        unknown = f"HTTP status {response.status_code}, not a reply of TF Serving"
        raise ServerError(code, message or unknown)


def _body(inputs: dict[str, np.ndarray], signature: str) -> bytes:
    values = {
        name: _strings_to_json(value.tolist()) if value.dtype == object else value.tolist()
        for name, value in inputs.items()
    }
    # `default`: the json module cannot write bfloat16 and similar types.
    body = {"signature_name": signature, "inputs": values}
    return json.dumps(body, default=float, separators=(",", ":")).encode()


def _strings_to_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_strings_to_json(each) for each in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _arrays(outputs: Any, described: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
    values = {name: outputs for name in described} if len(described) == 1 else outputs
    return {name: _array(value, described[name]["dtype"]) for name, value in values.items()}


def _array(value: Any, dtype: str) -> np.ndarray:
    import ml_dtypes  # noqa: F401  (registers bfloat16 with NumPy)
    import numpy as np

    if dtype != "string":
        return np.array(value, dtype)
    array = np.array(value, object)
    for index, each in np.ndenumerate(array):
        is_text = isinstance(each, str)
        array[index] = each.encode() if is_text else base64.b64decode(each["b64"])
    return array


def _described(tensors: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    described = {}
    for name, info in sorted(tensors.items()):
        shape = info.get("tensor_shape", {})
        sizes = [int(dim.get("size", 0)) for dim in shape.get("dim", [])]
        described[name] = {
            "dtype": dtype_name(info["dtype"]),
            "shape": None
            if shape.get("unknown_rank")
            else tuple(None if size < 0 else size for size in sizes),
        }
    return described
