"""Segmentation with hierarchical GANs as a method. What is inferred from relatives, says the card.

A stage trains the segmentation network, a second one the GANs on its soft maps, a third one all of
them: the generators' loss then reaches the segmentation network through the masks that cut out what
local generators see, that condition the global one and that weight the fusion, and through the
segmentation of the generated face, by which local discriminators see it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from tfface.data import open_source
from tfface.data.base import Source
from tfface.data.label_map_ops import colour_labels
from tfface.data.label_maps import CLASSES_19
from tfface.errors import UserError
from tfface.layers.discriminator import Discriminator
from tfface.losses.expressions import (
    class_logits,
    classification,
    examples,
    gradient_penalty,
    judge,
    multitask_discriminator,
    multitask_generator,
    noisy,
    with_targets,
)
from tfface.methods.base import Batch, Method, Networks, Phase, Signature, Task
from tfface.methods.seg_hierarchical.config import SegHierarchicalConfig
from tfface.methods.seg_hierarchical.losses import WHOLE, segmentation, total_of
from tfface.methods.seg_hierarchical.masks import cut, grow_masks, region_masks, scale_gradient
from tfface.methods.seg_hierarchical.networks import Combiner, GlobalGenerator, LocalGenerator
from tfface.methods.seg_hierarchical.segmenters import BiSeNet, UNet
from tfface.methods.seg_hierarchical.serving import signatures
from tfface.methods.seg_hierarchical.streams import both, label_maps


class SegHierarchical(Method):
    """Gives a face another expression, guided by a segmentation that is trained with it.

    Args:
        config: With the expressions' names in `classes`.

    Networks: "segmenter"; and, but for `only_segmenter`, "global_generator",
    "global_discriminator", a "REGION_generator" and a "REGION_discriminator" for each region, and
    "fusion" for the fusion "combiner".
    """

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
                    "segmentation", ("segmenter",), self._segmentation_loss, rate=c.segmenter.rate
                ),
            )
        segmented, joint = c.segmenter.steps, c.segmenter.steps + c.gan_steps
        game = segmented + c.classifier.steps
        phases = (
            Phase(
                "segmentation",
                ("segmenter",),
                self._segmentation_loss,
                rate=c.segmenter.rate,
                stop=segmented,
            ),
            Phase(
                "classifier", self.discriminators, self._classifier_loss, start=segmented, stop=game
            ),
            Phase("discriminator", self.discriminators, self._discriminator_loss, start=game),
            Phase(
                "generator",
                self.generators,
                self._generator_loss,
                every=c.generator_every,
                start=game,
                stop=joint,
            ),
            Phase(
                "joint",
                (*self.generators, "segmenter"),
                self._joint_loss,
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
        """Pictures [B,S,S,3] in [-1,1] to probabilities of the 19 classes, float32 [B,S,S,19]."""
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
            Pictures [B,S,S,3] in [-1,1]: `image`, the fused result; `global`; and by its name the
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

    def _views(self, images: tf.Tensor, grown: tf.Tensor) -> dict[str, tf.Tensor]:
        """What each discriminator sees of pictures, by its kind: all, or what a mask leaves."""
        cuts = [cut(images, grown[..., i : i + 1]) for i in range(len(self.config.regions))]
        return {WHOLE: images, **dict(zip(self.config.regions, cuts, strict=True))}

    # Losses: SARGAN's of each discriminator, summed as APDrawingGAN does, and cross entropy. Terms
    # are those of the global discriminator; those of a local one have its region's name.

    def _segmentation_loss(self, nets: Networks, batch: Batch):
        heads = tf.nest.flatten(nets["segmenter"](batch["seg_image"]))
        seg, accuracy = segmentation(batch["seg_label_map"], heads, self.config.segmenter.loss)
        return seg, {"seg": seg, "accuracy": accuracy}

    def _classifier_loss(self, nets: Networks, batch: Batch):
        image = batch["image"]
        # Of true label maps where there are any: the segmentation costs more than all of this.
        if "label_map" in batch:
            given = tf.one_hot(batch["label_map"], len(CLASSES_19))
        else:
            given = tf.stop_gradient(self.segment(nets, image))
        by_kind: dict[str, Batch] = {}
        for kind, view in self._views(image, self.grown(given)).items():
            discriminator = nets[f"{kind}_discriminator"]
            logits = class_logits(discriminator, examples(discriminator, view, batch))
            by_kind[kind] = {"cls": classification(batch["expression"], logits)}
        return total_of(by_kind, {"cls": 1.0}, self.config.weights.local)

    def _discriminator_loss(self, nets: Networks, batch: Batch):
        c, image = self.config, batch["image"]
        given = self.segment(nets, image)
        fake = self.manipulate(nets, image, self.one_hot(batch["target"]), given)["image"]
        # All that is not a discriminator's is a given here, so nothing else is differentiated.
        grown, fake = tf.stop_gradient(self.grown(given)), tf.stop_gradient(fake)
        grown_fake = tf.stop_gradient(self.grown(self.segment(nets, fake)))
        views, fakes = self._views(image, grown), self._views(fake, grown_fake)
        by_kind: dict[str, Batch] = {}
        for kind, real in views.items():
            discriminator = nets[f"{kind}_discriminator"]
            if c.adversarial == "multitask":
                by_kind[kind] = multitask_discriminator(
                    discriminator, real, fakes[kind], batch["expression"], batch["target"]
                )
                continue
            (real_map, fake_map), logits = judge(
                discriminator, [real, fakes[kind]], examples(discriminator, real, batch)
            )
            by_kind[kind] = {
                "real": -tf.reduce_mean(real_map),
                "fake": tf.reduce_mean(fake_map),
                "cls": classification(batch["expression"], logits),
                "gp": gradient_penalty(discriminator, real, fakes[kind], batch["alpha"]),
            }
        weights = {"real": 1.0, "fake": 1.0, "wrong": 1.0, "r1": c.weights.r1}
        weights |= {"cls": c.weights.classification_real, "gp": c.weights.gradient_penalty}
        return total_of(by_kind, weights, c.weights.local)

    def _generator_loss(self, nets: Networks, batch: Batch):
        def frozen(images):
            return tf.stop_gradient(self.segment(nets, images))

        return self._generators(nets, batch, frozen(batch["image"]), frozen)

    def _joint_loss(self, nets: Networks, batch: Batch):
        c, count = self.config, tf.shape(batch["image"])[0]
        both = tf.concat([batch["image"], batch["seg_image"]], 0)
        heads = tf.nest.flatten(nets["segmenter"](both))
        labelled = [head[count:] for head in heads]
        seg, accuracy = segmentation(batch["seg_label_map"], labelled, c.segmenter.loss)
        # One loss serves both: what reaches the segmentation network's weights is scaled.
        given = scale_gradient(tf.nn.softmax(heads[0][:count]), c.weights.to_segmenter)

        def scaled(images):
            if not c.weights.to_segmenter:
                return tf.stop_gradient(self.segment(nets, images))
            # What goes on to the generators, through the network, is not.
            images = scale_gradient(images, 1.0 / c.weights.to_segmenter)
            return scale_gradient(self.segment(nets, images), c.weights.to_segmenter)

        total, terms = self._generators(nets, batch, given, scaled)
        return total + c.weights.segmentation * seg, {**terms, "seg": seg, "accuracy": accuracy}

    def _generators(
        self,
        nets: Networks,
        batch: Batch,
        given: tf.Tensor,
        segment: Callable[[tf.Tensor], tf.Tensor],
    ):
        """The generators' loss, from the pictures' segmentation and what segments made faces."""
        c, image = self.config, batch["image"]
        own, wanted = self.one_hot(batch["expression"]), self.one_hot(batch["target"])
        fake = self.manipulate(nets, image, wanted, given)["image"]
        seen = segment(fake)
        by_kind: dict[str, Batch] = {}
        for kind, view in self._views(fake, self.grown(seen)).items():
            discriminator = nets[f"{kind}_discriminator"]
            if c.adversarial == "multitask":
                by_kind[kind] = {"fake": multitask_generator(discriminator, view, batch["target"])}
                continue
            (fake_map,), logits = judge(discriminator, [view], noisy(view, batch))
            by_kind[kind] = {
                "fake": -tf.reduce_mean(fake_map),
                "cls": classification(batch["target"], logits),
            }
        weights = {"fake": 1.0, "cls": c.weights.classification_fake}
        total, terms = total_of(by_kind, weights, c.weights.local)
        cycled = self.manipulate(nets, fake, own, seen)["image"]
        terms["rec"] = tf.reduce_mean(tf.abs(image - cycled))
        total += c.weights.reconstruction * terms["rec"]
        if c.weights.change:
            terms["change"] = tf.reduce_mean(tf.abs(fake - image))
            total += c.weights.change * terms["change"]
        return total, terms

    # Use.

    def edit(
        self, nets: Networks, images: tf.Tensor, expression: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Pictures with the expressions of class indices [B], and what the regions look like.

        Returns:
            [B,S,S,3] in [-1,1]: `image`, and by its name each region's result, black outside it;
            and the `label_map` int32 [B,S,S] of the pictures given.
        """
        probabilities = self.segment(nets, images)
        pictures = self._pictures(nets, images, expression, probabilities)
        return {**pictures, "label_map": tf.argmax(probabilities, -1, tf.int32)}

    def _pictures(self, nets, images, expression, probabilities) -> dict[str, tf.Tensor]:
        made = self.manipulate(nets, images, self.one_hot(expression), probabilities)
        grown = self.grown(probabilities)
        pictures = {
            region: self._views(made[region], grown)[region] for region in self.config.regions
        }
        pictures["image"] = made["image"]
        return {k: tf.clip_by_value(v, -1.0, 1.0) for k, v in pictures.items()}

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
            self._pictures(nets, image, tf.fill([tf.shape(image)[0]], i), probabilities)
            for i in range(len(c.classes))
        ]
        for region in c.regions:
            columns[f"{region}, {c.classes[0]}"] = every[0][region]
        for name, made in zip(c.classes, every, strict=True):
            columns[name] = made["image"]
        return columns

    def signatures(self, nets: Networks) -> dict[str, Signature]:
        """As of `serving.signatures`."""
        return signatures(
            self.config, functools.partial(self.segment, nets), functools.partial(self.edit, nets)
        )
