"""A client of TF Serving's gRPC API, for the embedded server and for TF Serving alike."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tfface.errors import UserError

# gRPC and the messages (which import TensorFlow) are imported where they are used: commands that
# only may need a server answer `--help` at once.
if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Picture = str | Path | bytes | Image.Image

_MOST_PICTURES = 32  # in a request
_MOST_BYTES = 32 * 2**20  # in a request, unless one picture alone has more
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds between two tries
_STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}


class ServerError(Exception):
    """The server refused a request, or could not be reached.

    Attributes:
        code: gRPC status by name, such as "INVALID_ARGUMENT".
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


class FaceClient:
    """Calls a served model.

    Calls may come from several threads. While the server cannot be reached (UNAVAILABLE) a call is
    tried again until its deadline, with growing pauses. Also a context manager.

    Args:
        target: HOST:PORT.
        model: The model's name on the server.
        timeout: Seconds that one request may take.
        version: The version to call; None: the newest.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:8500",
        model: str = "default",
        timeout: float = 30.0,
        version: int | None = None,
    ):
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.target = target
        self.model = model
        self.timeout = timeout
        self.version = version
        # gRPC's own pauses between connection attempts grow to two minutes.
        self._channel = grpc.insecure_channel(
            target,
            [
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def __enter__(self) -> FaceClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def predict(
        self,
        inputs: dict[str, np.ndarray | Sequence[str | bytes]],
        signature: str = "serving_default",
    ) -> dict[str, np.ndarray]:
        """Runs a signature; one request, sent as it is.

        Args:
            inputs: Arrays by input name, of the signature's dtypes and shapes; strings as a list,
                or as an array of str or bytes.
            signature: The signature's name.

        Returns:
            The outputs by name; strings are object arrays of bytes.

        Raises:
            ServerError: The server refused, or was not reached within the timeout.
        """
        from tensorflow_serving.apis import predict_pb2

        from tfface.server import wire

        request = predict_pb2.PredictRequest()
        self._address(request.model_spec)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(wire.to_proto(_as_array(value)))
        response = self._call(self._prediction.Predict, request, self.timeout)
        return {name: wire.to_array(proto) for name, proto in response.outputs.items()}

    def status(self) -> dict[int, VersionStatus]:
        """State of every version that the server knows (or of the one asked for), by number.

        Raises:
            ServerError: No such model, or the server was not reached within the timeout.
        """
        return self._status(self.timeout)

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Returns as soon as the model answers requests.

        Args:
            timeout: Seconds to wait.

        Raises:
            ServerError: It does not in this time; says what the server answered last.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                versions = self._status(max(deadline - time.monotonic(), 0.001))
                if any(version.state == "AVAILABLE" for version in versions.values()):
                    return
                states = ", ".join(
                    f"version {number} is {version.state} {version.message}".strip()
                    for number, version in versions.items()
                )
                error = ServerError("UNAVAILABLE", f"model {self.model}: {states}")
            except ServerError as answer:
                if answer.code != "NOT_FOUND":  # a server may get to know the model later
                    raise
                error = answer
            if time.monotonic() + 0.1 > deadline:
                raise error
            time.sleep(0.1)

    def metadata(self) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
        """The model's signatures.

        Returns:
            `metadata()["bytes"]["inputs"]["image_bytes"]` is
            `{"dtype": "string", "shape": (None,)}`; "outputs" beside "inputs". A free dimension is
            None; a shape of any rank is None.

        Raises:
            ServerError: No such model, or the server was not reached within the timeout.
        """
        import tensorflow as tf
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._address(request.model_spec)
        response = self._call(self._prediction.GetModelMetadata, request, self.timeout)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)

        def describe(tensors) -> dict[str, dict[str, Any]]:
            return {
                name: {
                    "dtype": tf.dtypes.as_dtype(info.dtype).name,
                    "shape": None
                    if info.tensor_shape.unknown_rank
                    else tuple(None if d.size < 0 else d.size for d in info.tensor_shape.dim),
                }
                for name, info in sorted(tensors.items())
            }

        return {
            name: {"inputs": describe(d.inputs), "outputs": describe(d.outputs)}
            for name, d in sorted(signatures.signature_def.items())
            if not name.startswith("__")  # the initialisation, which nobody can call
        }

    def change_expression(
        self, picture: Picture | Sequence[Picture], expression: str | Sequence[str]
    ) -> Image.Image | list[Image.Image]:
        """Gives faces another expression (a served SARGAN).

        One picture with several expressions, several pictures with one expression, or as many of
        both: a single value goes with every value of the others.

        Args:
            picture: A file, the bytes of one, or a Pillow image; or a list of them.
            expression: Name of an expression, or a list of them.

        Returns:
            The edited picture, of its original size; a list if a list was given.

        Raises:
            UserError: A picture that cannot be read, lists of different lengths.
            ServerError: The server refused, or was not reached within the timeout.
        """
        return self._edit({"image_bytes": picture}, {"expression": expression})

    def transfer_attribute(
        self,
        source: Picture | Sequence[Picture],
        reference: Picture | Sequence[Picture],
        attribute: str | Sequence[str],
        strength: float | Sequence[float] = 1.0,
    ) -> Image.Image | list[Image.Image]:
        """Gives faces an attribute as other faces have it (a served ELEGANT).

        A single value goes with every value of the lists, which must be of one length.

        Args:
            source: The picture to change: a file, the bytes of one, or a Pillow image; or a list.
            reference: The picture that has the attribute as wanted, or a list of them.
            attribute: Name of an attribute, or a list of them.
            strength: 0 leaves the source as it is, 1 exchanges the attribute fully; or a list.

        Returns:
            The edited picture, of the source's size; a list if a list was given.

        Raises:
            UserError: A picture that cannot be read, lists of different lengths.
            ServerError: The server refused, or was not reached within the timeout.
        """
        return self._edit(
            {"source_bytes": source, "reference_bytes": reference},
            {"attribute": attribute, "strength": strength},
        )

    def _edit(self, pictures: dict[str, Any], values: dict[str, Any]):
        import numpy as np

        lengths = {n: len(v) for n, v in {**pictures, **values}.items() if _is_list(v)}
        if len(set(lengths.values())) > 1:
            given = ", ".join(f"{length} of {name}" for name, length in lengths.items())
            raise UserError(f"lists of different lengths: {given}")
        edited: list[Image.Image] = []
        for rows in _requests(_rows(pictures, values, lengths)):
            inputs = {name: [row[name] for row in rows] for name in rows[0]}
            if "strength" in inputs:
                inputs["strength"] = np.array(inputs["strength"], np.float32)
            reply = self.predict(inputs, signature="bytes")["image_bytes"]
            edited += [_decode(data) for data in reply]
        return edited if lengths else edited[0]

    def _address(self, spec) -> None:
        spec.name = self.model
        if self.version is not None:
            spec.version.value = self.version

    def _status(self, timeout: float) -> dict[int, VersionStatus]:
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        self._address(request.model_spec)
        response = self._call(self._models.GetModelStatus, request, timeout)
        return {
            v.version: VersionStatus(_STATES[v.state], v.status.error_message)
            for v in response.model_version_status
        }

    def _call(self, method: Callable, request, timeout: float):
        """Calls until it works, or there is an answer other than UNAVAILABLE, or time is up."""
        import grpc

        deadline = time.monotonic() + timeout
        pause, unreachable = _FIRST_PAUSE, None
        while True:
            try:
                return method(request, timeout=max(deadline - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                failure = ServerError(error.code().name, error.details() or "")
            if failure.code == "UNAVAILABLE":
                message = f"{self.target} is not available: {failure.message}"
                unreachable = ServerError("UNAVAILABLE", message)
                if time.monotonic() + pause < deadline:
                    time.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
            elif failure.code != "DEADLINE_EXCEEDED":
                raise failure
            raise unreachable or failure


def _is_list(value) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes)


def _rows(pictures: dict[str, Any], values: dict[str, Any], lengths: dict[str, int]):
    """The inputs of one face after the other; what is no list goes into every one.

    Pictures are read when their turn comes, so that not all are in memory at once.
    """
    row = {name: _encode(value) for name, value in pictures.items() if name not in lengths}
    row |= {name: value for name, value in values.items() if name not in lengths}
    for index in range(max(lengths.values(), default=1)):
        for name in lengths:
            row[name] = _encode(pictures[name][index]) if name in pictures else values[name][index]
        yield dict(row)


def _requests(rows):
    """As many rows together as go into one request."""
    taken: list[dict] = []
    size = 0
    for row in rows:
        row_size = sum(len(value) for value in row.values() if isinstance(value, bytes))
        if taken and (len(taken) == _MOST_PICTURES or size + row_size > _MOST_BYTES):
            yield taken
            taken, size = [], 0
        taken.append(row)
        size += row_size
    if taken:
        yield taken


def _encode(picture: Picture) -> bytes:
    """A picture as the server decodes it: JPEG or PNG, upright, 8-bit colour.

    A file that is such a picture already goes as it is.
    """
    from PIL import Image

    from tfface.data.pictures import load_picture

    if isinstance(picture, Image.Image):
        return _png(picture.convert("RGB"))
    loaded = load_picture(picture)
    data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
    with Image.open(io.BytesIO(data)) as opened:
        upright = opened.getexif().get(0x0112, 1) == 1
        if opened.format in ("JPEG", "PNG") and opened.mode in ("RGB", "L") and upright:
            if not opened.has_transparency_data:
                return data
    return _png(loaded)


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=1)  # the default level takes ten times as long
    return file.getvalue()


def _decode(data: bytes) -> Image.Image:
    from PIL import Image

    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def _as_array(value) -> np.ndarray:
    import numpy as np

    if isinstance(value, np.ndarray) and value.dtype.kind not in "SU":
        return value
    array = np.asarray(value)
    # From a list of bytes NumPy would make fixed-width strings, cut at trailing zeros.
    return np.array(value, object) if array.dtype.kind in "SU" else array
