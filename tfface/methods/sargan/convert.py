"""Layer names for the modules in the authors' checkpoints, used by `tfface.convert`."""

from __future__ import annotations

# Positions in the authors' `main` sequence (convolution, norm), and the layer names here.
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
    """The layer name for a module of the authors' generator; None: the module is not used."""
    if module.startswith("att_func."):
        return None  # The authors create it, but their forward pass never uses it.
    parts = module.split(".")
    if parts[:2] == ["main", "9"]:
        if "out_block" in parts:
            return "attention"
        block = parts[3] if parts[2] == "att_func" else parts[2]
        prefix = "sarb_sedn_" if parts[2] == "att_func" else "sarb_"
        return f"{prefix}{block}_{'conv' if parts[-1] == 'conv2d' else 'norm'}"
    return _MAIN.get(int(parts[1]), module)


def discriminator_layer(module: str) -> str:
    """The layer name for a module of the authors' discriminator."""
    if module.startswith("main."):
        return f"down{int(module.split('.')[1]) // 2 + 1}_conv"
    return {"conv1": "realness", "conv2": "logits"}.get(module, module)
