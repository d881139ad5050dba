"""Retrieval of similar images in a data set, as exemplars for each other."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfface.data.files import FileSource, user_errors
from tfface.progress import progress

_BATCH = 16
_ROWS = 512  # Number of images compared with all others at a time.


def similar_images(
    source: FileSource, split: str, network: keras.Model, count: int
) -> list[list[str]]:
    """Lists for each image the most similar other images of its split.

    The similarity is the cosine of the spatially averaged features. RABIT's
    util/retrieve_ref_vgg.py uses VGG19's pool5; how it compares them is not published.

    Args:
        source: The data set; images that cannot be read are left out.
        split: "train", "val" or "test".
        network: From images [B,S,S,3] in [-1,1] to a list of feature maps, of which the last is
            used; S is `source.data.size`.
        count: Maximum number of images to list for each.

    Returns:
        For each image its name and those of the others, the most similar first; empty if the split
        has fewer than two images.

    Raises:
        UserError: Too many images cannot be read; names them.
    """
    if source.count(split) < 2:
        return []
    features = _describe(source, split, network)
    readable = source.readable(split)
    names = [name for name, good in readable.items() if good]
    if len(names) < 2:
        return []
    similar = most_similar(features[list(readable.values())], count)
    return [
        [name, *(names[other] for other in others)]
        for name, others in zip(names, similar, strict=True)
    ]


def _describe(source: FileSource, split: str, network: keras.Model) -> np.ndarray:
    """Features float32 [N,C] of a split's images in order; those of the next for a bad image."""
    size = source.data.size

    @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3])])
    def describe(image):
        return tf.reduce_mean(network(image)[-1], (1, 2))

    parts = []
    with user_errors(source), progress() as bar:
        task = bar.add_task(f"computing features of {split}", total=source.count(split))
        for batch in source.batches(split, _BATCH):
            parts.append(describe(batch["image"]).numpy())
            bar.advance(task, len(parts[-1]))
    return np.concatenate(parts)


def most_similar(features: np.ndarray, count: int) -> np.ndarray:
    """The most similar other rows of each row by cosine, computed in chunks to save memory.

    Args:
        features: float32 [N,C], N at least 2.
        count: Number of rows to return for each, at least 1.

    Returns:
        int64 [N,min(count,N-1)]: indices, the most similar first.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    count = min(count, len(unit) - 1)
    similar = np.zeros((len(unit), count), np.int64)
    for start in range(0, len(unit), _ROWS):
        cosine = unit[start : start + _ROWS] @ unit.T
        row = np.arange(len(cosine))
        cosine[row, start + row] = -np.inf
        best = np.argpartition(cosine, -count)[:, -count:]
        order = np.argsort(-np.take_along_axis(cosine, best, 1), kind="stable")
        similar[start : start + _ROWS] = np.take_along_axis(best, order, 1)
    return similar
