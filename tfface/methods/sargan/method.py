"""SARGAN as a method: facts of the loss and the schedule are those of the authors' code."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tfface.data import open_source
from tfface.data.base import Source
from tfface.data.image_ops import edit_bytes, example_picture, example_png
from tfface.errors import UserError
from tfface.layers.discriminator import Discriminator
from tfface.losses import expressions as losses
from tfface.methods.base import Batch, Method, Networks, Phase, Signature, Task
from tfface.methods.labels import index_of
from tfface.methods.sargan.config import SarganConfig
from tfface.methods.sargan.networks import Generator, attention_maps


class Sargan(Method):
    """Gives a face another expression, keeping the person.

    Args:
        config: With the expressions' names in `classes`.

    Networks: "generator", "discriminator".
    """

    averaged = ("generator",)
    task = Task.EXPRESSION

    @classmethod
    def open(cls, config: SarganConfig) -> tuple[Sargan, Source]:
        """Opens the data set, which must have expression classes."""
        source = open_source(config.data, classes=config.classes)
        if len(source.classes) < 2:
            raise UserError(
                f"the data set {config.data.name!r} has {len(source.classes)} expression classes; "
                f"SARGAN needs two or more. `python -m tfface.prepare folders` makes class folders "
                f"from CelebA"
            )
        return cls(dataclasses.replace(config, classes=source.classes)), source

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the expressions."""
        return self.config.classes

    def evaluation_source(self) -> Source:
        """Faces with expressions."""
        return open_source(self.config.data, classes=self.config.classes)

    def build(self) -> Networks:
        """New networks."""
        c = self.config
        n = len(c.classes)
        return {
            "generator": Generator(c.data.size, n, c.width, c.attention_width, c.residual_init),
            "discriminator": Discriminator(
                c.data.size,
                n,
                c.discriminator.width,
                c.discriminator.layers,
                c.adversarial == "wgan-gp",
            ),
        }

    def phases(self) -> tuple[Phase, ...]:
        """The discriminator in every step, the generator in some (the authors' `n_critic` is 5)."""
        c = self.config
        game = (
            Phase(
                "discriminator",
                ("discriminator",),
                self._discriminator_loss,
                start=c.classifier.steps,
            ),
            Phase(
                "generator",
                ("generator",),
                self._generator_loss,
                every=c.generator_every,
                start=c.classifier.steps,
            ),
        )
        if not c.classifier.steps:
            return game
        return (
            Phase("classifier", ("discriminator",), self._classifier_loss, stop=c.classifier.steps),
            *game,
        )

    def batches(self, source, split, batch_size, *, seed=None, start=0) -> tf.data.Dataset:
        """Faces with expressions, and what `losses.with_targets` adds to them.

        In training, the batches of the first steps have as many pictures as `classifier` says.
        """
        c = self.config
        first = 0 if seed is None else c.classifier.steps
        data = source.batches(split, batch_size, seed=seed, start=max(start - first, 0))
        if start < first:
            # Other faces than those of the steps that follow.
            more = source.batches(split, c.classifier.batch_size, seed=seed + 1, start=start)
            data = more.take(first - start).concatenate(data)
        return losses.with_targets(data, seed, start, c.classifier)

    def one_hot(self, expression: tf.Tensor) -> tf.Tensor:
        """Class indices [B] to float32 [B,N]."""
        return tf.one_hot(expression, len(self.config.classes))

    # Losses of StarGAN, Choi et al. 2018, equations 1 to 6, as WGAN-GP (equation 8). With a
    # multi-task discriminator, its terms take the places of WGAN-GP and classification.

    def _classifier_loss(self, nets: Networks, batch: Batch):
        pictures = losses.examples(nets["discriminator"], batch["image"], batch)
        logits = losses.class_logits(nets["discriminator"], pictures)
        cls = losses.classification(batch["expression"], logits)
        return cls, {"cls": cls}

    def _discriminator_loss(self, nets: Networks, batch: Batch):
        c, image = self.config, batch["image"]
        fake = nets["generator"]([image, self.one_hot(batch["target"])], training=True)
        fake = tf.stop_gradient(fake)
        if c.adversarial == "multitask":
            labels = batch["expression"], batch["target"]
            terms = losses.multitask_discriminator(nets["discriminator"], image, fake, *labels)
            total = terms["real"] + terms["fake"] + terms["wrong"] + c.weights.r1 * terms["r1"]
            return total, terms
        examples = losses.examples(nets["discriminator"], image, batch)
        (real_map, fake_map), logits = losses.judge(nets["discriminator"], [image, fake], examples)
        terms = {
            "real": -tf.reduce_mean(real_map),
            "fake": tf.reduce_mean(fake_map),
            "cls": losses.classification(batch["expression"], logits),
            "gp": losses.gradient_penalty(nets["discriminator"], image, fake, batch["alpha"]),
        }
        total = (
            terms["real"]
            + terms["fake"]
            + c.weights.classification_real * terms["cls"]
            + c.weights.gradient_penalty * terms["gp"]
        )
        return total, terms

    def _generator_loss(self, nets: Networks, batch: Batch):
        c, image = self.config, batch["image"]
        fake = nets["generator"]([image, self.one_hot(batch["target"])], training=True)
        if c.adversarial == "multitask":
            adv = losses.multitask_generator(nets["discriminator"], fake, batch["target"])
            total, terms = adv, {"fake": adv}
        else:
            (fake_map,), logits = losses.judge(
                nets["discriminator"], [fake], losses.noisy(fake, batch)
            )
            terms = {
                "fake": -tf.reduce_mean(fake_map),
                "cls": losses.classification(batch["target"], logits),
            }
            total = terms["fake"] + c.weights.classification_fake * terms["cls"]
        cycled = nets["generator"]([fake, self.one_hot(batch["expression"])], training=True)
        terms["rec"] = tf.reduce_mean(tf.abs(image - cycled))
        total += c.weights.reconstruction * terms["rec"]
        if c.weights.change:
            terms["change"] = tf.reduce_mean(tf.abs(fake - image))
            total += c.weights.change * terms["change"]
        return total, terms

    def edit(self, nets: Networks, images: tf.Tensor, expression: tf.Tensor) -> tf.Tensor:
        """Pictures [B,S,S,3] with the expressions of class indices [B]; both are in [-1,1]."""
        edited = nets["generator"]([images, self.one_hot(expression)], training=False)
        return tf.clip_by_value(edited, -1.0, 1.0)

    def preview(self, nets: Networks, batch: Batch) -> dict[str, tf.Tensor]:
        """The input, each expression, and where the attention looked for the first expression."""
        image = batch["image"]
        columns = {"input": image}
        for i, name in enumerate(self.config.classes):
            columns[name] = self.edit(nets, image, tf.fill([tf.shape(image)[0]], i))
        target = self.one_hot(tf.zeros_like(batch["expression"]))
        attention = attention_maps(nets["generator"])([image, target])
        attention = tf.image.resize(attention, tf.shape(image)[1:3]) * 2.0 - 1.0
        columns["attention"] = tf.repeat(attention, 3, axis=-1)
        return columns

    def signatures(self, nets: Networks) -> dict[str, Signature]:
        """`serving_default` on float pictures, `bytes` on encoded ones; expressions by name."""
        size, classes = self.config.data.size, self.config.classes
        names = tf.TensorSpec([None], tf.string)
        picture, name = example_picture(size), tf.constant([classes[0]])

        def edit(image, expression):
            return self.edit(nets, image, index_of(expression, classes, "expression"))

        return {
            "serving_default": Signature(
                lambda image, expression: {"image": edit(image, expression)},
                {"image": tf.TensorSpec([None, size, size, 3], tf.float32), "expression": names},
                {"image": picture, "expression": name},
            ),
            "bytes": Signature(
                lambda image_bytes, expression: {
                    "image_bytes": edit_bytes(lambda x: edit(x, expression), image_bytes, size)
                },
                {"image_bytes": names, "expression": names},
                {"image_bytes": example_png(picture), "expression": name},
            ),
        }
