"""`python -m tfface.app`: a web page to edit faces with, in this process or through a server."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import signal
import sys
import threading
from typing import TYPE_CHECKING

from tfface.cli import Parser, command, import_tensorflow, port_number, server_address, wait_for
from tfface.errors import UserError
from tfface.shipped import is_shipped, run_folder, shipped

if TYPE_CHECKING:
    from tfface.client import FaceClient
    from tfface.web.offers import Offer


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "app",
        description="Open a web page to edit faces with: expressions, attributes, painted label "
        "maps, exemplars, segmentation. Without arguments it uses the shipped models, which are "
        "not suitable for photographs; their examples are built-in faces.",
        epilog="examples: %(prog)s; %(prog)s runs/00004-sargan-celeba; "
        "%(prog)s --server 127.0.0.1:8500 --model faces",
    )
    parser.add_argument(
        "run",
        nargs="*",
        help="run folders, or shipped models such as sargan/faces64, to use in this process "
        "(default: all shipped models); omitted with --server",
    )
    parser.add_argument(
        "--server",
        type=server_address,
        metavar="ADDRESS",
        help="use served models: HOST:PORT (gRPC) or http://HOST:PORT (REST)",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        metavar="NAME",
        help="names of the models on the server (default: 'default')",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on, such as 0.0.0.0 for all; whoever can reach it can use the "
        "page (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=port_number,
        default=7860,
        metavar="N",
        help="port of the page; 0: any free port (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    if args.server and args.run:
        raise UserError(f"run {args.run[0]} cannot be combined with --server")
    if args.model and not args.server:
        raise UserError("--model needs --server")
    for run in args.run:
        run_folder(run)  # Raises if there is none.
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the page needs gradio: pip install 'tfface[app]'")
    return args


@command
def main(argv: list[str] | None = None) -> int:
    """Serves the page until Ctrl-C or SIGTERM."""
    args = _parse(argv)
    from tfface.server.checks import check_address

    check_address(args.host, args.port)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    if args.server:
        offers = _served(args.server, args.model or ["default"])
    else:
        offers = _loaded(args.run or list(shipped()))
    from tfface.web.page import open_page

    address, close = open_page(offers, args.host, args.port)
    try:
        print(f"tfface.app: ready at {address}", flush=True)
        wait_for(stopped)
    except KeyboardInterrupt:
        pass
    print("tfface.app: stopping", flush=True)
    close()
    return 0


def _served(address: str, names: list[str]) -> list[Offer]:
    """What the models of a server accept."""
    if not address.startswith(("http://", "https://")):
        import_tensorflow()
    from tfface.client import FaceClient
    from tfface.web.offers import find_offer

    def connect(name: str, align: bool) -> FaceClient:
        return FaceClient(address, name, align=align)

    try:
        return [find_offer(name, lambda align, n=name: connect(n, align)) for name in names]
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("tfface"):
            raise
        raise UserError(f"no module {error.name}: pip install 'tfface[serving]'") from error


def _loaded(runs: list[str]) -> list[Offer]:
    """What runs accept, loaded into this process."""
    import_tensorflow()
    # Of warnings that there are many functions: each signature is one.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    import tfface
    from tfface.client import FaceClient
    from tfface.web.offers import find_offer

    offers = []
    for run in runs:
        print(f"tfface.app: loading {run}", flush=True)
        trained = tfface.load(run)
        name = run if is_shipped(run_folder(run)) else trained.path.name

        def connect(align: bool, trained=trained, name=name) -> FaceClient:
            return FaceClient("this process", name, transport=trained.transport, align=align)

        offers.append(find_offer(name, connect))
    return offers


if __name__ == "__main__":
    sys.exit(main())
