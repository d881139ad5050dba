"""Networks whose features FID and KID compare, and statistics of real images kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import os
import uuid
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfface.data import synthetic
from tfface.errors import UserError
from tfface.evaluation.classifier import Classifier
from tfface.metrics.distribution import Statistics, image_keys
from tfface.metrics.images import levels

_INCEPTION_SIZE = 299
_AT_ONCE = 64

logger = logging.getLogger("tfface")


@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
    """A network from images to features.

    Attributes:
        name: What the measures are called after: "keras" makes "fid_keras".
        model: From images float32 [N,S,S,3] in [-1,1] to features [N,D].
    """

    name: str
    model: keras.Model

    def __post_init__(self):
        # XLA would compile the network anew for every number of images.
        self.model.compile(jit_compile=False)

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        """Features float32 [N,D] of images uint8 [N,S,S,3]."""
        images = (stored / np.float32(127.5) - 1).astype(np.float32)
        parts = range(0, len(images), _AT_ONCE)
        return np.concatenate(
            [self.model.predict_on_batch(images[start : start + _AT_ONCE]) for start in parts]
        )

    def digest(self) -> str:
        """Hash of the layers and the weights."""
        described = json.dumps(json.loads(self.model.to_json())["config"])
        # Names that Keras gives count what was made before.
        for number, name in enumerate(_names(self.model)):
            described = described.replace(f'"{name}"', f'"{number}"')
        found = hashlib.sha256(described.encode())
        for weight in self.model.weights:
            found.update(np.ascontiguousarray(weight.numpy()))
        return found.hexdigest()


def _names(model: keras.Model) -> list[str]:
    """Of a model and all that it consists of."""
    parts = [
        _names(part) if isinstance(part, keras.Model) else [part.name] for part in model.operations
    ]
    return [model.name, *itertools.chain(*parts)]


def inception(weights: str = "") -> FeatureNetwork:
    """InceptionV3 of keras.applications: 2048 features, trained on ImageNet.

    These are not the weights of the published FID: figures are called `fid_keras` and cannot be
    compared with those of papers. Images are resized to 299 pixels, bilinearly, and smoothed
    where they are larger.

    Args:
        weights: File of the weights without its top, in Keras's layout; "": Keras downloads them.

    Raises:
        UserError: The file is missing or is something else, or the weights cannot be downloaded.
    """
    body = load_application(
        lambda source: keras.applications.InceptionV3(
            include_top=False, weights=source, pooling="avg"
        ),
        "InceptionV3",
        weights,
    )
    images = keras.Input((None, None, 3))
    size = _INCEPTION_SIZE
    resized = keras.layers.Resizing(size, size, "bilinear", antialias=True)(images)
    return FeatureNetwork("keras", keras.Model(images, body(resized)))


def load_application(
    build: Callable[[str], keras.Model], name: str, weights: str = ""
) -> keras.Model:
    """A frozen network of keras.applications with weights from a file, or as downloaded by Keras.

    Args:
        build: From "imagenet" or a file's name to the network.
        name: For messages.
        weights: The file; "": Keras downloads the weights.

    Raises:
        UserError: The file is missing or is something else, or the weights cannot be downloaded.
    """
    if weights and not Path(weights).is_file():
        raise UserError(f"weights of {name}: {weights}: no such file")
    try:
        model = build(weights or "imagenet")
    except Exception as error:
        # Readers and downloads raise nearly anything, a bare Exception too.
        if weights:
            message = f"{weights}: not {name}'s weights without its top, in Keras's layout"
        else:
            message = f"{name}'s weights cannot be downloaded ({error}); give their file"
        raise UserError(message) from error
    model.trainable = False
    return model


def classifier_features(classifier: Classifier) -> FeatureNetwork:
    """Stand-in for InceptionV3: the yardstick classifier of built-in faces.

    Features are the means, over the image, of what each of its convolutions finds. They know what
    tells expressions and attributes of built-in faces apart, and nothing else.
    """
    found = [layer.output for layer in classifier.model.layers if type(layer) is keras.layers.ReLU]
    return _means("proxy_classifier", classifier.model.inputs[0], found)


def random_features(size: int) -> FeatureNetwork:
    """Stand-in for InceptionV3: a seeded network that has learnt nothing.

    Its features tell colours and textures apart, but not what an image shows.

    Args:
        size: Side of the images, in pixels.
    """
    from tfface.layers.perceptual import perceptual_network

    network = perceptual_network("random", size)
    return _means("proxy_random", network.inputs[0], network.outputs)


def _means(name: str, images: Any, found: list[Any]) -> FeatureNetwork:
    means = [keras.layers.GlobalAveragePooling2D()(maps) for maps in found]
    return FeatureNetwork(name, keras.Model(images, keras.layers.Concatenate()(means)))


def measure_name(kind: str, network: FeatureNetwork, count: int, split: str) -> str:
    """The name of a measure, with its protocol: "fid_keras_5k_val".

    Args:
        kind: "fid" or "kid".
        network: Whose features are compared.
        count: Images of each set.
        split: Of the real images.
    """
    number = f"{count // 1000}k" if count and count % 1000 == 0 else str(count)
    return f"{kind}_{network.name}_{number}_{split}"


def image_statistics(network: FeatureNetwork, batches: Iterable[Any]) -> Statistics:
    """Statistics of the features of images, which are first rounded to 8 bits as files are.

    Args:
        network: Whose features.
        batches: Images float32 [N,S,S,3] in [-1,1].

    Raises:
        UserError: Images with values that are no finite numbers.
        ValueError: Images of another shape or range.
    """
    statistics = Statistics(network.model.output_shape[-1])
    for images in batches:
        stored = levels(images)
        statistics.add(network(stored), image_keys(stored))
    return statistics


def real_statistics(
    folder: str | Path | None,
    arguments: Mapping[str, Any],
    network: FeatureNetwork,
    batches: Callable[[], Iterable[Any]],
) -> Statistics:
    """Statistics of real images: from a folder, or made and put there.

    They are found again for the same arguments, network and way to draw built-in faces. Images
    of a data set that changed under its old name and path are not noticed: delete the folder then.
    A file that cannot be read is made anew, with a warning.

    Args:
        folder: Where they are kept; None: they are not.
        arguments: All that determines the images (data set, path, size, split, count, seed), of
            values that JSON knows.
        network: Whose features.
        batches: Gives the images, as for `image_statistics`; called only if it must be.

    Raises:
        UserError: As of `image_statistics`, or the folder cannot be written to.
    """
    if folder is None:
        return image_statistics(network, batches())
    path = Path(folder) / f"features-{_key(arguments, network)}.npz"
    if path.exists():
        try:
            return _read(path, network.model.output_shape[-1])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s: damaged (%s); it is made anew", path, error)
    statistics = image_statistics(network, batches())
    try:
        _write(statistics, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    return statistics


def _key(arguments: Mapping[str, Any], network: FeatureNetwork) -> str:
    described = json.dumps(dict(arguments), sort_keys=True)
    versions = (tf.__version__, keras.__version__)
    found = hashlib.sha256(repr((described, network.name, network.digest(), versions)).encode())
    for file in sorted(Path(synthetic.__file__).parent.glob("*.py")):
        found.update(file.read_bytes())
    return found.hexdigest()[:16]


_ARRAYS = ("mean", "scatter", "keys", "sample")


def _read(path: Path, dimensions: int) -> Statistics:
    statistics = Statistics(dimensions)
    with np.load(path) as file:
        statistics.count = int(file["count"])
        for name in _ARRAYS:
            setattr(statistics, name, file[name])
    return statistics


def _write(statistics: Statistics, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.npz")
    arrays = {name: getattr(statistics, name) for name in _ARRAYS}
    try:
        np.savez(temporary, count=statistics.count, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
