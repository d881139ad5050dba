"""Configuration of segmentation with hierarchical GANs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfface.config import Adam, Data, MethodConfig, Train, check, nearest

REGIONS = {
    "eyes": ("l_eye", "r_eye", "l_brow", "r_brow"),
    "nose": ("nose",),
    "mouth": ("mouth", "u_lip", "l_lip"),
}
"""Regions with a generator and a discriminator of their own, as classes of the label map (ours)."""


@dataclass(frozen=True)
class SegHierarchicalConfig(MethodConfig):
    """Segmentation + hierarchical GANs (arXiv 2112.04603): an expression, guided by face parts.

    The paper's own figures are not public. The defaults are those of its relatives StarGAN and
    APDrawingGAN where they have them, and ours elsewhere; see the card.

    Attributes:
        classes: Names of the expressions; empty: all that the data set has.
        only_segmenter: Train the segmentation network alone, on `data`, which then needs label maps
            and no expressions.
        segmenter: The segmentation network.
        seg_width: Channels of its first convolution; the deepest have 16 times as many in U-Net, 8
            times in BiSeNet.
        seg_loss: Cross entropy of all pixels ("ce"), or of the hard ones ("ohem"); or "dice", with
            which small parts are found sooner.
        regions: Names of the regions with their own generator and discriminator, of REGIONS.
        grow: Side of the window, odd, in pixels, in which a region's mask is grown (maximum): a
            mouth that opens leaves its mask.
        blur: Side of the window, odd, in pixels, over which it is then averaged.
        width: Channels of the global generator's first convolution; its core has 4 times as many.
        blocks: Residual blocks of the global generator.
        local_width: As `width`, of a region's generator.
        local_blocks: As `blocks`, of a region's generator.
        attention: GANimation's head for the global generator: a colour, and an attention map that
            says where the input is kept. Otherwise a residual.
        fusion: "combiner": a network makes the face of the global and the local results; "blend":
            the masks do.
        fusion_width: Channels of the combiner.
        fusion_blocks: Residual blocks of the combiner.
        residual_init: Factor on the first weights of the generators' and the combiner's last
            convolutions; with less they start closer to copies of their inputs and learn sooner.
        disc_width: Channels of the global discriminator's first convolution, doubled by each next.
        disc_layers: Convolutions of the global discriminator, each halving the picture.
        local_disc_width: As `disc_width`, of a region's discriminator.
        local_disc_layers: As `disc_layers`, of a region's discriminator.
        seg_steps: Steps of the first stage: the segmentation network alone.
        gan_steps: Steps of the second stage: the GANs, with the segmentation network as it is. The
            rest of `train.steps` is the third stage: all together.
        seg_rate: Learning rate of the segmentation network in the first stage, relative to that of
            the generators.
        adversarial: What the discriminators judge: "wgan-gp" or "multitask", as SARGAN's.
        generator_every: Discriminator updates to one generator update.
        seg_rate_joint: Learning rate of the segmentation network in the third stage, relative to
            that of the generators.
        classify_first: Steps at the beginning of the second stage in which the discriminators learn
            the expressions of real faces, and nothing else is done; for short training.
        classify_batch: Pictures in a batch of these steps.
        label_noise: Standard deviation of the noise on pictures whose expression is classified:
            edits that only a network can see do not get through it.
        label_attack: Length of the step against a discriminator that real pictures take before
            their expression is classified (`tfface.losses.expressions.harder`); it grows
            with the steps of `classify_first`.
        lambda_cls_disc: Weight of the discriminators' classification loss.
        lambda_cls_gen: Weight of the generators' classification loss.
        lambda_rec: Weight of the cycle reconstruction loss.
        lambda_gp: Weight of the gradient penalty of "wgan-gp".
        lambda_r1: Weight gamma of the gradient penalty of "multitask".
        lambda_local: Weight of the losses of each local discriminator beside the global one's.
        lambda_change: Weight of the change of the face; for short training, as SARGAN's.
        lambda_seg: Weight of the segmentation loss in the third stage.
        lambda_gan2seg: Weight of the generators' loss for the segmentation network.
        data: The data set with expressions; it needs label maps too if `labelled` is not given.
        labelled: The data set with label maps, and the size of its batches; None: `data`. Of no
            effect with `only_segmenter`.
        adam: The optimisers.
        train: The training loop.
    """

    classes: tuple[str, ...] = ()
    only_segmenter: bool = False
    segmenter: Literal["bisenet", "unet"] = "bisenet"
    seg_width: int = 64
    seg_loss: Literal["ce", "ohem", "dice"] = "ohem"
    regions: tuple[str, ...] = ("eyes", "nose", "mouth")
    grow: int = 17
    blur: int = 5
    width: int = 64
    blocks: int = 6
    local_width: int = 32
    local_blocks: int = 3
    attention: bool = False
    fusion: Literal["combiner", "blend"] = "combiner"
    fusion_width: int = 32
    fusion_blocks: int = 2
    residual_init: float = 1.0
    disc_width: int = 64
    disc_layers: int = 6
    local_disc_width: int = 64
    local_disc_layers: int = 5
    seg_steps: int = 80_000
    gan_steps: int = 100_000
    seg_rate: float = 1.0
    adversarial: Literal["wgan-gp", "multitask"] = "wgan-gp"
    generator_every: int = 5
    seg_rate_joint: float = 0.1
    classify_first: int = 0
    classify_batch: int = 32
    label_noise: float = 0.0
    label_attack: float = 0.0
    lambda_cls_disc: float = 1.0
    lambda_cls_gen: float = 1.0
    lambda_rec: float = 10.0
    lambda_gp: float = 10.0
    lambda_r1: float = 1.0
    lambda_local: float = 0.25
    lambda_change: float = 0.0
    lambda_seg: float = 1.0
    lambda_gan2seg: float = 0.1
    data: Data = Data(size=128)
    labelled: Data | None = None
    adam: Adam = Adam(clip_norm=10.0, schedule="linear", decay_start=180_000, decay_every=1000)
    train: Train = Train(steps=280_000)

    def __post_init__(self):
        self._check_numbers()
        for name in ("classes", "regions"):
            names = getattr(self, name)
            check(len(set(names)) == len(names), f"{name} names one twice: {', '.join(names)}")
        check(len(self.classes) != 1, f"classes has one name, {self.classes}: expected two or more")
        check(len(self.regions) > 0, f"regions is empty: expected some of {', '.join(REGIONS)}")
        for name in self.regions:
            check(
                name in REGIONS,
                f"regions has {name!r}{nearest(name, REGIONS)}; expected {', '.join(REGIONS)}",
            )
        check(
            self.blur <= self.grow,
            f"blur is {self.blur}: expected at most grow, {self.grow}, or masks would shrink",
        )
        if self.only_segmenter:
            object.__setattr__(self, "labelled", None)  # Nothing reads it then, nothing checks it.
            return
        for name in ("disc_layers", "local_disc_layers"):
            check(
                self.data.size % 2 ** getattr(self, name) == 0,
                f"{name} is {getattr(self, name)}: a picture of {self.data.size} pixels cannot be "
                f"halved so often",
            )
        check(
            self.seg_steps + self.classify_first < self.train.steps,
            f"seg_steps is {self.seg_steps} and classify_first {self.classify_first}: expected "
            f"less than train.steps, {self.train.steps}, in all",
        )
        check(
            self.classify_first <= self.gan_steps,
            f"classify_first is {self.classify_first}: expected at most gan_steps, "
            f"{self.gan_steps}, of which it is a part",
        )
        check(
            self.labelled is not None or self.data.name == "synthetic",
            f"labelled is not given, and the data set {self.data.name!r} does not have both "
            f"expressions and label maps; expected a data set with label maps, for example "
            f"--labelled.name celebamask_hq --labelled.path FOLDER",
        )
        check(
            self.labelled is None or self.labelled.size == self.data.size,
            f"labelled.size is {self.labelled and self.labelled.size}: expected data.size, "
            f"{self.data.size}",
        )

    def datasets(self) -> dict[str, Data]:
        """That of the expressions, and that of the label maps if it is another."""
        return {**super().datasets(), **({"labelled": self.labelled} if self.labelled else {})}

    def batch_sizes(self) -> dict[str, int]:
        """As of all methods; and that of the first steps."""
        first = {"classify_batch": self.classify_batch} if self.classify_first else {}
        return {**super().batch_sizes(), **first}

    def _check_numbers(self) -> None:
        for name in (
            "seg_width", "width", "local_width", "fusion_width", "disc_width", "local_disc_width",
            "blocks", "local_blocks", "fusion_blocks", "disc_layers", "local_disc_layers",
            "generator_every", "classify_batch",
        ):  # fmt: skip
            check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: expected at least 1")
        for name in ("grow", "blur"):
            value = getattr(self, name)
            check(value >= 1 and value % 2 == 1, f"{name} is {value}: expected an odd number")
        for name in (
            "seg_steps", "gan_steps", "classify_first", "label_noise", "label_attack",
            "lambda_cls_disc", "lambda_cls_gen", "lambda_rec", "lambda_gp", "lambda_r1",
            "lambda_local", "lambda_change", "lambda_seg", "lambda_gan2seg",
        ):  # fmt: skip
            check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}: expected 0 or more")
        for name in ("residual_init", "seg_rate", "seg_rate_joint"):
            check(getattr(self, name) > 0, f"{name} is {getattr(self, name)}: expected above 0")
