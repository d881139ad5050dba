"""Configuration of segmentation with hierarchical GANs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfface.config import (
    Adam,
    ClassifierOptions,
    Data,
    DiscriminatorOptions,
    MethodConfig,
    Train,
    check,
    check_above_zero,
    check_least,
    nearest,
)

REGIONS = {
    "eyes": ("l_eye", "r_eye", "l_brow", "r_brow"),
    "nose": ("nose",),
    "mouth": ("mouth", "u_lip", "l_lip"),
}
"""The regions with local networks, each with its classes of the label map (ours)."""


@dataclass(frozen=True)
class Segmenter:
    """The segmentation network, and how it is trained.

    Attributes:
        kind: BiSeNet or U-Net.
        width: Channels of the first convolution; the deepest have 16 times as many in U-Net, 8
            times in BiSeNet.
        loss: Cross-entropy over all pixels ("ce") or over hard pixels ("ohem"), or cross-entropy
            and Dice loss ("dice"), with which small face parts are learned sooner.
        steps: Steps of the first stage, which trains only the segmentation network.
        rate: Learning rate in the first stage, relative to that of the generators.
        joint_rate: Learning rate in the third stage, relative to that of the generators.
    """

    kind: Literal["bisenet", "unet"] = "bisenet"
    width: int = 64
    loss: Literal["ce", "ohem", "dice"] = "ohem"
    steps: int = 80_000
    rate: float = 1.0
    joint_rate: float = 0.1

    def __post_init__(self):
        check_least(self, 1, "width", group="segmenter.")
        check_least(self, 0, "steps", group="segmenter.")
        check_above_zero(self, "rate", "joint_rate", group="segmenter.")


@dataclass(frozen=True)
class Fusion:
    """How the global and the local results are fused into one face.

    Attributes:
        kind: "combiner": by a network; "blend": weighted by the masks.
        width: Channels of the combiner.
        blocks: Number of residual blocks of the combiner.
    """

    kind: Literal["combiner", "blend"] = "combiner"
    width: int = 32
    blocks: int = 2

    def __post_init__(self):
        check_least(self, 1, "width", "blocks", group="fusion.")


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the objective.

    Attributes:
        classification_real: Weight of the discriminators' classification loss, on real images.
        classification_fake: Weight of the generators' classification loss, on their own images.
        reconstruction: Weight of the cycle reconstruction loss.
        gradient_penalty: Weight of the gradient penalty of "wgan-gp".
        r1: Weight of the gradient penalty of "multitask" (gamma of R1).
        local: Weight of the losses of each local discriminator; the global one's is 1.
        change: Weight of the change of the face; for short training, as in SARGAN.
        segmentation: Weight of the segmentation loss in the third stage.
        to_segmenter: Weight of the generators' loss for the segmentation network in the third
            stage.
    """

    classification_real: float = 1.0
    classification_fake: float = 1.0
    reconstruction: float = 10.0
    gradient_penalty: float = 10.0
    r1: float = 1.0
    local: float = 0.25
    change: float = 0.0
    segmentation: float = 1.0
    to_segmenter: float = 0.1

    def __post_init__(self):
        check_least(self, 0, *vars(self), group="weights.")


@dataclass(frozen=True)
class SegHierarchicalConfig(MethodConfig):
    """Segmentation + hierarchical GANs (arXiv 2112.04603): expression editing guided by face parts.

    The paper's own values are not public. The defaults are those of its relatives StarGAN and
    APDrawingGAN where they have them, and ours elsewhere; see the card.

    Attributes:
        classes: Names of the expressions; empty: all expressions of the data set.
        only_segmenter: Train the segmentation network alone, on `data`, which then needs label maps
            and no expressions.
        segmenter: The segmentation network, and how it is trained.
        regions: Names of the regions, from REGIONS, with their own generator and discriminator.
        grow: Side of the window, odd, in pixels, by whose maximum a region's mask is grown, as an
            opening mouth leaves its original mask.
        blur: Side of the window, odd, in pixels, over which the grown mask is averaged.
        window: Side of the square around a region, in pixels, in which its generator and its
            discriminator work; 0: the whole image.
        width: Channels of the global generator's first convolution; its core has 4 times as many.
        blocks: Number of residual blocks of the global generator.
        local_width: Like `width`, for the generator of a region.
        local_blocks: Like `blocks`, for the generator of a region.
        attention: Whether the global generator has GANimation's output layers, a colour image and
            an attention map that keeps the input where it is 1. Otherwise it adds a residual.
        fusion: How the global and the local results are fused into one face.
        residual_init: Factor on the initial weights of the generators' and the combiner's last
            convolutions; with less they start closer to copies of their inputs and learn faster.
        upsampling: "transposed": StarGAN's transposed convolutions; "bilinear": bilinear
            interpolation and a 3x3 convolution, which leaves fewer dots of a pixel's size (ours).
        discriminator: The global discriminator.
        local_discriminator: The discriminator of a region.
        gan_steps: Steps of the second stage, which trains the GANs with the segmentation network
            frozen. The rest of `train.steps` is the third stage, which trains all networks.
        adversarial: Kind of the adversarial loss, "wgan-gp" or "multitask", as in SARGAN.
        generator_every: Discriminator updates per generator update.
        classifier: How the discriminators learn the expressions; its steps are the first ones of
            the second stage.
        weights: Weights of the terms of the objective.
        data: The data set with expressions; it also needs label maps if `labelled` is not given.
        labelled: The data set with label maps, and its batch size; None: `data`. Not used with
            `only_segmenter`.
        adam: The optimisers.
        train: The training loop.
    """

    classes: tuple[str, ...] = ()
    only_segmenter: bool = False
    segmenter: Segmenter = Segmenter()
    regions: tuple[str, ...] = ("eyes", "nose", "mouth")
    grow: int = 17
    blur: int = 5
    window: int = 0
    width: int = 64
    blocks: int = 6
    local_width: int = 32
    local_blocks: int = 3
    attention: bool = False
    fusion: Fusion = Fusion()
    residual_init: float = 1.0
    upsampling: Literal["transposed", "bilinear"] = "transposed"
    discriminator: DiscriminatorOptions = DiscriminatorOptions()
    local_discriminator: DiscriminatorOptions = DiscriminatorOptions(layers=5)
    gan_steps: int = 100_000
    adversarial: Literal["wgan-gp", "multitask"] = "wgan-gp"
    generator_every: int = 5
    classifier: ClassifierOptions = ClassifierOptions()
    weights: Weights = Weights()
    data: Data = Data(size=128)
    labelled: Data | None = None
    adam: Adam = Adam(clip_norm=10.0, schedule="linear", decay_start=180_000, decay_every=1000)
    train: Train = Train(steps=280_000)

    def __post_init__(self):
        self._check_numbers()
        for name in ("classes", "regions"):
            names = getattr(self, name)
            check(len(set(names)) == len(names), f"{name} has a duplicate name: {', '.join(names)}")
        check(
            len(self.classes) != 1,
            f"classes has only one name, {', '.join(self.classes)}: expected two or more",
        )
        check(
            len(self.regions) > 0,
            f"regions is empty: expected at least one of {', '.join(REGIONS)}",
        )
        for name in self.regions:
            check(
                name in REGIONS,
                f"regions has {name!r}{nearest(name, REGIONS)}; expected {', '.join(REGIONS)}",
            )
        check(
            self.blur <= self.grow,
            f"blur is {self.blur}: expected at most grow, {self.grow}, so that masks do not shrink",
        )
        if self.only_segmenter:
            object.__setattr__(self, "labelled", None)  # Neither read nor checked in this case.
            return
        self.discriminator.check(self.data.size, self.adversarial, "discriminator.")
        check(
            self.window <= self.data.size and self.window % 4 == 0,
            f"window is {self.window}: expected a multiple of 4, at most data.size, "
            f"{self.data.size}",
        )
        self.local_discriminator.check(
            self.window or self.data.size, self.adversarial, "local_discriminator."
        )
        segmented, classified = self.segmenter.steps, self.classifier.steps
        check(
            segmented + classified < self.train.steps,
            f"segmenter.steps is {segmented} and classifier.steps is {classified}: expected their "
            f"sum to be less than train.steps, {self.train.steps}",
        )
        check(
            classified <= self.gan_steps,
            f"classifier.steps is {classified}: expected at most gan_steps, {self.gan_steps}, of "
            f"which they are the first",
        )
        check(
            self.labelled is not None or self.data.name == "synthetic",
            f"labelled is not given, but the data set {self.data.name!r} does not have both "
            f"expressions and label maps: expected labelled to be a data set with label maps, for "
            f"example labelled.name=celebamask_hq and labelled.path=FOLDER",
        )
        check(
            self.labelled is None or self.labelled.size == self.data.size,
            f"labelled.size is {self.labelled and self.labelled.size}: expected data.size, "
            f"{self.data.size}",
        )

    def datasets(self) -> dict[str, Data]:
        """The data set with expressions, and that with label maps if it is a different one."""
        return {**super().datasets(), **({"labelled": self.labelled} if self.labelled else {})}

    def batch_sizes(self) -> dict[str, int]:
        """Batch sizes as for all methods, and that of the classifier's steps."""
        return {**super().batch_sizes(), **self.classifier.batch_sizes()}

    def _check_numbers(self) -> None:
        check_least(self, 1, "width", "local_width", "blocks", "local_blocks", "generator_every")
        check_least(self, 0, "gan_steps", "window")
        check_above_zero(self, "residual_init")
        for name in ("grow", "blur"):
            value = getattr(self, name)
            check(value >= 1 and value % 2 == 1, f"{name} is {value}: expected an odd number")
