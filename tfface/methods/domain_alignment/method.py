"""Domain alignment as a method; the card states the source of each part."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfface.data import open_source
from tfface.data.base import Source
from tfface.data.label_map_ops import colour_labels
from tfface.data.lines import draw_edges, draw_lines
from tfface.layers import BlockAlignment, DenseAlignment
from tfface.layers.perceptual import perceptual_network
from tfface.methods.base import Batch, Method, Networks, Phase, Signature, Task
from tfface.methods.domain_alignment import losses, serving
from tfface.methods.domain_alignment.conditions import CHANNELS, double, encode, half, shares
from tfface.methods.domain_alignment.config import DomainAlignmentConfig
from tfface.methods.domain_alignment.networks import (
    Correspondence,
    Discriminator,
    Encoder,
    Generator,
)

logger = logging.getLogger("tfface")


class DomainAlignment(Method):
    """Generates a face with the shape of a label map or drawing and the style of an exemplar.

    Args:
        config: The config.

    Networks: "condition_encoder", "exemplar_encoder", "correspondence", "generator",
    "discriminator".
    """

    title = "Domain alignment: a face from a label map in the style of another"
    curves = ("generator/pixel", "generator/warp", "generator/mask")
    task = Task.EXEMPLAR
    averaged = ("condition_encoder", "exemplar_encoder", "correspondence", "generator")

    def __init__(self, config: DomainAlignmentConfig):
        super().__init__(config)
        c = config
        self.takes = "label_map" if c.condition == "labels" else "lines"
        self.align = (
            BlockAlignment(
                c.alignment.block_side,
                c.alignment.top_k,
                c.alignment.epsilon,
                c.alignment.temperature,
                c.alignment.solver,
                c.alignment.iterations,
            )
            if c.alignment.kind == "block"
            else DenseAlignment(c.alignment.temperature)
        )
        self.perceptual: keras.Model | None = None

    @classmethod
    def open(cls, config: DomainAlignmentConfig) -> tuple[DomainAlignment, Source]:
        """Opens the data set, which must have label maps, and the perceptual network."""
        source = open_source(config.data, fields=("label_map",))
        method = cls(config)
        if config.perceptual == "random":
            logger.warning(
                "the perceptual losses use random features instead of VGG19's; use them for trials "
                "only"
            )
        if config.perceptual != "none":
            method.perceptual = perceptual_network(
                config.perceptual, config.data.size, config.vgg_weights
            )
        return method, source

    def evaluation_source(self) -> Source:
        """Faces with label maps."""
        return open_source(self.config.data, fields=("label_map",))

    def build(self) -> Networks:
        """New networks."""
        c = self.config
        size, channels = c.data.size, CHANNELS[c.condition]
        return {
            **{
                name: Encoder(size, inputs, c.width, c.encoder_blocks, c.spade_width, name=name)
                for name, inputs in (("condition_encoder", channels), ("exemplar_encoder", 3))
            },
            "correspondence": Correspondence(size // 2, 4 * c.width, c.channels),
            "generator": Generator(
                size, channels, c.width, c.gen_width, c.spade_width, c.channels, c.fusion_side
            ),
            "discriminator": Discriminator(
                size, channels, c.discriminator.width, c.discriminator.layers
            ),
        }

    def phases(self) -> tuple[Phase, ...]:
        """One update each, with two time scales; CoCosNet's code."""
        forward = functools.partial(losses.forward, self)
        return (
            Phase(
                "discriminator",
                ("discriminator",),
                functools.partial(losses.discriminator_loss, self),
                forward,
                rate=self.config.discriminator.rate,
            ),
            Phase(
                "generator",
                self.averaged,
                functools.partial(losses.generator_loss, self),
                forward,
            ),
        )

    def batches(self, source, split, batch_size, *, seed=None, start=0) -> tf.data.Dataset:
        """Batches of `Source.exemplars` with `pair_weight` and `condition`.

        `pair_weight` float32 [B] is from `losses.pair_weights`; `condition` is int32 [B,S,S].
        """

        @tf.autograph.experimental.do_not_convert
        def add_inputs(batch):
            return {
                **batch,
                "pair_weight": losses.pair_weights(batch["paired"]),
                "condition": self.condition(batch),
            }

        paired = self.config.paired
        data = source.exemplars(split, batch_size, seed=seed, start=start, paired=paired)
        return data.map(add_inputs)

    # Alignment and generation.

    def condition(self, batch: Batch) -> tf.Tensor:
        """The conditions of a batch, int32 [B,S,S]: label maps, their lines, or edges of images."""
        kind, labels, images = self.config.condition, batch["label_map"], batch["image"]
        if kind == "labels":
            return labels
        if kind == "lines":
            return _drawn(lambda pair: draw_lines(*pair), labels, images)
        return _drawn(lambda pair: draw_edges(pair[1]), labels, images)

    def encode(self, condition: tf.Tensor) -> tf.Tensor:
        """Codes int32 [B,S,S] to the input channels of the networks, float32 [B,S,S,C]."""
        return encode(condition, self.config.condition)

    def generate(
        self,
        nets: Networks,
        condition: tf.Tensor,
        exemplar: tf.Tensor,
        labels: tf.Tensor | None = None,
        training: bool = False,
    ) -> dict[str, tf.Tensor]:
        """Aligns exemplars to conditions and generates images.

        Args:
            nets: The networks.
            condition: Conditions float32 [B,S,S,C], as from `encode`.
            exemplar: Images [B,S,S,3] in [-1,1].
            labels: The exemplars' label maps int32 [B,S,S], to be warped as well.
            training: Whether this is training.

        Returns:
            `image` [B,S,S,3]; `weight` of the fusion [B,S/2,S/2,1]; `warped`, the aligned exemplar
            [B,S/2,S/2,3]; `query` and `key`; `compared`, the condition's features from which the
            query is computed; with labels `warped_labels` [B,S/2,S/2,19]; with block alignment
            `index` and `weights` of the retrieved blocks.
        """
        features, result = self.correspond(nets, condition, exemplar, labels, training)
        image, weight = nets["generator"]([condition, *features], training=training)
        return {"image": image, "weight": weight, **result}

    def correspond(
        self,
        nets: Networks,
        condition: tf.Tensor,
        exemplar: tf.Tensor,
        labels: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """Aligns exemplars to conditions, without generating images.

        Returns:
            The generator's inputs after the condition, and what `generate` returns but `image` and
            `weight`.
        """
        fine, middle, compared = nets["condition_encoder"](condition, training=training)
        e_fine, e_middle, e_compared = nets["exemplar_encoder"](exemplar, training=training)
        query, _ = nets["correspondence"](compared, training=training)
        _, key = nets["correspondence"](e_compared, training=training)
        values = [half(exemplar), e_fine, e_middle]
        if labels is not None:
            values.append(shares(labels))
        alignment = self.align(query, key, tf.concat(values, -1))
        aligned = tf.split(alignment["aligned"], [x.shape[-1] for x in values], -1)
        result = {
            "warped": aligned[0],
            "query": query,
            "key": key,
            "compared": compared,
        }
        if labels is not None:
            result["warped_labels"] = aligned[3]
        if "index" in alignment:
            result |= {"index": alignment["index"], "weights": alignment["weight"]}
        return [fine, middle, *aligned[:3]], result

    # Inference.

    def preview(self, nets: Networks, batch: Batch) -> dict[str, tf.Tensor]:
        """The condition with one block framed, the exemplar with its retrieved blocks, the result.

        The frames of retrieved blocks with larger weights are brighter.
        """
        result = self.generate(nets, self.encode(batch["condition"]), batch["exemplar"])
        condition, exemplar = colour_labels(batch["condition"]), batch["exemplar"]
        if "index" in result:
            condition, exemplar = self._add_frames(condition, exemplar, result)
        weight = tf.repeat(2.0 * result["weight"] - 1.0, 3, -1)
        return {
            "condition": condition,
            "exemplar": exemplar,
            "warped": double(tf.clip_by_value(result["warped"], -1.0, 1.0)),
            "fusion weight": double(weight),
            "result": result["image"],
            "image of the condition": batch["image"],
        }

    def _add_frames(self, condition, exemplar, result):
        """Frames a query block, which shows an eye in most faces, and the retrieved blocks."""
        side = self.config.alignment.block_side
        across = self.config.data.size // 2 // side
        block = int(0.45 * across) * across + int(0.35 * across)
        blocks = across * across
        query = tf.repeat(tf.one_hot([block], blocks), tf.shape(condition)[0], 0)
        index, weights = result["index"][:, block], result["weights"][:, block]
        strength = 0.4 + 0.6 * weights / tf.reduce_max(weights, -1, keepdims=True)
        retrieved = tf.reduce_max(tf.one_hot(index, blocks) * strength[..., None], 1)
        frame = _frame(2 * side)
        return _draw_frames(condition, query, frame), _draw_frames(exemplar, retrieved, frame)

    def signatures(self, nets: Networks) -> dict[str, Signature]:
        """See `serving.signatures`."""
        return serving.signatures(self, nets)


def _drawn(draw: Callable, labels: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Drawings int32 [B,S,S], each from a pair of label map and image."""

    def draw_all(*batch):
        return np.stack([draw(pair) for pair in zip(*batch, strict=True)]).astype(np.int32)

    drawings = tf.numpy_function(draw_all, [labels, images], tf.int32)
    return tf.ensure_shape(drawings, labels.shape)


def _frame(side: int) -> tf.Tensor:
    """A frame [side,side]: 1 at the border, 0 inside."""
    frame = np.ones((side, side), np.float32)
    frame[1:-1, 1:-1] = 0.0
    return tf.constant(frame)


def _draw_frames(images: tf.Tensor, strength: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
    """Draws white frames around blocks, with opacities `strength` [B,blocks] in [0,1]."""
    across = int(round(strength.shape[1] ** 0.5))
    side = frame.shape[0]
    grid = tf.reshape(strength, (-1, across, 1, across, 1)) * frame[:, None, :]
    mask = tf.reshape(grid, (-1, across * side, across * side, 1))
    return images + mask * (1.0 - images)
