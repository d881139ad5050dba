"""What calls of a server are made of and end in, whichever way they travel."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tfface.errors import UserError


class ServerError(Exception):
    """The server refused a request, or could not be reached.

    Attributes:
        code: gRPC status by name, such as "INVALID_ARGUMENT". Over REST several codes share an HTTP
            status, of which this is the most frequent one.
        message: What the server said.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class VersionStatus(NamedTuple):
    """State of a version of the model.

    Attributes:
        state: "START", "LOADING", "AVAILABLE", "UNLOADING" or "END".
        message: Why it could not be loaded; empty if nothing is wrong.
    """

    state: str
    message: str


Signatures = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""As `Methods.metadata` returns them."""


class Model(NamedTuple):
    """Which model is called: its name, and the version's number or label if one is asked for."""

    name: str
    version: int | None = None
    label: str | None = None


class Transport(Protocol):
    """A way to the server. Where the client blocks, none of the coroutines ever suspends.

    Each call ends within `timeout` seconds and raises ServerError.
    """

    async def predict(
        self, inputs: dict[str, Any], signature: str, timeout: float
    ) -> dict[str, Any]:
        """Runs a signature; arrays by input name to arrays by output name."""

    async def status(self, timeout: float) -> dict[int, VersionStatus]:
        """State of the versions."""

    async def metadata(self, timeout: float) -> Signatures:
        """The signatures."""

    async def close(self) -> None:
        """Closes the connection."""

    def size(self, value: Any) -> int:
        """Bytes, at most, that an element of an input takes in a request."""


@dataclass(frozen=True)
class Tls:
    """How a server is trusted, and how the client identifies itself. All files are PEM.

    Attributes:
        ca: Certificates of the authorities that are trusted; None: the system's.
        certificate: The client's own, where the server asks for one.
        key: Its private key, without a password.

    Raises:
        UserError: A file that is missing or has something else in it, or a certificate without key.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self):
        self.context()

    def context(self) -> ssl.SSLContext:
        """The settings for Python's own TLS."""
        if (self.certificate is None) != (self.key is None):
            raise UserError("a client certificate and its key are needed together")
        for path in (self.ca, self.certificate, self.key):
            if path is not None and not Path(path).is_file():
                raise UserError(f"{path}: no such file")
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError as error:
            raise UserError(f"{self.ca}: has no PEM certificate of an authority") from error
        if self.certificate is not None:
            try:
                # Without a password given, Python would ask for one on the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
            except ssl.SSLError as error:
                raise UserError(
                    f"{self.certificate} and {self.key}: expected a PEM certificate and its "
                    "private key without a password"
                ) from error
        return context

    def roots(self) -> bytes | None:
        """Certificates of the trusted authorities; None if the system does not list its own."""
        if self.ca is not None:
            return Path(self.ca).read_bytes()
        listed = self.context().get_ca_certs(binary_form=True)
        return "".join(map(ssl.DER_cert_to_PEM_cert, listed)).encode() or None

    @classmethod
    def of(cls, value: bool | str | Path | Tls | None) -> Tls | None:
        """The settings that a client's `tls` stands for; None: no TLS."""
        if value is None or isinstance(value, Tls):
            return value
        if isinstance(value, bool):
            return cls() if value else None
        return cls(ca=value)


_DTYPES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}


def dtype_name(name: str) -> str:
    """TensorFlow's name of a dtype, such as "float32", from that of the protocol, "DT_FLOAT"."""
    return _DTYPES.get(name, name.removeprefix("DT_").lower())
