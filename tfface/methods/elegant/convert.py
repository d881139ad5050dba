"""Layer names for the modules in the authors' checkpoints, used by `tfface.convert`."""

from __future__ import annotations


def encoder_layer(module: str) -> str:
    """The layer name for a module of the authors' encoder."""
    _, block, part = module.split(".")
    return f"down{int(block) + 1}_{'conv' if part == '0' else 'norm'}"


def decoder_layer(module: str) -> str:
    """The layer name for a module of the authors' decoder."""
    return encoder_layer(module).replace("down", "up")


def discriminator_layer(module: str) -> str:
    """The layer name for a module of the authors' discriminators."""
    kind, index = module.split(".")[:2]
    if kind == "linear":
        return "logit"
    return f"down{int(index) // 3 + 1}_{'conv' if int(index) % 3 == 0 else 'norm'}"
