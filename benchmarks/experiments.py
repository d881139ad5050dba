"""The experiments of `benchmarks/claims.py`: claims of the abstracts, and how they are tested.

All trainings are short, on built-in faces at 32 px, so that several seeds fit into minutes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from tfface.metrics.bootstrap import ImageRoles, image_errors, ratio

Images = dict[str, np.ndarray]
Measure = Callable[[Images, ImageRoles], np.ndarray | None]
"""From the images and roles that an `Observer` receives to a value per example; None: not these."""


@dataclass(frozen=True)
class Variant:
    """One side of a comparison.

    Attributes:
        name: What it is, for the table.
        options: Options that differ from the other side.
        patch: Replaces parts of the package while networks are built and run.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    patch: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


@dataclass(frozen=True)
class Claim:
    """A claim of an abstract, and a comparison that tests it.

    Attributes:
        method: The method.
        name: Name of the claim, unique within the method.
        quote: The claim, in the words of the abstract.
        experiment: What is compared, for readers.
        proposed: What the paper proposes.
        control: The same without it.
        options: Options of both sides, on top of the preset `demo`.
        measure: The value in which they are compared, lower is better.
        unit: What the value is.
        also: Metric of `tfface.evaluation.measure` that is shown beside it, such as whether the
            edit succeeded at all; copies of the input must not win.
    """

    method: str
    name: str
    quote: str
    experiment: str
    proposed: Variant
    control: Variant
    options: Mapping[str, Any]
    measure: Measure
    unit: str
    also: str


def change_outside(images: Images, roles: ImageRoles) -> np.ndarray | None:
    """Mean absolute change, in percent of the value range, of pixels that the edit should keep.

    These are the pixels that are equal in the input and in the ground truth.
    """
    if not (roles.source and roles.ground_truth):
        return None
    source, truth = images[roles.source], images[roles.ground_truth]
    differs = np.any(np.abs(truth - source) >= 1e-6, -1)
    changes = image_errors(images[roles.generated[0]], source, differs)
    return 100.0 * ratio(changes["error_outside"])


def error(images: Images, roles: ImageRoles) -> np.ndarray | None:
    """Mean absolute difference from the ground truth, in percent of the value range."""
    if not (roles.generated and roles.ground_truth):
        return None
    errors = image_errors(images[roles.generated[0]], images[roles.ground_truth])
    return 100.0 * ratio(errors["error"])


def _vanilla_block():
    """SARGAN with a constant attention of 1, which leaves a vanilla residual block."""
    import keras

    from tfface.methods.sargan import networks

    def block(x, attention_width, name="sarb"):
        residual = networks._reflect_conv(x, x.shape[-1], f"{name}_conv1")
        residual = networks._reflect_conv(residual, x.shape[-1], f"{name}_conv2", relu=False)
        ones = keras.layers.Conv2D(
            1,
            1,
            kernel_initializer="zeros",
            bias_initializer="ones",
            trainable=False,
            name="attention",
        )(residual)
        residual = keras.layers.Multiply(name=f"{name}_attend")([residual, ones])
        return keras.layers.Add(name=f"{name}_add")([x, residual])

    return mock.patch.object(networks, "_sarb", block)


def _whole_image():
    """ELEGANT whose decoder returns the image instead of a residual."""
    import tensorflow as tf

    from tfface.methods.elegant import method

    def decoded(images, outputs):
        return tf.clip_by_value(outputs, -1.0, 1.0)

    return mock.patch.object(method, "_add_residual", decoded)


def _global_alone():
    """seg_hierarchical whose regions are empty, so that the global result is the output."""
    import tensorflow as tf

    from tfface.methods.seg_hierarchical.method import SegHierarchical

    def nothing(self, probabilities):
        return tf.zeros([*tf.unstack(tf.shape(probabilities)[:3]), len(self.config.regions)])

    return mock.patch.object(SegHierarchical, "grown", nothing)


_EXPRESSIONS = {
    "data.size": 32,
    "classifier.noise": 0.1,
    "classifier.attack": 0.5,
    "train.ema_half_life": 0.4,
}

CLAIMS = (
    Claim(
        "sargan",
        "attention",
        "spatial attention-based residual block instead of vanilla residual blocks to properly "
        "capture the expression-related features to be changed while keeping the other features "
        "unchanged",
        "The generator with its attention block, and with a vanilla residual block of the same two "
        "convolutions in its place.",
        Variant("attention"),
        Variant("vanilla block", patch=_vanilla_block),
        {
            **_EXPRESSIONS,
            "classifier.steps": 900,
            "train.steps": 3000,
            "adam.decay_start": 2200,
        },
        change_outside,
        "change outside the parts that move",
        "edited/accuracy",
    ),
    Claim(
        "elegant",
        "residual",
        "our model learns the residual images so as to facilitate training",
        "The decoder's output is added to the image, or is the image. Both with the paper's "
        "reconstruction loss and without the subtraction of the unchanged code.",
        Variant("residual"),
        Variant("whole image", patch=_whole_image),
        {
            "data.size": 32,
            "width": 16,
            "subtract_unchanged": False,
            "change_threshold": 0.0,
            "weights.reconstruction": 5.0,
            "discriminator.width": 16,
            "discriminator.attributes_first": 300,
            "train.steps": 1500,
            "adam.decay_start": 1000,
            "train.ema_half_life": 0.5,
        },
        error,
        "error to the ground truth",
        "edited/right",
    ),
    Claim(
        "mask_guided",
        "style",
        "the style decoder learns to reconstruct the style code from the generated face image",
        "With the loss between the style code and the code decoded from the generated face, and "
        "without it (`weights.style` 0): faces in the style of a reference.",
        Variant("with the loss"),
        Variant("without", {"weights.style": 0.0}),
        {"data.size": 32, "train.steps": 900, "train.ema_half_life": 0.5},
        error,
        "error in the style of a reference",
        "segmentation/generated/miou",
    ),
    Claim(
        "domain_alignment",
        "blocks",
        "adopt a top-k ranking operation to correspond block-wise features in two distinct "
        "domains, which exploits the spatial relationship of facial parts and preserves the "
        "texture structure during alignment",
        "Attention to the pixels of the 8 retrieved of 16 blocks, and to all pixels; equal steps.",
        Variant("top-k blocks"),
        Variant("dense", {"alignment.kind": "dense"}),
        {
            "data.size": 32,
            "fusion_side": 8,
            "train.steps": 700,
            "adam.decay_start": 300,
            "train.ema_half_life": 0.4,
        },
        error,
        "error to the ground truth",
        "generated/psnr",
    ),
    Claim(
        "seg_hierarchical",
        "hierarchy",
        "methods that rely only on a global generator usually suffer from changing unwanted "
        "attributes along with the target attributes",
        "The global generator with local ones for eyes and mouth, and the global generator and "
        "discriminator alone.",
        Variant("hierarchical"),
        Variant("global alone", {"weights.local": 0.0}, _global_alone),
        {
            **_EXPRESSIONS,
            "segmenter.steps": 300,
            "classifier.steps": 600,
            "gan_steps": 2400,
            "train.steps": 2800,
            "adam.decay_start": 1900,
        },
        change_outside,
        "change outside the parts that move",
        "edited/accuracy",
    ),
)
"""All claims that are tested."""
