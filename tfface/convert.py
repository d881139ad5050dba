"""`python -m tfface.convert METHOD`: converts the authors' checkpoints to a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from tfface.cli import Parser, command, import_tensorflow

if TYPE_CHECKING:
    from tfface.methods.base import Method, Networks

_SIZE = "side of the images in pixels (default: %(default)s)"


def _sargan(arguments: argparse.Namespace) -> tuple[Method, Networks]:
    from tfface.config import Data
    from tfface.layers.torch_weights import assign, read_checkpoint
    from tfface.methods.sargan import convert
    from tfface.methods.sargan.config import SarganConfig
    from tfface.methods.sargan.method import Sargan

    data = Data(size=arguments.size, batch_size=8)
    method = Sargan(SarganConfig(classes=tuple(arguments.classes), data=data))
    nets = method.build()
    assign(nets["generator"], read_checkpoint(arguments.generator), convert.generator_layer)
    if arguments.discriminator:
        weights = read_checkpoint(arguments.discriminator)
        assign(nets["discriminator"], weights, convert.discriminator_layer)
    return method, nets


def _elegant(arguments: argparse.Namespace) -> tuple[Method, Networks]:
    from tfface.config import Data
    from tfface.layers.torch_weights import assign, read_checkpoint
    from tfface.methods.elegant import convert
    from tfface.methods.elegant.config import ElegantConfig
    from tfface.methods.elegant.method import Elegant

    data = Data(size=arguments.size)
    method = Elegant(ElegantConfig(attributes=tuple(arguments.attributes), data=data))
    nets = method.build()
    assign(nets["encoder"], read_checkpoint(arguments.encoder), convert.encoder_layer)
    assign(nets["decoder"], read_checkpoint(arguments.decoder), convert.decoder_layer)
    for name, path in zip(("disc1", "disc2"), arguments.discriminators or (), strict=False):
        assign(nets[name], read_checkpoint(path), convert.discriminator_layer)
    return method, nets


_READERS: dict[str, Callable[[argparse.Namespace], tuple[Method, Networks]]] = {
    "elegant": _elegant,
    "sargan": _sargan,
}


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("convert", description="Convert the authors' checkpoints to a run folder.")
    methods = parser.add_subparsers(dest="method", required=True, metavar="METHOD")
    add = methods.add_parser("elegant", help="convert ELEGANT's PyTorch checkpoints").add_argument
    add("encoder", help="the authors' Enc checkpoint")
    add("decoder", help="the authors' Dec checkpoint")
    add("run", help="run folder to write, for use with edit and export")
    add("--attributes", nargs="+", required=True, help="attribute names, in the order of training")
    add("--size", type=int, default=256, help=_SIZE)
    add(
        "--discriminators",
        nargs=2,
        metavar=("D1", "D2"),
        help="the authors' D1 and D2 checkpoints, to continue training",
    )
    add = methods.add_parser("sargan", help="convert SARGAN's PyTorch checkpoints").add_argument
    add("generator", help="the authors' NNN-G.ckpt")
    add("run", help="run folder to write, for use with edit and export")
    add(
        "--classes",
        nargs="+",
        required=True,
        help="expression names, in the order of training (alphabetical)",
    )
    add("--size", type=int, default=128, help=_SIZE)
    add("--discriminator", help="the authors' NNN-D.ckpt, to continue training")
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Writes a run folder; returns the exit status."""
    arguments = _parse(argv)
    import_tensorflow()

    from tfface.engine.load import write_run

    method, nets = _READERS[arguments.method](arguments)
    write_run(arguments.run, arguments.method, method, nets)
    print(f"wrote {arguments.run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
