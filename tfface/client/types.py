"""Types shared by the transports: errors, version status, model and TLS settings."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tfface.errors import UserError

if TYPE_CHECKING:
    import numpy as np


class ServerError(Exception):
    """The server returned an error, or could not be reached.

    Attributes:
        code: Name of the gRPC status, such as "INVALID_ARGUMENT". Over REST several codes share an
            HTTP status; this is the most common one of them.
        message: The server's error message.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class VersionStatus(NamedTuple):
    """State of a version of the model.

    Attributes:
        state: "START", "LOADING", "AVAILABLE", "UNLOADING" or "END".
        message: The loading error; empty if there is none.
    """

    state: str
    message: str


Signatures = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""As `Methods.metadata` returns them."""


class About(NamedTuple):
    """What a model states about itself.

    Attributes:
        takes: Its input, as `tfface.methods.base.Method.takes`: "image", "label_map" or "lines";
            None: it does not state anything.
        crop: Name of the crop that its images have, from `tfface.data.alignment.CROPS`; None if it
            is unknown.
        labels: Names of its expressions or attributes, if it has any.
    """

    takes: str | None = None
    crop: str | None = None
    labels: tuple[str, ...] = ()


class Blocks(NamedTuple):
    """The blocks of an exemplar that were retrieved for each block of a generated image.

    Both images, as far as the model sees them, are cut into n x n blocks, numbered row by row.

    Attributes:
        index: Numbers of the retrieved blocks, best first, int32 [n,n,k], for each row and column
            of the generated image.
        weights: Their weights in the top-k, float32 [n,n,k] in [0,1].
    """

    index: np.ndarray
    weights: np.ndarray


class Model(NamedTuple):
    """The model to call: its name, and optionally a version number or label."""

    name: str
    version: int | None = None
    label: str | None = None


class Transport(Protocol):
    """A connection to the server. In the blocking client its coroutines never suspend.

    Each call ends within `timeout` seconds and raises ServerError.
    """

    async def predict(
        self, inputs: dict[str, Any], signature: str, timeout: float
    ) -> dict[str, Any]:
        """Runs a signature: from arrays by input name to arrays by output name."""

    async def status(self, timeout: float) -> dict[int, VersionStatus]:
        """State of the versions."""

    async def metadata(self, timeout: float) -> Signatures:
        """The signatures."""

    async def close(self) -> None:
        """Closes the connection."""

    def size(self, value: Any) -> int:
        """Upper bound on the bytes that an element of an input takes in a request."""


@dataclass(frozen=True)
class Tls:
    """TLS settings of a client. All files are PEM.

    Attributes:
        ca: Certificates of the authorities to trust; None: the system's.
        certificate: The client's certificate, if the server requires one (mTLS).
        key: Its private key, without a password.

    Raises:
        UserError: A missing or invalid file, or a certificate without a key.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self):
        self.context()

    def context(self) -> ssl.SSLContext:
        """The settings as a context of Python's ssl module."""
        if (self.certificate is None) != (self.key is None):
            raise UserError("a client certificate needs its key, and a key its certificate")
        for path in (self.ca, self.certificate, self.key):
            if path is not None and not Path(path).is_file():
                raise UserError(f"{path}: no such file")
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError as error:
            raise UserError(f"{self.ca}: contains no PEM certificate of an authority") from error
        if self.certificate is not None:
            try:
                # Without this argument Python would ask for a password on the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
            except ssl.SSLError as error:
                raise UserError(
                    f"{self.certificate} and {self.key}: expected a PEM certificate and its "
                    "private key without a password"
                ) from error
        return context

    def roots(self) -> bytes | None:
        """The trusted authorities' PEM certificates; None if the system's cannot be listed."""
        if self.ca is not None:
            return Path(self.ca).read_bytes()
        listed = self.context().get_ca_certs(binary_form=True)
        return "".join(map(ssl.DER_cert_to_PEM_cert, listed)).encode() or None

    @classmethod
    def of(cls, value: bool | str | Path | Tls | None) -> Tls | None:
        """Converts the `tls` argument of a client; None: no TLS."""
        if value is None or isinstance(value, Tls):
            return value
        if isinstance(value, bool):
            return cls() if value else None
        return cls(ca=value)


_DTYPES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}


def dtype_name(name: str) -> str:
    """Converts a protocol buffer dtype name, such as "DT_FLOAT", to TensorFlow's "float32"."""
    return _DTYPES.get(name, name.removeprefix("DT_").lower())
