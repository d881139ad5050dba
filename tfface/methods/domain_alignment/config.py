"""Configuration of domain alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfface.config import (
    Adam,
    Data,
    MethodConfig,
    Train,
    check,
    check_above_zero,
    check_least,
)


@dataclass(frozen=True)
class Alignment:
    """How the exemplar's features are warped to the positions of the condition.

    Attributes:
        kind: "block": attention to the blocks retrieved by a top-k; "dense": to all pixels.
        block_side: Side of a block, in pixels of the features, whose side is half the image's.
        top_k: Number of retrieved blocks.
        epsilon: Weight of the entropy in the optimal transport of the top-k.
        temperature: Temperature of the attention's softmax over cosines.
        solver: Solver of the transport: the converged plan in "closed_form", or "sinkhorn"
            iterations.
        iterations: Number of Sinkhorn iterations.
    """

    kind: Literal["block", "dense"] = "block"
    block_side: int = 4
    top_k: int = 4
    epsilon: float = 0.02
    temperature: float = 0.01
    solver: Literal["closed_form", "sinkhorn"] = "closed_form"
    iterations: int = 50

    def __post_init__(self):
        check_least(self, 1, "iterations", group="alignment.")
        check_above_zero(self, "epsilon", "temperature", group="alignment.")

    def check(self, size: int) -> None:
        """Raises a UserError unless block side and top_k fit images of this side."""
        side = size // 2
        check(
            self.block_side >= 1 and side % self.block_side == 0,
            f"alignment.block_side is {self.block_side}: expected a divisor of {side}, the side of "
            f"the features for images of {size} pixels",
        )
        blocks = (side // self.block_side) ** 2
        check(
            1 <= self.top_k <= blocks,
            f"alignment.top_k is {self.top_k}: expected 1 to {blocks}, the number of blocks",
        )


@dataclass(frozen=True)
class Discriminator:
    """The discriminator.

    Attributes:
        width: Channels of the first convolution.
        layers: Number of convolutions before the last one.
        rate: Learning rate relative to that of the other networks.
    """

    width: int = 64
    layers: int = 4
    rate: float = 4.0

    def __post_init__(self):
        check_least(self, 1, "width", "layers", group="discriminator.")
        check_above_zero(self, "rate", group="discriminator.")


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the objective.

    Attributes:
        adversarial: Weight of the hinge loss.
        discriminator_features: Weight of the discriminator's feature matching.
        pixel: Weight of the pixel difference from the target, for pairs only.
        pair_features: Weight of the perceptual feature matching, for pairs only.
        perceptual: Weight of the perceptual loss against the target.
        contextual: Weight of the contextual loss against the exemplar.
        domain: Weight of the domain alignment loss.
        cycle: Weight of the cycle loss: the exemplar warped to the condition and back.
        mask: Weight of the loss of the warped label map.
        warp: Weight of the difference of the warped exemplar from the target, for pairs only.
    """

    adversarial: float = 10.0
    discriminator_features: float = 10.0
    pixel: float = 0.0
    pair_features: float = 10.0
    perceptual: float = 0.001
    contextual: float = 10.0
    domain: float = 10.0
    cycle: float = 0.1
    mask: float = 100.0
    warp: float = 0.0

    def __post_init__(self):
        check_least(self, 0, *vars(self), group="weights.")


@dataclass(frozen=True)
class DomainAlignmentConfig(MethodConfig):
    """Domain alignment (CVIU 2023): a face from a label map or lines, in an exemplar's style.

    The paper's own values are not public. The defaults are those of its relatives CoCosNet and
    RABIT for faces at 256 pixels where they have them, and ours elsewhere; see the card.

    Attributes:
        condition: Input that defines the shape: "labels", a map of 19 classes; "lines", a drawing
            of the outlines of the face's parts, converted to 15 channels; or "edges", those that
            are found in a photograph.
        width: Channels of the encoders' first convolution.
        encoder_blocks: Number of SPADE blocks in each encoder.
        channels: Channels of the features that are compared.
        gen_width: Channels of the generator's last block.
        spade_width: Channels of the hidden convolutions of the SPADE layers.
        discriminator: The discriminator.
        alignment: How the exemplar's features are warped to the positions of the condition.
        fusion_side: Side of the grid of positions whose long-range correlations weight the fusion.
        paired: Share of the training examples whose exemplar has the appearance of the target.
        perceptual: Network of the perceptual losses: "vgg19", a seeded "random" one, or "none".
        vgg_weights: File with VGG19's weights in Keras's layout; empty: Keras downloads them.
        region_balance: Weight, 0 to 1, of the mean over the regions of the label map, in which
            small and large regions count equally, in the pixel loss; the rest is the mean over
            pixels.
        weights: Weights of the terms of the objective.
        data: The data set.
        adam: The optimisers.
        train: The training loop.
    """

    condition: Literal["labels", "lines", "edges"] = "labels"
    width: int = 64
    encoder_blocks: int = 3
    channels: int = 256
    gen_width: int = 64
    spade_width: int = 128
    discriminator: Discriminator = Discriminator()
    alignment: Alignment = Alignment()
    fusion_side: int = 32
    paired: float = 0.3
    perceptual: Literal["vgg19", "random", "none"] = "vgg19"
    vgg_weights: str = ""
    region_balance: float = 0.0
    weights: Weights = Weights()
    data: Data = Data(name="celebamask_hq", path="CelebAMask-HQ", size=256, batch_size=4)
    adam: Adam = Adam(
        learning_rate=1e-4,
        beta_1=0.0,
        beta_2=0.9,
        schedule="linear",
        decay_start=30 * 6046,
        decay_every=6046,
    )
    train: Train = Train(steps=60 * 6046)  # 60 epochs of 24,183 images.

    def __post_init__(self):
        side = self.data.size // 2
        check_least(self, 1, "width", "channels", "gen_width", "spade_width")
        self.alignment.check(self.data.size)
        check(
            self.fusion_side >= 1 and side % self.fusion_side == 0,
            f"fusion_side is {self.fusion_side}: expected a divisor of {side}, the side of the "
            f"features for images of {self.data.size} pixels",
        )
        for name in ("paired", "region_balance"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"{name} is {value}: expected 0 to 1")
        check_least(self, 0, "encoder_blocks")
        for name in ("pair_features", "perceptual", "contextual"):
            weight = getattr(self.weights, name)
            check(
                self.perceptual != "none" or not weight,
                f"weights.{name} is {weight:g}, but perceptual is 'none': expected 0",
            )
        check(
            not self.vgg_weights or self.perceptual == "vgg19",
            f"vgg_weights is {self.vgg_weights!r}, but perceptual is {self.perceptual!r}: expected "
            f"'vgg19'",
        )
