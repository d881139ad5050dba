"""One version of a model: a SavedModel on a v1 Session, the runtime that TF Serving uses."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model import loader_impl

from tfface.paths import plain
from tfface.server import tensors
from tfface.server.batching import Batcher
from tfface.server.limits import check_images
from tfface.server.protos import BatchingParameters
from tfface.server.status import ServingError, invalid

_LEAST_CHECKED_RANK = 3  # of convolutions in one dimension


@dataclass(frozen=True)
class Signature:
    """A signature.

    Attributes:
        definition: As in the SavedModel.
        inputs: Name of the graph's tensor, by input name; empty for one that is not dense.
        outputs: Name of the graph's tensor, by output name; empty for one that is not dense.
    """

    definition: meta_graph_pb2.SignatureDef
    inputs: dict[str, str]
    outputs: dict[str, str]


class SavedModel:
    """A loaded SavedModel.

    The Session's own run call sits below `Session.run`, which converts dtypes silently and rewrites
    error texts; like this the checks and the texts are those of TF Serving, and a call costs less.

    Args:
        path: Folder with `saved_model.pb`.
        batching: Merge requests that come at the same time, in this way; None: run each alone.
        session_config: Of the Session; None: TensorFlow's own, with GPU memory taken as needed.
        tags: Of the part of the SavedModel that is loaded.
        most_pixels: Of all encoded images of a request; 0: any number.

    Attributes:
        most_pixels: As given.
        signatures: By name.

    Raises:
        ServingError: It cannot be loaded, or the batching parameters are wrong.
    """

    def __init__(
        self,
        path: Path,
        batching: BatchingParameters | None = None,
        session_config: tf.compat.v1.ConfigProto | None = None,
        tags: tuple[str, ...] = (tf.saved_model.SERVING,),
        most_pixels: int = 0,
    ):
        self.most_pixels = most_pixels
        self._batcher = None if batching is None else Batcher(batching, self._run)
        if session_config is None:
            session_config = tf.compat.v1.ConfigProto()
            session_config.gpu_options.allow_growth = True
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=session_config)
        try:
            with plain(path) as readable:
                loader = loader_impl.SavedModelLoader(str(readable))
                meta_graph = loader.load(self._session, list(tags))
        except tf.errors.OpError as error:
            self.close()
            raise ServingError.from_tensorflow(error) from error
        except (OSError, RuntimeError, ValueError) as error:
            self.close()
            raise ServingError(grpc.StatusCode.NOT_FOUND, str(error)) from error
        self._session._extend_graph()
        self.signatures = {
            name: Signature(
                definition, _tensor_names(definition.inputs), _tensor_names(definition.outputs)
            )
            for name, definition in meta_graph.signature_def.items()
        }
        self._handles = {
            name: _handle(graph, name)
            for signature in self.signatures.values()
            for name in (*signature.inputs.values(), *signature.outputs.values())
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
            ServingError: A rank that is not the signature's, images that are too large, or what
                the graph says.
        """
        for name, value in inputs.items():
            _check_rank(name, signature.definition.inputs[name], value)
        strings = [value.flat for value in inputs.values() if value.dtype == object]
        check_images(itertools.chain(*strings), self.most_pixels)
        feeds = {self._tensor("input", name, signature.inputs): v for name, v in inputs.items()}
        tensors = {name: self._tensor("output", name, signature.outputs) for name in outputs}
        fetches = tuple(sorted(set(tensors.values())))
        run = self._batcher.run if self._batcher else self._run
        values = run(feeds, fetches, timeout)
        return {name: values[tensor] for name, tensor in tensors.items()}

    def close(self) -> None:
        """Frees the memory, after what waits in batches has run; nothing else may be running."""
        if self._batcher:
            self._batcher.close()
        self._session.close()

    def _tensor(self, kind: str, name: str, tensors: dict[str, str]) -> str:
        """The name of an input's or output's tensor, which there must be."""
        tensor = tensors[name]
        if not tensor:
            raise invalid(f"{kind} {name} is a sparse or composite tensor; only dense ones can be "
                          "sent and received")  # fmt: skip
        if self._handles[tensor] is None:
            raise ServingError(
                grpc.StatusCode.OUT_OF_RANGE, f"{kind} {name}: {tensor} is no tensor of the graph"
            )
        return tensor

    def _run(
        self, feeds: dict[str, np.ndarray], fetches: tuple[str, ...], timeout: float | None
    ) -> dict[str, np.ndarray]:
        """Runs the graph from tensors to tensors, both by the graph's names."""
        options = None
        if timeout is not None:
            run_options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(timeout * 1000)))
            options = pywrap_tf_session.TF_NewBufferFromString(run_options.SerializeToString())
        try:
            values = self._session._call_tf_sessionrun(
                options,
                {self._handles[name]: value for name, value in feeds.items()},
                [self._handles[name] for name in fetches],
                [],
                None,
            )
        except tf.errors.OpError as error:
            raise ServingError.from_tensorflow(error) from error
        except UnicodeDecodeError as error:  # of the error's text: it quotes what was sent
            raise invalid(error.object.decode(errors="replace")) from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        return dict(zip(fetches, values, strict=True))


def _tensor_names(tensors) -> dict[str, str]:
    return {alias: info.name for alias, info in tensors.items()}


def _handle(graph: tf.Graph, name: str):
    """The Session's handle of a tensor; None for an operation (`__saved_model_init_op` is one)."""
    try:
        return graph.get_tensor_by_name(name)._as_tf_output()
    except (KeyError, ValueError):
        return None


def _check_rank(name: str, info: meta_graph_pb2.TensorInfo, value: np.ndarray) -> None:
    """Stricter than TF Serving, where a wrong rank for a convolution ends the whole process.

    A wrong type is left to TensorFlow, which refuses it before it looks at the shape; and so are
    sizes, and ranks below those of convolutions, of which a graph makes what it likes.
    """
    expected = [dim.size for dim in info.tensor_shape.dim]
    if tensors.data_type(value) != info.dtype or len(expected) < _LEAST_CHECKED_RANK:
        return
    if len(expected) != value.ndim:
        raise invalid(
            f"input {name} must have as many dimensions as the signature's shape "
            f"[{','.join(map(str, expected))}] but has shape [{','.join(map(str, value.shape))}]"
        )
