"""Mask-guided synthesis as a method. What is the paper's and what its relatives', says the card."""

from __future__ import annotations

import tensorflow as tf

from tfface.data import open_source
from tfface.data.base import Source
from tfface.data.image_ops import encode_squares, example_picture, example_png, to_squares
from tfface.data.label_map_ops import (
    check_labels,
    colour_labels,
    encode_labels,
    example_labels,
    to_label_squares,
)
from tfface.data.label_maps import CLASSES_19
from tfface.losses.regions import region_distance
from tfface.methods.base import Batch, Method, Networks, Phase, Signature, Task
from tfface.methods.mask_guided import losses
from tfface.methods.mask_guided.config import MaskGuidedConfig
from tfface.methods.mask_guided.networks import Generator, Judge, StyleEncoder

_CLASSES = len(CLASSES_19)
_SHOWN = 4  # Styles from latents in a preview, and without options in an edit.


class MaskGuided(Method):
    """Makes many different faces that fit one label map, each from a style code.

    A code comes from a latent (style encoder) or from a reference face (style decoder).

    Args:
        config: The config.

    Networks: "style_encoder", "style_decoder", "generator", "discriminator".
    """

    task = Task.LABEL_MAP
    takes = "label_map"
    averaged = ("style_encoder", "style_decoder", "generator")

    @classmethod
    def open(cls, config: MaskGuidedConfig) -> tuple[MaskGuided, Source]:
        """Opens the data set, which must have label maps."""
        return cls(config), open_source(config.data, fields=("label_map",))

    def evaluation_source(self) -> Source:
        """Faces with label maps."""
        return open_source(self.config.data, fields=("label_map",))

    def build(self) -> Networks:
        """New networks."""
        c = self.config
        size, widths = c.data.size, (c.base_channels, c.max_channels)
        judged = 3 + (_CLASSES if c.disc_condition == "label_map" else 0)
        return {
            "style_encoder": StyleEncoder(
                c.latent_dim, c.style_dim, c.mapping.width, c.mapping.layers
            ),
            "style_decoder": Judge(size, 3, c.style_dim, *widths, name="style_decoder"),
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
            "discriminator": Judge(size, judged, 1, *widths, name="discriminator"),
        }

    def phases(self) -> tuple[Phase, ...]:
        """One update each; the style encoder learns more slowly (StarGAN v2: 1e-6 to 1e-4)."""
        slower = {"style_encoder": self.config.mapping.rate}
        return (
            Phase("discriminator", ("discriminator",), self._discriminator_loss),
            Phase("generator", self.averaged, self._generator_loss, rates=slower),
        )

    def batches(self, source, split, batch_size, *, seed=None, start=0) -> tf.data.Dataset:
        """Pictures with label maps; `latents` float32 [B,2,latent_dim]; `diversity` float32 [B].

        `diversity` is the step's weight of the diversity, the same for all. With
        `reference_step` also `references` float32 [B,2,S,S,3], two other pictures of the batch:
        chosen here, where the batch is whole, so that their choice knows nothing of devices.
        """
        c, noise_seed = self.config, 0 if seed is None else seed

        @tf.autograph.experimental.do_not_convert
        def add(number, batch):
            count = tf.shape(batch["image"])[0]
            key = tf.stack([tf.constant(noise_seed, tf.int64), number])
            left = 1.0 - tf.cast(number, tf.float32) / max(c.diversity_steps, 1)
            weight = tf.maximum(left, 0.0) if c.diversity_steps else 1.0
            image, more = batch["image"], {}
            if c.reference_step:
                more["references"] = tf.stack([tf.roll(image, -i, 0) for i in (1, 2)], 1)
            return {
                "image": image,
                "label_map": batch["label_map"],
                "latents": tf.random.stateless_normal([count, 2, c.latent_dim], key),
                "diversity": tf.fill([count], weight),
                **more,
            }

        data = source.batches(split, batch_size, seed=seed, start=start)
        return data.enumerate(start).map(add)

    # Training: StarGAN v2's losses, with the picture's reconstruction in place of its cycle.

    def _judge(self, nets: Networks, pictures: tf.Tensor, given: tf.Tensor) -> tf.Tensor:
        """Logits [B] of the discriminator."""
        seen = [pictures] + ([given] if self.config.disc_condition == "label_map" else [])
        return nets["discriminator"](tf.concat(seen, -1), training=True)[:, 0]

    def _others_style(self, nets: Networks, batch: Batch, index: int) -> tf.Tensor:
        """Codes [B,D] of the references of this index, as constants."""
        code = nets["style_decoder"](batch["references"][:, index], training=True)
        return tf.stop_gradient(code)

    def _discriminator_loss(self, nets: Networks, batch: Batch):
        c, given = self.config, one_hot(batch["label_map"])
        codes = [nets["style_encoder"](batch["latents"][:, 0], training=True)]
        if c.reference_step:
            codes.append(self._others_style(nets, batch, 0))
        givens = tf.concat([given] * len(codes), 0)
        made = nets["generator"]([givens, tf.concat(codes, 0)])
        made_logits = self._judge(nets, tf.stop_gradient(made), givens)
        r1, logits = losses.r1_penalty(lambda x: self._judge(nets, x, given), batch["image"])
        terms = {
            "real": losses.adversarial(logits, real=True),
            "fake": losses.adversarial(made_logits, real=False),
            "r1": r1,
        }
        return terms["real"] + terms["fake"] + c.weights.r1 * r1, terms

    def _generator_loss(self, nets: Networks, batch: Batch):
        c, image, given = self.config, batch["image"], one_hot(batch["label_map"])
        latents = tf.unstack(batch["latents"], axis=1)
        code, other = (nets["style_encoder"](z, training=True) for z in latents)
        own = nets["style_decoder"](image, training=True)
        codes, others = [code], [other]
        if c.reference_step:
            # The first of the others is a constant, too: only the generator learns from these.
            codes.append(self._others_style(nets, batch, 0))
            others.append(self._others_style(nets, batch, 1))
        count = len(codes)
        givens = tf.concat([given] * count, 0)

        made = nets["generator"](
            [tf.concat([givens, given], 0), tf.concat([*codes, own], 0)], training=True
        )
        size = tf.shape(given)[0]
        made, rebuilt = made[: count * size], made[count * size :]
        found = nets["style_decoder"](made, training=True)
        logits = self._judge(nets, made, givens)
        terms = {
            "adversarial": losses.adversarial(logits, real=True),
            "style": tf.reduce_mean(tf.abs(found - tf.concat(codes, 0))),
            "rec": tf.reduce_mean(
                region_distance(rebuilt, image, batch["label_map"], _CLASSES, c.region_balance)
            ),
        }
        if c.weights.diversity:
            second = nets["generator"]([givens, tf.concat(others, 0)], training=True)
            terms["diversity"] = self._diversity(
                made, tf.stop_gradient(second), latents, batch["diversity"], count
            )
        total = (
            terms["adversarial"]
            + c.weights.style * terms["style"]
            + c.weights.reconstruction * terms["rec"]
        )
        if c.weights.diversity:
            total += c.weights.diversity * terms["diversity"]
        return total, terms

    def _diversity(self, made, second, latents, weight, count: int) -> tf.Tensor:
        if self.config.diversity == "dsgan":
            return tf.reduce_mean(losses.dsgan(made, second) * tf.tile(weight, [count]))
        # Only faces from latents have any whose distance theirs could be compared with.
        size = tf.shape(weight)[0]
        return tf.reduce_mean(losses.msgan(made[:size], second[:size], latents) * weight)

    # Use.

    def paint(self, nets: Networks, label_map: tf.Tensor, style_code: tf.Tensor) -> tf.Tensor:
        """Faces [B,S,S,3] in [-1,1] of label maps int32 [B,S,S] and style codes [B,D]."""
        return tf.clip_by_value(nets["generator"]([one_hot(label_map), style_code]), -1.0, 1.0)

    def style_of_seeds(self, nets: Networks, seeds: tf.Tensor) -> tf.Tensor:
        """Style codes [B,D] of integer seeds, int64 [B]; a seed is the same style on every map."""

        def latent(seed):
            return tf.random.stateless_normal([self.config.latent_dim], [seed, 0], alg="philox")

        spec = tf.TensorSpec([self.config.latent_dim], tf.float32)
        return nets["style_encoder"](tf.map_fn(latent, seeds, fn_output_signature=spec))

    def style_of_faces(self, nets: Networks, references: tf.Tensor) -> tf.Tensor:
        """Style codes [B,D] of reference faces [B,S,S,3] in [-1,1]."""
        return nets["style_decoder"](references)

    def preview(self, nets: Networks, batch: Batch) -> dict[str, tf.Tensor]:
        """The label map in several styles, in its picture's own one, and in another picture's."""
        labels, image = batch["label_map"], batch["image"]
        columns = {"label map": colour_labels(labels)}
        for seed in range(1, _SHOWN + 1):
            code = self.style_of_seeds(
                nets, tf.fill([tf.shape(labels)[0]], tf.cast(seed, tf.int64))
            )
            columns[f"seed {seed}"] = self.paint(nets, labels, code)
        reference = tf.roll(image, -1, 0)
        return {
            **columns,
            "reference": reference,
            "its style": self.paint(nets, labels, self.style_of_faces(nets, reference)),
            "own style": self.paint(nets, labels, self.style_of_faces(nets, image)),
            "picture of the map": image,
        }

    def signatures(self, nets: Networks) -> dict[str, Signature]:
        """Styles from a seed (`serving_default`, `bytes`), from a face (`reference...`), as codes.

        A code that one signature returns can be given to `style_code`, between two others as well.
        """
        size = self.config.data.size
        text = tf.TensorSpec([None], tf.string)
        maps = tf.TensorSpec([None, size, size], tf.int32)
        pictures = tf.TensorSpec([None, size, size, 3], tf.float32)
        labels, picture = example_labels(size), example_picture(size)
        map_png, seed = encode_labels(labels), tf.constant([1], tf.int64)

        def paint(label_map, code):
            image = self.paint(nets, check_labels(label_map), code)
            return {"image": image, "style_code": code}

        def paint_bytes(label_map_bytes, code):
            image = self.paint(nets, to_label_squares(label_map_bytes, size), code)
            return {"image_bytes": encode_squares(image)}

        def of_face(reference):
            return self.style_of_faces(nets, reference)

        return {
            "serving_default": Signature(
                lambda label_map, seed: paint(label_map, self.style_of_seeds(nets, seed)),
                {"label_map": maps, "seed": tf.TensorSpec([None], tf.int64)},
                {"label_map": labels, "seed": seed},
            ),
            "bytes": Signature(
                lambda label_map_bytes, seed: paint_bytes(
                    label_map_bytes, self.style_of_seeds(nets, seed)
                ),
                {"label_map_bytes": text, "seed": tf.TensorSpec([None], tf.int64)},
                {"label_map_bytes": map_png, "seed": seed},
            ),
            "reference": Signature(
                lambda label_map, reference: paint(label_map, of_face(reference)),
                {"label_map": maps, "reference": pictures},
                {"label_map": labels, "reference": picture},
            ),
            "reference_bytes": Signature(
                lambda label_map_bytes, reference_bytes: paint_bytes(
                    label_map_bytes, of_face(to_squares(reference_bytes, size))
                ),
                {"label_map_bytes": text, "reference_bytes": text},
                {"label_map_bytes": map_png, "reference_bytes": example_png(picture)},
            ),
            "style_code": Signature(
                lambda label_map, style_code: paint(label_map, style_code),
                {
                    "label_map": maps,
                    "style_code": tf.TensorSpec([None, self.config.style_dim], tf.float32),
                },
                {"label_map": labels, "style_code": self.style_of_seeds(nets, seed)},
            ),
        }


def one_hot(labels: tf.Tensor) -> tf.Tensor:
    """Label maps int32 [B,S,S] to float32 [B,S,S,19]."""
    return tf.one_hot(labels, _CLASSES)
