"""Model folders and model configuration files, as an operator of a server creates them."""

from __future__ import annotations

import os
import shutil

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2


def add_version(export, base_path, number, warm_up=None):
    """Adds a version atomically by renaming, like an export."""
    base_path.mkdir(exist_ok=True)
    temporary = base_path / f".{number}.tmp"
    shutil.copytree(export, temporary)
    if warm_up is not None:
        extra = temporary / "assets.extra"
        extra.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
            for item in warm_up:
                log = prediction_log_pb2.PredictionLog()
                log.predict_log.request.CopyFrom(item)
                writer.write(log.SerializeToString())
    os.rename(temporary, base_path / str(number))


def model(name, base_path, more=""):
    """One `config` of a ModelConfigList as text; `more` has further fields."""
    return (
        f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" {more} }}'
    )


def label(name, version):
    return f'version_labels {{ key: "{name}" value: {version} }}'


def specific(*versions):
    numbers = " ".join(f"versions: {version}" for version in versions)
    return f"model_version_policy {{ specific {{ {numbers} }} }}"


def config_list(*models):
    return f"model_config_list {{ {' '.join(models)} }}"


def server_config(*models):
    """The ModelServerConfig of a reload request."""
    return text_format.Parse(config_list(*models), model_server_config_pb2.ModelServerConfig())
