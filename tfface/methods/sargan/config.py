"""Configuration of SARGAN."""

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
)


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the objective.

    Attributes:
        classification_real: Weight of the discriminator's classification loss, on real images (the
            paper's lambda_cls).
        classification_fake: Weight of the generator's classification loss, on its own images (the
            same in the paper).
        reconstruction: Weight of the cycle reconstruction loss (lambda_rec).
        gradient_penalty: Weight of the gradient penalty of "wgan-gp" (lambda_gp).
        r1: Weight of the gradient penalty of "multitask" (gamma of R1).
        change: Weight of the change of the image, which favours the smallest change that shows the
            expression. 0 in the paper; for short training.
    """

    classification_real: float = 1.0
    classification_fake: float = 1.0
    reconstruction: float = 1.0
    gradient_penalty: float = 10.0
    r1: float = 1.0
    change: float = 0.0

    def __post_init__(self):
        check_least(self, 0, *vars(self), group="weights.")


@dataclass(frozen=True)
class SarganConfig(MethodConfig):
    """SARGAN (TCSVT 2023): give a face another expression.

    The defaults are those of the authors' code, except for data.

    Attributes:
        classes: Names of the expressions; empty: all expressions of the data set.
        width: Channels of the generator's first convolution; its core has 4 times as many.
        attention_width: Channels of the attention branch (SEDN).
        residual_init: Factor on the initial weights of the generator's last convolution. 1 in the
            paper; with less the generator starts closer to a copy of its input and learns faster.
        upsampling: "transposed": transposed convolutions (the paper); "bilinear": bilinear
            interpolation and a 3x3 convolution, which leaves fewer dots of a pixel's size (ours).
        discriminator: The discriminator.
        adversarial: Kind of the adversarial loss. "wgan-gp": WGAN-GP on the realness, and a
            separate expression classifier (StarGAN, the paper). "multitask": the discriminator
            decides whether a face is real given its expression, with one logit per expression
            (StarGAN v2's multi-task discriminator with R1) and no realness map;
            `weights.classification_real`, `weights.classification_fake` and
            `weights.gradient_penalty` are not used, and `classifier.noise` and `classifier.attack`
            only in the first `classifier.steps` steps.
        augment: Kinds of differentiable augmentation of what the discriminator sees: "colour",
            "translation", "cutout" (DiffAugment); for small data sets, empty in the paper.
        face_only: Confine edits to the face, by a soft ellipse where the crop of the data set has
            it (ours; for photographs, whose backgrounds the discriminator learns by heart).
        generator_every: Discriminator updates per generator update.
        classifier: How the discriminator learns the expressions; off in the paper.
        weights: Weights of the terms of the objective.
        data: The data set.
        adam: Both optimisers.
        train: The training loop.
    """

    classes: tuple[str, ...] = ()
    width: int = 64
    attention_width: int = 64
    residual_init: float = 1.0
    upsampling: Literal["transposed", "bilinear"] = "transposed"
    discriminator: DiscriminatorOptions = DiscriminatorOptions()
    adversarial: Literal["wgan-gp", "multitask"] = "wgan-gp"
    augment: tuple[Literal["colour", "translation", "cutout"], ...] = ()
    face_only: bool = False
    generator_every: int = 5
    classifier: ClassifierOptions = ClassifierOptions()
    weights: Weights = Weights()
    data: Data = Data(size=128, batch_size=8)
    # In the paper's text the rate falls to 0. The authors' code subtracts a 100,000th of it, 20
    # times, so that it is in effect constant.
    adam: Adam = Adam(
        learning_rate=1e-4,
        schedule="linear",
        decay_every=5000,
        decay_start=100_000,
        end_factor=0.9998,
    )
    train: Train = Train(steps=200_000)

    def __post_init__(self):
        check(
            len(set(self.classes)) == len(self.classes),
            f"classes has a duplicate name: {', '.join(self.classes)}",
        )
        check(
            len(self.classes) != 1,
            f"classes has only one name, {', '.join(self.classes)}: expected two or more",
        )
        self.discriminator.check(self.data.size, self.adversarial, "discriminator.")
        check_above_zero(self, "residual_init")
        check_least(self, 1, "width", "attention_width", "generator_every")

    def batch_sizes(self) -> dict[str, int]:
        """Batch sizes as for all methods, and that of the classifier's steps."""
        return {**super().batch_sizes(), **self.classifier.batch_sizes()}
