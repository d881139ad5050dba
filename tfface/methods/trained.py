"""A trained method, for inference in this process."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfface.client import FaceClient, ServerError, VersionStatus
from tfface.client.types import Signatures
from tfface.data.alignment import crop_of
from tfface.data.marks import Mark
from tfface.editing import OPTIONS, Editor, Model
from tfface.layers import copied, fix_norms
from tfface.methods.base import Method, Networks, Signature

if TYPE_CHECKING:
    from PIL.Image import Image

_BATCH_SIZE = 32  # Examples per pass through the networks.


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained run.

    Attributes:
        name: The method's name.
        method: The method.
        nets: Its networks, with averaged weights where the method has them.
        step: Training step of the weights.
        path: The run folder.
    """

    name: str
    method: Method
    nets: Networks
    step: int
    path: Path

    @property
    def mark(self) -> Mark:
        """What images that the model generates or edits state about it."""
        name = f"{self.name}/{self.path.name}"
        return Mark.of_model(self.method.takes, name, f"step {self.step}")

    def in_precision(self, policy: str) -> Trained:
        """The same model, whose networks compute in another precision.

        Args:
            policy: Precision policy of Keras: "float32", "mixed_bfloat16" or "mixed_float16".
        """
        nets = {name: copied(self.nets[name], policy) for name in self.method.averaged}
        for net in nets.values():
            fix_norms(net)
        return dataclasses.replace(self, nets=nets)

    @property
    def weights(self) -> list[tf.Variable]:
        """The variables of the networks that an export needs, as TensorFlow saves them."""
        return [v.value for name in self.method.averaged for v in self.nets[name].variables]

    def signatures(self) -> dict[str, Signature]:
        """The signatures of an export: the method's, and `about`."""
        return {**self.method.signatures(self.nets), "about": self.about_signature()}

    @functools.cached_property
    def transport(self) -> InProcess:
        """Calls the signatures in this process, for a client that needs no server."""
        return InProcess(self.signatures())

    @functools.cached_property
    def client(self) -> FaceClient:
        """A client like that of the exported run, which needs no server."""
        return self._client()

    def _client(self, align: bool | str = False, face: int = 1) -> FaceClient:
        options = {"transport": self.transport, "align": align, "face": face}
        return FaceClient(str(self.path), self.name, **options)

    def about_signature(self) -> Signature:
        """The signature `about`, which states what the fields of `tfface.client.About` describe.

        Its input, `query`, is any string [B]. Its outputs, the same in each row, are `takes`,
        string [B]; if they are known, `crop`, string [B]; if there are any, `labels`, string [B,L].
        """
        takes, labels = self.method.takes, self.method.labels
        facts = {"takes": takes, "crop": crop_of(self.method.config.data), "labels": labels}
        rows = {name: tf.constant([fact]) for name, fact in facts.items() if fact}
        return Signature(
            lambda query: {
                name: tf.repeat(row, tf.shape(query)[0], axis=0) for name, row in rows.items()
            },
            {"query": tf.TensorSpec([None], tf.string)},
            {"query": tf.constant([""])},
        )

    def editor(
        self, options: dict[str, Any], *, align: bool | str = False, face: int = 1
    ) -> Editor:
        """An editor for these options.

        Args:
            options: As for `Editor`.
            align: As for `tfface.client.FaceClient`.
            face: As for `tfface.client.FaceClient`.

        Raises:
            UserError: As for `Editor`.
        """
        client = self._client(align, face) if align else self.client
        return Editor(Model.of(client, self.name), options)

    def edit(
        self,
        image: str | Path | Image | np.ndarray,
        *,
        align: bool | str = False,
        face: int = 1,
        **options: Any,
    ) -> dict[str, Image]:
        """Edits an image, or generates images from a label map, like the command `edit`.

        Args:
            image: A file or an RGB image; for methods that accept label maps or lines, a PNG file
                or integers [H,W].
            align: The image is a photograph: its face is found, aligned and edited, see
                `tfface.client.FaceClient`. A name of `tfface.data.alignment.CROPS`, or True for the
                crop of the training images.
            face: Number of the face to edit: 1 for the largest.
            **options: Options of the command, such as `expression=["happy", "sad"]`; one value or a
                list. `reference` and `exemplar` are files or images.

        Returns:
            The resulting images, by the names of the edits.

        Raises:
            UserError: An image cannot be read, or as for `Editor`.
        """
        for name, values in options.items():
            if name in OPTIONS and OPTIONS[name].kind != "count":
                several = isinstance(values, list | tuple | range)
                options[name] = list(values) if several else [values]
        [rows] = self.editor(options, align=align, face=face).edit([image])
        return {name: image for row in rows for name, image in row}


class InProcess:
    """A `tfface.client.types.Transport` that calls signatures in this process, without a network.

    Args:
        signatures: As from `Method.signatures`.
    """

    def __init__(self, signatures: dict[str, Signature]):
        self._signatures = signatures
        self._functions: dict[str, Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]] = {}

    def _function(self, name: str) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
        if name not in self._signatures:
            known = ", ".join(self._signatures)
            message = f"there is no signature {name!r}; expected one of {known}"
            raise ServerError("INVALID_ARGUMENT", message)
        if name not in self._functions:
            signature = self._signatures[name]
            specs = {k: tf.TensorSpec(s.shape, s.dtype) for k, s in signature.inputs.items()}
            self._functions[name] = tf.function(
                lambda inputs: signature.function(**inputs), [specs], autograph=False
            )
        return self._functions[name]

    async def predict(
        self, inputs: dict[str, Any], signature: str, timeout: float
    ) -> dict[str, Any]:
        """Runs a signature, 32 examples at a time."""
        run, results = self._function(signature), []
        specs = self._signatures[signature].inputs
        for start in range(0, len(next(iter(inputs.values()))), _BATCH_SIZE):
            batch = {
                name: tf.constant(_to_lists(value[start : start + _BATCH_SIZE]), specs[name].dtype)
                for name, value in inputs.items()
            }
            try:
                results.append({name: value.numpy() for name, value in run(batch).items()})
            except tf.errors.InvalidArgumentError as error:
                # Without the name of TensorFlow's operation and its position in the graph.
                message = error.message.partition("\n")[0].partition(" [[{{node")[0]
                raise ServerError("INVALID_ARGUMENT", message) from error
        return {name: np.concatenate([r[name] for r in results]) for name in results[0]}

    async def status(self, timeout: float) -> dict[int, VersionStatus]:
        """Always available."""
        return {1: VersionStatus("AVAILABLE", "")}

    async def metadata(self, timeout: float) -> Signatures:
        """The signatures, in the form that a server returns them."""
        return self._metadata

    @functools.cached_property
    def _metadata(self) -> Signatures:
        # Outputs of the examples: building the graphs of all signatures would take far longer.
        return {
            name: {
                "inputs": {key: _describe(s.dtype, s.shape) for key, s in signature.inputs.items()},
                "outputs": {
                    key: _describe(value.dtype, [None, *value.shape[1:]])
                    for key, value in signature.function(**signature.example).items()
                },
            }
            for name, signature in self._signatures.items()
        }

    async def close(self) -> None:
        """Nothing to close."""

    def size(self, value: Any) -> int:
        """Size in bytes of an element of an input."""
        return len(value) if isinstance(value, str | bytes) else 8


def _to_lists(values: Any) -> Any:
    """Object arrays as nested lists: TensorFlow does not convert all object arrays of strings."""
    return values.tolist() if values.dtype == object else values


def _describe(dtype: tf.DType, shape: Iterable[int | None]) -> dict[str, Any]:
    return {"dtype": dtype.name, "shape": tuple(shape)}
