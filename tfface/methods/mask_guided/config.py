"""Configuration of mask-guided synthesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfface.config import Adam, Data, MethodConfig, Train, check, check_above_zero, check_least


@dataclass(frozen=True)
class Mapping:
    """The style encoder, which maps latents to style codes.

    Attributes:
        width: Units of the hidden layers.
        layers: Number of hidden layers.
        rate: Learning rate relative to that of the other networks.
    """

    width: int = 512
    layers: int = 7
    rate: float = 0.01

    def __post_init__(self):
        check_least(self, 1, "width", "layers", group="mapping.")
        check_above_zero(self, "rate", group="mapping.")


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the objective.

    Attributes:
        r1: Weight of the discriminator's gradient penalty on real faces (gamma of R1).
        style: Weight of the reconstruction of the style code.
        diversity: Weight of the diversity loss.
        reconstruction: Weight of the reconstruction of an image from its label map and its style.
    """

    r1: float = 1.0
    style: float = 1.0
    diversity: float = 1.0
    reconstruction: float = 1.0

    def __post_init__(self):
        check_least(self, 0, *vars(self), group="weights.")


@dataclass(frozen=True)
class MaskGuidedConfig(MethodConfig):
    """Mask-guided synthesis (FCS 2022): many different faces that fit one label map.

    The paper's own values are not public. The defaults are those of StarGAN v2, whose sections on
    losses, training and evaluation cite the same works in the same order as the paper; see the
    card.

    Attributes:
        latent_dim: Dimension of a latent, which is drawn from a normal distribution.
        style_dim: Dimension of a style code.
        base_channels: Channels at the full image size, doubled each time the size is halved.
        max_channels: Maximum number of channels.
        mapping: The style encoder, which maps latents to style codes.
        injection: How the label map enters the generator: through an "encoder", by "spade"
            modulation, or by convolutions whose kernels are "predicted" from it (CC-FPSE).
        injection_width: Channels between the label map and its modulation or kernels.
        upsampling: Up-sampling in the generator: "nearest" (StarGAN v2), or "bilinear", which
            avoids grid artefacts.
        normalization: Normalisation in the generator, per image: "instance", each channel
            (StarGAN v2), which can cause bright spots (StyleGAN 2, section 2); or "layer", all
            channels together.
        disc_condition: Input of the discriminator besides the image: the "label_map", or "none".
        diversity: "dsgan": the distance of two faces for one label map; "msgan": the reciprocal of
            this distance relative to that of their latents.
        diversity_steps: Steps over which the weight of the diversity falls linearly to 0; 0: it is
            constant.
        truncation: Factor, above 0, on the latents of seeds: below 1, styles vary less and are less
            extreme (StyleGAN's truncation, of latents instead of codes). Not in training.
        reference_step: Whether to train also with styles of other images of the batch.
        region_balance: Weight, 0 to 1, of the mean over the regions of the label map, in which
            small and large regions count equally, in the reconstruction loss; the rest is the mean
            over pixels.
        weights: Weights of the terms of the objective.
        data: The data set.
        adam: The optimisers.
        train: The training loop.
    """

    latent_dim: int = 16
    style_dim: int = 64
    base_channels: int = 64
    max_channels: int = 512
    mapping: Mapping = Mapping()
    injection: Literal["encoder", "spade", "predicted"] = "encoder"
    injection_width: int = 128
    upsampling: Literal["nearest", "bilinear"] = "nearest"
    normalization: Literal["instance", "layer"] = "instance"
    disc_condition: Literal["label_map", "none"] = "label_map"
    diversity: Literal["dsgan", "msgan"] = "dsgan"
    diversity_steps: int = 100_000
    truncation: float = 1.0
    reference_step: bool = True
    region_balance: float = 0.0
    weights: Weights = Weights()
    data: Data = Data(name="celebamask_hq", path="CelebAMask-HQ", size=256, batch_size=8)
    adam: Adam = Adam(learning_rate=1e-4, beta_1=0.0, beta_2=0.99, l2=1e-4)
    train: Train = Train(steps=100_000, seed=777, ema_half_life=5.5)

    def __post_init__(self):
        check_least(self, 1, "latent_dim", "style_dim", "base_channels", "max_channels")
        check_least(self, 1, "injection_width")
        check_least(self, 0, "diversity_steps")
        check_above_zero(self, "truncation")
        check(
            0 <= self.region_balance <= 1,
            f"region_balance is {self.region_balance}: expected 0 to 1",
        )
        side = self.data.size
        check(
            side & (side - 1) == 0,
            f"data.size is {side}: expected a power of 2, as the networks halve it down to 4",
        )
        check(
            not self.reference_step or self.data.batch_size >= 2,
            f"data.batch_size is {self.data.batch_size}: expected at least 2 with reference_step",
        )
