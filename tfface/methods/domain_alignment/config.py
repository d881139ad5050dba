"""Configuration of domain alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfface.config import Adam, Data, MethodConfig, Train, check


@dataclass(frozen=True)
class DomainAlignmentConfig(MethodConfig):
    """Domain alignment (CVIU 2023): a face from a label map or lines, in an exemplar's style.

    The paper's own figures are not public. The defaults are those of its relatives CoCosNet and
    RABIT for faces at 256 pixels where they have them, and ours elsewhere; see the card.

    Attributes:
        condition: What the shape is given by: a "labels" map of 19 classes, or a drawing of "lines"
            of which 15 channels are made.
        width: Channels of the encoders' first convolution.
        encoder_blocks: SPADE blocks in each encoder.
        channels: Of the features that are compared.
        gen_width: Channels of the generator's last block.
        spade_width: Channels between a condition and its modulation of the generator.
        disc_width: Channels of the discriminator's first convolution.
        disc_layers: Convolutions of the discriminator before its last one.
        alignment: "block": attention to the blocks that a top-k retrieves; "dense": to all pixels.
        block_side: Side of a block, in pixels of the features, of which the picture has half.
        top_k: Retrieved blocks.
        epsilon: Entropy of the transport that the top-k is.
        temperature: Of the attention's softmax over cosines.
        solver: Of the transport: the converged plan in "closed_form", or "sinkhorn" iterations.
        iterations: Of Sinkhorn.
        fusion_side: Side of the grid of places whose long-range correlation weights the fusion.
        paired: Share of the training examples whose exemplar shows how the target looks.
        perceptual: Network of the perceptual losses: "vgg19", a seeded "random" one, or "none".
        vgg_weights: File of VGG19's weights in Keras's layout; empty: Keras downloads them.
        disc_rate: The discriminator's learning rate relative to the others'.
        lambda_adversarial: Weight of the hinge loss.
        lambda_disc_features: Weight of the discriminator's feature matching.
        lambda_pixel: Weight of the difference to the target, of pairs only.
        region_balance: Share of this difference in which all regions of the label map count alike,
            however small they are.
        lambda_pair_features: Weight of the perceptual feature matching, of pairs only.
        lambda_perceptual: Weight of the perceptual loss to the target.
        lambda_contextual: Weight of the contextual loss to the exemplar.
        lambda_domain: Weight of the domain alignment loss.
        lambda_cycle: Weight of the exemplar carried there and back.
        lambda_mask: Weight of the warped label map.
        lambda_warp: Weight of the warped exemplar's difference to the target, of pairs only.
        data: The data set.
        adam: The optimisers.
        train: The training loop.
    """

    condition: Literal["labels", "lines"] = "labels"
    width: int = 64
    encoder_blocks: int = 3
    channels: int = 256
    gen_width: int = 64
    spade_width: int = 128
    disc_width: int = 64
    disc_layers: int = 4
    alignment: Literal["block", "dense"] = "block"
    block_side: int = 4
    top_k: int = 4
    epsilon: float = 0.02
    temperature: float = 0.01
    solver: Literal["closed_form", "sinkhorn"] = "closed_form"
    iterations: int = 50
    fusion_side: int = 32
    paired: float = 0.3
    perceptual: Literal["vgg19", "random", "none"] = "vgg19"
    vgg_weights: str = ""
    disc_rate: float = 4.0
    lambda_adversarial: float = 10.0
    lambda_disc_features: float = 10.0
    lambda_pixel: float = 0.0
    region_balance: float = 0.0
    lambda_pair_features: float = 10.0
    lambda_perceptual: float = 0.001
    lambda_contextual: float = 10.0
    lambda_domain: float = 10.0
    lambda_cycle: float = 0.1
    lambda_mask: float = 100.0
    lambda_warp: float = 0.0
    data: Data = Data(name="celebamask_hq", path="CelebAMask-HQ", size=256, batch_size=4)
    adam: Adam = Adam(
        learning_rate=1e-4,
        beta_1=0.0,
        beta_2=0.9,
        schedule="linear",
        decay_start=30 * 6046,
        decay_every=6046,
    )
    train: Train = Train(steps=60 * 6046)  # 60 epochs of 24,183 pictures.

    def __post_init__(self):
        side = self.data.size // 2
        for name in ("width", "channels", "gen_width", "spade_width", "disc_width", "disc_layers"):
            check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: expected at least 1")
        check(
            self.block_side >= 1 and side % self.block_side == 0,
            f"block_side is {self.block_side}: expected a divisor of {side}, the side of the "
            f"features of {self.data.size} pixels",
        )
        blocks = (side // self.block_side) ** 2
        check(
            1 <= self.top_k <= blocks,
            f"top_k is {self.top_k}: expected 1 to {blocks}, the number of blocks",
        )
        check(
            self.fusion_side >= 1 and side % self.fusion_side == 0,
            f"fusion_side is {self.fusion_side}: expected a divisor of {side}, the side of the "
            f"features of {self.data.size} pixels",
        )
        for name in ("paired", "region_balance"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"{name} is {value}: expected a share from 0 to 1")
        check(self.iterations >= 1, f"iterations is {self.iterations}: expected at least 1")
        check(
            self.encoder_blocks >= 0, f"encoder_blocks is {self.encoder_blocks}: expected 0 or more"
        )
        for name in ("epsilon", "temperature", "disc_rate"):
            check(getattr(self, name) > 0, f"{name} is {getattr(self, name)}: expected above 0")
        for name in ("lambda_pair_features", "lambda_perceptual", "lambda_contextual"):
            check(
                self.perceptual != "none" or not getattr(self, name),
                f"{name} is {getattr(self, name)}, but perceptual is 'none': expected 0",
            )
        check(
            not self.vgg_weights or self.perceptual == "vgg19",
            f"vgg_weights is {self.vgg_weights!r}, but perceptual is {self.perceptual!r}: expected "
            f"'vgg19'",
        )
