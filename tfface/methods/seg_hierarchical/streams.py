"""Training batches from two streams: faces with expressions, and faces with label maps."""

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


def zip_streams(
    config: SegHierarchicalConfig,
    source: Source,
    labelled: Source | None,
    split: str,
    batch_size: int,
    seed: int,
    start: int,
) -> tf.data.Dataset:
    """Batches of both streams; a stream that a stage does not need repeats one cached batch.

    Args:
        config: The config.
        source: Data set with expressions.
        labelled: Data set with label maps; None: `source` has both.
        split: Split to read: "train", "val" or "test".
        batch_size: Batch size of the faces with expressions.
        seed: As for `Source.batches`.
        start: Number of the first batch.
    """
    maps = labelled or source
    maps_size = config.labelled.batch_size if labelled else batch_size

    # Each stream has its own seed, so that its faces differ.
    def faces(begin: int) -> tf.data.Dataset:
        return source.batches(split, batch_size, seed=seed, start=begin)

    def classified(begin: int) -> tf.data.Dataset:
        return source.batches(split, config.classifier.batch_size, seed=seed + 1, start=begin)

    def mapped(begin: int) -> tf.data.Dataset:
        return label_maps(maps, split, maps_size, seed + 2, begin)

    def constant(stream):
        return lambda begin: stream(0).take(1).cache().repeat()

    segmented, joint = config.segmenter.steps, config.segmenter.steps + config.gan_steps
    game = segmented + config.classifier.steps
    stages = (
        (segmented, constant(faces), mapped),
        (game, classified, constant(mapped)),
        (joint, faces, constant(mapped)),
        (tf.int64.max, faces, mapped),
    )
    data = None
    for end, expressions, labels in stages:
        if start < end:
            stage = tf.data.Dataset.zip(expressions(start), labels(start)).take(end - start)
            data = stage if data is None else data.concatenate(stage)
            start = end
    return data.map(lambda x, y: {**x, **y})
