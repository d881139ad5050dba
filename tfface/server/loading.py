"""Loading of a model version, and its warm-up requests."""

from __future__ import annotations

from pathlib import Path

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import prediction_log_pb2

from tfface.server import classify_regress, protos
from tfface.server.config import Options
from tfface.server.predict import predict
from tfface.server.saved_model import SavedModel
from tfface.server.status import ServingError, invalid

WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
_BATCHING_FILE = "batching_params.pbtxt"
_MAX_WARM_UP_RECORDS = 1000
_WARM_UPS = {
    "predict_log": predict,
    "classify_log": classify_regress.classify,
    "regress_log": classify_regress.regress,
    "multi_inference_log": classify_regress.multi_inference,
}


def load(path: Path, number: int, options: Options) -> SavedModel:
    """Loads a version and runs the warm-up requests in its `assets.extra`.

    Args:
        path: The version's folder.
        number: The version number.
        options: Server settings.

    Raises:
        ServingError: It cannot be loaded, or a warm-up request fails.
        UserError: Its `batching_params.pbtxt` cannot be read.
    """
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=options.intra_op_threads,
        inter_op_parallelism_threads=options.inter_op_threads,
        gpu_options=tf.compat.v1.GPUOptions(allow_growth=True),
    )
    pixels = options.max_request_pixels
    model = SavedModel(path, _batching(path, options), config, options.tags, pixels)
    try:
        if options.warm_up:
            _run_warm_up(model, number, path / WARM_UP_FILE, options.warm_up_iterations)
    except Exception:
        model.close()
        raise
    return model


def _batching(path: Path, options: Options) -> Message | None:
    """The batching parameters of a version; None: no batching."""
    if not options.per_model_batching:
        return options.batching
    file = path / _BATCHING_FILE
    if not file.exists():
        return None
    return protos.read_text(file, protos.BatchingParameters, _BATCHING_FILE)


def _run_warm_up(model: SavedModel, number: int, path: Path, iterations: int) -> None:
    if not path.exists():
        return
    try:
        for count, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()):
            if count >= _MAX_WARM_UP_RECORDS:
                raise invalid(
                    "Number of warmup records exceeds the maximum "
                    f"({_MAX_WARM_UP_RECORDS}) at {path}"
                )
            log = prediction_log_pb2.PredictionLog.FromString(record)
            kind = log.WhichOneof("log_type")
            if kind not in _WARM_UPS:
                raise ServingError(
                    grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}"
                )
            for _ in range(iterations):
                _WARM_UPS[kind](model, number, getattr(log, kind).request, None)
    except DecodeError as error:
        raise invalid(f"Failed to parse warmup record from {path}") from error
    except tf.errors.DataLossError as error:
        raise ServingError(
            grpc.StatusCode.DATA_LOSS,
            f"{error.message}. Please verify your warmup data is in TFRecord format.",
        ) from error
