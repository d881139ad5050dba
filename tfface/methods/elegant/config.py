"""Configuration of ELEGANT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfface.config import Adam, Data, MethodConfig, Train, check, check_above_zero, check_least

# ELEGANT's attributes in the authors' examples; paper section 4.
ATTRIBUTES = ("Bangs", "Smiling", "Eyeglasses")


@dataclass(frozen=True)
class Discriminator:
    """The discriminators of the exchanged images.

    Attributes:
        kind: "conditional": the paper's two discriminators, which get the attributes as an input.
            "multitask": one discriminator of full size with two logits per attribute, "real and
            has it" and "real and lacks it"; real faces with the wrong label count as fakes, so
            that edits have to show the attribute. "projected": the same by heads on frozen features
            of ImageNet, for small sets of photographs (`tfface.layers.projected`).
        width: Channels of the first convolution of "multitask", or of each head of "projected".
        attributes_first: Number of initial steps in which only the "multitask" or "projected"
            discriminator is trained, to classify the attributes of real faces.
        rate: Learning rate relative to that of encoder and decoder, but for these initial steps.
    """

    kind: Literal["conditional", "multitask", "projected"] = "conditional"
    width: int = 32
    attributes_first: int = 0
    rate: float = 1.0

    def __post_init__(self):
        check_least(self, 1, "width", group="discriminator.")
        check_least(self, 0, "attributes_first", group="discriminator.")
        check_above_zero(self, "rate", group="discriminator.")
        check(
            self.kind != "conditional" or not self.attributes_first,
            f"discriminator.attributes_first is {self.attributes_first}: expected 0 with "
            f"discriminator.kind 'conditional'",
        )


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the objective.

    Attributes:
        reconstruction: Weight of the reconstruction loss.
        half_size: Weight of the half-size discriminator, relative to the full-size one.
        r1: Weight of the gradient penalty on real faces of the "multitask" or "projected"
            discriminator.
        change: Weight of the change of the image, which favours the smallest change that shows the
            attribute. 0 in the paper.
        restoration: Weight of the difference between each image and its restoration, which is the
            exchanged image with the part of the code of the original in the other image's colours.
            0 in the paper.
    """

    reconstruction: float = 5.0
    half_size: float = 0.5
    r1: float = 1.0
    change: float = 0.0
    restoration: float = 0.0

    def __post_init__(self):
        check_least(self, 0, *vars(self), group="weights.")


@dataclass(frozen=True)
class ElegantConfig(MethodConfig):
    """ELEGANT (ECCV 2018): exchange an attribute between two faces.

    The defaults are those of the paper and of the authors' code, except for data and attributes.
    A training step processes one attribute and one batch of pairs; an "iteration" of the authors
    goes over all attributes, so it equals as many steps as there are attributes.

    Attributes:
        attributes: Names of the exchanged attributes; each has its own part of the latent code.
        width: Channels of the first convolution; the deepest has 8 times as many.
        normalization: Normalisation in encoder and decoder. "channel": as in the paper, each
            pixel's channels are divided by their norm, which amplifies the features of flat image
            regions. "layer": by mean and standard deviation of all features of an image.
        subtract_unchanged: Subtract the residual of the unchanged code from each edit's residual,
            in training and inference, so that without an exchange the result equals the input. Off
            in the paper, whose residuals also contain a pattern unrelated to the exchange.
        change_threshold: Soft threshold for the pixel differences of `subtract_unchanged`, in
            inference only: differences up to it are set to 0 and larger ones are reduced by it,
            which removes faint noise outside the edit. In units of the image range [-1,1].
        face_only: Confine edits to the face and the hair around it, by a soft ellipse where the
            crop of the data set has them (ours; for photographs, whose backgrounds the
            discriminator learns by heart).
        discriminator: The discriminators of the exchanged images.
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
    face_only: bool = False
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
            f"attributes has a duplicate name: {', '.join(self.attributes)}",
        )
        check_least(self, 1, "width")
        check_least(self, 0, "change_threshold")
        check(
            self.subtract_unchanged or not self.change_threshold,
            f"change_threshold is {self.change_threshold}: expected 0 without subtract_unchanged",
        )
