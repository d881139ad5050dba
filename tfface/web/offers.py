"""The models that the page offers, found out from their server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tfface.client import FaceClient, ServerError
from tfface.editing import KINDS, Editor, Model
from tfface.errors import UserError

Connect = Callable[[bool], FaceClient]
"""Opens a client of a model; the argument is its `align`."""

BUILT_IN = "synthetic"
"""Crop of models that were trained on built-in faces."""
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
        crop: Crop of its images, see `tfface.client.About`; None if it is unknown.
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


def find_offer(name: str, connect: Connect) -> Offer:
    """Finds out what a model accepts.

    Args:
        name: Name of the model on the page.
        connect: Opens its client.

    Raises:
        UserError: The server cannot be reached or refuses, or the model is not from tfface.export,
            or from a version that did not state labels.
    """
    client = connect(False)
    try:
        model, about = Model.of(client, name), client.about()
    except ServerError as error:
        raise UserError(explained(error, client)) from error
    kind = KINDS.get(frozenset(model.signatures.get("bytes", {"inputs": ()})["inputs"]))
    for signature, exists in (("bytes", kind), ("about", about.takes)):
        if not exists:
            raise UserError(
                f"model {client.model} at {client.target} has no signature `{signature}` as "
                f"written by this version of tfface.export; export it again"
            )
    side = 0
    if kind.takes != "image":
        needed = {"exemplar": [""]} if "exemplar" in kind.options else {}
        side = Editor(model, needed).size
    offer = Offer(model, kind.options, "segment_bytes" in model.signatures, side, about.crop)
    if offer.photographs:
        model = dataclasses.replace(model, client=connect(True))
    return dataclasses.replace(offer, model=model)


def explained(error: ServerError, client: FaceClient) -> str:
    """A server's error as one line that names the server and the way on."""
    message = " ".join(error.message.split())
    server = f"model {client.model} at {client.target}"
    if error.code == "DEADLINE_EXCEEDED":
        message = f"no reply within {client.timeout:g} s"
    way = _WAYS.get(error.code)
    return f"{server}: {message}; {way}" if way else f"{server}: {message}"
