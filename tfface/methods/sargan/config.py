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
        classification_real: Of the discriminator's classification loss, on real images (the
            paper's lambda_cls).
        classification_fake: Of the generator's, on its own images (the same in the paper).
        reconstruction: Of the cycle reconstruction loss (lambda_rec).
        gradient_penalty: Of the gradient penalty of "wgan-gp" (lambda_gp).
        r1: Of the gradient penalty of "multitask" (gamma of R1).
        change: Of the change of the image, which makes the generator choose the smallest one that
            shows the expression. 0 in the paper; for short training.
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

    The defaults are those of the authors' code, but for data.

    Attributes:
        classes: Names of the expressions; empty: all that the data set has.
        width: Channels of the generator's first convolution; its core has 4 times as many.
        attention_width: Channels of the attention branch (SEDN).
        residual_init: Factor on the first weights of the generator's last convolution. 1 in the
            paper; with less it starts closer to a copy of its input and learns sooner.
        discriminator: The discriminator.
        adversarial: What the discriminator judges. "wgan-gp": by WGAN-GP whether a face is real,
            and beside it the expression (StarGAN, the paper). "multitask": whether a face is real
            given its expression, one logit for each (StarGAN v2's multi-task discriminator with
            R1); there is no realness map; `weights.classification_real`,
            `weights.classification_fake` and `weights.gradient_penalty` are not used, and
            `classifier.noise` and `classifier.attack` in the steps of `classifier.steps` only.
        generator_every: Discriminator updates to one generator update.
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
    discriminator: DiscriminatorOptions = DiscriminatorOptions()
    adversarial: Literal["wgan-gp", "multitask"] = "wgan-gp"
    generator_every: int = 5
    classifier: ClassifierOptions = ClassifierOptions()
    weights: Weights = Weights()
    data: Data = Data(size=128, batch_size=8)
    # The text has the rate fall to 0; the code takes a 100,000th off, 20 times: in effect constant.
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
            f"classes names one twice: {', '.join(self.classes)}",
        )
        check(
            len(self.classes) != 1,
            f"classes has one name, {', '.join(self.classes)}: expected two or more",
        )
        self.discriminator.check(self.data.size, "discriminator.")
        check_above_zero(self, "residual_init")
        check_least(self, 1, "width", "attention_width", "generator_every")

    def batch_sizes(self) -> dict[str, int]:
        """As of all methods; and that of the first steps."""
        return {**super().batch_sizes(), **self.classifier.batch_sizes()}
