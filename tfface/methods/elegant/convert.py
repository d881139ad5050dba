"""Reads the authors' checkpoints: `python -m tfface.methods.elegant.convert --help`."""

from __future__ import annotations

import sys

from tfface.cli import Parser, command


def encoder_layer(module: str) -> str:
    """Our layer's name of a module of the authors' encoder."""
    _, block, part = module.split(".")
    return f"down{int(block) + 1}_{'conv' if part == '0' else 'norm'}"


def decoder_layer(module: str) -> str:
    """Our layer's name of a module of the authors' decoder."""
    return encoder_layer(module).replace("down", "up")


def discriminator_layer(module: str) -> str:
    """Our layer's name of a module of the authors' discriminators."""
    kind, index = module.split(".")[:2]
    if kind == "linear":
        return "logit"
    return f"down{int(index) // 3 + 1}_{'conv' if int(index) % 3 == 0 else 'norm'}"


@command
def main(argv: list[str] | None = None) -> int:
    """Writes a run folder with the weights of the authors' checkpoints."""
    parser = Parser("methods.elegant.convert", description="Read the authors' checkpoints.")
    parser.add_argument("encoder", help="the authors' Enc checkpoint")
    parser.add_argument("decoder", help="the authors' Dec checkpoint")
    parser.add_argument("run", help="run folder to write; edit and export take it")
    parser.add_argument(
        "--attributes",
        nargs="+",
        required=True,
        help="names of the attributes, in the order of training",
    )
    parser.add_argument("--size", type=int, default=256, help="side of the pictures (%(default)s)")
    parser.add_argument(
        "--discriminators",
        nargs=2,
        metavar=("D1", "D2"),
        help="the authors' D1 and D2 checkpoints, to train on from there",
    )
    args = parser.parse_args(argv)

    from tfface.config import Data
    from tfface.engine.load import write_run
    from tfface.methods.elegant.config import ElegantConfig
    from tfface.methods.elegant.method import Elegant
    from tfface.methods.torch_weights import assign, read_checkpoint

    config = ElegantConfig(attributes=tuple(args.attributes), data=Data(size=args.size))
    method = Elegant(config)
    nets = method.build()
    assign(nets["encoder"], read_checkpoint(args.encoder), encoder_layer)
    assign(nets["decoder"], read_checkpoint(args.decoder), decoder_layer)
    for name, path in zip(("disc1", "disc2"), args.discriminators or (), strict=False):
        assign(nets[name], read_checkpoint(path), discriminator_layer)
    write_run(args.run, "elegant", method, nets)
    print(f"wrote {args.run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
