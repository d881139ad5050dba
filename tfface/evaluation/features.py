"""Feature networks for FID and KID, and cached feature statistics of real images."""

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
        name: Suffix of the metric names: with "keras" they are "fid_keras" and "kid_keras".
        model: From images float32 [N,S,S,3] in [-1,1] to features [N,D].
    """

    name: str
    model: keras.Model

    def __post_init__(self):
        # XLA would recompile the network for each batch size.
        self.model.compile(jit_compile=False)

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        """Features float32 [N,D] of images uint8 [N,S,S,3]."""
        images = (stored / np.float32(127.5) - 1).astype(np.float32)
        starts = range(0, len(images), _AT_ONCE)
        return np.concatenate(
            [self.model.predict_on_batch(images[start : start + _AT_ONCE]) for start in starts]
        )

    def digest(self) -> str:
        """Hash of the layers and the weights."""
        described = json.dumps(json.loads(self.model.to_json())["config"])
        # Keras's automatic names contain a counter of everything built before.
        for number, name in enumerate(_names(self.model)):
            described = described.replace(f'"{name}"', f'"{number}"')
        digest = hashlib.sha256(described.encode())
        for weight in self.model.weights:
            digest.update(np.ascontiguousarray(weight.numpy()))
        return digest.hexdigest()


def _names(model: keras.Model) -> list[str]:
    """Names of a model and all its layers, recursively."""
    parts = [
        _names(part) if isinstance(part, keras.Model) else [part.name] for part in model.operations
    ]
    return [model.name, *itertools.chain(*parts)]


def inception(weights: str = "") -> FeatureNetwork:
    """InceptionV3 of keras.applications: 2048 features, trained on ImageNet.

    These are not the weights of the published FID, so the metric is called `fid_keras` and is not
    comparable with FID in papers. Images are resized bilinearly to 299 pixels, with antialiasing.

    Args:
        weights: File with the weights without the top, in Keras's layout; "": Keras downloads them.

    Raises:
        UserError: The file is missing or invalid, or the download fails.
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
    """A frozen network of keras.applications, with weights from a file or downloaded by Keras.

    Args:
        build: From "imagenet" or a file name to the network.
        name: Name of the network in error messages.
        weights: The file; "": Keras downloads the weights.

    Raises:
        UserError: The file is missing or invalid, or the download fails.
    """
    if weights and not Path(weights).is_file():
        raise UserError(f"weights of {name}: {weights}: no such file")
    try:
        model = build(weights or "imagenet")
    except Exception as error:
        # Loading and downloading can raise nearly anything, even a bare Exception.
        if weights:
            message = f"{weights}: expected {name} weights without the top, in Keras's layout"
        else:
            message = f"{name} weights cannot be downloaded ({error}); pass a weights file"
        raise UserError(message) from error
    model.trainable = False
    return model


def classifier_features(classifier: Classifier) -> FeatureNetwork:
    """Stand-in for InceptionV3: the judge, a classifier of built-in faces.

    The features are the spatial means of the output of each of its convolutions. They represent
    only what distinguishes the expressions and attributes of built-in faces.
    """
    maps = [layer.output for layer in classifier.model.layers if type(layer) is keras.layers.ReLU]
    return _means("proxy_classifier", classifier.model.inputs[0], maps)


def random_features(size: int) -> FeatureNetwork:
    """Stand-in for InceptionV3: a seeded, untrained network.

    Its features distinguish colours and textures, but not the content of an image.

    Args:
        size: Side of the images, in pixels.
    """
    from tfface.layers.perceptual import perceptual_network

    network = perceptual_network("random", size)
    return _means("proxy_random", network.inputs[0], network.outputs)


def _means(name: str, images: Any, maps: list[Any]) -> FeatureNetwork:
    means = [keras.layers.GlobalAveragePooling2D()(features) for features in maps]
    return FeatureNetwork(name, keras.Model(images, keras.layers.Concatenate()(means)))


def metric_name(kind: str, network: FeatureNetwork, count: int, split: str) -> str:
    """The name of a metric, including its protocol, such as "fid_keras_5k_val".

    Args:
        kind: "fid" or "kid".
        network: The feature network.
        count: Number of images in each set.
        split: Split of the real images.
    """
    number = f"{count // 1000}k" if count and count % 1000 == 0 else str(count)
    return f"{kind}_{network.name}_{number}_{split}"


def image_statistics(network: FeatureNetwork, batches: Iterable[Any]) -> Statistics:
    """Statistics of the features of images, which are first rounded to 8 bits like image files.

    Args:
        network: The feature network.
        batches: Images float32 [N,S,S,3] in [-1,1].

    Raises:
        UserError: Images contain NaN or infinite values.
        ValueError: Images have another shape or range.
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
    """Loads the feature statistics of real images from a cache folder, or computes and saves them.

    The cache key covers the arguments, the network and the code that draws built-in faces. It does
    not notice images that change under the same name and path: delete the folder in that case.
    A file that cannot be read is recomputed, with a warning.

    Args:
        folder: The cache folder; None: no cache.
        arguments: Everything that determines the images (data set, path, size, split, count, seed),
            as JSON-serialisable values.
        network: The feature network.
        batches: Returns the images, as for `image_statistics`; called only on a cache miss.

    Raises:
        UserError: See `image_statistics`; or the folder is not writable.
    """
    if folder is None:
        return image_statistics(network, batches())
    path = Path(folder) / f"features-{_key(arguments, network)}.npz"
    if path.exists():
        try:
            return _read(path, network.model.output_shape[-1])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s: damaged (%s); recomputing it", path, error)
    statistics = image_statistics(network, batches())
    try:
        _write(statistics, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    return statistics


def _key(arguments: Mapping[str, Any], network: FeatureNetwork) -> str:
    described = json.dumps(dict(arguments), sort_keys=True)
    versions = (tf.__version__, keras.__version__)
    digest = hashlib.sha256(repr((described, network.name, network.digest(), versions)).encode())
    for file in sorted(Path(synthetic.__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


_ARRAYS = ("mean", "scatter", "keys", "sample")


def _read(path: Path, dimensions: int) -> Statistics:
    statistics = Statistics(dimensions)
    with path.open("rb") as opened, np.load(opened) as file:  # np.load leaves damaged files open.
        statistics.count = int(file["count"])
        for name in _ARRAYS:
            setattr(statistics, name, file[name])
    return statistics


def _write(statistics: Statistics, path: Path) -> None:
    """Writes the file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.npz")
    arrays = {name: getattr(statistics, name) for name in _ARRAYS}
    try:
        np.savez(temporary, count=statistics.count, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
