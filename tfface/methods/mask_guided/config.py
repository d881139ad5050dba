"""Configuration of mask-guided synthesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfface.config import Adam, Data, MethodConfig, Train, check


@dataclass(frozen=True)
class MaskGuidedConfig(MethodConfig):
    """Mask-guided synthesis (FCS 2022): many different faces that fit one label map.

    The paper's own figures are not public. The defaults are those of StarGAN v2, whose passages on
    losses, training and evaluation its references follow in order; see the card.

    Attributes:
        latent_dim: Numbers in a latent, drawn from a normal distribution.
        style_dim: Numbers in a style code.
        base_channels: Channels at the picture's full side, doubled by each halving.
        max_channels: The most channels.
        mapping_width: Units of the style encoder's hidden layers.
        mapping_layers: Hidden layers of the style encoder.
        mapping_rate: Learning rate of the style encoder relative to the others'.
        injection: How the label map enters the generator: through an "encoder", by "spade"
            modulation, or by convolutions whose kernels are "predicted" from it (CC-FPSE).
        injection_width: Channels between the label map and its modulation or kernels.
        upsampling: Of the generator: "nearest" (StarGAN v2), or "bilinear", which leaves no grid.
        normalization: Of the generator's features, of one picture: "instance", each channel
            (StarGAN v2), which makes bright specks (StyleGAN 2, section 2); or "layer", all
            channels together.
        disc_condition: What the discriminator sees besides the picture: the "label_map", or "none".
        diversity: "dsgan": the distance of two faces of one map, up to a share of steps; "msgan":
            the reciprocal of this distance relative to that of their latents.
        diversity_steps: Steps in which the weight of the diversity falls to 0, linearly; 0: it
            stays.
        reference_step: Whether faces in the styles of other pictures of the batch are judged, too.
        r1_gamma: Weight of the R1 penalty.
        lambda_style: Weight of the style code's reconstruction.
        lambda_diversity: Weight of the diversity.
        lambda_rec: Weight of the picture's reconstruction from its label map and its own style.
        region_balance: Share of the reconstruction's difference in which all regions of the label
            map count alike, however small they are.
        data: The data set.
        adam: The optimisers.
        train: The training loop.
    """

    latent_dim: int = 16
    style_dim: int = 64
    base_channels: int = 64
    max_channels: int = 512
    mapping_width: int = 512
    mapping_layers: int = 7
    mapping_rate: float = 0.01
    injection: Literal["encoder", "spade", "predicted"] = "encoder"
    injection_width: int = 128
    upsampling: Literal["nearest", "bilinear"] = "nearest"
    normalization: Literal["instance", "layer"] = "instance"
    disc_condition: Literal["label_map", "none"] = "label_map"
    diversity: Literal["dsgan", "msgan"] = "dsgan"
    diversity_steps: int = 100_000
    reference_step: bool = True
    r1_gamma: float = 1.0
    lambda_style: float = 1.0
    lambda_diversity: float = 1.0
    lambda_rec: float = 1.0
    region_balance: float = 0.0
    data: Data = Data(name="celebamask_hq", path="CelebAMask-HQ", size=256, batch_size=8)
    adam: Adam = Adam(learning_rate=1e-4, beta_1=0.0, beta_2=0.99, l2=1e-4)
    train: Train = Train(steps=100_000, seed=777, ema_half_life=5.5)

    def __post_init__(self):
        for name in (
            "latent_dim",
            "style_dim",
            "base_channels",
            "max_channels",
            "mapping_width",
            "mapping_layers",
            "injection_width",
        ):
            check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: expected at least 1")
        check(self.mapping_rate > 0, f"mapping_rate is {self.mapping_rate}: expected above 0")
        for name in ("diversity_steps", "r1_gamma"):
            check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}: expected 0 or more")
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
