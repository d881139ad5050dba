"""One version of a model: a SavedModel on a v1 Session, the runtime that TF Serving uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model import loader_impl

from tfface.server.status import ServingError, invalid


@dataclass(frozen=True)
class Signature:
    """A signature, its tensors found in the graph.

    Attributes:
        definition: As in the SavedModel.
        inputs: Handle of the graph's tensor, by input name.
        shapes: Shape of each input with None for a free dimension; None for a free rank.
        outputs: Handle of the graph's tensor, by output name; None for what is no tensor.
    """

    definition: meta_graph_pb2.SignatureDef
    inputs: dict[str, object]
    shapes: dict[str, tuple[int | None, ...] | None]
    outputs: dict[str, object]


class SavedModel:
    """A loaded SavedModel.

    The Session's own run call sits below `Session.run`, which converts dtypes silently and rewrites
    error texts; like this the checks and the texts are those of TF Serving, and a call costs less.

    Args:
        path: Folder with `saved_model.pb`; the part tagged `serve` is loaded.

    Attributes:
        signatures: By name.

    Raises:
        ServingError: It cannot be loaded.
    """

    def __init__(self, path: Path):
        graph = tf.Graph()
        config = tf.compat.v1.ConfigProto()
        config.gpu_options.allow_growth = True
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            loader = loader_impl.SavedModelLoader(str(path))
            meta_graph = loader.load(self._session, [tf.saved_model.SERVING])
        except tf.errors.OpError as error:
            self.close()
            raise ServingError.from_tensorflow(error) from error
        except (OSError, RuntimeError, ValueError) as error:
            self.close()
            raise ServingError(grpc.StatusCode.NOT_FOUND, str(error)) from error
        self._session._extend_graph()
        self.signatures = {
            name: _signature(graph, definition)
            for name, definition in meta_graph.signature_def.items()
        }

    def run(
        self,
        signature: Signature,
        inputs: dict[str, np.ndarray],
        outputs: list[str],
        timeout: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: One of `signatures`.
            inputs: All its inputs, by name; strings as object arrays of bytes.
            outputs: Names of the outputs wanted.
            timeout: Seconds after which to give up; None: never.

        Returns:
            The outputs by name.

        Raises:
            ServingError: A shape that is not the signature's, or what the graph says.
        """
        for name, value in inputs.items():
            _check_shape(name, signature.shapes[name], value.shape)
        feeds = {signature.inputs[name]: value for name, value in inputs.items()}
        fetches = [signature.outputs[name] for name in outputs]
        if None in feeds or None in fetches:
            raise ServingError(
                grpc.StatusCode.OUT_OF_RANGE, "the signature names something that is no tensor"
            )
        options = None
        if timeout is not None:
            run_options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(timeout * 1000)))
            options = pywrap_tf_session.TF_NewBufferFromString(run_options.SerializeToString())
        try:
            values = self._session._call_tf_sessionrun(options, feeds, fetches, [], None)
        except tf.errors.OpError as error:
            raise ServingError.from_tensorflow(error) from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        return dict(zip(outputs, values, strict=True))

    def close(self) -> None:
        """Frees the memory; nothing may be running."""
        self._session.close()


def _signature(graph: tf.Graph, definition: meta_graph_pb2.SignatureDef) -> Signature:
    return Signature(
        definition=definition,
        inputs={name: _handle(graph, info.name) for name, info in definition.inputs.items()},
        shapes={name: _shape(info.tensor_shape) for name, info in definition.inputs.items()},
        outputs={name: _handle(graph, info.name) for name, info in definition.outputs.items()},
    )


def _handle(graph: tf.Graph, name: str):
    """The Session's handle of a tensor; None for an operation (`__saved_model_init_op` is one)."""
    try:
        return graph.get_tensor_by_name(name)._as_tf_output()
    except (KeyError, ValueError):
        return None


def _shape(shape) -> tuple[int | None, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)


def _check_shape(name: str, expected, received: tuple[int, ...]) -> None:
    """Stricter than TF Serving, where a wrong rank ends the whole process in a failed CHECK."""
    if expected is None:
        return
    if len(expected) != len(received) or any(
        size is not None and size != other for size, other in zip(expected, received, strict=True)
    ):
        wanted = ",".join("-1" if size is None else str(size) for size in expected)
        raise invalid(
            f"input {name} must have the signature's shape [{wanted}] but has shape "
            f"[{','.join(map(str, received))}]"
        )
