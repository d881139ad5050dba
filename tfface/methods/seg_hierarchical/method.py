"""Segmentation with hierarchical GANs as a method. What is inferred from relatives, says the card.

A stage trains the segmentation network, a second one the GANs on its soft maps, a third one all of
them: the generators' loss then reaches the segmentation network through the masks that cut out what
local generators see, that condition the global one and that weight the fusion, and through the
segmentation of the generated face, by which local discriminators see it.
"""

from __future__ import annotations

import dataclasses
import functools

import tensorflow as tf

from tfface.data import open_source
from tfface.data.base import Source
from tfface.data.label_map_ops import colour_labels
from tfface.errors import UserError
from tfface.layers.discriminator import Discriminator
from tfface.methods.base import Batch, Method, Networks, Phase, Signature, Task
from tfface.methods.seg_hierarchical import losses, serving
from tfface.methods.seg_hierarchical.config import SegHierarchicalConfig
from tfface.methods.seg_hierarchical.losses import WHOLE
from tfface.methods.seg_hierarchical.masks import cut, grow_masks, region_masks
from tfface.methods.seg_hierarchical.networks import Combiner, GlobalGenerator, LocalGenerator
from tfface.methods.seg_hierarchical.segmenters import BiSeNet, UNet
from tfface.methods.seg_hierarchical.streams import both, label_maps
from tfface.methods.targets import with_targets


class SegHierarchical(Method):
    """Gives a face another expression, guided by a segmentation that is trained with it.

    Args:
        config: With the expressions' names in `classes`.

    Networks: "segmenter"; and, but for `only_segmenter`, "global_generator",
    "global_discriminator", a "REGION_generator" and a "REGION_discriminator" for each region, and
    "fusion" for the fusion "combiner".
    """

    title = "Segmentation with hierarchical GANs: face parts, and another expression"
    curves = (
        "segmentation/seg",
        "generator/fake",
        "generator/cls",
        "joint/fake",
        "joint/cls",
        "joint/seg",
        "joint/rec",
    )
    task = Task.SEGMENTED_EXPRESSION

    def __init__(self, config: SegHierarchicalConfig):
        super().__init__(config)
        alone = config.only_segmenter
        self.task = Task.SEGMENTATION if alone else Task.SEGMENTED_EXPRESSION
        kinds = (WHOLE, *config.regions)
        self.generators = tuple(f"{kind}_generator" for kind in kinds)
        if config.fusion.kind == "combiner":
            self.generators += ("fusion",)
        self.discriminators = tuple(f"{kind}_discriminator" for kind in kinds)
        self.averaged = ("segmenter",) + (() if config.only_segmenter else self.generators)

    @classmethod
    def open(cls, config: SegHierarchicalConfig) -> tuple[SegHierarchical, Source]:
        """Opens the data set of the expressions, and that of the label maps if it is another."""
        with_maps = config.labelled is None
        source = open_source(
            config.data,
            classes=() if config.only_segmenter else config.classes,
            fields=("label_map",) if with_maps else (),
        )
        if config.only_segmenter:
            return cls(config), source
        if len(source.classes) < 2:
            raise UserError(
                f"the data set {config.data.name!r} has {len(source.classes)} expression classes; "
                f"seg_hierarchical needs two or more, or --only_segmenter true"
            )
        method = cls(dataclasses.replace(config, classes=source.classes))
        if not with_maps:
            method.labelled = open_source(config.labelled, fields=("label_map",))
        return method, source

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the expressions."""
        return () if self.config.only_segmenter else self.config.classes

    def evaluation_source(self) -> Source:
        """Faces with expressions, or those with label maps of a segmentation network alone."""
        fields = ("label_map",) if self.config.labelled is None else ()
        return open_source(self.config.data, classes=self.labels, fields=fields)

    def build(self) -> Networks:
        """New networks."""
        c = self.config
        size, n = c.data.size, len(c.classes)
        segmenter = {"unet": UNet, "bisenet": BiSeNet}[c.segmenter.kind](size, c.segmenter.width)
        if c.only_segmenter:
            return {"segmenter": segmenter}
        whole, *local = self.discriminators
        realness = c.adversarial == "wgan-gp"
        nets = {
            "segmenter": segmenter,
            "global_generator": GlobalGenerator(
                size, n, len(c.regions), c.width, c.blocks, c.attention, c.residual_init
            ),
            whole: Discriminator(
                size, n, c.discriminator.width, c.discriminator.layers, realness, name=whole
            ),
        }
        for region, discriminator in zip(c.regions, local, strict=True):
            name = f"{region}_generator"
            nets[name] = LocalGenerator(
                size, n, c.local_width, c.local_blocks, c.residual_init, name=name
            )
            nets[discriminator] = Discriminator(
                size,
                n,
                c.local_discriminator.width,
                c.local_discriminator.layers,
                realness,
                name=discriminator,
            )
        if c.fusion.kind == "combiner":
            nets["fusion"] = Combiner(size, c.fusion.width, c.fusion.blocks, c.residual_init)
        return nets

    def phases(self) -> tuple[Phase, ...]:
        """The updates of the stages that there are."""
        c = self.config
        if c.only_segmenter:
            return (
                Phase(
                    "segmentation",
                    ("segmenter",),
                    functools.partial(losses.segmentation_loss, self),
                    rate=c.segmenter.rate,
                ),
            )
        segmented, joint = c.segmenter.steps, c.segmenter.steps + c.gan_steps
        game = segmented + c.classifier.steps
        phases = (
            Phase(
                "segmentation",
                ("segmenter",),
                functools.partial(losses.segmentation_loss, self),
                rate=c.segmenter.rate,
                stop=segmented,
            ),
            Phase(
                "classifier",
                self.discriminators,
                functools.partial(losses.classifier_loss, self),
                start=segmented,
                stop=game,
            ),
            Phase(
                "discriminator",
                self.discriminators,
                functools.partial(losses.discriminator_loss, self),
                start=game,
            ),
            Phase(
                "generator",
                self.generators,
                functools.partial(losses.generator_loss, self),
                every=c.generator_every,
                start=game,
                stop=joint,
            ),
            Phase(
                "joint",
                (*self.generators, "segmenter"),
                functools.partial(losses.joint_loss, self),
                every=c.generator_every,
                rates={"segmenter": c.segmenter.joint_rate},
                start=joint,
            ),
        )
        return tuple(
            p for p in phases if p.start < c.train.steps and (p.stop is None or p.start < p.stop)
        )

    def batches(self, source, split, batch_size, *, seed=None, start=0) -> tf.data.Dataset:
        """Faces with expressions; with a seed, which is for training, others with label maps too.

        `image`, `expression`, and what `with_targets` adds to them; `seg_image` and
        `seg_label_map`. With `only_segmenter` there are but these two, in all batches.
        """
        c = self.config
        if c.only_segmenter:
            return label_maps(source, split, batch_size, seed, start)
        if seed is None:
            data = source.batches(split, batch_size, start=start)
        else:
            data = both(c, source, self.labelled, split, batch_size, seed, start)
        return with_targets(data, seed, start, c.classifier, begin=c.segmenter.steps)

    # What the networks make together.

    def one_hot(self, expression: tf.Tensor) -> tf.Tensor:
        """Class indices [B] to float32 [B,N]."""
        return tf.one_hot(expression, len(self.config.classes))

    def segment(self, nets: Networks, images: tf.Tensor) -> tf.Tensor:
        """Images [B,S,S,3] in [-1,1] to probabilities of the 19 classes, float32 [B,S,S,19]."""
        return tf.nn.softmax(tf.nest.flatten(nets["segmenter"](images))[0])

    def grown(self, probabilities: tf.Tensor) -> tf.Tensor:
        """Grown and blurred masks of the regions [B,S,S,R] in [0,1], from `segment`."""
        masks = region_masks(probabilities, self.config.regions)
        return grow_masks(masks, self.config.grow, self.config.blur)

    def manipulate(
        self, nets: Networks, images: tf.Tensor, label: tf.Tensor, probabilities: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Gives faces expressions.

        Args:
            nets: The networks.
            images: [B,S,S,3] in [-1,1].
            label: One-hot expressions [B,N].
            probabilities: Their segmentation, as from `segment`.

        Returns:
            Images [B,S,S,3] in [-1,1]: `image`, the fused result; `global`; and by its name the
            result of each region, of use inside its mask.
        """
        masks, grown = region_masks(probabilities, self.config.regions), self.grown(probabilities)
        made = {WHOLE: nets["global_generator"]([images, label, masks])}
        pasted = 0.0
        for i, region in enumerate(self.config.regions):
            mask = grown[..., i : i + 1]
            made[region] = nets[f"{region}_generator"]([images, label, mask])
            pasted += mask * made[region]
        inside = tf.reduce_sum(grown, -1, keepdims=True)
        weight = tf.minimum(inside, 1.0)
        pasted = weight * pasted / (inside + 1e-6) + (1.0 - weight) * made[WHOLE]
        fused = nets["fusion"]([made[WHOLE], pasted]) if "fusion" in nets else pasted
        return {**made, "image": fused}

    def views(self, images: tf.Tensor, grown: tf.Tensor) -> dict[str, tf.Tensor]:
        """What each discriminator sees of images, by its kind: all, or what a mask leaves."""
        cuts = [cut(images, grown[..., i : i + 1]) for i in range(len(self.config.regions))]
        return {WHOLE: images, **dict(zip(self.config.regions, cuts, strict=True))}

    # Use.

    def edit(
        self, nets: Networks, images: tf.Tensor, expression: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Images with the expressions of class indices [B], and what the regions look like.

        Returns:
            [B,S,S,3] in [-1,1]: `image`, and by its name each region's result, black outside it;
            and the `label_map` int32 [B,S,S] of the images given.
        """
        probabilities = self.segment(nets, images)
        made = self._results(nets, images, expression, probabilities)
        return {**made, "label_map": tf.argmax(probabilities, -1, tf.int32)}

    def _results(self, nets, images, expression, probabilities) -> dict[str, tf.Tensor]:
        made = self.manipulate(nets, images, self.one_hot(expression), probabilities)
        grown = self.grown(probabilities)
        results = {r: self.views(made[r], grown)[r] for r in self.config.regions}
        results["image"] = made["image"]
        return {k: tf.clip_by_value(v, -1.0, 1.0) for k, v in results.items()}

    def preview(self, nets: Networks, batch: Batch) -> dict[str, tf.Tensor]:
        """The input, its segmentation and masks, the parts for one expression, all expressions.

        With `only_segmenter`: the input, its segmentation, and the truth.
        """
        c = self.config
        image = batch["seg_image" if c.only_segmenter else "image"]
        probabilities = self.segment(nets, image)
        columns = {
            "input": image,
            "segmentation": colour_labels(tf.argmax(probabilities, -1, tf.int32)),
        }
        if c.only_segmenter:
            return {**columns, "truth": colour_labels(batch["seg_label_map"])}
        grown = self.grown(probabilities)
        for i, region in enumerate(c.regions):
            columns[f"mask of {region}"] = tf.repeat(2.0 * grown[..., i : i + 1] - 1.0, 3, -1)
        every = [
            self._results(nets, image, tf.fill([tf.shape(image)[0]], i), probabilities)
            for i in range(len(c.classes))
        ]
        for region in c.regions:
            columns[f"{region}, {c.classes[0]}"] = every[0][region]
        for name, made in zip(c.classes, every, strict=True):
            columns[name] = made["image"]
        return columns

    def signatures(self, nets: Networks) -> dict[str, Signature]:
        """As of `serving.signatures`."""
        return serving.signatures(self, nets)
