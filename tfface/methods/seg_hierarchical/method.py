"""Segmentation with hierarchical GANs as a method; the card states which parts are inferred.

The first stage trains the segmentation network, the second the GANs on its soft masks, the third
all networks. In the third stage the generators' loss reaches the segmentation network through the
masks that crop the inputs of the local generators, that condition the global generator and that
weight the fusion, and through the segmentation of the generated face, which crops the inputs of the
local discriminators.
"""

from __future__ import annotations

import dataclasses
import functools

import tensorflow as tf

from tfface.data import open_source
from tfface.data.base import Source
from tfface.data.label_map_ops import colour_labels
from tfface.errors import UserError
from tfface.methods.base import Batch, Method, Networks, Phase, Signature, Task
from tfface.methods.discriminators import expression_discriminator
from tfface.methods.seg_hierarchical import losses, serving
from tfface.methods.seg_hierarchical.config import SegHierarchicalConfig
from tfface.methods.seg_hierarchical.losses import WHOLE
from tfface.methods.seg_hierarchical.masks import (
    corners,
    crop,
    cut,
    grow_masks,
    place,
    region_masks,
)
from tfface.methods.seg_hierarchical.networks import Combiner, GlobalGenerator, LocalGenerator
from tfface.methods.seg_hierarchical.segmenters import BiSeNet, UNet
from tfface.methods.seg_hierarchical.streams import label_maps, zip_streams
from tfface.methods.targets import with_targets


class SegHierarchical(Method):
    """Changes the expression of a face, guided by a jointly trained segmentation.

    Args:
        config: The config, with the names of the expressions in `classes`.

    Networks: "segmenter" and, unless `only_segmenter` is set, "global_generator",
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
        self.window = config.window or config.data.size
        self.averaged = ("segmenter",) + (() if config.only_segmenter else self.generators)

    @classmethod
    def open(cls, config: SegHierarchicalConfig) -> tuple[SegHierarchical, Source]:
        """Opens the data set with expressions, and that with label maps if it is different."""
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
                f"seg_hierarchical needs two or more, or only_segmenter=true"
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
        """Faces with expressions, or with label maps if `only_segmenter` is set."""
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
        nets = {
            "segmenter": segmenter,
            "global_generator": GlobalGenerator(
                size,
                n,
                len(c.regions),
                c.width,
                c.blocks,
                c.attention,
                c.residual_init,
                c.upsampling,
            ),
            whole: expression_discriminator(c.discriminator, size, n, c.adversarial, whole),
        }
        for region, discriminator in zip(c.regions, local, strict=True):
            name = f"{region}_generator"
            nets[name] = LocalGenerator(
                self.window,
                n,
                c.local_width,
                c.local_blocks,
                c.residual_init,
                c.upsampling,
                name=name,
            )
            nets[discriminator] = expression_discriminator(
                c.local_discriminator, self.window, n, c.adversarial, discriminator
            )
        if c.fusion.kind == "combiner":
            nets["fusion"] = Combiner(size, c.fusion.width, c.fusion.blocks, c.residual_init)
        return nets

    def phases(self) -> tuple[Phase, ...]:
        """The updates of the three stages, without those that the config skips."""
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
        game_forward = functools.partial(losses.game_forward, self)
        whole, *local = self.discriminators
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
                game_forward,
                rates={whole: c.discriminator.rate}
                | dict.fromkeys(local, c.local_discriminator.rate),
                start=game,
            ),
            Phase(
                "generator",
                self.generators,
                functools.partial(losses.generator_loss, self),
                game_forward,
                every=c.generator_every,
                start=game,
                stop=joint,
            ),
            Phase(
                "joint",
                (*self.generators, "segmenter"),
                functools.partial(losses.joint_loss, self),
                functools.partial(losses.joint_forward, self),
                every=c.generator_every,
                rates={"segmenter": c.segmenter.joint_rate},
                start=joint,
            ),
        )
        return tuple(
            p for p in phases if p.start < c.train.steps and (p.stop is None or p.start < p.stop)
        )

    def batches(self, source, split, batch_size, *, seed=None, start=0) -> tf.data.Dataset:
        """Faces with expressions and, if a seed is given (training), faces with label maps.

        The entries are `image`, `expression` and those of `with_targets`, and `seg_image` and
        `seg_label_map`. With `only_segmenter`, all batches have only the last two.
        """
        c = self.config
        if c.only_segmenter:
            return label_maps(source, split, batch_size, seed, start)
        if seed is None:
            data = source.batches(split, batch_size, start=start)
        else:
            data = zip_streams(c, source, self.labelled, split, batch_size, seed, start)
        return with_targets(data, seed, start, c.classifier, begin=c.segmenter.steps)

    # Segmentation and generation.

    def one_hot(self, expression: tf.Tensor) -> tf.Tensor:
        """Class indices [B] to float32 [B,N]."""
        return tf.one_hot(expression, len(self.config.classes))

    def segment(self, nets: Networks, images: tf.Tensor) -> tf.Tensor:
        """Class probabilities float32 [B,S,S,19] of images [B,S,S,3] in [-1,1]."""
        return tf.nn.softmax(tf.nest.flatten(nets["segmenter"](images))[0])

    def grown(self, probabilities: tf.Tensor) -> tf.Tensor:
        """Grown and blurred masks of the regions, [B,S,S,R] in [0,1], from class probabilities."""
        masks = region_masks(probabilities, self.config.regions)
        return grow_masks(masks, self.config.grow, self.config.blur)

    def manipulate(
        self, nets: Networks, images: tf.Tensor, label: tf.Tensor, probabilities: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Edits faces to show expressions.

        Args:
            nets: The networks.
            images: [B,S,S,3] in [-1,1].
            label: One-hot expressions [B,N].
            probabilities: Segmentation of the images, as from `segment`.

        Returns:
            Images [B,S,S,3] in [-1,1]: `image`, the fused result; `global`; and the result of each
            region under the region's name, black outside its mask.
        """
        masks = region_masks(probabilities, self.config.regions)
        whole = nets["global_generator"]([images, label, masks])
        parts, pasted, inside = self._parts(nets, images, label, probabilities)
        weight = tf.minimum(inside, 1.0)
        pasted = weight * pasted / (inside + 1e-6) + (1.0 - weight) * whole
        fused = nets["fusion"]([whole, pasted]) if "fusion" in nets else pasted
        return {WHOLE: whole, **parts, "image": fused}

    def _parts(self, nets, images, label, probabilities):
        """Results by region, their sum weighted by the masks, and the sum of the masks."""
        results, pasted, inside = {}, 0.0, 0.0
        for region, first, mask in self.located(self.grown(probabilities)):
            face = crop(images, first, self.window)
            edited = nets[f"{region}_generator"]([face, label, mask])
            edited, mask = (place(x, first, self.config.data.size) for x in (edited, mask))
            results[region] = cut(edited, mask)
            pasted += mask * edited
            inside += mask
        return results, pasted, inside

    def views(self, images: tf.Tensor, grown: tf.Tensor) -> dict[str, tf.Tensor]:
        """The input of each discriminator: whole images, and windows masked to each region."""
        cuts = {
            region: cut(crop(images, first, self.window), mask)
            for region, first, mask in self.located(grown)
        }
        return {WHOLE: images, **cuts}

    def located(self, grown: tf.Tensor) -> list[tuple[str, tf.Tensor, tf.Tensor]]:
        """For each region its name, the `corners` of its window, and its mask in the window."""
        result = []
        for i, region in enumerate(self.config.regions):
            mask = grown[..., i : i + 1]
            first = corners(mask, self.window)
            result.append((region, first, crop(mask, first, self.window)))
        return result

    # Inference.

    def edit(
        self, nets: Networks, images: tf.Tensor, expression: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Edits images to show the expressions of class indices [B].

        Returns:
            [B,S,S,3] in [-1,1]: `image`, and the result of each region under the region's name,
            black outside the region; and the `label_map` int32 [B,S,S] of the input images.
        """
        probabilities = self.segment(nets, images)
        edited = self._edit(nets, images, expression, probabilities)
        return {**edited, "label_map": tf.argmax(probabilities, -1, tf.int32)}

    def edit_parts(
        self, nets: Networks, images: tf.Tensor, expression: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The results of the regions alone, as in `edit`."""
        label = self.one_hot(expression)
        parts, _, _ = self._parts(nets, images, label, self.segment(nets, images))
        return {name: tf.clip_by_value(part, -1.0, 1.0) for name, part in parts.items()}

    def _edit(self, nets, images, expression, probabilities) -> dict[str, tf.Tensor]:
        results = self.manipulate(nets, images, self.one_hot(expression), probabilities)
        names = (*self.config.regions, "image")
        return {name: tf.clip_by_value(results[name], -1.0, 1.0) for name in names}

    def preview(self, nets: Networks, batch: Batch) -> dict[str, tf.Tensor]:
        """The input, its segmentation and masks, the regions' results, and all expressions.

        The regions' results are those for the first expression. With `only_segmenter`: the input,
        its segmentation and the ground truth.
        """
        c = self.config
        image = batch["seg_image" if c.only_segmenter else "image"]
        probabilities = self.segment(nets, image)
        columns = {
            "input": image,
            "segmentation": colour_labels(tf.argmax(probabilities, -1, tf.int32)),
        }
        if c.only_segmenter:
            return {**columns, "ground truth": colour_labels(batch["seg_label_map"])}
        grown = self.grown(probabilities)
        for i, region in enumerate(c.regions):
            columns[f"mask of {region}"] = tf.repeat(2.0 * grown[..., i : i + 1] - 1.0, 3, -1)
        edited = [
            self._edit(nets, image, tf.fill([tf.shape(image)[0]], i), probabilities)
            for i in range(len(c.classes))
        ]
        for region in c.regions:
            columns[f"{region}, {c.classes[0]}"] = edited[0][region]
        for name, results in zip(c.classes, edited, strict=True):
            columns[name] = results["image"]
        return columns

    def signatures(self, nets: Networks) -> dict[str, Signature]:
        """See `serving.signatures`."""
        return serving.signatures(self, nets)
