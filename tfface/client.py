"""A client of TF Serving's gRPC API, for the embedded server and for TF Serving alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tfface import packing
from tfface.errors import UserError

# gRPC and the messages (which import TensorFlow) are imported where they are used: commands that
# only may need a server answer `--help` at once.
if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from tfface.packing import Condition, Picture

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
            request.inputs[name].CopyFrom(wire.to_proto(packing.as_array(value)))
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
        """Gives faces another expression (a served SARGAN or seg_hierarchical).

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
        return self._edit({"image_bytes": picture, "expression": expression})

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
            {
                "source_bytes": source,
                "reference_bytes": reference,
                "attribute": attribute,
                "strength": strength,
            }
        )

    def generate(
        self, condition: Condition | Sequence[Condition], exemplar: Picture | Sequence[Picture]
    ) -> Image.Image | list[Image.Image]:
        """Makes faces of the shape of one thing in the style of another (domain alignment).

        A single value goes with every value of a list; two lists must be of one length.

        Args:
            condition: The shape, a label map or a line drawing as the served model was trained
                with: a PNG as `tfface.data.label_maps.load_label_map` reads it, the bytes of one,
                or integers [H,W] of codes 0 to 19; or a list of them.
            exemplar: A face in the style wanted: a file, the bytes of one, or a Pillow image; or a
                list of them.

        Returns:
            The face, a square of the networks' size; a list if a list was given.

        Raises:
            UserError: A condition that is no PNG or neither a label map nor a drawing, a picture
                that cannot be read, lists of different lengths.
            ServerError: The server refused, such as a label map where it expects a drawing, or was
                not reached within the timeout.
        """
        return self._edit({"condition_bytes": condition, "exemplar_bytes": exemplar})

    def synthesize(
        self,
        label_map: Condition | Sequence[Condition],
        seed: int | Sequence[int] | None = None,
        reference: Picture | Sequence[Picture] | None = None,
    ) -> Image.Image | list[Image.Image]:
        """Makes faces that fit a label map (mask-guided synthesis), in one style or in many.

        A single value goes with every value of a list; two lists must be of one length.

        Args:
            label_map: A PNG as `tfface.data.label_maps.load_label_map` reads it, the bytes of one,
                or integers [H,W] of 0 to 18; or a list of them.
            seed: Number of a style, the same on every label map; or a list of them.
            reference: In place of the seed, a face whose style is taken: a file, the bytes of one,
                or a Pillow image; or a list of them.

        Returns:
            The face, a square of the networks' size; a list if a list was given.

        Raises:
            UserError: Both or neither of seed and reference, what is no label map, a picture that
                cannot be read, lists of different lengths.
            ServerError: The server refused, or was not reached within the timeout.
        """
        if (seed is None) == (reference is None):
            raise UserError("expected one of: a seed, or a reference face")
        if reference is None:
            return self._edit({"label_map_bytes": label_map, "seed": seed})
        values = {"label_map_bytes": label_map, "reference_bytes": reference}
        return self._edit(values, "reference_bytes")

    def segment(self, picture: Picture | Sequence[Picture]) -> np.ndarray | list[np.ndarray]:
        """Finds the parts of faces (a served seg_hierarchical).

        Args:
            picture: A file, the bytes of one, or a Pillow image; or a list of them.

        Returns:
            The label map of the picture's central square, uint8 [S,S] of 0 to 18, of the networks'
            size; a list if a list was given.

        Raises:
            UserError: A picture that cannot be read.
            ServerError: The server refused, or was not reached within the timeout.
        """
        import numpy as np

        found = self._edit({"image_bytes": picture}, "segment_bytes", "label_map_bytes")
        return [np.asarray(x) for x in found] if isinstance(found, list) else np.asarray(found)

    def _edit(
        self, values: dict[str, Any], signature: str = "bytes", output: str = "image_bytes"
    ) -> Image.Image | list[Image.Image]:
        lengths = {name: len(v) for name, v in values.items() if packing.is_list(v)}
        if len(set(lengths.values())) > 1:
            given = ", ".join(f"{length} of {name}" for name, length in lengths.items())
            raise UserError(f"lists of different lengths: {given}")
        edited: list[Image.Image] = []
        for inputs in packing.requests(packing.rows(values, lengths)):
            reply = self.predict(inputs, signature=signature)[output]
            edited += [packing.decode(data) for data in reply]
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
