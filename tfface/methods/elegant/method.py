"""ELEGANT as a method; losses and schedule follow the authors' code."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tfface.data import open_source
from tfface.data.alignment import face_mask
from tfface.data.base import Source
from tfface.methods.base import Batch, Method, Networks, Phase, Signature, Task
from tfface.methods.elegant import losses, serving
from tfface.methods.elegant.config import ElegantConfig
from tfface.methods.elegant.networks import (
    Decoder,
    Discriminator,
    Encoder,
    MultitaskDiscriminator,
)


def latent_mask(attribute: tf.Tensor, attributes: int, channels: int) -> tf.Tensor:
    """Mask of the latent channels of an attribute; paper section 3.1, rounded as by the authors.

    Args:
        attribute: Indices [B].
        attributes: Number of attributes n; part i is channels rint(i*C/n) to rint((i+1)*C/n).
        channels: C.

    Returns:
        float32 [B,1,1,C] of 0 and 1.
    """
    ends = np.rint(np.arange(attributes + 1) * channels / attributes).astype(np.int64)
    table = np.zeros((attributes, channels), np.float32)
    for i in range(attributes):
        table[i, ends[i] : ends[i + 1]] = 1.0
    return tf.gather(tf.constant(table), attribute)[:, None, None, :]


class Elegant(Method):
    """Exchanges an attribute between two faces by exchanging its part of their latent codes.

    Args:
        config: The config; its attributes name the parts of the latent code, in order.

    Networks: "encoder", "decoder", "disc1" (full size), "disc2" (half size; not with the
    "multitask" discriminator).
    """

    title = "ELEGANT: changing an attribute of a face"
    curves = ("generator/reconstruction", "generator/adv1", "discriminator/disc1")
    averaged = ("encoder", "decoder")
    task = Task.ATTRIBUTE

    def __init__(self, config: ElegantConfig):
        super().__init__(config)
        self.multitask = config.discriminator.kind != "conditional"
        self.discriminators = ("disc1",) if self.multitask else ("disc1", "disc2")
        # From the hairline to below the chin: bangs are above the face.
        self._mask = face_mask(config.data, scale=1.35) if config.face_only else None

    @classmethod
    def open(cls, config: ElegantConfig) -> tuple[Elegant, Source]:
        """Opens the data set, which must have the attributes."""
        source = open_source(config.data, attributes=config.attributes)
        return cls(dataclasses.replace(config, attributes=source.attributes)), source

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the attributes."""
        return self.config.attributes

    def evaluation_source(self) -> Source:
        """Faces with attributes."""
        return open_source(self.config.data, attributes=self.config.attributes)

    def build(self) -> Networks:
        """New networks."""
        c = self.config
        size, n = c.data.size, len(c.attributes)
        generator = {
            "encoder": Encoder(size, c.width, c.normalization),
            "decoder": Decoder(size, c.width, c.normalization),
        }
        if self.multitask:
            projected = c.discriminator.kind == "projected"
            disc1 = MultitaskDiscriminator(size, n, c.discriminator.width, projected, name="disc1")
            return {**generator, "disc1": disc1}
        return {
            **generator,
            "disc1": Discriminator(size, n, c.width, name="disc1"),
            "disc2": Discriminator(size // 2, n, c.width, name="disc2"),
        }

    def phases(self) -> tuple[Phase, ...]:
        """One update of the discriminators, then one of the generator, on the same batch."""
        first = self.config.discriminator.attributes_first
        forward = functools.partial(self.generate, training=True)
        game = (
            Phase(
                "discriminator",
                self.discriminators,
                functools.partial(losses.discriminator_loss, self),
                forward,
                rate=self.config.discriminator.rate,
                start=first,
            ),
            Phase(
                "generator",
                ("encoder", "decoder"),
                functools.partial(losses.generator_loss, self),
                forward,
                start=first,
            ),
        )
        return (
            (
                Phase(
                    "attributes",
                    self.discriminators,
                    functools.partial(losses.attributes_loss, self),
                    stop=first,
                ),
                *game,
            )
            if first
            else game
        )

    def batches(self, source, split, batch_size, *, seed=None, start=0) -> tf.data.Dataset:
        """Pairs: `A` with and `B` without an attribute, their labels, and `attribute` [B].

        The labels `y_A` and `y_B` are float32 [B,n]. The attributes take turns: step s exchanges
        attribute s modulo n.
        """
        names = self.config.attributes
        n = len(names)

        def pair(i: int, name: str) -> tf.data.Dataset:
            done = len(range(i, start, n))  # Earlier steps of this attribute.
            # Each side of each attribute has its own order of images.
            seeds = [None if seed is None else seed + 1000 * (2 * i + side) for side in (0, 1)]
            have = source.batches(split, batch_size, seed=seeds[0], start=done, where=(name, True))
            # Without an offset, built-in faces in order would pair every person with themselves.
            other = done + (seed is None and source.count(split) is None)
            lack = source.batches(
                split, batch_size, seed=seeds[1], start=other, where=(name, False)
            )
            return tf.data.Dataset.zip(have, lack).map(lambda a, b: join(i, a, b))

        def join(i: int, a: Batch, b: Batch) -> Batch:
            count = tf.minimum(tf.shape(a["image"])[0], tf.shape(b["image"])[0])
            a, b = ({k: v[:count] for k, v in side.items()} for side in (a, b))
            return {
                "A": a["image"],
                "y_A": tf.cast(a["attributes"], tf.float32),
                "B": b["image"],
                "y_B": tf.cast(b["attributes"], tf.float32),
                "attribute": tf.fill([count], i),
            }

        pairs = [pair(i, name) for i, name in enumerate(names)]
        turns = tf.data.Dataset.range(start, np.iinfo(np.int64).max).map(lambda step: step % n)
        return tf.data.Dataset.choose_from_datasets(pairs, turns)

    # The exchange.

    def encode(self, nets: Networks, image: tf.Tensor, training: bool = False):
        """Latent code [B,S/32,S/32,C] and skip features of images [B,S,S,3] in [-1,1]."""
        *skips, code = nets["encoder"](image, training=training)
        return code, skips

    def mask(self, attribute: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
        """Mask [B,1,1,C] of the latent channels of attributes [B]."""
        mask = latent_mask(attribute, len(self.config.attributes), code.shape[-1])
        return tf.cast(mask, code.dtype)

    def generate(
        self, nets: Networks, batch: Batch, training: bool = False
    ) -> dict[str, tf.Tensor]:
        """Reconstructions `A1`, `B1` and exchanges `C` (of A), `D` (of B); paper figure 2.

        The reconstructions decode the unchanged code; `subtract_unchanged` does not apply to them.
        In training with `weights.restoration` also `A2` and `B2`: C with the part of the code of A
        in the colours of B, so that this part learns to leave colours alone; and the reverse for D.
        C and D get no gradient from them, or exchanging less would lower the loss.
        """
        faces = losses.concat_sides(batch, "A", "B")
        code, skips = self.encode(nets, faces, training)
        mask = self.mask(tf.tile(batch["attribute"], [2]), code)
        count = tf.shape(batch["A"])[0]
        other = tf.roll(code, count, 0)
        found = self._exchange(nets, faces, code, skips, other, mask, training)
        names = ["A1", "B1", "C", "D"]
        if training and self.config.weights.restoration:
            exchanged = tf.stop_gradient(found[1])
            code, skips = self.encode(nets, exchanged, training)
            other, _ = self.encode(nets, recolour(faces, tf.roll(faces, count, 0)), training)
            found += self._exchange(nets, exchanged, code, skips, other, mask, training)[1:]
            names += ["A2", "B2"]
        sides = [side for pair in found for side in tf.split(pair, 2)]
        return dict(zip(names, sides, strict=True))

    def _exchange(self, nets, images, code, skips, other, mask, training) -> list[tf.Tensor]:
        """Images decoded from their own code, and with the masked part of the other code."""
        # One pass of the decoder over both; no layer mixes images.
        new, own = tf.concat([code, code + mask * (other - code)], 0), tf.tile(code, [2, 1, 1, 1])
        skips = [tf.tile(skip, [2, 1, 1, 1]) for skip in skips]
        residuals = nets["decoder"]([new, own, *skips], training=training)
        if self.config.subtract_unchanged:
            unchanged, exchanged = tf.split(residuals, 2)
            change = exchanged - unchanged if training else self.change(exchanged, unchanged)
            residuals = tf.concat([unchanged, change], 0)
        images = tf.tile(images, [2, 1, 1, 1])
        return tf.split(_add_residual(images, self._confined(residuals)), 2)

    def change(self, exchanged: tf.Tensor, unchanged: tf.Tensor) -> tf.Tensor:
        """The residual of an exchange minus that of the unchanged code, soft-thresholded.

        For inference only: early in training all changes are below the threshold, and would get no
        gradient.
        """
        difference, threshold = exchanged - unchanged, self.config.change_threshold
        return difference - tf.clip_by_value(difference, -threshold, threshold)

    def _confined(self, residuals: tf.Tensor) -> tf.Tensor:
        """The residuals; with `face_only` they are 0 outside the face."""
        return residuals if self._mask is None else self._mask * residuals

    def exchanged_labels(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """`y_C`, which is y_A with the exchanged entry of y_B, and `y_D`, the reverse."""
        hot = tf.one_hot(batch["attribute"], len(self.config.attributes))
        y_a, y_b = batch["y_A"], batch["y_B"]
        return y_a + hot * (y_b - y_a), y_b + hot * (y_a - y_b)

    # Inference.

    def transfer(
        self,
        nets: Networks,
        source: tf.Tensor,
        reference: tf.Tensor,
        attribute: tf.Tensor,
        strength: tf.Tensor,
    ) -> tf.Tensor:
        """The source with the reference's attribute: linear interpolation z_B + a(z_D - z_B).

        Args:
            nets: Encoder and decoder.
            source: Images [B,S,S,3] in [-1,1].
            reference: Images of the same shape.
            attribute: Indices int32 [B].
            strength: float32 [B]; 0 keeps the source, 1 is the full exchange.

        Returns:
            Images [B,S,S,3] in [-1,1].
        """
        return self.blend(nets, source, reference[:, None], attribute[:, None], strength[:, None])

    def blend(
        self,
        nets: Networks,
        source: tf.Tensor,
        reference: tf.Tensor,
        attribute: tf.Tensor,
        strength: tf.Tensor,
    ) -> tf.Tensor:
        """The source with K changes at once: the code is shifted by the sum of their shifts.

        Args:
            nets: Encoder and decoder.
            source: Images [B,S,S,3] in [-1,1].
            reference: Images [B,K,S,S,3] in [-1,1].
            attribute: Indices int32 [B,K]; an attribute may occur several times.
            strength: float32 [B,K]; a change of strength 0 changes nothing.

        Returns:
            Images [B,S,S,3] in [-1,1].
        """
        own, skips = self.encode(nets, source)
        other, _ = self.encode(nets, tf.reshape(reference, [-1, *source.shape[1:]]))
        changes = tf.unstack(tf.shape(reference)[:2])  # B and K.
        other = tf.reshape(other, [*changes, *own.shape[1:]])
        mask = self.mask(tf.reshape(attribute, [-1]), own)
        mask = tf.reshape(mask, [*changes, 1, 1, own.shape[-1]])
        strength = tf.reshape(tf.cast(strength, own.dtype), [*changes, 1, 1, 1])
        code = own + tf.reduce_sum(strength * mask * (other - own[:, None]), 1)
        residual = nets["decoder"]([code, own, *skips])
        if self.config.subtract_unchanged:
            residual = self.change(residual, nets["decoder"]([own, own, *skips]))
        return _add_residual(source, self._confined(residual))

    def preview(self, nets: Networks, batch: Batch) -> dict[str, tf.Tensor]:
        """The pair, its exchanges and, unless equal to the pair, its reconstructions."""
        results = self.generate(nets, batch)
        columns = {"A (has it)": batch["A"], "B (lacks it)": batch["B"]}
        if not self.config.subtract_unchanged:
            columns |= {"A reconstructed": results["A1"], "B reconstructed": results["B1"]}
        return {**columns, "A with B's": results["C"], "B with A's": results["D"]}

    def signatures(self, nets: Networks) -> dict[str, Signature]:
        """See `serving.signatures`."""
        return serving.signatures(self, nets)


def recolour(images: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Images [B,S,S,3] in [-1,1] with each channel's mean and standard deviation of others (ours).

    As in Reinhard et al. 2001, in RGB; clipped.
    """
    mean, variance = tf.nn.moments(images, (1, 2), keepdims=True)
    new_mean, new_variance = tf.nn.moments(like, (1, 2), keepdims=True)
    scale = tf.sqrt(new_variance / tf.maximum(variance, 1e-6))
    return tf.clip_by_value((images - mean) * scale + new_mean, -1.0, 1.0)


def _add_residual(images: tf.Tensor, residuals: tf.Tensor) -> tf.Tensor:
    """Images plus residuals, clipped to [-1,1]; paper equation 2."""
    return tf.clip_by_value(images + residuals, -1.0, 1.0)
