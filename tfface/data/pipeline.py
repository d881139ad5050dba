"""The `tf.data` part of reading files: selection of each batch's images, and process shutdown."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf


class Exit:
    """Allows the process to exit while a pipeline still prefetches.

    A pipeline thread that enters Python during interpreter shutdown never returns, and TensorFlow
    would wait for it forever. So before the shutdown, reads return empty data, and they stop as
    soon as the pipeline's buffers are full.
    """

    begun = False
    last_read = 0.0
    quiet_s, most_s = 0.2, 10.0

    @classmethod
    def wait(cls) -> None:
        """Waits until the pipelines are idle."""
        cls.begun = True
        deadline = time.monotonic() + cls.most_s
        while time.monotonic() < min(cls.last_read + cls.quiet_s, deadline):
            time.sleep(0.01)

    @classmethod
    def is_near(cls) -> bool:
        """Whether to skip a read because the process exits; to be called before each read."""
        cls.last_read = time.monotonic()
        return cls.begun


atexit.register(Exit.wait)


def pipeline(
    read: Callable[[np.ndarray, np.ndarray], list],
    specs: dict[str, tuple[tf.DType, tuple[int, ...]]],
    number: int,
    batch_size: int,
    seed: int | None,
    stream: int,
    start: int,
    chances: int = 1,
) -> tf.data.Dataset:
    """Batches that `read` loads, given positions in a list of images and random numbers.

    Args:
        read: From positions int64 [B] and random numbers float32 [B,chances] in [0,1) to arrays
            [B,...].
        specs: Data type and shape, without B, of these arrays, by name.
        number: Number of images.
        batch_size: B.
        seed: Seed of the order and random numbers; None: one pass in order, random numbers all 1.
        stream: Distinguishes pipelines with the same seed.
        start: Number of the first batch.
        chances: Number of random numbers for each image.
    """

    def in_order(batch):
        positions = tf.range(
            batch * batch_size, tf.minimum((batch + 1) * batch_size, number), dtype=tf.int64
        )
        return positions, tf.ones([tf.size(positions), chances])

    def shuffled(batch):
        examples = batch * batch_size + tf.range(batch_size, dtype=tf.int64)
        epochs = examples // number
        # The raw op, as tf.random.experimental.index_shuffle does not accept a seed per index.
        positions = tf.raw_ops.RandomIndexShuffle(
            index=examples % number,
            seed=tf.stack(
                [tf.fill([batch_size], tf.constant(seed, tf.int64)), epochs]
                + [tf.fill([batch_size], tf.constant(stream, tf.int64))],
                axis=1,
            ),
            max_index=tf.constant(number - 1, tf.int64),
            rounds=4,
        )
        return positions, tf.random.stateless_uniform([batch_size, chances], [seed ^ stream, batch])

    @tf.autograph.experimental.do_not_convert
    def load(batch):
        inputs = in_order(batch) if seed is None else shuffled(batch)
        values = tf.numpy_function(read, inputs, [dtype for dtype, _ in specs.values()])
        for value, (_, shape) in zip(values, specs.values(), strict=True):
            value.set_shape((None if seed is None else batch_size, *shape))
        return dict(zip(specs, values, strict=True))

    end = -(-number // batch_size) if seed is None else np.iinfo(np.int64).max
    numbers = tf.data.Dataset.range(start, end)
    return numbers.map(load, tf.data.AUTOTUNE, deterministic=True).prefetch(2)
