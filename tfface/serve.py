"""`python -m tfface.serve`: the embedded server, with the flags of `tensorflow_model_server`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tfface.cli import Parser, command, import_tensorflow, port_number
from tfface.data.image_heads import MAX_PIXELS
from tfface.errors import UserError
from tfface.server.checks import check_addresses, check_models
from tfface.server.config import (
    ModelConfig,
    Options,
    check_base_path,
    read_metrics_path,
    read_models,
    read_tls,
)
from tfface.server.protos import BatchingParameters, read_text
from tfface.shipped import run_folder
from tfface.version import __version__

_EPILOG = """\
The folder of a model contains one numbered sub-folder per version, as written by `python -m
tfface.export`. The latest version is served; a newer one replaces it without failed
requests. --model_config_file can serve several models, several versions of a model, and
assign labels to versions.

After Ctrl-C or SIGTERM new requests get UNAVAILABLE (REST: 503), pending requests are
completed, and the process ends with status 0, after --shutdown_grace_seconds at the latest.
Status 2: the server cannot start.

Differences from tensorflow_model_server:
- It listens on loopback addresses only, unless --host is given.
- A missing or empty model folder, or a model that cannot be loaded, ends the start at once;
  TF Serving waits indefinitely, or retries first.
- Unknown flags, and flags that have no effect without another one, are errors. Flags of
  tensorflow_model_server that have no effect here (TFLite, profiler, session and platform
  files) are accepted, and reported in one line.
- gRPC reflection is always enabled.
"""
if TYPE_CHECKING:
    from google.protobuf.message import Message

# Flags that have no effect without another flag.
_NEEDS = {
    "batching_parameters_file": "enable_batching",
    "enable_per_model_batching_parameters": "enable_batching",
    "model_config_file_poll_wait_seconds": "model_config_file",
    "monitoring_config_file": "rest_api_port",
    "rest_api_enable_cors_support": "rest_api_port",
}


# Flags of tensorflow_model_server that are accepted, but have no effect here.
_WITHOUT_EFFECT = (
    "enable_profiler",
    "enable_signature_method_name_check",
    "flush_filesystem_caches",
    "mixed_precision",
    "num_load_threads",
    "num_tflite_interpreters_per_pool",
    "num_tflite_pools",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
    "platform_config_file",
    "prefer_tflite_model",
    "remove_unused_fields_from_bundle_metagraph",
    "skip_initialize_tpu",
    "tensorflow_session_config_file",
    "thread_pool_factory_config_file",
    "use_tflite_model",
    "xla_cpu_compilation_enabled",
)


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r}: expected true or false")
    return values[text.lower()]


def _at_least(least: int):
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number of at least {least}")
        return int(text)

    return number


def _arguments(text: str) -> dict[str, int | str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE,NAME=VALUE")
    return {k: int(v) if re.fullmatch(r"[+-]?\d+", v) else v for k, _, v in pairs}


_OPEN_FILES = 65_536
_NUMBER = {"type": _at_least(0), "metavar": "N", "default": 0}
_COUNT = {"type": _at_least(1), "metavar": "N"}
_SECONDS = {"type": int, "metavar": "S"}
_FILE = {"metavar": "FILE", "default": ""}
_FLAG = {"type": _boolean, "nargs": "?", "const": True, "metavar": "BOOL"}
_OFF, _ON = _FLAG | {"default": False}, _FLAG | {"default": True}
_FLAGS = {
    "models": {
        "model_base_path": ("folder with the versions of a model", {"metavar": "FOLDER"}),
        "model_name": ("name of the model for clients", {"default": "default", "metavar": "NAME"}),
        "model_config_file": ("models to serve (text ModelServerConfig), instead of one", _FILE),
        "model_config_file_poll_wait_seconds": (
            "seconds between two reads of this file, whose models replace those served; 0: never",
            _SECONDS | {"default": 0},
        ),
        "allow_version_labels_for_unavailable_models": (
            "allow new labels for versions that are not available yet", _OFF,
        ),
        "file_system_poll_wait_seconds": (
            "seconds between two checks for new versions; 0: check only at the start",
            _SECONDS | {"default": 1},
        ),
    },
    "loading": {
        "saved_model_tags": (
            "tags of the graph to load from a SavedModel, as A,B",
            {"default": "serve", "metavar": "TAGS"},
        ),
        "max_num_load_retries": (
            "number of retries for a new version that cannot be loaded; a change of its files "
            "always causes another", _NUMBER | {"default": 5},
        ),
        "load_retry_interval_micros": (
            "microseconds between two retries", _NUMBER | {"default": 60_000_000},
        ),
        "enable_model_warmup": ("run the warm-up requests of a version before serving it", _ON),
        "num_request_iterations_for_warmup": ("runs of each warm-up request; 0: one", _NUMBER),
    },
    "gRPC": {
        "port": (
            "port; 0: any free port, or none with a socket",
            {"type": port_number, "default": 8500},
        ),
        "host": (
            "address to listen on, also for REST, such as 0.0.0.0 for all (default: loopback "
            "addresses)", {},
        ),
        "grpc_socket_path": ("Unix socket to listen on in addition", {"metavar": "PATH"}),
        "grpc_max_threads": ("maximum number of concurrent requests (default: 4 per CPU)", _COUNT),
        "grpc_channel_arguments": (
            "gRPC channel arguments, as NAME=VALUE,NAME=VALUE",
            {"type": _arguments, "default": {}, "metavar": "LIST"},
        ),
        "receive_timeout_seconds": (
            "seconds within which a request must arrive completely, also for REST",
            _COUNT | {"default": 30},
        ),
        "max_open_per_peer": (
            "maximum number of open calls, and of open REST connections, per client address (a "
            "proxy counts as one); 0: no limit", _NUMBER,
        ),
        "max_request_pixels": (
            "maximum number of pixels of all encoded images in a request, also for REST; 0: no "
            "limit",
            _NUMBER | {"default": MAX_PIXELS},
        ),
        "shutdown_grace_seconds": (
            "seconds that pending requests have to finish when the server stops, also for REST",
            _NUMBER | {"default": 10},
        ),
        "ssl_config_file": ("key and certificate for TLS (text SSLConfig)", _FILE),
        "enable_grpc_healthcheck_service": ("enable the gRPC health service", _OFF),
        "enable_serialization_as_tensor_content": (
            "encode Predict results as tensor_content instead of typed fields", _OFF,
        ),
    },
    "REST": {
        "rest_api_port": ("port; 0: no REST API", {"type": port_number, "default": 0}),
        "rest_api_num_threads": (
            "maximum number of concurrent requests (default: 4 per CPU)", _COUNT,
        ),
        "rest_api_timeout_in_ms": (
            "milliseconds after which a request is aborted", _COUNT | {"default": 30000},
        ),
        "rest_api_enable_cors_support": ("allow cross-origin requests from web pages (CORS)", _OFF),
        "monitoring_config_file": ("enable Prometheus metrics (text MonitoringConfig)", _FILE),
    },
    "computing": {
        "enable_batching": ("combine requests into batches", _OFF),
        "batching_parameters_file": ("settings for batching (text BatchingParameters)", _FILE),
        "enable_per_model_batching_parameters": (
            "batch only versions that contain a batching_params.pbtxt, with its settings", _OFF,
        ),
        "tensorflow_session_parallelism": ("sets both of the following two; 0: unset", _NUMBER),
        "tensorflow_intra_op_parallelism": (
            "number of threads of an operation; 0: TensorFlow decides", _NUMBER,
        ),
        "tensorflow_inter_op_parallelism": (
            "number of concurrent operations; 0: TensorFlow decides", _NUMBER,
        ),
    },
}  # fmt: skip


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "serve",
        word="flag",
        description="Serve exported models with TF Serving's gRPC and REST APIs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=0,
    )
    for title, flags in _FLAGS.items():
        group = parser.add_argument_group(title)
        for name, (text, settings) in flags.items():
            default = settings.get("default")
            shown = f" (default: {str(default).lower()})" if default not in (None, "", {}) else ""
            group.add_argument(f"--{name}", help=text + shown, **settings)
    for name in _WITHOUT_EFFECT:
        parser.add_argument(f"--{name}", nargs="?", const="", default=None, help=argparse.SUPPRESS)
    parser.add_argument(
        "run",
        nargs="?",
        default="",
        help="instead of --model_base_path: a run folder, or a shipped model such as "
        "sargan/faces64, which is exported to a temporary folder",
    )
    parser.add_argument("--version", action="version", version=f"tfface {__version__}")
    arguments = parser.parse_args(argv)
    for flag, needed in _NEEDS.items():
        if getattr(arguments, flag) and not getattr(arguments, needed):
            raise UserError(f"--{flag} has no effect without --{needed}")
    return arguments


def _models(arguments: argparse.Namespace) -> tuple[ModelConfig, ...]:
    base_path, file = arguments.model_base_path, arguments.model_config_file
    if bool(base_path) == bool(file):  # Or empty.
        state = "are both given" if file else "are missing"
        raise UserError(
            f"--model_base_path and --model_config_file {state}: expected one of them, or a run"
        )
    if file:
        return read_models(file)
    check_base_path(arguments.model_name, base_path)
    return (ModelConfig(arguments.model_name, Path(base_path)),)


def _options(arguments: argparse.Namespace) -> Options:
    a = arguments
    both = a.tensorflow_session_parallelism
    if both and (a.tensorflow_intra_op_parallelism or a.tensorflow_inter_op_parallelism):
        raise UserError(
            "--tensorflow_session_parallelism cannot be combined with "
            "--tensorflow_intra_op_parallelism or --tensorflow_inter_op_parallelism: it sets both"
        )
    batching = None
    if a.batching_parameters_file:
        flag = "--batching_parameters_file"
        batching = read_text(a.batching_parameters_file, BatchingParameters, flag)
        _check_batching(batching, f"{flag} {a.batching_parameters_file}")
    elif a.enable_batching:
        batching = BatchingParameters()
    monitoring, tls = a.monitoring_config_file, a.ssl_config_file
    return Options(
        host=a.host or None,
        port=a.port,
        socket_path=a.grpc_socket_path or "",
        threads=a.grpc_max_threads or None,
        channel_arguments=a.grpc_channel_arguments,
        tls=read_tls(tls) if tls else None,
        receive_timeout=a.receive_timeout_seconds,
        max_open_per_peer=a.max_open_per_peer,
        max_request_pixels=a.max_request_pixels,
        grace=a.shutdown_grace_seconds,
        health=a.enable_grpc_healthcheck_service,
        tensor_content=a.enable_serialization_as_tensor_content,
        rest_port=a.rest_api_port or None,
        rest_threads=a.rest_api_num_threads or None,
        rest_timeout=a.rest_api_timeout_in_ms / 1000,
        rest_cors=a.rest_api_enable_cors_support,
        metrics_path=read_metrics_path(monitoring) if monitoring else None,
        poll_seconds=a.file_system_poll_wait_seconds,
        model_config_file=Path(a.model_config_file) if a.model_config_file else None,
        config_poll_seconds=a.model_config_file_poll_wait_seconds,
        allow_unavailable_labels=a.allow_version_labels_for_unavailable_models,
        max_load_retries=a.max_num_load_retries,
        retry_seconds=a.load_retry_interval_micros / 1e6,
        warm_up=a.enable_model_warmup,
        warm_up_iterations=a.num_request_iterations_for_warmup or 1,
        tags=tuple(a.saved_model_tags.split(",")),
        intra_op_threads=both or a.tensorflow_intra_op_parallelism,
        inter_op_threads=both or a.tensorflow_inter_op_parallelism,
        batching=batching,
        per_model_batching=a.enable_per_model_batching_parameters,
    )


def _check_batching(batching: Message, source: str) -> None:
    from tfface.server.batching import check_batching  # imports gRPC

    try:
        check_batching(batching)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


@command
def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM."""
    arguments = _parse(argv)
    try:
        return _serve(arguments)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("tfface"):
            raise
        raise UserError(f"no module {error.name}: pip install 'tfface[serving]'") from error


@contextlib.contextmanager
def _exported(run: str) -> Iterator[str]:
    """Exports a run to a temporary folder, which exists until the end of the block."""
    run_folder(run)  # Raises if there is none.
    import_tensorflow()

    import tfface
    from tfface.exporting.saved_model import export_run

    with tempfile.TemporaryDirectory(prefix="tfface-serve-") as folder:
        export_run(tfface.load(run), folder)
        yield folder


def _serve(arguments: argparse.Namespace) -> int:
    if not arguments.run:
        ended = _serve_folders(arguments)
    elif arguments.model_base_path or arguments.model_config_file:
        raise UserError("a run cannot be combined with --model_base_path or --model_config_file")
    else:
        check_addresses(_options(arguments))  # Before the export, which takes a while.
        with _exported(arguments.run) as arguments.model_base_path:
            ended = _serve_folders(arguments)
    if not ended:
        os._exit(0)  # Do not wait for threads that still compute.
    return 0


def _serve_folders(arguments: argparse.Namespace) -> bool:
    """Serves until stopped; returns whether all requests have finished."""
    models, options = _models(arguments), _options(arguments)
    ignored = [f"--{name}" for name in _WITHOUT_EFFECT if getattr(arguments, name) is not None]
    if ignored:
        print(f"tfface.serve: flags without effect: {', '.join(ignored)}", file=sys.stderr)
    check_models(models, options)
    check_addresses(options)
    if options.tls is not None:
        from tfface.server.tls import check_tls  # imports gRPC

        check_tls(options.tls)
    _allow_many_connections()
    signal.signal(signal.SIGTERM, _interrupt)
    import_tensorflow()
    logging.basicConfig(level=logging.WARNING, format="tfface.serve: %(message)s")
    logging.getLogger("tfface.server").setLevel(logging.INFO)
    from tfface.server.app import Server

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # deprecation of the v1 loader
    server = Server(models, **vars(options)).start()
    try:
        ready = f"ready at {' and '.join(server.addresses)}: {server.describe()}"
        print(f"tfface.serve: {ready}", flush=True)
        server.wait()
    except KeyboardInterrupt:
        print("tfface.serve: stopping", flush=True)
    return server.stop()


def _allow_many_connections() -> None:
    """Raises the limit of open files, so that idle connections do not exhaust it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


if __name__ == "__main__":
    sys.exit(main())
