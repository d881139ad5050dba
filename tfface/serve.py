"""`python -m tfface.serve`: the embedded server, with the flags of `tensorflow_model_server`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

from tfface.cli import Parser, command, import_tensorflow
from tfface.errors import UserError
from tfface.server.checks import check_address, check_base_path

_EPILOG = """\
The model's folder holds versions in sub-folders named by numbers, as `python -m
tfface.export` writes them. The newest is served; a newer one that appears takes over
without a failed request.

Status: 0 after Ctrl-C or SIGTERM (running requests are finished first), 2 if the server
cannot start. TF Serving waits for ever for a model's folder that is missing or empty; this
server says so and ends.
"""


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r}: expected true or false")
    return values[text.lower()]


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 65535")
    return int(text)


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of at least 1")
    return int(text)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "serve",
        word="flag",
        description="Serves an exported model over TF Serving's gRPC API.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flag = {"type": _boolean, "nargs": "?", "const": True, "metavar": "BOOL"}
    add = parser.add_argument
    add("--model_base_path", metavar="FOLDER", help="folder of the model's versions (required)")
    add("--model_name", default="default", metavar="NAME", help="name for clients (default)")
    add("--port", type=_port, default=8500, help="port of the gRPC API (8500); 0: any free one")
    add("--host", help="address to listen on, such as 0.0.0.0 for all (loopback only)")
    add("--grpc_max_threads", type=_threads, metavar="N",
        help="requests that run at the same time (4 times the CPUs)")  # fmt: skip
    add("--enable_model_warmup", default=True, **flag,
        help="run a version's warm-up requests before it answers (true)")  # fmt: skip
    add("--enable_grpc_healthcheck_service", default=False, **flag,
        help="offer the gRPC health service (false)")  # fmt: skip
    add("--file_system_poll_wait_seconds", type=int, default=1, metavar="S",
        help="time between two looks for new versions (1); 0: look only at the start")  # fmt: skip
    arguments = parser.parse_args(argv)
    if not arguments.model_base_path:  # Or empty.
        raise UserError("--model_base_path is missing: the folder of the model's versions")
    return arguments


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


@command
def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM."""
    arguments = _parse(argv)
    check_base_path(Path(arguments.model_base_path))
    check_address(arguments.host or "127.0.0.1", arguments.port)
    signal.signal(signal.SIGTERM, _interrupt)
    import_tensorflow()
    logging.basicConfig(level=logging.WARNING, format="tfface.serve: %(message)s")
    logging.getLogger("tfface.server").setLevel(logging.INFO)
    try:
        from tfface.server.app import Server
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("tfface"):
            raise
        raise UserError(f"no module {error.name}: pip install 'tfface[serving]'") from error
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # deprecation of the v1 loader
    server = Server(
        arguments.model_base_path,
        model_name=arguments.model_name,
        host=arguments.host,
        port=arguments.port,
        threads=arguments.grpc_max_threads,
        warm_up=arguments.enable_model_warmup,
        health=arguments.enable_grpc_healthcheck_service,
        poll_seconds=arguments.file_system_poll_wait_seconds,
    )
    server.start()
    print(
        f"tfface.serve: ready at {' and '.join(server.addresses)}: {server.describe()}", flush=True
    )
    try:
        server.wait()
    except KeyboardInterrupt:
        print("tfface.serve: stopping", flush=True)
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
