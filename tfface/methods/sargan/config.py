"""Configuration of SARGAN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfface.config import Adam, Data, MethodConfig, Train, check


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
        disc_width: Channels of the discriminator's first convolution, doubled by each next one.
        disc_layers: Convolutions of the discriminator, each halving the picture.
        adversarial: What the discriminator judges. "wgan-gp": by WGAN-GP whether a face is real,
            and beside it the expression (StarGAN, the paper). "multitask": whether a face is real
            given its expression, one logit for each (StarGAN v2's multi-task discriminator with
            R1); there is no realness map, and `lambda_cls_disc`, `lambda_cls_gen` and `lambda_gp`
            are not used, `label_noise` and `label_attack` in the steps of `classify_first` only.
        generator_every: Discriminator updates to one generator update.
        classify_first: Steps at the beginning in which the discriminator learns the expressions of
            real faces, and nothing else is done. 0 in the paper; more is for short training: with
            the critic's losses beside it, it learns them much later.
        classify_batch: Pictures in a batch of these steps.
        label_noise: Standard deviation of the noise on pictures whose expression is classified:
            edits that only a network can see do not get through it. 0 in the paper.
        label_attack: Length of the step against the discriminator that real pictures take before
            their expression is classified (`losses.harder`), so that it learns what a face has to
            show and not what fools a network. It grows with the steps of `classify_first`. 0 in the
            paper.
        lambda_cls_disc: Weight of the discriminator's classification loss (the paper's lambda_cls).
        lambda_cls_gen: Weight of the generator's classification loss (the same in the paper).
        lambda_rec: Weight of the cycle reconstruction loss.
        lambda_gp: Weight of the gradient penalty of "wgan-gp".
        lambda_r1: Weight gamma of the gradient penalty of "multitask".
        lambda_change: Weight of the change of the picture, which makes the generator choose the
            smallest one that shows the expression. 0 in the paper; for short training.
        data: The data set.
        adam: Both optimisers.
        train: The training loop.
    """

    classes: tuple[str, ...] = ()
    width: int = 64
    attention_width: int = 64
    residual_init: float = 1.0
    disc_width: int = 64
    disc_layers: int = 6
    adversarial: Literal["wgan-gp", "multitask"] = "wgan-gp"
    generator_every: int = 5
    classify_first: int = 0
    classify_batch: int = 32
    label_noise: float = 0.0
    label_attack: float = 0.0
    lambda_cls_disc: float = 1.0
    lambda_cls_gen: float = 1.0
    lambda_rec: float = 1.0
    lambda_gp: float = 10.0
    lambda_r1: float = 1.0
    lambda_change: float = 0.0
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
        check(len(self.classes) != 1, f"classes has one name, {self.classes}: expected two or more")
        check(
            self.data.size % 2**self.disc_layers == 0,
            f"disc_layers is {self.disc_layers}: a picture of {self.data.size} pixels cannot be "
            f"halved so often",
        )
        check(
            self.residual_init > 0,
            f"residual_init is {self.residual_init}: expected a number above 0",
        )
        for name in (
            "classify_first", "label_noise", "label_attack", "lambda_cls_disc", "lambda_cls_gen",
            "lambda_rec", "lambda_gp", "lambda_r1", "lambda_change",
        ):  # fmt: skip
            check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}: expected 0 or more")
        for name in ("width", "attention_width", "disc_width", "generator_every", "classify_batch"):
            check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: expected at least 1")

    def batch_sizes(self) -> dict[str, int]:
        """As of all methods; and that of the first steps."""
        first = {"classify_batch": self.classify_batch} if self.classify_first else {}
        return {**super().batch_sizes(), **first}
