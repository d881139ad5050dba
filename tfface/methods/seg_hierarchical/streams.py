"""The training batches: a stream of faces with expressions, and one of faces with label maps."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.base import Source
from tfface.methods.seg_hierarchical.config import SegHierarchicalConfig


def label_maps(
    source: Source, split: str, batch_size: int, seed: int | None, start: int
) -> tf.data.Dataset:
    """Batches of `seg_image` float32 [B,S,S,3] and `seg_label_map` int32 [B,S,S]."""
    data = source.batches(split, batch_size, seed=seed, start=start)
    return data.map(lambda x: {"seg_image": x["image"], "seg_label_map": x["label_map"]})


def both(
    config: SegHierarchicalConfig,
    source: Source,
    labelled: Source | None,
    split: str,
    batch_size: int,
    seed: int,
    start: int,
) -> tf.data.Dataset:
    """Batches of both streams; the one that a stage does not need stands still, and costs nothing.

    Args:
        config: The config.
        source: With expressions.
        labelled: With label maps; None: `source` has both.
        split: "train", "val" or "test".
        batch_size: Of the faces with expressions.
        seed: As of `Source.batches`.
        start: Number of the first batch.
    """
    maps = labelled or source
    maps_size = config.labelled.batch_size if labelled else batch_size

    # Each stream has other faces.
    def faces(begin: int) -> tf.data.Dataset:
        return source.batches(split, batch_size, seed=seed, start=begin)

    def classified(begin: int) -> tf.data.Dataset:
        return source.batches(split, config.classifier.batch_size, seed=seed + 1, start=begin)

    def mapped(begin: int) -> tf.data.Dataset:
        return label_maps(maps, split, maps_size, seed + 2, begin)

    def still(stream):
        return lambda begin: stream(0).take(1).cache().repeat()

    segmented, joint = config.segmenter.steps, config.segmenter.steps + config.gan_steps
    game = segmented + config.classifier.steps
    stages = (
        (segmented, still(faces), mapped),
        (game, classified, still(mapped)),
        (joint, faces, still(mapped)),
        (tf.int64.max, faces, mapped),
    )
    data = None
    for end, expressions, labels in stages:
        if start < end:
            part = tf.data.Dataset.zip(expressions(start), labels(start)).take(end - start)
            data = part if data is None else data.concatenate(part)
            start = end
    return data.map(lambda x, y: {**x, **y})
