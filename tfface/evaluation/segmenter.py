"""The judge of faces generated from label maps: a segmenter trained on real renders only."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfface.config import Data
from tfface.data.label_maps import CLASSES_19
from tfface.data.synthetic import SyntheticFaces
from tfface.errors import UserError
from tfface.evaluation import classifier
from tfface.evaluation.cache import Trained, load_or_train
from tfface.losses.segmentation import entropy_and_dice
from tfface.metrics.segmentation import Confusion

STEPS = 2300
HELD_OUT = 512
_BATCH = 4
_PREDICTED = 64  # Faces segmented at a time.
# The segmenter's first batch among a seed's 2^34 faces; methods are trained on the earlier ones.
_FIRST = 2**33 // _BATCH
_RATE = 0.01
_BETA_2 = 0.99  # Converges faster in so few steps than Adam's default of 0.999.
_NOISE = 0.1  # Maximum standard deviation of white noise on a training image.
_BLURRED = 1 / 3  # Share of the training images that are blurred.
_DOWN = (32, 48, 64, 64)  # Channels at 1/2, 1/4, 1/8 and 1/16 of the side.
_UP = (48, 32, 16)  # Channels at 1/8, 1/4 and 1/2 of it.
_FULL = 16  # Channels at the full side.


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """Segments built-in faces.

    Attributes:
        model: From images [N,S,S,3] in [-1,1] to logits [N,S,S,19] in the order of CLASSES_19.
        accuracy: `pixel_accuracy` and `miou` on held-out real renders, see `Confusion`.
    """

    model: keras.Model
    accuracy: dict[str, float]

    def label_maps(self, images: Any) -> np.ndarray:
        """Class ids int32 [N,S,S], indices into CLASSES_19, of images [N,S,S,3] in [-1,1]."""
        images = np.asarray(images)
        parts = [
            self.model.predict_on_batch(images[start : start + _PREDICTED]).argmax(axis=3)
            for start in range(0, len(images), _PREDICTED)
        ]
        return np.concatenate(parts).astype(np.int32)


def train_segmenter(
    size: int, seed: int = 0, steps: int = STEPS, cache: str | Path | None = None
) -> Segmenter:
    """Trains a segmenter on built-in faces of the split "train", deterministically.

    Some images are slightly blurred and all have slight noise, so that the segmenter judges the
    shapes of generated faces rather than slight artefacts. The network is a U-Net (Ronneberger et
    al. 2015); its sizes, the augmentation and the loss are ours.

    Args:
        size: Side of the images, in pixels; a multiple of 16.
        seed: Seed of the weights, faces and augmentation.
        steps: Training steps.
        cache: Folder where the segmenter is cached; None: no cache.

    Returns:
        The segmenter, with its accuracy on the split "val".

    Raises:
        UserError: The size is not a multiple of 16, or built-in faces cannot have it.
    """
    deepest = 2 ** len(_DOWN)
    if size % deepest:
        raise UserError(f"the segmenter's size is {size}: expected a multiple of {deepest}")

    def train() -> Trained:
        model = _build(size, seed)
        batches, title = _batches(size, seed), "training a segmenter on real faces"
        classifier.fit(model, batches, steps, entropy_and_dice, _RATE, title, _BETA_2)
        return model, _accuracy(Segmenter(model, {}), size, steps)

    files = (__file__, classifier.__file__)
    return Segmenter(*load_or_train(cache, "segmenter", (size, seed, steps), files, train))


def _build(size: int, seed: int) -> keras.Model:
    # Every layer has its own seed, so the global one is not touched.
    seeds = itertools.count(100 * seed)
    layers = keras.layers

    def convolution(x, width: int, kernel: int = 3, stride: int = 1):
        weights = keras.initializers.HeNormal(seed=next(seeds))
        x = layers.Conv2D(
            width, kernel, stride, "same", use_bias=False, kernel_initializer=weights
        )(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    image = x = keras.Input((size, size, 3))
    skips = [convolution(image, _FULL)]
    for width in _DOWN:
        x = convolution(x, width, 4 if x is image else 3, 2)
        skips.append(x)
    for width, skip in zip((*_UP, _FULL), reversed(skips[:-1]), strict=True):
        x = layers.Concatenate()([layers.UpSampling2D(2)(x), skip])
        x = convolution(x, width)
    weights = keras.initializers.GlorotUniform(seed=next(seeds))
    return keras.Model(image, layers.Conv2D(len(CLASSES_19), 1, kernel_initializer=weights)(x))


def _batches(size: int, seed: int) -> tf.data.Dataset:
    """Endless batches: augmented images, label maps."""
    faces = SyntheticFaces(Data(size=size), fields=("label_map",))

    @tf.autograph.experimental.do_not_convert  # Conversion takes time and is not needed.
    def augmented(number, batch):
        keys = tf.random.experimental.stateless_split(
            tf.stack([tf.constant(seed, tf.int64), number]), 3
        )
        image, one = batch["image"], [_BATCH, 1, 1, 1]
        blur = tf.random.stateless_uniform(one, keys[0]) / _BLURRED
        blur = tf.where(blur < 1.0, blur, 0.0)
        image += blur * (tf.nn.avg_pool2d(image, 3, 1, "SAME") - image)
        noise = tf.random.stateless_uniform(one, keys[1], maxval=_NOISE)
        image += noise * tf.random.stateless_normal(tf.shape(image), keys[2])
        return image, batch["label_map"]

    drawn = faces.batches("train", _BATCH, seed=seed, start=_FIRST)
    return drawn.enumerate().map(augmented).prefetch(2)


def _accuracy(segmenter: Segmenter, size: int, steps: int) -> dict[str, float]:
    """Accuracy on the split "val"."""
    faces = SyntheticFaces(Data(size=size), fields=("label_map",)).batches("val", _PREDICTED)
    confusion = Confusion()
    count = classifier.held_out(steps * _BATCH, HELD_OUT, _PREDICTED)
    for batch in faces.take(count // _PREDICTED):
        confusion.add(segmenter.label_maps(batch["image"]), batch["label_map"])
    result = confusion.result()
    return {name: result[name] for name in ("pixel_accuracy", "miou")}
