"""SARGAN as a method; losses and schedule follow the authors' code."""

from __future__ import annotations

import dataclasses
import functools

import tensorflow as tf

from tfface.data import open_source
from tfface.data.alignment import face_mask
from tfface.data.base import Source
from tfface.errors import UserError
from tfface.methods.base import Batch, Method, Networks, Phase, Signature, Task
from tfface.methods.discriminators import expression_discriminator
from tfface.methods.sargan import losses, serving
from tfface.methods.sargan.config import SarganConfig
from tfface.methods.sargan.networks import Generator, attention_maps
from tfface.methods.targets import with_targets


class Sargan(Method):
    """Changes the expression of a face and keeps the identity.

    Args:
        config: The config, with the names of the expressions in `classes`.

    Networks: "generator", "discriminator".
    """

    title = "SARGAN: changing an expression of a face"
    curves = (
        "generator/fake",
        "generator/rec",
        "generator/cls",
        "discriminator/wrong",
        "discriminator/cls",
    )
    averaged = ("generator",)
    task = Task.EXPRESSION

    def __init__(self, config: SarganConfig):
        super().__init__(config)
        self._mask = face_mask(config.data) if config.face_only else None

    @classmethod
    def open(cls, config: SarganConfig) -> tuple[Sargan, Source]:
        """Opens the data set, which must have expression classes."""
        source = open_source(config.data, classes=config.classes)
        if len(source.classes) < 2:
            raise UserError(
                f"the data set {config.data.name!r} has {len(source.classes)} expression classes; "
                f"SARGAN needs two or more. `python -m tfface.prepare folders` creates class "
                f"folders from CelebA"
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
            "generator": Generator(
                c.data.size, n, c.width, c.attention_width, c.residual_init, c.upsampling
            ),
            "discriminator": expression_discriminator(
                c.discriminator, c.data.size, n, c.adversarial
            ),
        }

    def phases(self) -> tuple[Phase, ...]:
        """The discriminator in every step, the generator in every n-th (the authors' n is 5)."""
        c, forward = self.config, functools.partial(losses.forward, self)
        game = (
            Phase(
                "discriminator",
                ("discriminator",),
                functools.partial(losses.discriminator_loss, self),
                forward,
                rate=c.discriminator.rate,
                start=c.classifier.steps,
            ),
            Phase(
                "generator",
                ("generator",),
                functools.partial(losses.generator_loss, self),
                forward,
                every=c.generator_every,
                start=c.classifier.steps,
            ),
        )
        if not c.classifier.steps:
            return game
        return (
            Phase(
                "classifier",
                ("discriminator",),
                functools.partial(losses.classifier_loss, self),
                stop=c.classifier.steps,
            ),
            *game,
        )

    def batches(self, source, split, batch_size, *, seed=None, start=0) -> tf.data.Dataset:
        """Faces with expressions, and the entries added by `with_targets`.

        In training, batches of the first `classifier.steps` steps have `classifier.batch_size`
        images.
        """
        c = self.config
        first = 0 if seed is None else c.classifier.steps
        data = source.batches(split, batch_size, seed=seed, start=max(start - first, 0))
        if start < first:
            # Another seed: not the same faces as in the steps that follow.
            classified = source.batches(split, c.classifier.batch_size, seed=seed + 1, start=start)
            data = classified.take(first - start).concatenate(data)
        return with_targets(data, seed, start, c.classifier, augment=bool(c.augment))

    def one_hot(self, expression: tf.Tensor) -> tf.Tensor:
        """Class indices [B] to float32 [B,N]."""
        return tf.one_hot(expression, len(self.config.classes))

    def generate(self, nets: Networks, images: tf.Tensor, expression: tf.Tensor) -> tf.Tensor:
        """Like `edit`, but for training: the images are not clipped."""
        edited = nets["generator"]([images, self.one_hot(expression)], training=True)
        return self._confined(images, edited)

    def _confined(self, images: tf.Tensor, edited: tf.Tensor) -> tf.Tensor:
        """The edited images; with `face_only` the original images outside the face."""
        if self._mask is None:
            return edited
        return images + self._mask * (edited - images)

    def edit(self, nets: Networks, images: tf.Tensor, expression: tf.Tensor) -> tf.Tensor:
        """Edits images [B,S,S,3] in [-1,1] to show the expressions of class indices [B]."""
        edited = nets["generator"]([images, self.one_hot(expression)], training=False)
        edited = self._confined(images, edited)
        return tf.clip_by_value(edited, -1.0, 1.0)

    def preview(self, nets: Networks, batch: Batch) -> dict[str, tf.Tensor]:
        """The input, each expression, and the attention map for the first expression."""
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
        """See `serving.signatures`."""
        return serving.signatures(self, nets)
