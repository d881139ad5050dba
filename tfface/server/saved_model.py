"""A loaded model version: a SavedModel in a v1 Session, the runtime that TF Serving uses."""

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

_LEAST_CHECKED_RANK = 3  # the rank of a 1-D convolution's input


@dataclass(frozen=True)
class Signature:
    """A signature.

    Attributes:
        definition: The SignatureDef in the SavedModel.
        inputs: Tensor name in the graph by input name; empty if the input is not a dense tensor.
        outputs: Tensor name in the graph by output name; empty if the output is not a dense tensor.
    """

    definition: meta_graph_pb2.SignatureDef
    inputs: dict[str, str]
    outputs: dict[str, str]


class SavedModel:
    """A loaded SavedModel.

    Runs the graph through the call below `Session.run`, which would silently convert dtypes and
    rewrite error messages. This gives TF Serving's checks and messages, and is faster.

    Args:
        path: Folder with `saved_model.pb`.
        batching: Batching parameters; None: run each request on its own.
        session_config: Configuration of the Session; None: TensorFlow's default with GPU memory
            growth.
        tags: Tags of the MetaGraph to load.
        max_pixels: Maximum number of pixels of all encoded images of a request; 0: unlimited.

    Attributes:
        max_pixels: As given.
        signatures: Signatures by name.

    Raises:
        ServingError: It cannot be loaded, or the batching parameters are invalid.
    """

    def __init__(
        self,
        path: Path,
        batching: BatchingParameters | None = None,
        session_config: tf.compat.v1.ConfigProto | None = None,
        tags: tuple[str, ...] = (tf.saved_model.SERVING,),
        max_pixels: int = 0,
    ):
        self.max_pixels = max_pixels
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
            outputs: Names of the outputs to return.
            timeout: Timeout in seconds; None: no timeout.

        Returns:
            The outputs by name.

        Raises:
            ServingError: A rank other than the signature's, images that are too large, or an error
                of the graph.
        """
        for name, value in inputs.items():
            _check_rank(name, signature.definition.inputs[name], value)
        strings = [value.flat for value in inputs.values() if value.dtype == object]
        check_images(itertools.chain(*strings), self.max_pixels)
        feeds = {self._tensor("input", name, signature.inputs): v for name, v in inputs.items()}
        tensors = {name: self._tensor("output", name, signature.outputs) for name in outputs}
        fetches = tuple(sorted(set(tensors.values())))
        run = self._batcher.run if self._batcher else self._run
        values = run(feeds, fetches, timeout)
        return {name: values[tensor] for name, tensor in tensors.items()}

    def close(self) -> None:
        """Runs the queued batches, then frees the memory; no other call may be running."""
        if self._batcher:
            self._batcher.close()
        self._session.close()

    def _tensor(self, kind: str, name: str, tensors: dict[str, str]) -> str:
        """The tensor name of an input or output; raises if it is not a dense tensor."""
        tensor = tensors[name]
        if not tensor:
            raise invalid(f"{kind} {name} is a sparse or composite tensor; only dense ones can be "
                          "sent and received")  # fmt: skip
        if self._handles[tensor] is None:
            raise ServingError(
                grpc.StatusCode.OUT_OF_RANGE, f"{kind} {name}: the graph has no tensor {tensor}"
            )
        return tensor

    def _run(
        self, feeds: dict[str, np.ndarray], fetches: tuple[str, ...], timeout: float | None
    ) -> dict[str, np.ndarray]:
        """Runs the graph; `feeds` and `fetches` use the graph's tensor names."""
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
        except UnicodeDecodeError as error:  # an error message that quotes bytes of the request
            raise invalid(error.object.decode(errors="replace")) from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        return dict(zip(fetches, values, strict=True))


def _tensor_names(tensors) -> dict[str, str]:
    return {alias: info.name for alias, info in tensors.items()}


def _handle(graph: tf.Graph, name: str):
    """The Session's handle of a tensor; None for an operation such as `__saved_model_init_op`."""
    try:
        return graph.get_tensor_by_name(name)._as_tf_output()
    except (KeyError, ValueError):
        return None


def _check_rank(name: str, info: meta_graph_pb2.TensorInfo, value: np.ndarray) -> None:
    """Checks an input's rank. TF Serving does not: a wrong rank in a convolution crashes it.

    Left to TensorFlow are dtypes, which it checks before the shape, sizes, and inputs of a lower
    rank than a convolution's, which a graph may treat in any way.
    """
    expected = [dim.size for dim in info.tensor_shape.dim]
    if tensors.data_type(value) != info.dtype or len(expected) < _LEAST_CHECKED_RANK:
        return
    if len(expected) != value.ndim:
        raise invalid(
            f"input {name} must have as many dimensions as the signature's shape "
            f"[{','.join(map(str, expected))}] but has shape [{','.join(map(str, value.shape))}]"
        )
