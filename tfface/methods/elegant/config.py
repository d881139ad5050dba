"""Configuration of ELEGANT."""

from __future__ import annotations

from dataclasses import dataclass

from tfface.config import Adam, Data, Train, check

# ELEGANT's attributes in the authors' examples; paper section 4.
ATTRIBUTES = ("Bangs", "Smiling", "Eyeglasses")


@dataclass(frozen=True)
class ElegantConfig:
    """ELEGANT (ECCV 2018): exchange an attribute between two faces.

    The defaults are those of the paper and of the authors' code, but for data and attributes.
    A training step is one attribute and one pair batch; the authors' "iteration" goes over all
    attributes, so it is as many steps as there are attributes.

    Attributes:
        attributes: Names of the exchanged attributes; each owns a part of the latent code.
        width: Channels of the first convolution; the deepest has 8 times as many.
        lambda_reconstruction: Weight of the reconstruction loss.
        lambda_disc2: Weight of the half-size discriminator, relative to the full-size one.
        data: The data set.
        adam: Both optimisers.
        train: The training loop.
    """

    attributes: tuple[str, ...] = ATTRIBUTES
    width: int = 64
    lambda_reconstruction: float = 5.0
    lambda_disc2: float = 0.5
    data: Data = Data()
    adam: Adam = Adam(
        learning_rate=2e-4,
        l2=1e-5,
        schedule="step",
        decay_factor=0.97,
        decay_every=3000 * len(ATTRIBUTES),
    )
    train: Train = Train(steps=200_000 * len(ATTRIBUTES))

    def __post_init__(self):
        check(len(self.attributes) >= 1, "attributes is empty: expected at least one name")
        check(
            len(set(self.attributes)) == len(self.attributes),
            f"attributes names one twice: {', '.join(self.attributes)}",
        )
        check(self.width >= 1, f"width is {self.width}: expected at least 1")
