"""Models to serve, server settings and TF Serving's config files; does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfface.data.image_heads import MAX_PIXELS
from tfface.errors import UserError
from tfface.server import protos

METRICS_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True)
class ModelConfig:
    """A model to serve.

    Attributes:
        name: The name that clients use.
        base_path: Folder with numbered version folders.
        latest: Number of newest versions to serve; None: all.
        specific: Versions to serve instead of the `latest`; empty: use `latest`.
        labels: Version numbers by label.
    """

    name: str
    base_path: Path
    latest: int | None = 1
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)

    def choose(self, numbers: Iterable[int]) -> list[int]:
        """Which of these versions to serve, newest first."""
        newest_first = sorted(numbers, reverse=True)
        if self.specific:
            return [number for number in newest_first if number in self.specific]
        return newest_first[: self.latest]


@dataclass(frozen=True)
class Options:
    """Settings of a server, other than its models.

    Attributes:
        host: Address to listen on; None: the loopback addresses 127.0.0.1 and, where available,
            ::1.
        port: Port of the gRPC API; 0: any free port, or none if there is a `socket_path`.
        socket_path: Unix socket of the gRPC API.
        threads: gRPC requests that run at the same time; None: four times the number of CPUs.
        channel_arguments: gRPC channel arguments, by name.
        tls: Key and certificate of the gRPC API (`protos.SSLConfig`); None: no encryption.
        receive_timeout: Seconds within which a request must have arrived completely.
        max_open_per_peer: Maximum number of gRPC calls, and of REST connections, that one client
            address may have open at the same time; 0: unlimited.
        max_request_pixels: Maximum number of pixels of all encoded images in a request together; 0:
            unlimited.
        grace: Seconds that running requests have to finish when the server stops.
        health: Provide the standard gRPC health service.
        tensor_content: Reply with `tensor_content` instead of typed fields.
        rest_port: Port of the REST API; None: no REST API.
        rest_threads: REST requests that run at the same time; None: four times the number of CPUs.
        rest_timeout: Timeout of a REST request, in seconds.
        rest_cors: Allow web pages of other origins to call the REST API.
        metrics_path: Path of the Prometheus metrics on the REST port; None: no metrics.
        poll_seconds: Seconds between two polls for new versions; 0 or less: no polling.
        model_config_file: File that is reloaded every `config_poll_seconds`.
        config_poll_seconds: Seconds between two reloads of `model_config_file`; 0: never.
        allow_unavailable_labels: Allow a new label to point to a version that is not available.
        max_load_retries: How often loading a failed version is retried.
        retry_seconds: Seconds between two such retries.
        warm_up: Run a version's warm-up requests before it becomes available.
        warm_up_iterations: How often each warm-up request is run.
        tags: Tags of the MetaGraph to load from a SavedModel.
        intra_op_threads: Threads within one operation; 0: TensorFlow decides.
        inter_op_threads: Operations that run at the same time; 0: TensorFlow decides.
        batching: Batching parameters (`protos.BatchingParameters`); None: no batching.
        per_model_batching: Batch only for versions with a `batching_params.pbtxt`, with its
            parameters.
    """

    host: str | None = None
    port: int = 0
    socket_path: str = ""
    threads: int | None = None
    channel_arguments: Mapping[str, int | str] = field(default_factory=dict)
    tls: Any = None
    receive_timeout: float = 30.0
    max_open_per_peer: int = 0
    max_request_pixels: int = MAX_PIXELS
    grace: float = 10.0
    health: bool = False
    tensor_content: bool = False
    rest_port: int | None = None
    rest_threads: int | None = None
    rest_timeout: float = 30.0
    rest_cors: bool = False
    metrics_path: str | None = None
    poll_seconds: float = 1.0
    model_config_file: Path | None = None
    config_poll_seconds: float = 0.0
    allow_unavailable_labels: bool = False
    max_load_retries: int = 5
    retry_seconds: float = 60.0
    warm_up: bool = True
    warm_up_iterations: int = 1
    tags: tuple[str, ...] = ("serve",)
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    batching: Any = None
    per_model_batching: bool = False


def read_models(path: str | Path) -> tuple[ModelConfig, ...]:
    """Reads a `--model_config_file`.

    Raises:
        UserError: The file is invalid; the message names it and the problem.
    """
    from tensorflow_serving.config import model_server_config_pb2

    flag = "--model_config_file"
    config = protos.read_text(path, model_server_config_pb2.ModelServerConfig, flag)
    if config.WhichOneof("config") != "model_config_list":
        raise UserError(f"{flag} {path}: has no model_config_list")
    try:
        return to_models(config.model_config_list)
    except UserError as error:
        raise UserError(f"{flag} {path}: {error}") from error


def to_models(listed, served: Collection[str] = ()) -> tuple[ModelConfig, ...]:
    """The models of a `ModelConfigList`.

    Args:
        listed: The message.
        served: Names of models that are already being served.

    Raises:
        UserError: The list is invalid; with TF Serving's messages.
    """
    models: dict[str, ModelConfig] = {}
    for entry in listed.config:
        if not entry.name:
            raise UserError("a model in the config list has no name")
        if entry.name in models:
            raise UserError(f"Illegal to list model {entry.name} multiple times in config list")
        models[entry.name] = _to_model(entry, entry.name in served)
    return tuple(models.values())


def check_base_path(name: str, path: str) -> None:
    """Checks that a model's base path is a local path.

    Raises:
        UserError: It is a URI or not a valid path.
    """
    if "://" in path:
        raise UserError(
            f"model {name}: base_path {path}: URIs are not supported; mount it as a local folder, "
            "or copy the model"
        )
    if "\0" in path:
        raise UserError(f"model {name}: base_path {path!r}: a path cannot contain NUL")


def _to_model(entry, served: bool) -> ModelConfig:
    name, path = entry.name, entry.base_path
    check_base_path(name, path)
    if not Path(path).is_absolute():
        raise UserError(
            f"Expected model {name} to have an absolute path or URI; got base_path()={path}"
        )
    _check_platform(entry, served)
    policy = entry.model_version_policy
    chosen = policy.WhichOneof("policy_choice")
    if chosen == "specific" and not policy.specific.versions:
        raise UserError(f"model {name}: model_version_policy: specific lists no versions")
    return ModelConfig(
        name,
        Path(path),
        latest=None if chosen == "all" else max(1, policy.latest.num_versions),
        specific=tuple(policy.specific.versions),
        labels=dict(entry.version_labels),
    )


def _check_platform(entry, served: bool) -> None:
    either = "ModelServerConfig::model_type (deprecated)", "ModelServerConfig::model_platform."
    if entry.model_type and entry.model_platform:
        raise UserError(f"Illegal setting both {either[0]} and {either[1]}")
    if not entry.model_type and not entry.model_platform:
        raise UserError(f"Illegal setting neither {either[0]} nor {either[1]}")
    platform = entry.model_platform or ("tensorflow" if entry.model_type == 1 else "other")
    if platform == "tensorflow":
        return
    if served:
        raise UserError(
            f"Illegal to change a model's platform. For model {entry.name} platform was tensorflow "
            f"and new platform requested is {platform}"
        )
    raise UserError(f"Model {entry.name} requests unsupported platform {platform}")


def read_tls(path: str):
    """Reads a `--ssl_config_file`.

    Returns:
        A `protos.SSLConfig` with key and certificate.

    Raises:
        UserError: The file is invalid; the message names it and the missing field.
    """
    flag = "--ssl_config_file"
    config = protos.read_text(path, protos.SSLConfig, flag)
    required = ["server_key", "server_cert", *(["custom_ca"] if config.client_verify else [])]
    for name in required:
        if "-----BEGIN " not in getattr(config, name):
            raise UserError(f"{flag} {path}: {name}: expected the content of a PEM file")
    return config


def read_metrics_path(path: str) -> str | None:
    """The metrics path in a `--monitoring_config_file`; None if metrics are not enabled.

    Raises:
        UserError: The file is invalid; the message names it and the problem.
    """
    flag = "--monitoring_config_file"
    prometheus = protos.read_text(path, protos.MonitoringConfig, flag).prometheus_config
    if not prometheus.enable:
        return None
    metrics_path = prometheus.path or METRICS_PATH
    if not metrics_path.startswith("/"):
        raise UserError(f"{flag} {path}: path {metrics_path!r}: expected a path that begins with /")
    return metrics_path
