"""Whether two images show the same person, by any embedding network that the user has."""

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
    """An embedding network: a SavedModel's folder, or an ONNX file (needs the extra [onnx]).

    The network has one input, images in RGB, and one output, a vector for each image. Whether
    the channels come first or last, the number of images at a time, the size, and whether pixels
    are bytes is read from its input. Images are resized bilinearly, and smoothed where they are
    larger; they should be cropped as those were that the network was trained on.

    Args:
        path: The folder or the file.
        size: Side of the network's images, in pixels; None: its input says it.
        values: Range of the values, "-1,1", "0,1" or "0,255"; None: "0,255" if its input is of
            integers, else "-1,1".
        signature: Of a SavedModel; None: "serving_default", or what the object does when called.

    Raises:
        UserError: No such model or signature, one with other inputs or outputs, or a size or range
            that its input does not take.
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
            raise self._wrong(f"range {values!r}: its input is of {self._type}, expected '0,255'")
        self._scale = RANGES[values or ("0,255" if integers else "-1,1")]

    def __call__(self, images: Any) -> np.ndarray:
        """Vectors float64 [N,D] of length 1, of images float32 [N,H,W,3] in [-1,1].

        Raises:
            UserError: The network fails, or gives something else.
        """
        images = self._prepared(checked(images))
        step = self._batch or _AT_ONCE
        found = []
        for start in range(0, len(images), step):
            some = images[start : start + step]
            # A network for a fixed number of images always gets that many.
            missing = (self._batch or len(some)) - len(some)
            padded = np.concatenate([some, np.repeat(some[-1:], missing, axis=0)])
            found.append(self._vectors(padded)[: len(some)])
        vectors = np.concatenate(found)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def similarity(self, a: Any, b: Any) -> np.ndarray:
        """Cosines float64 [N] of the vectors of images [N,H,W,3] in [-1,1] and of others."""
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
            # Each runtime has errors of its own.
            raise self._wrong(f"fails on images {images.shape}: {error}") from error
        if vectors.ndim < 2 or vectors.size % len(images) or len(vectors) != len(images):
            raise self._wrong(
                f"makes {vectors.shape} of {len(images)} images: expected a vector for each"
            )
        if not np.isfinite(vectors).all():
            raise self._wrong("makes vectors that hold values that are no finite numbers")
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
            raise self._wrong(f"its input is of {spec.dtype.name}: expected floats, uint8 or int32")
        rank = spec.shape.rank
        return run, spec.shape.as_list() if rank else [], np.dtype(spec.dtype.as_numpy_dtype)

    def _callable(self, model: Any) -> tuple[tf.TensorSpec, Run]:
        for function in getattr(model.__call__, "concrete_functions", ()):
            arguments = tf.nest.flatten(function.structured_input_signature)
            tensors = [spec for spec in arguments if isinstance(spec, tf.TensorSpec)]
            if len(tensors) == 1 and len(tf.nest.flatten(function.structured_outputs)) == 1:
                return tensors[0], lambda images: model(tf.constant(images)).numpy()
        raise self._wrong("cannot be called with one tensor of images, and has no signature")

    def _onnx(self) -> tuple[Run, list[int | None], np.dtype]:
        try:
            import onnxruntime
        except ImportError as error:
            raise self._wrong("ONNX networks need: pip install 'tfface[onnx]'") from error
        try:
            session = onnxruntime.InferenceSession(
                str(self._path), providers=onnxruntime.get_available_providers()
            )
        except Exception as error:
            # Its exceptions have no public base.
            raise self._wrong(f"not an ONNX network: {error}") from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        kinds["tensor(uint8)"] = np.uint8
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type not in kinds:
            found = ", ".join(f"{value.name} {value.type}" for value in inputs)
            raise self._wrong(
                f"has inputs {found} and {len(outputs)} outputs: expected images, and one output"
            )
        shape = [side if isinstance(side, int) else None for side in inputs[0].shape]

        def run(images):
            return session.run(None, {inputs[0].name: images})[0]

        return run, shape, np.dtype(kinds[inputs[0].type])

    def _read_shape(self, shape: list[int | None], size: int | None) -> None:
        """Finds the layout, the number of images at a time, and the size."""
        self._channels_first = len(shape) == 4 and shape[1] == 3 and shape[3] != 3
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise self._wrong(f"its input is {shape}: expected images [N,H,W,3] or [N,3,H,W]")
        self._batch = shape[0]
        sides = shape[2:] if self._channels_first else shape[1:3]
        wanted = [side or size for side in sides]
        if None in wanted:
            raise self._wrong(f"its input is {shape}, which leaves the size open: give the size")
        if size is not None and wanted != [size, size]:
            raise self._wrong(f"size {size}: its input is {shape}")
        self._size = tuple(wanted)

    def _wrong(self, what: str) -> UserError:
        return UserError(f"embedding {self._path}: {what}")
