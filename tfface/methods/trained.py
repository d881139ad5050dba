"""A trained method, for use: its signatures answered in this process."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfface.client import FaceClient, ServerError, VersionStatus
from tfface.client.types import Signatures
from tfface.editing import OPTIONS, Editor, Model
from tfface.methods.base import Method, Networks, Signature

if TYPE_CHECKING:
    from PIL.Image import Image

_AT_ONCE = 32  # Examples that go through the networks together.


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained run.

    Attributes:
        name: The method's name.
        method: The method.
        nets: Its networks; those with averaged weights hold these.
        step: Training step of the weights.
        path: The run folder.
    """

    name: str
    method: Method
    nets: Networks
    step: int
    path: Path

    @functools.cached_property
    def client(self) -> FaceClient:
        """Answers as a client of the exported run would, without a server."""
        signatures = self.method.signatures(self.nets)
        return FaceClient(str(self.path), self.name, transport=InProcess(signatures))

    def editor(self, options: dict[str, Any]) -> Editor:
        """The edits that some options ask for; arguments and errors as of `Editor`."""
        method = self.method
        lines = method.takes == "lines" if method.takes != "image" else None
        model = Model(self.client, self.client.metadata(), self.name, method.labels, lines)
        return Editor(model, options)

    def edit(self, image: str | Path | Image | np.ndarray, **options: Any) -> dict[str, Image]:
        """Edits an image, or makes images from a label map, as the command `edit` does.

        Args:
            image: A file or an RGB image; for methods that take label maps or lines a PNG, or
                integers [H,W].
            **options: Those of the command, such as `expression=["happy", "sad"]`; one value or a
                list. `reference` and `exemplar` are files or images.

        Returns:
            What was made, by the names of the edits.

        Raises:
            UserError: An image that cannot be read, or as of `Editor`.
        """
        for name, values in options.items():
            if name in OPTIONS and OPTIONS[name].kind != "count":
                several = isinstance(values, list | tuple | range)
                options[name] = list(values) if several else [values]
        [rows] = self.editor(options).edit([image])
        return {name: image for row in rows for name, image in row}


class InProcess:
    """A `tfface.client.types.Transport` to signatures of this process, not over a network.

    Args:
        signatures: As of `Method.signatures`.
    """

    def __init__(self, signatures: dict[str, Signature]):
        self._signatures = signatures
        self._functions: dict[str, Callable[..., dict[str, tf.Tensor]]] = {}

    def _function(self, name: str) -> Callable[..., dict[str, tf.Tensor]]:
        if name not in self._signatures:
            known = ", ".join(self._signatures)
            message = f"there is no signature {name!r}; expected one of {known}"
            raise ServerError("INVALID_ARGUMENT", message)
        if name not in self._functions:
            signature = self._signatures[name]
            specs = {k: tf.TensorSpec(s.shape, s.dtype) for k, s in signature.inputs.items()}
            function = tf.function(signature.function, autograph=False)
            self._functions[name] = function.get_concrete_function(**specs)
        return self._functions[name]

    async def predict(
        self, inputs: dict[str, Any], signature: str, timeout: float
    ) -> dict[str, Any]:
        """Runs a signature, 32 examples at a time."""
        run, parts = self._function(signature), []
        specs = self._signatures[signature].inputs
        for start in range(0, len(next(iter(inputs.values()))), _AT_ONCE):
            some = {
                name: tf.constant(_plain(value[start : start + _AT_ONCE]), specs[name].dtype)
                for name, value in inputs.items()
            }
            try:
                parts.append({name: value.numpy() for name, value in run(**some).items()})
            except tf.errors.InvalidArgumentError as error:
                # Without the name of TensorFlow's operation, and where it stands in the graph.
                message = error.message.partition("\n")[0].partition(" [[{{node")[0]
                raise ServerError("INVALID_ARGUMENT", message) from error
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    async def status(self, timeout: float) -> dict[int, VersionStatus]:
        """It is always there."""
        return {1: VersionStatus("AVAILABLE", "")}

    async def metadata(self, timeout: float) -> Signatures:
        """As a server tells it."""
        return {
            name: {
                "inputs": {key: _described(s) for key, s in signature.inputs.items()},
                "outputs": {
                    key: _described(s) for key, s in self._function(name).structured_outputs.items()
                },
            }
            for name, signature in self._signatures.items()
        }

    async def close(self) -> None:
        """Nothing to close."""

    def size(self, value: Any) -> int:
        """Bytes of an element of an input."""
        return len(value) if isinstance(value, str | bytes) else 8


def _plain(values: Any) -> Any:
    """Strings as lists, which TensorFlow takes; arrays of objects it takes only in part."""
    return values.tolist() if values.dtype == object else values


def _described(spec: tf.TensorSpec) -> dict[str, Any]:
    return {"dtype": spec.dtype.name, "shape": tuple(spec.shape)}
