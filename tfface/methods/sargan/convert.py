"""Reads the authors' checkpoints: `python -m tfface.methods.sargan.convert --help`."""

from __future__ import annotations

import sys

from tfface.cli import Parser, command

# Positions in the authors' `main` sequence (convolution, norm), and our layers' names.
_MAIN = {
    0: "head_conv",
    1: "head_norm",
    3: "down1_conv",
    4: "down1_norm",
    6: "down2_conv",
    7: "down2_norm",
    10: "up1_conv",
    11: "up1_norm",
    13: "up2_conv",
    14: "up2_norm",
    16: "tail_conv",
}


def generator_layer(module: str) -> str | None:
    """Our layer's name of a module of the authors' generator."""
    if module.startswith("att_func."):
        return None  # Created there, but never used by the forward pass.
    parts = module.split(".")
    if parts[:2] == ["main", "9"]:
        if "out_block" in parts:
            return "attention"
        block = parts[3] if parts[2] == "att_func" else parts[2]
        prefix = "sarb_sedn_" if parts[2] == "att_func" else "sarb_"
        return f"{prefix}{block}_{'conv' if parts[-1] == 'conv2d' else 'norm'}"
    return _MAIN.get(int(parts[1]), module)


def discriminator_layer(module: str) -> str:
    """Our layer's name of a module of the authors' discriminator."""
    if module.startswith("main."):
        return f"down{int(module.split('.')[1]) // 2 + 1}_conv"
    return {"conv1": "realness", "conv2": "logits"}.get(module, module)


@command
def main(argv: list[str] | None = None) -> int:
    """Writes a run folder with the weights of the authors' checkpoints."""
    parser = Parser("methods.sargan.convert", description="Read the authors' checkpoints.")
    parser.add_argument("generator", help="the authors' NNN-G.ckpt")
    parser.add_argument("run", help="run folder to write; edit and export take it")
    parser.add_argument(
        "--classes",
        nargs="+",
        required=True,
        help="names of the expressions, in the order of training (alphabetical)",
    )
    parser.add_argument("--size", type=int, default=128, help="side of the pictures (%(default)s)")
    parser.add_argument("--discriminator", help="the authors' NNN-D.ckpt, to train on from there")
    args = parser.parse_args(argv)

    from tfface.config import Data
    from tfface.engine.load import write_run
    from tfface.methods.sargan.config import SarganConfig
    from tfface.methods.sargan.method import Sargan
    from tfface.methods.torch_weights import assign, read_checkpoint

    config = SarganConfig(classes=tuple(args.classes), data=Data(size=args.size, batch_size=8))
    method = Sargan(config)
    nets = method.build()
    assign(nets["generator"], read_checkpoint(args.generator), generator_layer)
    if args.discriminator:
        assign(nets["discriminator"], read_checkpoint(args.discriminator), discriminator_layer)
    write_run(args.run, "sargan", method, nets)
    print(f"wrote {args.run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
