"""Mask-guided synthesis as a method; the card states the source of each part."""

from __future__ import annotations

import functools

import tensorflow as tf

from tfface.data import open_source
from tfface.data.base import Source
from tfface.data.label_map_ops import colour_labels, one_hot
from tfface.data.label_maps import CLASSES_19
from tfface.methods.base import Batch, Method, Networks, Phase, Signature, Task
from tfface.methods.mask_guided import losses, serving
from tfface.methods.mask_guided.config import MaskGuidedConfig
from tfface.methods.mask_guided.networks import Generator, ResidualEncoder, StyleEncoder

_CLASSES = len(CLASSES_19)
_SHOWN = 4  # Number of styles from latents in a preview.


class MaskGuided(Method):
    """Generates many different faces that fit one label map, each from a style code.

    A code comes from a latent (style encoder) or from a reference face (style decoder).

    Args:
        config: The config.

    Networks: "style_encoder", "style_decoder", "generator", "discriminator".
    """

    title = "Mask-guided synthesis: many faces of one label map"
    curves = ("generator/rec", "generator/style", "generator/diversity", "discriminator/r1")
    task = Task.LABEL_MAP
    takes = "label_map"
    averaged = ("style_encoder", "style_decoder", "generator")

    @classmethod
    def open(cls, config: MaskGuidedConfig) -> tuple[MaskGuided, Source]:
        """Opens the data set, which must have label maps."""
        return cls(config), open_source(config.data, fields=("label_map",))

    @property
    def mixes_images(self) -> bool:
        """Whether the other images of a batch are references."""
        return self.config.reference_step

    def evaluation_source(self) -> Source:
        """Faces with label maps."""
        return open_source(self.config.data, fields=("label_map",))

    def build(self) -> Networks:
        """New networks."""
        c = self.config
        size, widths = c.data.size, (c.base_channels, c.max_channels)
        channels = 3 + (_CLASSES if c.disc_condition == "label_map" else 0)
        return {
            "style_encoder": StyleEncoder(
                c.latent_dim, c.style_dim, c.mapping.width, c.mapping.layers
            ),
            "style_decoder": ResidualEncoder(size, 3, c.style_dim, *widths, name="style_decoder"),
            "generator": Generator(
                size,
                _CLASSES,
                c.style_dim,
                *widths,
                c.injection,
                c.injection_width,
                c.upsampling,
                c.normalization,
            ),
            "discriminator": ResidualEncoder(size, channels, 1, *widths, name="discriminator"),
        }

    def phases(self) -> tuple[Phase, ...]:
        """One update each; the style encoder's rate is lower (StarGAN v2: 1e-6 against 1e-4)."""
        rates = {"style_encoder": self.config.mapping.rate}
        forward = functools.partial(losses.forward, self)
        return (
            Phase(
                "discriminator",
                ("discriminator",),
                functools.partial(losses.discriminator_loss, self),
                forward,
            ),
            Phase(
                "generator",
                self.averaged,
                functools.partial(losses.generator_loss, self),
                forward,
                rates=rates,
            ),
        )

    def batches(self, source, split, batch_size, *, seed=None, start=0) -> tf.data.Dataset:
        """Images with label maps; `latents` float32 [B,2,latent_dim]; `diversity` float32 [B].

        `diversity` is the weight of the diversity in this step, the same for all examples. With
        `reference_step` also `references` float32 [B,2,S,S,3], two other images of the batch. They
        are chosen here, before the batch is split, so that they do not depend on the devices.
        """
        c, noise_seed = self.config, 0 if seed is None else seed

        @tf.autograph.experimental.do_not_convert
        def add(number, batch):
            count = tf.shape(batch["image"])[0]
            key = tf.stack([tf.constant(noise_seed, tf.int64), number])
            decayed = 1.0 - tf.cast(number, tf.float32) / max(c.diversity_steps, 1)
            weight = tf.maximum(decayed, 0.0) if c.diversity_steps else 1.0
            image, references = batch["image"], {}
            if c.reference_step:
                references["references"] = tf.stack([tf.roll(image, -i, 0) for i in (1, 2)], 1)
            return {
                "image": image,
                "label_map": batch["label_map"],
                "latents": tf.random.stateless_normal([count, 2, c.latent_dim], key),
                "diversity": tf.fill([count], weight),
                **references,
            }

        data = source.batches(split, batch_size, seed=seed, start=start)
        return data.enumerate(start).map(add)

    def discriminate(self, nets: Networks, images: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
        """Logits [B] of the discriminator for images, given one-hot label maps if it uses them."""
        inputs = [images] + ([condition] if self.config.disc_condition == "label_map" else [])
        return nets["discriminator"](tf.concat(inputs, -1), training=True)[:, 0]

    # Inference.

    def generate(self, nets: Networks, label_map: tf.Tensor, style_code: tf.Tensor) -> tf.Tensor:
        """Faces [B,S,S,3] in [-1,1] for label maps int32 [B,S,S] and style codes [B,D]."""
        return tf.clip_by_value(nets["generator"]([one_hot(label_map), style_code]), -1.0, 1.0)

    def style_of_seeds(self, nets: Networks, seeds: tf.Tensor) -> tf.Tensor:
        """Style codes [B,D] of seeds int64 [B]; a seed gives the same style for every map."""

        def latent(seed):
            return tf.random.stateless_normal([self.config.latent_dim], [seed, 0], alg="philox")

        spec = tf.TensorSpec([self.config.latent_dim], tf.float32)
        latents = tf.map_fn(latent, seeds, fn_output_signature=spec)
        return nets["style_encoder"](self.config.truncation * latents)

    def style_of_faces(self, nets: Networks, references: tf.Tensor) -> tf.Tensor:
        """Style codes [B,D] of reference faces [B,S,S,3] in [-1,1]."""
        return nets["style_decoder"](references)

    def preview(self, nets: Networks, batch: Batch) -> dict[str, tf.Tensor]:
        """Faces for the label map in styles of seeds, of another image and of its own image."""
        labels, image = batch["label_map"], batch["image"]
        columns = {"label map": colour_labels(labels)}
        for seed in range(1, _SHOWN + 1):
            code = self.style_of_seeds(
                nets, tf.fill([tf.shape(labels)[0]], tf.cast(seed, tf.int64))
            )
            columns[f"seed {seed}"] = self.generate(nets, labels, code)
        reference = tf.roll(image, -1, 0)
        return {
            **columns,
            "reference": reference,
            "its style": self.generate(nets, labels, self.style_of_faces(nets, reference)),
            "own style": self.generate(nets, labels, self.style_of_faces(nets, image)),
            "image of the map": image,
        }

    def signatures(self, nets: Networks) -> dict[str, Signature]:
        """See `serving.signatures`."""
        return serving.signatures(self, nets)
