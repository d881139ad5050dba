"""The models that the page offers, found out from their server."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from tfface.client import FaceClient, ServerError
from tfface.editing import KINDS, Editor, Model
from tfface.errors import UserError

if TYPE_CHECKING:
    from tfface.client.types import Signatures

Connect = Callable[[bool], FaceClient]
"""Opens a client of a model; the argument is its `align`."""

BUILT_IN = "synthetic"
"""Crop of models that were trained on built-in faces."""
_LABELS = re.compile(r"expected one of (.+?); received")
_WAYS = {
    "UNAVAILABLE": "start the server again, or wait if it is restarting, and repeat; this page "
    "needs no reload",
    "DEADLINE_EXCEEDED": "the server is busy or slow; repeat, or ask for fewer results at a time",
    "RESOURCE_EXHAUSTED": "the request is too large for the server; use a smaller image, or fewer",
    "NOT_FOUND": "the server has stopped serving this model; serve it again, or restart this app "
    "with --model and the name of another one",
    "UNAUTHENTICATED": "the server needs credentials, which this app cannot send",
    "PERMISSION_DENIED": "the server does not allow this app to call it",
}


@dataclasses.dataclass(frozen=True)
class Offer:
    """A model that the page can edit with.

    Attributes:
        model: The model, with its labels.
        options: Names of the options of its edits, from `tfface.editing.OPTIONS`.
        segments: Whether it segments faces.
        side: Side of the label maps or drawings that it generates from; 0: it edits images.
        crop: Crop of its images, see `FaceClient.crop`; None if it is unknown.
    """

    model: Model
    options: tuple[str, ...]
    segments: bool
    side: int
    crop: str | None

    @property
    def photographs(self) -> bool:
        """Whether it edits photographs: the face is found, aligned, edited and pasted back."""
        return self.crop not in (None, BUILT_IN)


def find_offer(
    name: str, connect: Connect, labels: tuple[str, ...] | None = None, lines: bool | None = None
) -> Offer:
    """Finds out what a model accepts.

    Args:
        name: Name of the model on the page.
        connect: Opens its client.
        labels: Names of its expressions or attributes; None: found out from its replies.
        lines: Whether it generates from line drawings instead of label maps; None: found out.

    Raises:
        UserError: The server cannot be reached or refuses, or the model is not from tfface.export.
    """
    client = connect(False)
    try:
        signatures = client.metadata()
        kind = KINDS.get(frozenset(signatures.get("bytes", {"inputs": ()})["inputs"]))
        if kind is None:
            raise UserError(
                f"model {client.model} at {client.target} has no `bytes` signature as written by "
                f"tfface.export"
            )
        labels = _labels(client, signatures) if labels is None else labels
        if kind.takes == "condition" and lines is None:
            lines = _takes_lines(client)
        crop = client.crop()
    except ServerError as error:
        raise UserError(explained(error, client)) from error
    model, side = Model(client, signatures, name, labels, lines), 0
    if kind.takes != "image":
        needed = {"exemplar": [""]} if "exemplar" in kind.options else {}
        side = Editor(model, needed).size
    offer = Offer(model, kind.options, "segment_bytes" in signatures, side, crop)
    if offer.photographs:
        model = dataclasses.replace(model, client=connect(True))
    return dataclasses.replace(offer, model=model)


def _labels(client: FaceClient, signatures: Signatures) -> tuple[str, ...]:
    """Names of a model's expressions or attributes; empty if it has none.

    No signature lists them, but the error message about an unknown one does.
    """
    inputs = signatures["bytes"]["inputs"]
    named = [name for name in ("expression", "attribute") if name in inputs]
    if not named:
        return ()
    face = _grey_face()
    values = {"image_bytes": [face], "source_bytes": [face], "reference_bytes": [face]}
    values |= {"expression": ["?"], "attribute": ["?"]}
    sent = {name: values[name] for name in inputs if name in values}
    if "strength" in inputs:
        import numpy as np

        sent["strength"] = np.ones(1, np.float32)
    try:
        client.predict(sent, "bytes")
    except ServerError as error:
        listed = _LABELS.search(error.message)
        if error.code == "INVALID_ARGUMENT" and listed:
            return tuple(listed[1].split(", "))
        raise
    return ()


def _takes_lines(client: FaceClient) -> bool:
    """Whether a model expects line drawings; it rejects a label map if it does."""
    import numpy as np

    from tfface.data.label_maps import LINE

    drawing = np.zeros((64, 64), np.uint8)
    drawing[20:44, 32] = LINE  # Not a code of label maps.
    try:
        client.generate(drawing, _grey_face())
    except ServerError as error:
        if error.code != "INVALID_ARGUMENT":
            raise
        return False
    return True


def _grey_face() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(file, "PNG")
    return file.getvalue()


def explained(error: ServerError, client: FaceClient) -> str:
    """A server's error as one line that names the server and the way on."""
    message = " ".join(error.message.split())
    server = f"model {client.model} at {client.target}"
    if error.code == "DEADLINE_EXCEEDED":
        message = f"no reply within {client.timeout:g} s"
    way = _WAYS.get(error.code)
    return f"{server}: {message}; {way}" if way else f"{server}: {message}"
