"""The methods of both clients."""

from __future__ import annotations

import functools
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
from tfface.client.types import (
    About,
    Blocks,
    Model,
    ServerError,
    Signatures,
    Tls,
    Transport,
    VersionStatus,
)
from tfface.errors import UserError

# NumPy, Pillow, gRPC, httpx and the messages (which import TensorFlow) are imported where they are
# used, so that commands which only optionally use a server start quickly.
if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from tfface.client.packing import Condition, ImageSource

T = TypeVar("T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds between two attempts


class Methods:
    """The methods of `FaceClient` and `AsyncFaceClient`; in the latter, all are awaited.

    An image is a file path, the bytes of a file, a Pillow image, or an array uint8 [H,W,3] in RGB.
    A list of images is sent in as few requests as the limits below allow; images are read lazily.
    Results are in the order of the list.

    While the server cannot be reached or is overloaded (both UNAVAILABLE), a call is retried until
    its deadline, with growing random pauses. This is safe, as no call changes anything on the
    server. No other error is retried: RESOURCE_EXHAUSTED means that a message is too long or memory
    is full, which a retry would not fix.

    Args:
        target: HOST:PORT of the gRPC API, or http://HOST:PORT (https://HOST:PORT) of the REST API.
        model: The model's name on the server.
        timeout: Timeout of one request in seconds, including retries; a long list of images takes
            several requests. Over REST the last attempt has this timeout for each of: connecting,
            sending, and every read of the reply.
        version: Model version to call; None: the newest.
        label: Label of the version to call, instead of `version`.
        tls: For gRPC: True to trust the system's certificate authorities, a file of certificates to
            trust, or a `Tls`; None: no TLS. For REST: a file or a `Tls`; None: the system's
            authorities, with https://.
        max_request_bytes: Maximum size of a request with several images of a list. gRPC servers
            accept 4 MiB (4 * 2**20) by default; TF Serving has no limit.
        max_request_images: Maximum number of images of a list in one request.
        transport: Transport to use instead of a connection to `target`.
        align: Images are photographs: find the face in each, align it to the crop of the model's
            images, and add the edit to the photograph, which stays the same outside the face.
            Faces used as references are aligned as well. A name of `tfface.data.alignment.CROPS`,
            or True for the crop that the model states (exports of models whose crop is known).
            Needs the extra `align`.
        face: Number of the face to edit in a photograph: 1 for the largest, 2 for the next, ...

    Raises:
        UserError: Both a version and a label, an invalid address or certificate, an unknown crop,
            or a number of a face below 1.
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
        align: bool | str = False,
        face: int = 1,
    ):
        if version is not None and label is not None:
            raise UserError(f"version {version} and label {label!r}: expected one of them")
        if face < 1:
            raise UserError(f"face is {face}: expected at least 1")
        if isinstance(align, str):
            from tfface.data.alignment import check_crop

            check_crop(align)
        over_http = target.startswith(("http://", "https://"))
        kind = RestTransport if over_http else GrpcTransport
        self.target = target
        self.model = model
        self.timeout = timeout
        self.version = version
        self.label = label
        self._align, self._face = align, face
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
        """Runs a signature, in one request.

        Args:
            inputs: Arrays by input name, with the signature's dtypes and shapes; strings as a list,
                or as an array of str or bytes.
            signature: The signature's name.

        Returns:
            The outputs by name; strings are object arrays of bytes.

        Raises:
            ServerError: The server returned an error, or was not reached within the timeout.
        """
        return await self._predict(inputs, signature)

    @shared
    async def status(self) -> dict[int, VersionStatus]:
        """State of every version known to the server (or of the requested one), by number.

        Raises:
            ServerError: No such model, or the server was not reached within the timeout.
        """
        return await self._retried(self._transport.status, self.timeout)

    @shared
    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Waits until the model is available.

        Args:
            timeout: Maximum time to wait, in seconds.

        Raises:
            ServerError: The model is not available in time; with the server's last message.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                left = max(deadline - time.monotonic(), 0.001)
                versions = await self._retried(self._transport.status, left)
                if any(version.state == "AVAILABLE" for version in versions.values()):
                    return
                states = ", ".join(
                    f"version {number} is {version.state} {version.message}".strip()
                    for number, version in versions.items()
                )
                error = ServerError("UNAVAILABLE", f"model {self.model}: {states}")
            except ServerError as answer:
                if answer.code != "NOT_FOUND":  # the model may be added to the server later
                    raise
                error = answer
            if time.monotonic() + 0.1 > deadline:
                raise error
            await self._driver.pause(0.1)

    @shared
    async def metadata(self) -> Signatures:
        """The model's signatures.

        Returns:
            The inputs and outputs of each signature: `metadata()["bytes"]["inputs"]["image_bytes"]`
            is `{"dtype": "string", "shape": (None,)}`. A dynamic dimension is None; the shape is
            None if the rank is unknown.

        Raises:
            ServerError: No such model, or the server was not reached within the timeout.
        """
        signatures = await self._retried(self._transport.metadata, self.timeout)
        # Names with underscores are initialization operations, which cannot be called.
        return {name: signatures[name] for name in signatures if not name.startswith("__")}

    @shared
    async def about(self) -> About:
        """What the model states about itself: its input, its labels, the crop of its images.

        Returns:
            The facts; all unknown if the model has no signature `about`, as those of other programs
            and earlier exports.

        Raises:
            ServerError: No such model, or the server was not reached within the timeout.
        """
        return await self._about()

    @shared
    async def aligned(self, image: ImageSource) -> packing.Encoded:
        """Finds the face of a photograph that edits change, with `align`.

        Args:
            image: The photograph.

        Returns:
            The photograph with its aligned face, which edits accept instead of the image; without
            `align` the image as it is.

        Raises:
            UserError: The image cannot be read, has no such face, or the face is too small; or as
                for `FaceClient`.
            ServerError: The server was not reached within the timeout.
        """
        align = await self._aligner()
        encoded = await self._driver.work(packing.Encoded.of, image)
        return await self._driver.work(align, encoded) if align else encoded

    @shared
    async def change_expression(
        self,
        image: ImageSource | Sequence[ImageSource],
        expression: str | Sequence[str],
        part: str | None = None,
    ) -> Image.Image | list[Image.Image]:
        """Changes the expression of faces (a served SARGAN or seg_hierarchical).

        Accepts one image with several expressions, several images with one expression, or lists of
        the same length; a single value is combined with every value of the other list.

        Args:
            image: The image to edit, or a list of images.
            expression: Name of the target expression, or a list of names.
            part: Return the output of the generator of this face part, such as "eyes", instead of
                the edited image; a square of the networks' size (seg_hierarchical only).

        Returns:
            The edited image in its original size; the edit is added to the image as a change, which
            keeps its detail. A list if a list was given.

        Raises:
            UserError: An image that cannot be read, or lists of different lengths.
            ServerError: The server returned an error, or was not reached within the timeout.
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
        """Transfers an attribute from reference faces to source faces (a served ELEGANT).

        A single value is combined with every value of the lists, which must have the same length.

        Args:
            source: The image to edit, or a list of images.
            reference: The image with the desired attribute, or a list of images.
            attribute: Name of the attribute, or a list of names.
            strength: From 0 (source unchanged) to 1 (attribute fully transferred); or a list.

        Returns:
            The edited image in the source's size; a list if a list was given.

        Raises:
            UserError: An image that cannot be read, or lists of different lengths.
            ServerError: The server returned an error, or was not reached within the timeout.
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
        """Transfers several attributes at once from reference faces (a served ELEGANT).

        A single reference or strength is used for every attribute; lists must be as long as
        `attribute`.

        Args:
            source: The image to edit, or a list of images, which are all edited in the same way.
            reference: The image with the desired attributes, or one image for each attribute.
            attribute: Names of the attributes.
            strength: From 0 (unchanged) to 1 (fully transferred); or one for each attribute.

        Returns:
            The edited image in the source's size; a list if a list of sources was given.

        Raises:
            UserError: An image that cannot be read, or lists of different lengths.
            ServerError: The server returned an error, or was not reached within the timeout.
        """
        values = {"reference_bytes": reference, "attribute": attribute, "strength": strength}
        align = await self._aligner()
        changes = await self._driver.work(packing.together, values, align)
        return await self._edit({"source_bytes": source}, "several_bytes", same=changes)

    @shared
    async def generate(
        self,
        condition: Condition | Sequence[Condition],
        exemplar: ImageSource | Sequence[ImageSource],
    ) -> Image.Image | list[Image.Image]:
        """Generates faces with a given shape in the style of an exemplar (domain alignment).

        A single value is combined with every value of a list; two lists must have the same length.

        Args:
            condition: The shape: a label map or line drawing, whichever the served model was
                trained on. A PNG file in the format of `tfface.data.label_maps.load_label_map`, its
                bytes, or integers [H,W] of codes 0 to 19; or a list of them.
            exemplar: A face in the desired style, or a list of faces.

        Returns:
            The generated face, a square of the networks' size; a list if a list was given.

        Raises:
            UserError: A condition that is not a PNG or neither a label map nor a drawing, an image
                that cannot be read, or lists of different lengths.
            ServerError: The server returned an error, for example for a label map where it expects
                a drawing, or was not reached within the timeout.
        """
        return await self._edit({"condition_bytes": condition, "exemplar_bytes": exemplar})

    @shared
    async def retrieved_blocks(
        self,
        condition: Condition | Sequence[Condition],
        exemplar: ImageSource | Sequence[ImageSource],
    ) -> Blocks | list[Blocks]:
        """The blocks of the exemplar from which `generate` takes the style of each block.

        Args:
            condition: As for `generate`.
            exemplar: As for `generate`; its central square, or with `align` its aligned face, is
                cut into blocks.

        Returns:
            The blocks; a list if a list was given.

        Raises:
            UserError: As for `generate`.
            ServerError: As for `generate`; or the model has no signature `blocks_bytes`, as with
                dense alignment.
        """

        async def read(_, reply: dict[str, np.ndarray]) -> list[Blocks]:
            return [Blocks(*pair) for pair in zip(reply["index"], reply["weights"], strict=True)]

        values = {"condition_bytes": condition, "exemplar_bytes": exemplar}
        return await self._for_each(values, "blocks_bytes", read)

    @shared
    async def synthesize(
        self,
        label_map: Condition | Sequence[Condition],
        seed: int | Sequence[int] | None = None,
        reference: ImageSource | Sequence[ImageSource] | None = None,
    ) -> Image.Image | list[Image.Image]:
        """Generates faces from a label map, in one or several styles (mask-guided synthesis).

        A single value is combined with every value of a list; two lists must have the same length.

        Args:
            label_map: A PNG file in the format of `tfface.data.label_maps.load_label_map`, its
                bytes, or integers [H,W] of 0 to 18; or a list of them.
            seed: Seed of a style, which is the same for every label map; or a list of seeds.
            reference: A face to take the style from, instead of a seed; or a list of faces.

        Returns:
            The generated face, a square of the networks' size; a list if a list was given.

        Raises:
            UserError: Both or neither of seed and reference, an invalid label map, an image that
                cannot be read, or lists of different lengths.
            ServerError: The server returned an error, or was not reached within the timeout.
        """
        if (seed is None) == (reference is None):
            raise UserError("expected either a seed or a reference face")
        if reference is None:
            return await self._edit({"label_map_bytes": label_map, "seed": seed})
        values = {"label_map_bytes": label_map, "reference_bytes": reference}
        return await self._edit(values, "reference_bytes")

    @shared
    async def segment(
        self, image: ImageSource | Sequence[ImageSource]
    ) -> np.ndarray | list[np.ndarray]:
        """Segments faces (a served seg_hierarchical).

        Args:
            image: An image, or a list of images.

        Returns:
            The label map of the image's central square, uint8 [S,S] of 0 to 18, in the networks'
            size S; a list if a list was given.

        Raises:
            UserError: An image that cannot be read.
            ServerError: The server returned an error, or was not reached within the timeout.
        """
        import numpy as np

        maps = await self._edit({"image_bytes": image}, "segment_bytes", "label_map_bytes")
        return [np.asarray(x) for x in maps] if isinstance(maps, list) else np.asarray(maps)

    async def _edit(
        self,
        values: dict[str, Any],
        signature: str = "bytes",
        output: str = "image_bytes",
        same: Mapping[str, list[Any]] = MappingProxyType({}),
    ) -> Image.Image | list[Image.Image]:
        """Runs a signature on images; `same` are encoded inputs that are sent with every image."""

        async def read(
            group: list[dict[str, Any]], reply: dict[str, np.ndarray]
        ) -> list[Image.Image]:
            images = await self._driver.work(packing.decode, reply[output])
            if output != "image_bytes":  # A face part or label map, of the networks' size.
                return images
            return await self._driver.work(packing.pasted, group, images)

        return await self._for_each(values, signature, read, same)

    async def _for_each(
        self,
        values: dict[str, Any],
        signature: str,
        read: Callable[[list[dict[str, Any]], dict[str, np.ndarray]], Awaitable[list[T]]],
        same: Mapping[str, list[Any]] = MappingProxyType({}),
    ) -> T | list[T]:
        """Runs a signature on values; `read` gets results from a request's rows and its reply."""
        lengths = packing.lengths_of(values)

        async def run(group: list[dict[str, Any]]) -> list[T]:
            return await read(group, await self._predict(packing.columns(group), signature))

        align = await self._aligner()
        rows = ({**row, **same} for row in packing.rows(values, lengths, align))
        requests = packing.requests(rows, *self._limits, self._transport.size)
        results = await self._driver.in_order(run, requests)
        return results if lengths else results[0]

    async def _about(self) -> About:
        signatures = await self._retried(self._transport.metadata, self.timeout)
        if "about" not in signatures:
            return About()
        facts = await self._predict({"query": [b""]}, "about")
        single = {name: facts[name][0].decode() for name in ("takes", "crop") if name in facts}
        labels = facts["labels"][0] if "labels" in facts else ()
        return About(**single, labels=tuple(label.decode() for label in labels))

    async def _aligner(self) -> packing.Align | None:
        if self._align is True:
            name = (await self._about()).crop
            if name is None:
                raise UserError(
                    f"model {self.model} at {self.target} does not state the crop of its images: "
                    f"name the one that it was trained with, such as align='celeba'"
                )
            self._align = name
        if not self._align:
            return None
        return functools.partial(packing.Aligned.find, crop=self._align, number=self._face)

    async def _predict(self, inputs: Mapping[str, Any], signature: str) -> dict[str, np.ndarray]:
        arrays = {name: packing.as_array(value) for name, value in inputs.items()}

        def once(timeout: float) -> Awaitable[dict[str, np.ndarray]]:
            return self._transport.predict(arrays, signature, timeout)

        return await self._retried(once, self.timeout)

    async def _retried(self, call: Callable[[float], Awaitable[T]], timeout: float) -> T:
        """Retries a call while its error is UNAVAILABLE, until the timeout."""
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
                wait = pause * random.uniform(0.5, 1)  # so that clients do not retry in step
                if time.monotonic() + wait < deadline:
                    await self._driver.pause(wait)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
            elif failure.code != "DEADLINE_EXCEEDED":
                raise failure
            raise unreachable or failure
