"""The card that goes with an exported model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tfface.version import __version__

if TYPE_CHECKING:
    from tfface.methods.base import Signature
    from tfface.methods.trained import Trained


def model_card(
    trained: Trained,
    signatures: Mapping[str, Signature],
    outputs: Mapping[str, list[str]],
    computes: str = "float32",
) -> str:
    """The model card of an exported model, as Markdown.

    Args:
        trained: The exported run.
        signatures: Its exported signatures.
        outputs: The names of each signature's outputs.
        computes: The precision in which its networks compute.
    """
    import tensorflow as tf

    from tfface.data.alignment import crop_of

    config = trained.method.config
    averaged = "averaged" if config.train.ema_half_life else "last"
    lines = [
        f"# {type(trained.method).__name__}: {type(trained.method).__doc__.splitlines()[0]}",
        "",
        f"- weights: {averaged}, step {trained.step} of run {trained.path.name}",
        f"- labels: {', '.join(trained.method.labels)}",
        f"- computes in {computes}",
        f"- images: central square, {config.data.size} x {config.data.size} pixels",
        f"- crop of a photograph's face: {crop_of(config.data) or 'unknown'} (see tfface.align)",
        f"- training data: {config.data.name} {Path(config.data.path).name}".rstrip()
        + " (its terms of use also apply to the weights)",
        f"- exported with tfface {__version__}, TensorFlow {tf.__version__}, "
        f"{time.strftime('%Y-%m-%d')}",
        "",
        "| signature | inputs | outputs |",
        "|---|---|---|",
    ]
    for name, signature in signatures.items():
        inputs = ", ".join(
            f"`{key}` {spec.dtype.name} {spec.shape}" for key, spec in signature.inputs.items()
        )
        named = ", ".join(f"`{key}`" for key in outputs[name])
        lines.append(f"| `{name}` | {inputs} | {named} |")
    images, marks = "Float images are RGB in [-1,1].", ""
    if any(key.endswith("_bytes") for signature in signatures.values() for key in signature.inputs):
        images += (
            " Encoded images are JPEG or PNG; results are PNG of the same size. Edits are computed "
            "at the networks' size; the difference is upscaled and added to the central square of "
            "the original."
        )
        marks = "Encoded results state in their metadata that a model generated or edited them. "
    lines += [
        "",
        images,
        "",
        f"{marks}Edited "
        "faces are not evidence of anything: do not present them as photographs of real events, do "
        "not judge from them what anybody feels, and edit people only with their consent.",
        "",
    ]
    return "\n".join(lines)
