"""What is served and how: models, the server's settings, TF Serving's files. No TensorFlow here."""

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
        base_path: Folder of version folders, which are named by numbers.
        latest: How many of the newest versions are served; None: all.
        specific: These versions are served, and `latest` is of no account; empty: go by `latest`.
        labels: Version by label.
    """

    name: str
    base_path: Path
    latest: int | None = 1
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)

    def choose(self, numbers: Iterable[int]) -> list[int]:
        """Those of the versions found that are to be served; newest first."""
        newest_first = sorted(numbers, reverse=True)
        if self.specific:
            return [number for number in newest_first if number in self.specific]
        return newest_first[: self.latest]


@dataclass(frozen=True)
class Options:
    """Settings of a server, other than its models.

    Attributes:
        host: Address to listen on; None: the loopback addresses 127.0.0.1 and, where there is one,
            ::1.
        port: Port of the gRPC API; 0: any free one, or none if there is a `socket_path`.
        socket_path: Unix socket of the gRPC API.
        threads: gRPC requests that run at the same time; None: four times the number of CPUs.
        channel_arguments: gRPC's own settings, by name.
        tls: Key and certificate of the gRPC API; None: no encryption.
        receive_timeout: Seconds within which a request must have arrived whole.
        max_open_per_peer: gRPC calls, and REST connections, that one address may have open at a
            time; 0: any number.
        max_request_pixels: Of all encoded images in a request together; 0: any number.
        grace: Seconds that requests have to finish when the server is stopped.
        health: Offer the standard gRPC health service.
        tensor_content: Answer with `tensor_content` rather than typed fields.
        rest_port: Port of the REST API; None: no REST API.
        rest_threads: REST requests that run at the same time; None: four times the number of CPUs.
        rest_timeout: Seconds after which a REST request is given up.
        rest_cors: Let web pages of other origins call the REST API.
        metrics_path: Path of Prometheus' metrics at the REST port; None: there are none.
        poll_seconds: Time between two looks for new versions; 0 or less: look only at the start.
        model_config_file: File that is read again every `config_poll_seconds`.
        config_poll_seconds: 0: never.
        allow_unavailable_labels: A new label may point to a version that is not available.
        max_load_retries: How often a version that cannot be loaded is tried again.
        retry_seconds: Time between two such tries.
        warm_up: Run a version's warm-up requests before it becomes available.
        warm_up_iterations: How often each of them is run.
        tags: Tags of the part of a SavedModel that is loaded.
        intra_op_threads: Threads within one operation; 0: TensorFlow decides.
        inter_op_threads: Operations that run at the same time; 0: TensorFlow decides.
        batching: How requests are put together in batches (`protos.BatchingParameters`); None: not.
        per_model_batching: Only versions with a `batching_params.pbtxt` batch, and according to it.
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
        UserError: Names the file and what is wrong.
    """
    from tensorflow_serving.config import model_server_config_pb2

    flag = "--model_config_file"
    config = protos.read_text(path, model_server_config_pb2.ModelServerConfig, flag)
    if config.WhichOneof("config") != "model_config_list":
        raise UserError(f"{flag} {path}: there is no model_config_list in it")
    try:
        return to_models(config.model_config_list)
    except UserError as error:
        raise UserError(f"{flag} {path}: {error}") from error


def to_models(listed, served: Collection[str] = ()) -> tuple[ModelConfig, ...]:
    """The models of a `ModelConfigList`.

    Args:
        listed: The message.
        served: Names of models that are being served.

    Raises:
        UserError: What TF Serving says to such a list.
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
    """Checks that a model's base path may be a folder at all.

    Raises:
        UserError: It is a URI, or no path.
    """
    if "://" in path:
        raise UserError(
            f"model {name}: base_path {path}: only folders of this machine can be read, no URIs; "
            "mount it, or copy the model"
        )
    if "\0" in path:
        raise UserError(f"model {name}: base_path {path!r}: expected a path, which has no NUL")


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
        raise UserError(f"model {name}: model_version_policy: specific names no versions")
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
        UserError: Names the file and what is missing.
    """
    flag = "--ssl_config_file"
    config = protos.read_text(path, protos.SSLConfig, flag)
    wanted = ["server_key", "server_cert", *(["custom_ca"] if config.client_verify else [])]
    for name in wanted:
        if "-----BEGIN " not in getattr(config, name):
            raise UserError(f"{flag} {path}: {name}: expected the content of a PEM file")
    return config


def read_metrics_path(path: str) -> str | None:
    """The path of the metrics in a `--monitoring_config_file`; None: they are not enabled.

    Raises:
        UserError: Names the file and what is wrong.
    """
    flag = "--monitoring_config_file"
    prometheus = protos.read_text(path, protos.MonitoringConfig, flag).prometheus_config
    if not prometheus.enable:
        return None
    found = prometheus.path or METRICS_PATH
    if not found.startswith("/"):
        raise UserError(f"{flag} {path}: path {found!r}: expected one that begins with /")
    return found
