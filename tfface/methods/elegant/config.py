"""Configuration of ELEGANT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfface.config import Adam, Data, MethodConfig, Train, check, check_least

# ELEGANT's attributes in the authors' examples; paper section 4.
ATTRIBUTES = ("Bangs", "Smiling", "Eyeglasses")


@dataclass(frozen=True)
class Discriminator:
    """What judges the exchanges.

    Attributes:
        kind: "conditional": the paper's two, which see the attributes beside the image.
            "multitask": one of full size, with a logit for each attribute's presence and one for
            its absence, "real and has it", "real and lacks it"; real faces with the wrong value
            count as fakes, so that it asks for the attribute.
        width: Channels of the first convolution of "multitask".
        attributes_first: Steps at the beginning in which "multitask" learns the attributes of real
            faces, and nothing else is done.
    """

    kind: Literal["conditional", "multitask"] = "conditional"
    width: int = 32
    attributes_first: int = 0

    def __post_init__(self):
        check_least(self, 1, "width", group="discriminator.")
        check_least(self, 0, "attributes_first", group="discriminator.")
        check(
            self.kind == "multitask" or not self.attributes_first,
            f"discriminator.attributes_first is {self.attributes_first}: only the discriminator "
            f"'multitask' can learn attributes alone",
        )


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the objective.

    Attributes:
        reconstruction: Of the reconstruction loss.
        half_size: Of the half-size discriminator, relative to the full-size one.
        r1: Of the gradient penalty on real faces of the discriminator "multitask".
        change: Of the change of the image, which makes the generator choose the smallest one that
            shows the attribute. 0 in the paper.
    """

    reconstruction: float = 5.0
    half_size: float = 0.5
    r1: float = 1.0
    change: float = 0.0

    def __post_init__(self):
        check_least(self, 0, *vars(self), group="weights.")


@dataclass(frozen=True)
class ElegantConfig(MethodConfig):
    """ELEGANT (ECCV 2018): exchange an attribute between two faces.

    The defaults are those of the paper and of the authors' code, but for data and attributes.
    A training step is one attribute and one pair batch; the authors' "iteration" goes over all
    attributes, so it is as many steps as there are attributes.

    Attributes:
        attributes: Names of the exchanged attributes; each owns a part of the latent code.
        width: Channels of the first convolution; the deepest has 8 times as many.
        normalization: Of encoder and decoder. "channel": the paper's, each pixel's channels divided
            by their norm, which gives flat parts of an image features as strong as any. "layer":
            mean and deviation of all features of an image.
        subtract_unchanged: Subtract from each edit's residual that of the unchanged code, in
            training and in use: without an exchange the result is exactly the input. Off in the
            paper, whose residuals also hold a pattern that no exchange asked for.
        change_threshold: With `subtract_unchanged`, in use, not in training: differences up to it
            count as none, larger ones lose as much (soft thresholding), so that no faint noise
            covers what is not edited. In the images' range of [-1,1].
        discriminator: What judges the exchanges.
        weights: Weights of the terms of the objective.
        data: The data set.
        adam: Both optimisers.
        train: The training loop.
    """

    attributes: tuple[str, ...] = ATTRIBUTES
    width: int = 64
    normalization: Literal["channel", "layer"] = "channel"
    subtract_unchanged: bool = False
    change_threshold: float = 0.0
    discriminator: Discriminator = Discriminator()
    weights: Weights = Weights()
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
        check_least(self, 1, "width")
        check_least(self, 0, "change_threshold")
        check(
            self.subtract_unchanged or not self.change_threshold,
            f"change_threshold is {self.change_threshold}: expected 0 without subtract_unchanged",
        )
