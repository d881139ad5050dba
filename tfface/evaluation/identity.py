"""Identity similarity of two images, with a user-supplied embedding network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfface.errors import UserError
from tfface.metrics.images import checked

_AT_ONCE = 32
RANGES = {"-1,1": (1.0, 0.0), "0,1": (0.5, 0.5), "0,255": (127.5, 127.5)}  # factor, offset

Run = Callable[[np.ndarray], np.ndarray]


class Embedding:
    """An embedding network: a SavedModel folder, or an ONNX file (needs the extra [onnx]).

    The network must have one input, RGB images, and one output, a vector for each image. The
    channel order, batch size, image size and data type are read from its input. Images are resized
    bilinearly with antialiasing; they should be cropped like the network's training images.

    Args:
        path: The folder or file.
        size: Side of the network's input images, in pixels; None: read from the input.
        values: Range of the input values, "-1,1", "0,1" or "0,255"; None: "0,255" for an integer
            input, otherwise "-1,1".
        signature: Signature of the SavedModel; None: "serving_default", or the model's `__call__`.

    Raises:
        UserError: The model or signature does not exist, its inputs or outputs are not as
            described, or its input does not accept the size or range.
    """

    def __init__(
        self,
        path: str | Path,
        size: int | None = None,
        values: str | None = None,
        signature: str | None = None,
    ):
        self._path = Path(path)
        if values is not None and values not in RANGES:
            raise self._wrong(f"range {values!r}: expected one of {', '.join(map(repr, RANGES))}")
        if not self._path.exists():
            raise self._wrong("no such file or folder")
        if self._path.is_dir():
            self._run, shape, self._type = self._saved_model(signature)
        elif signature is not None:
            raise self._wrong(f"signature {signature!r}: only SavedModels have signatures")
        else:
            self._run, shape, self._type = self._onnx()
        self._read_shape(shape, size)
        integers = np.issubdtype(self._type, np.integer)
        if integers and values not in (None, "0,255"):
            raise self._wrong(f"range {values!r}: its input is {self._type}, expected '0,255'")
        self._scale = RANGES[values or ("0,255" if integers else "-1,1")]

    def __call__(self, images: Any) -> np.ndarray:
        """Vectors float64 [N,D] of length 1, of images float32 [N,H,W,3] in [-1,1].

        Raises:
            UserError: The network fails, or its output is not one finite vector for each image.
        """
        images = self._prepared(checked(images))
        step = self._batch or _AT_ONCE
        parts = []
        for start in range(0, len(images), step):
            batch = images[start : start + step]
            # A network with a fixed batch size always gets full batches.
            missing = (self._batch or len(batch)) - len(batch)
            padded = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            parts.append(self._vectors(padded)[: len(batch)])
        vectors = np.concatenate(parts)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def similarity(self, a: Any, b: Any) -> np.ndarray:
        """Cosine similarities float64 [N] of two arrays of images [N,H,W,3] in [-1,1]."""
        return (self(a) * self(b)).sum(axis=1)

    def _prepared(self, images: np.ndarray) -> np.ndarray:
        if images.shape[1:3] != self._size:
            images = tf.image.resize(images, self._size, antialias=True).numpy()
        factor, offset = self._scale
        images = images * factor + offset
        if np.issubdtype(self._type, np.integer):
            images = np.rint(images).clip(0, 255)
        if self._channels_first:
            images = images.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(images, self._type)

    def _vectors(self, images: np.ndarray) -> np.ndarray:
        try:
            vectors = np.asarray(self._run(images), np.float64)
        except Exception as error:
            # Each runtime has its own exception types.
            raise self._wrong(f"fails on images {images.shape}: {error}") from error
        if vectors.ndim < 2 or vectors.size % len(images) or len(vectors) != len(images):
            raise self._wrong(
                f"returns shape {vectors.shape} for {len(images)} images: "
                "expected one vector for each image"
            )
        if not np.isfinite(vectors).all():
            raise self._wrong("returns NaN or infinite values")
        return vectors.reshape(len(images), -1)

    def _saved_model(self, signature: str | None) -> tuple[Run, list[int | None], np.dtype]:
        try:
            model = tf.saved_model.load(str(self._path))
        except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
            raise self._wrong(f"not a SavedModel: {error}") from error
        name = signature or "serving_default"
        if name in model.signatures:
            function = model.signatures[name]
            inputs, outputs = function.structured_input_signature[1], function.structured_outputs
            if len(inputs) != 1 or len(outputs) != 1:
                raise self._wrong(
                    f"signature {name!r} has inputs {sorted(inputs)} and outputs "
                    f"{sorted(outputs)}: expected one of each"
                )
            ((key, spec),), (output,) = inputs.items(), outputs

            def run(images):
                return function(**{key: tf.constant(images)})[output].numpy()

        elif signature is None and callable(model):
            spec, run = self._callable(model)
        else:
            raise self._wrong(
                f"has no signature {name!r}: expected one of {sorted(model.signatures)}"
            )
        if not (spec.dtype.is_floating or spec.dtype in (tf.uint8, tf.int32)):
            raise self._wrong(f"its input is {spec.dtype.name}: expected a float, uint8 or int32")
        rank = spec.shape.rank
        return run, spec.shape.as_list() if rank else [], np.dtype(spec.dtype.as_numpy_dtype)

    def _callable(self, model: Any) -> tuple[tf.TensorSpec, Run]:
        for function in getattr(model.__call__, "concrete_functions", ()):
            arguments = tf.nest.flatten(function.structured_input_signature)
            tensors = [spec for spec in arguments if isinstance(spec, tf.TensorSpec)]
            if len(tensors) == 1 and len(tf.nest.flatten(function.structured_outputs)) == 1:
                return tensors[0], lambda images: model(tf.constant(images)).numpy()
        raise self._wrong("has no signature and cannot be called with one tensor of images")

    def _onnx(self) -> tuple[Run, list[int | None], np.dtype]:
        try:
            import onnxruntime
        except ImportError as error:
            raise self._wrong("ONNX models need: pip install 'tfface[onnx]'") from error
        try:
            session = onnxruntime.InferenceSession(
                str(self._path), providers=onnxruntime.get_available_providers()
            )
        except Exception as error:
            # ONNX Runtime's exceptions have no public base class.
            raise self._wrong(f"not an ONNX model: {error}") from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        kinds["tensor(uint8)"] = np.uint8
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type not in kinds:
            described = ", ".join(f"{value.name} {value.type}" for value in inputs)
            raise self._wrong(
                f"has inputs {described} and {len(outputs)} outputs: "
                "expected one input of images and one output"
            )
        shape = [side if isinstance(side, int) else None for side in inputs[0].shape]

        def run(images):
            return session.run(None, {inputs[0].name: images})[0]

        return run, shape, np.dtype(kinds[inputs[0].type])

    def _read_shape(self, shape: list[int | None], size: int | None) -> None:
        """Determines the channel order, the batch size and the image size from the input shape."""
        self._channels_first = len(shape) == 4 and shape[1] == 3 and shape[3] != 3
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise self._wrong(f"its input is {shape}: expected images [N,H,W,3] or [N,3,H,W]")
        self._batch = shape[0]
        sides = shape[2:] if self._channels_first else shape[1:3]
        resolved = [side or size for side in sides]
        if None in resolved:
            raise self._wrong(f"its input is {shape}, without a fixed size: pass the size")
        if size is not None and resolved != [size, size]:
            raise self._wrong(f"size {size}: its input is {shape}")
        self._size = tuple(resolved)

    def _wrong(self, message: str) -> UserError:
        return UserError(f"embedding {self._path}: {message}")
