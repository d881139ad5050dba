"""The judges of edits: small, independent classifiers trained on real images only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tfface.config import Data
from tfface.data.base import Source
from tfface.data.synthetic import ATTRIBUTES, EXPRESSIONS, SyntheticFaces, render, with_expression
from tfface.data.synthetic.factors import IDENTITY, uniform
from tfface.evaluation.cache import Trained, load_or_train
from tfface.progress import progress

STEPS = 1800
HELD_OUT = 2048
Architecture = Literal["plain", "residual"]
SECOND: dict[str, Any] = {"architecture": "residual", "seed": 1}
"""Options of the second judge: edits that fool one network need not fool the other."""

_BATCH = 16
_CHUNK = 16  # Faces drawn at a time, so that their planes fit into the processor's cache.
_PREDICTED = 256  # Faces classified at a time.
_WIDTHS = ((32, 2), (64, 2), (64, 1), (128, 2))  # (channels, stride) of the plain convolutions.
_STEM, _BLOCKS = 24, (48, 96)  # Channels of the residual network; each halves the side.
_LOSSES = {
    "expression": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "attributes": keras.losses.BinaryCrossentropy(from_logits=True),
    "identity": keras.losses.MeanSquaredError(),
}


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Predicts expressions and attributes, and the identity of built-in faces.

    Attributes:
        model: From images [N,S,S,3] in [-1,1] to a dict with the available heads: logits
            "expression" [N,C], for built-in faces in the order of EXPRESSIONS, and "attributes"
            [N,A]; "identity" [N,D], the identity factors, with mean 0 and standard deviation 1.
        names: Names of the attributes.
        accuracy: Accuracy on held-out real images: "expression", and each attribute; "identity" is
            the share of people who are matched to themselves with another expression, among 256.
    """

    model: keras.Model
    names: tuple[str, ...]
    accuracy: dict[str, float]

    def expressions(self, images: Any) -> np.ndarray:
        """Class indices int64 [N] of images [N,S,S,3] in [-1,1]."""
        return self._outputs(images)["expression"].argmax(axis=1)

    def attributes(self, images: Any) -> np.ndarray:
        """Attributes bool [N,A], in the order of `names`, of images [N,S,S,3] in [-1,1]."""
        return self._outputs(images)["attributes"] > 0

    @property
    def has_identity(self) -> bool:
        """Whether the model has an identity head."""
        return "identity" in self.model.output_names

    def similarity(self, a: Any, b: Any) -> np.ndarray:
        """Cosine similarities float [N] of the people in two arrays of images [N,S,S,3]."""
        return (self.identities(a) * self.identities(b)).sum(axis=1)

    def identities(self, images: Any) -> np.ndarray:
        """Identity vectors [N,D] of length 1 for images [N,S,S,3] in [-1,1]."""
        factors = self._outputs(images)["identity"]
        return factors / np.linalg.norm(factors, axis=1, keepdims=True)

    def _outputs(self, images: Any) -> dict[str, np.ndarray]:
        images = np.asarray(images)
        parts = [
            self.model.predict_on_batch(images[start : start + _PREDICTED])
            for start in range(0, len(images), _PREDICTED)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def train_classifier(
    size: int,
    attributes: tuple[str, ...] = (),
    seed: int = 0,
    steps: int = STEPS,
    cache: str | Path | None = None,
    architecture: Architecture = "plain",
) -> Classifier:
    """Trains a classifier on built-in faces of the split "train", deterministically.

    Args:
        size: Side of the images, in pixels.
        attributes: Attributes to predict besides the expression.
        seed: Seed of the weights and faces.
        steps: Training steps.
        cache: Folder where the classifier is cached; None: no cache.
        architecture: "plain": four convolutions with batch normalisation; "residual": pre-activated
            residual blocks with group normalisation and SiLU.

    Returns:
        The classifier, with its accuracy on the split "val".

    Raises:
        UserError: There is no such attribute.
    """
    attributes = tuple(attributes)

    def train() -> Trained:
        heads = len(EXPRESSIONS), len(attributes), len(IDENTITY)
        model = _build(size, *heads, seed, architecture)
        batches = _batches(size, attributes, "train", first_face(seed, "classifier"), _BATCH)
        _fit_heads(model, batches, steps)
        return model, _accuracy(Classifier(model, attributes, {}), size, steps)

    arguments = (size, attributes, seed, steps, architecture)
    model, accuracy = load_or_train(cache, "classifier", arguments, (__file__,), train)
    return Classifier(model, attributes, accuracy)


def train_on_images(
    source: Source, seed: int = 0, steps: int = STEPS, cache: str | Path | None = None
) -> Classifier:
    """Trains a classifier on the split "train" of a data set.

    Args:
        source: A data set opened with the classes or attributes to predict.
        seed: Seed of the weights and the order of the images.
        steps: Training steps.
        cache: Folder where the classifier is cached; None: no cache.

    Returns:
        The classifier, with its accuracy on the split "val", if that has any images.
    """
    size, names = source.data.size, source.attributes

    def train() -> Trained:
        model = _build(size, len(source.classes), len(names), 0, seed)
        heads = model.output_names

        def split_up(batch):
            return batch["image"], {head: batch[head] for head in heads}

        _fit_heads(model, source.batches("train", _BATCH, seed=seed).map(split_up), steps)
        classifier = Classifier(model, names, {})
        right: dict[str, list] = {}
        for batch in source.batches("val", _PREDICTED) if source.count("val") else ():
            if source.classes:
                correct = classifier.expressions(batch["image"]) == batch["expression"].numpy()
                right.setdefault("expression", []).append(correct)
            for i, name in enumerate(names):
                predicted = classifier.attributes(batch["image"])[:, i]
                correct = predicted == (batch["attributes"].numpy()[:, i] == 1)
                right.setdefault(name, []).append(correct)
        return model, {name: float(np.concatenate(v).mean()) for name, v in right.items()}

    arguments = (source.data, names, source.classes, seed, steps)
    model, accuracy = load_or_train(cache, "classifier", arguments, (__file__,), train)
    return Classifier(model, names, accuracy)


def _fit_heads(model: keras.Model, batches: tf.data.Dataset, steps: int) -> None:
    losses = {name: _LOSSES[name] for name in model.output_names}
    fit(model, batches, steps, losses, 2e-3, "training a classifier on real faces")


def _build(
    size: int,
    classes: int,
    attributes: int,
    people: int,
    seed: int,
    architecture: Architecture = "plain",
) -> keras.Model:
    # Every layer has its own seed, so the global one is not touched.
    seeds = iter(range(100 * seed, 100 * seed + 100))

    def weights() -> keras.Initializer:
        return keras.initializers.HeNormal(seed=next(seeds))

    layers = keras.layers
    image = keras.Input((size, size, 3))
    x = {"plain": _plain, "residual": _residual}[architecture](image, weights)
    # No pooling: the positions of brows and mouth corners define the expression.
    x = layers.Flatten()(x)
    # The identity head does not train the shared features.
    heads = {
        "expression": (classes, x),
        "attributes": (attributes, x),
        "identity": (people, keras.ops.stop_gradient(x)),
    }
    return keras.Model(
        image,
        {
            name: layers.Dense(count, kernel_initializer=weights(), name=name)(features)
            for name, (count, features) in heads.items()
            if count
        },
    )


def _plain(x: Any, weights: Callable[[], keras.Initializer]) -> Any:
    layers, image = keras.layers, x
    for width, stride in _WIDTHS:
        kernel = 4 if x is image else 3
        x = layers.Conv2D(
            width, kernel, stride, "same", use_bias=False, kernel_initializer=weights()
        )(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return x


def _residual(x: Any, weights: Callable[[], keras.Initializer]) -> Any:
    layers = keras.layers

    def conv(x: Any, width: int, kernel: int, stride: int = 1) -> Any:
        return layers.Conv2D(width, kernel, stride, "same", kernel_initializer=weights())(x)

    def activated(x: Any) -> Any:
        return layers.Activation("silu")(layers.GroupNormalization(8)(x))

    x = conv(x, _STEM, 5, 2)
    for width in _BLOCKS:
        inner = activated(x)
        y = activated(conv(inner, width, 5, 2))
        x = conv(inner, width, 1, 2) + conv(y, width, 3)
    return activated(x)


def _batches(
    size: int, attributes: tuple[str, ...], split: str, offset: int, batch_size: int
) -> tf.data.Dataset:
    """Endless batches from face number `offset` on: images, labels by head, weights by head.

    With attributes, some of the faces are neutral with independently smiling mouths; these get
    weight 0 in the expression loss.
    """
    data = Data(size=size)
    expressive = SyntheticFaces(data, classes=EXPRESSIONS)
    neutral = SyntheticFaces(data, attributes)
    apart = _CHUNK // 4 if attributes else 0
    columns = [ATTRIBUTES.index(name) for name in attributes]

    @tf.autograph.experimental.do_not_convert  # Conversion takes time and is not needed.
    def draw(number):
        first = offset + number * _CHUNK
        factors = expressive.factors(split, first, _CHUNK - apart)
        if apart:
            more = neutral.factors(split, first + _CHUNK - apart, apart)
            factors = {name: tf.concat([value, more[name]], 0) for name, value in factors.items()}
        drawn = render(factors, size, ("image", "expression", "attributes"))
        labels = {"expression": drawn["expression"], "identity": _identity_of(factors)}
        weights = {
            "expression": tf.cast(tf.range(_CHUNK) < _CHUNK - apart, tf.float32),
            "identity": tf.ones(_CHUNK),
        }
        if attributes:
            labels["attributes"] = tf.gather(drawn["attributes"], columns, axis=1)
            weights["attributes"] = tf.ones(_CHUNK)
        return drawn["image"], labels, weights

    drawn = tf.data.Dataset.range(2**31).map(draw, num_parallel_calls=2, deterministic=True)
    return drawn.rebatch(batch_size).prefetch(2)


def _identity_of(factors: dict[str, tf.Tensor]) -> tf.Tensor:
    """Identity factors [N,D], normalised to mean 0 and standard deviation 1 over all people."""
    # The standard deviation of a uniform distribution is its range divided by the root of 12.
    ranges = (((low + high) / 2, (high - low) / 12**0.5) for low, high in IDENTITY.values())
    return tf.stack(
        [(factors[name] - m) / d for name, (m, d) in zip(IDENTITY, ranges, strict=True)], axis=1
    )


def fit(
    model: keras.Model,
    batches: tf.data.Dataset,
    steps: int,
    loss: Any,
    rate: float,
    title: str,
    beta_2: float = 0.999,
) -> None:
    """Trains with Adam, warm-up over a tenth of the steps and cosine decay, with a progress bar.

    Args:
        model: The model; it is compiled here and stays compiled.
        batches: Endless batches, as for `keras.Model.fit`.
        steps: Number of batches.
        loss: As for `keras.Model.compile`.
        rate: Maximum learning rate.
        title: Title of the progress bar.
        beta_2: Adam's decay rate of the squared gradients.
    """
    warm = max(steps // 10, 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5, max(steps - warm, 1), warmup_target=rate, warmup_steps=warm
    )
    # XLA's convolutions are slower on CPUs.
    model.compile(keras.optimizers.Adam(schedule, beta_2=beta_2), loss, jit_compile=False)
    with progress() as bar:
        task = bar.add_task(title, total=steps)
        advance = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: bar.advance(task)
        )
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[advance])


def _accuracy(classifier: Classifier, size: int, steps: int) -> dict[str, float]:
    """Accuracy on the split "val"; for attributes, on the neutral faces (see `_batches`)."""
    batches = _batches(size, classifier.names, "val", 0, _PREDICTED)
    count = held_out(steps * _BATCH, HELD_OUT, _PREDICTED)
    expression, attributes = [], []
    for images, labels, weights in batches.take(count // _PREDICTED):
        expressive = weights["expression"].numpy() > 0
        right = classifier.expressions(images) == labels["expression"].numpy()
        expression.append(right[expressive])
        if classifier.names:
            right = classifier.attributes(images) == (labels["attributes"].numpy() == 1)
            attributes.append(right[~expressive])
    accuracy = {"expression": float(np.concatenate(expression).mean())}
    accuracy["identity"] = _identity_accuracy(classifier, size, max(count // 4, _PREDICTED))
    if classifier.names:
        shares = np.concatenate(attributes).mean(axis=0)
        accuracy |= dict(zip(classifier.names, map(float, shares), strict=True))
    return accuracy


def held_out(seen: int, most: int, at_once: int) -> int:
    """Number of faces for measuring the accuracy of a judge: no more than it was trained on.

    Args:
        seen: Number of faces seen in training.
        most: Maximum number.
        at_once: Batch size; the result is a multiple of it and at least one batch.
    """
    return max(min(seen, most) // at_once, 1) * at_once


def _identity_accuracy(classifier: Classifier, size: int, count: int) -> float:
    """Share of people matched to themselves with another expression, among 256; split "val"."""
    source, right = SyntheticFaces(Data(size=size)), []
    for first in range(0, count, _PREDICTED):
        people = source.factors("val", first, _PREDICTED)
        other = with_expression(people, (people["expression"] + 1) % len(EXPRESSIONS))
        one, two = (
            np.concatenate(
                [
                    render({k: v[i : i + _CHUNK] for k, v in factors.items()}, size)["image"]
                    for i in range(0, _PREDICTED, _CHUNK)
                ]
            )
            for factors in (people, other)
        )
        similarity = classifier.identities(one) @ classifier.identities(two).T
        right.append(similarity.argmax(axis=1) == np.arange(_PREDICTED))
    return float(np.mean(right))


def first_face(seed: int, purpose: str) -> int:
    """Number of the first face for a purpose: differs by seed and from where training begins."""
    return int(uniform(tf.constant([seed], tf.int64), purpose)[0, 0] * 2.0**24) * 2**34 + 2**33
