"""What both clients can do, written once."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from tfface.client import packing
from tfface.client.driving import Awaiting, Blocking, shared
from tfface.client.over_grpc import GrpcTransport
from tfface.client.over_rest import RestTransport
from tfface.client.types import Model, ServerError, Signatures, Tls, Transport, VersionStatus
from tfface.errors import UserError

# NumPy, Pillow, gRPC, httpx and the messages (which import TensorFlow) are imported where they are
# used: commands that only may need a server answer `--help` at once.
if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from tfface.client.packing import Condition, ImageSource

T = TypeVar("T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds between two tries


class Methods:
    """The methods of `FaceClient` and `AsyncFaceClient`; of the latter, all are awaited.

    An image is a file, the bytes of one, a Pillow image, or an array uint8 [H,W,3] in RGB. A list
    of images goes to the server in as few requests as its limits allow; images are read when
    their turn comes. Results are in the order of the list.

    While the server cannot be reached, or says that it is overloaded (both UNAVAILABLE), a call is
    tried again until its deadline, with growing pauses of random length. This is safe, as no call
    changes anything on the server. Nothing else is tried again: RESOURCE_EXHAUSTED means a message
    that is too long or memory that is full, which more of the same does not mend.

    Args:
        target: HOST:PORT of the gRPC API, or http://HOST:PORT (https://HOST:PORT) of the REST API.
        model: The model's name on the server.
        timeout: Seconds that one request may take, tries included; a list of many images takes
            several requests. Over REST the last try has so many seconds for each of: connecting,
            sending, and every wait for more of the reply.
        version: The version to call; None: the newest.
        label: In place of the version, the label of one.
        tls: Of gRPC: True to trust the system's authorities, a file of certificates to trust, or a
            `Tls`; None: no TLS. Of REST: a file or a `Tls`; None: the system's, with https://.
        max_request_bytes: Images of a list are sent together as long as the request, encoded, is
            no longer than this. Plain gRPC servers take 4 MiB (4 * 2**20); TF Serving takes any.
        max_request_images: So many images of a list at most go into a request.
        transport: What carries the calls, in place of a connection to the target.

    Raises:
        UserError: Both a version and a label, an address or a certificate that is none.
    """

    _driver: Blocking | Awaiting = Awaiting()

    def __init__(
        self,
        target: str = "127.0.0.1:8500",
        model: str = "default",
        timeout: float = 30.0,
        *,
        version: int | None = None,
        label: str | None = None,
        tls: bool | str | Path | Tls | None = None,
        max_request_bytes: int = 32 * 2**20,
        max_request_images: int = 32,
        transport: Transport | None = None,
    ):
        if version is not None and label is not None:
            raise UserError(f"version {version} and label {label!r}: expected one of them")
        over_http = target.startswith(("http://", "https://"))
        kind = RestTransport if over_http else GrpcTransport
        self.target = target
        self.model = model
        self.timeout = timeout
        self.version = version
        self.label = label
        self._limits = max_request_images, max_request_bytes
        self._transport: Transport = transport or kind(
            target, Model(model, version, label), Tls.of(tls), self._driver
        )

    @shared
    async def close(self) -> None:
        """Closes the connection."""
        await self._transport.close()

    @shared
    async def predict(
        self,
        inputs: Mapping[str, np.ndarray | Sequence[str | bytes]],
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
        return await self._predict(inputs, signature)

    @shared
    async def status(self) -> dict[int, VersionStatus]:
        """State of every version that the server knows (or of the one asked for), by number.

        Raises:
            ServerError: No such model, or the server was not reached within the timeout.
        """
        return await self._tried(self._transport.status, self.timeout)

    @shared
    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Returns as soon as the model answers requests.

        Args:
            timeout: Seconds to wait.

        Raises:
            ServerError: It does not in this time; says what the server answered last.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                left = max(deadline - time.monotonic(), 0.001)
                versions = await self._tried(self._transport.status, left)
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
            await self._driver.pause(0.1)

    @shared
    async def metadata(self) -> Signatures:
        """The model's signatures.

        Returns:
            `metadata()["bytes"]["inputs"]["image_bytes"]` is
            `{"dtype": "string", "shape": (None,)}`; "outputs" beside "inputs". A free dimension is
            None; a shape of any rank is None.

        Raises:
            ServerError: No such model, or the server was not reached within the timeout.
        """
        found = await self._tried(self._transport.metadata, self.timeout)
        # One with underscores is the initialisation, which nobody can call.
        return {name: found[name] for name in found if not name.startswith("__")}

    @shared
    async def change_expression(
        self,
        image: ImageSource | Sequence[ImageSource],
        expression: str | Sequence[str],
        part: str | None = None,
    ) -> Image.Image | list[Image.Image]:
        """Gives faces another expression (a served SARGAN or seg_hierarchical).

        One image with several expressions, several images with one expression, or as many of
        both: a single value goes with every value of the others.

        Args:
            image: The image to change, or a list of them.
            expression: Name of an expression, or a list of them.
            part: In place of the edited image what the generator of this part of the face made
                of it, "eyes" say, a square of the networks' size (seg_hierarchical).

        Returns:
            The edited image, of its original size and with its detail, as what the edit changes
            is added to it; a list if a list was given.

        Raises:
            UserError: An image that cannot be read, lists of different lengths.
            ServerError: The server refused, or was not reached within the timeout.
        """
        values = {"image_bytes": image, "expression": expression}
        return await (
            self._edit(values, "parts_bytes", f"{part}_bytes") if part else self._edit(values)
        )

    @shared
    async def transfer_attribute(
        self,
        source: ImageSource | Sequence[ImageSource],
        reference: ImageSource | Sequence[ImageSource],
        attribute: str | Sequence[str],
        strength: float | Sequence[float] = 1.0,
    ) -> Image.Image | list[Image.Image]:
        """Gives faces an attribute as other faces have it (a served ELEGANT).

        A single value goes with every value of the lists, which must be of one length.

        Args:
            source: The image to change, or a list of them.
            reference: The image that has the attribute as wanted, or a list of them.
            attribute: Name of an attribute, or a list of them.
            strength: 0 leaves the source as it is, 1 exchanges the attribute fully; or a list.

        Returns:
            The edited image, of the source's size; a list if a list was given.

        Raises:
            UserError: An image that cannot be read, lists of different lengths.
            ServerError: The server refused, or was not reached within the timeout.
        """
        return await self._edit(
            {
                "source_bytes": source,
                "reference_bytes": reference,
                "attribute": attribute,
                "strength": strength,
            }
        )

    @shared
    async def transfer_attributes(
        self,
        source: ImageSource | Sequence[ImageSource],
        reference: ImageSource | Sequence[ImageSource],
        attribute: Sequence[str],
        strength: float | Sequence[float] = 1.0,
    ) -> Image.Image | list[Image.Image]:
        """Gives faces several attributes at once, as other faces have them (a served ELEGANT).

        A single reference or strength goes with every attribute; lists are as long as theirs.

        Args:
            source: The image to change, or a list of images that are all changed so.
            reference: The image that has the attributes as wanted, or one for each attribute.
            attribute: Names of attributes.
            strength: 0 changes nothing, 1 exchanges fully; or one for each attribute.

        Returns:
            The edited image, of the source's size; a list if a list of sources was given.

        Raises:
            UserError: An image that cannot be read, lists of different lengths.
            ServerError: The server refused, or was not reached within the timeout.
        """
        values = {"reference_bytes": reference, "attribute": attribute, "strength": strength}
        changes = await self._driver.work(packing.together, values)
        return await self._edit({"source_bytes": source}, "several_bytes", same=changes)

    @shared
    async def generate(
        self,
        condition: Condition | Sequence[Condition],
        exemplar: ImageSource | Sequence[ImageSource],
    ) -> Image.Image | list[Image.Image]:
        """Makes faces of the shape of one thing in the style of another (domain alignment).

        A single value goes with every value of a list; two lists must be of one length.

        Args:
            condition: The shape, a label map or a line drawing as the served model was trained
                with: a PNG as `tfface.data.label_maps.load_label_map` reads it, the bytes of one,
                or integers [H,W] of codes 0 to 19; or a list of them.
            exemplar: A face in the style wanted, or a list of them.

        Returns:
            The face, a square of the networks' size; a list if a list was given.

        Raises:
            UserError: A condition that is no PNG or neither a label map nor a drawing, an image
                that cannot be read, lists of different lengths.
            ServerError: The server refused, such as a label map where it expects a drawing, or was
                not reached within the timeout.
        """
        return await self._edit({"condition_bytes": condition, "exemplar_bytes": exemplar})

    @shared
    async def synthesize(
        self,
        label_map: Condition | Sequence[Condition],
        seed: int | Sequence[int] | None = None,
        reference: ImageSource | Sequence[ImageSource] | None = None,
    ) -> Image.Image | list[Image.Image]:
        """Makes faces that fit a label map (mask-guided synthesis), in one style or in many.

        A single value goes with every value of a list; two lists must be of one length.

        Args:
            label_map: A PNG as `tfface.data.label_maps.load_label_map` reads it, the bytes of one,
                or integers [H,W] of 0 to 18; or a list of them.
            seed: Number of a style, the same on every label map; or a list of them.
            reference: In place of the seed, a face whose style is taken, or a list of them.

        Returns:
            The face, a square of the networks' size; a list if a list was given.

        Raises:
            UserError: Both or neither of seed and reference, what is no label map, an image that
                cannot be read, lists of different lengths.
            ServerError: The server refused, or was not reached within the timeout.
        """
        if (seed is None) == (reference is None):
            raise UserError("expected one of: a seed, or a reference face")
        if reference is None:
            return await self._edit({"label_map_bytes": label_map, "seed": seed})
        values = {"label_map_bytes": label_map, "reference_bytes": reference}
        return await self._edit(values, "reference_bytes")

    @shared
    async def segment(
        self, image: ImageSource | Sequence[ImageSource]
    ) -> np.ndarray | list[np.ndarray]:
        """Finds the parts of faces (a served seg_hierarchical).

        Args:
            image: An image, or a list of them.

        Returns:
            The label map of the image's central square, uint8 [S,S] of 0 to 18, of the networks'
            size; a list if a list was given.

        Raises:
            UserError: An image that cannot be read.
            ServerError: The server refused, or was not reached within the timeout.
        """
        import numpy as np

        found = await self._edit({"image_bytes": image}, "segment_bytes", "label_map_bytes")
        return [np.asarray(x) for x in found] if isinstance(found, list) else np.asarray(found)

    async def _edit(
        self,
        values: dict[str, Any],
        signature: str = "bytes",
        output: str = "image_bytes",
        same: Mapping[str, list[Any]] = MappingProxyType({}),
    ) -> Image.Image | list[Image.Image]:
        """Edits; `same` are encoded inputs with several values, the same ones for every face."""
        lengths = packing.lengths_of(values)

        async def edit(inputs: dict[str, Any]) -> list[Image.Image]:
            reply = await self._predict(inputs, signature)
            return await self._driver.work(packing.decode, reply[output])

        rows = ({**row, **same} for row in packing.rows(values, lengths))
        requests = packing.requests(rows, *self._limits, self._transport.size)
        edited = await self._driver.in_order(edit, requests)
        return edited if lengths else edited[0]

    async def _predict(self, inputs: Mapping[str, Any], signature: str) -> dict[str, np.ndarray]:
        arrays = {name: packing.as_array(value) for name, value in inputs.items()}

        def once(timeout: float) -> Awaitable[dict[str, np.ndarray]]:
            return self._transport.predict(arrays, signature, timeout)

        return await self._tried(once, self.timeout)

    async def _tried(self, call: Callable[[float], Awaitable[T]], timeout: float) -> T:
        """Calls until it works, or there is an answer other than UNAVAILABLE, or time is up."""
        deadline = time.monotonic() + timeout
        pause, unreachable = _FIRST_PAUSE, None
        while True:
            try:
                return await call(max(deadline - time.monotonic(), 0.001))
            except ServerError as error:
                failure = error
            if failure.code == "UNAVAILABLE":
                message = f"{self.target} is not available: {failure.message}"
                unreachable = ServerError("UNAVAILABLE", message)
                wait = pause * random.uniform(0.5, 1)  # Not all clients come back at once.
                if time.monotonic() + wait < deadline:
                    await self._driver.pause(wait)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
            elif failure.code != "DEADLINE_EXCEEDED":
                raise failure
            raise unreachable or failure
