"""The part of reading files that is TensorFlow's: which images a batch has, and how it ends."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf


class Exit:
    """Lets the process end while a pipeline still reads ahead.

    A pipeline's thread that enters Python during its shutdown never returns, and TensorFlow would
    wait for it for ever. So before the shutdown, reads become empty, and end as soon as the
    pipeline's buffers are full.
    """

    begun = False
    last_read = 0.0
    quiet_s, most_s = 0.2, 10.0

    @classmethod
    def wait(cls) -> None:
        """Waits until the pipelines have come to rest."""
        cls.begun = True
        deadline = time.monotonic() + cls.most_s
        while time.monotonic() < min(cls.last_read + cls.quiet_s, deadline):
            time.sleep(0.01)

    @classmethod
    def is_near(cls) -> bool:
        """To be asked before each read: whether it is to be left out."""
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
    """Batches of what `read` makes of positions of `number` images and of chances.

    Args:
        read: Function of int64 [B] and float32 [B,chances] in [0,1), to arrays [B,...].
        specs: Name, type and shape without B of these arrays.
        number: How many images there are.
        batch_size: B.
        seed: None: one pass in order, where all chances are 1.
        stream: Sets apart what has the same seed.
        start: Number of the first batch.
        chances: How many each image needs.
    """

    def in_order(batch):
        positions = tf.range(
            batch * batch_size, tf.minimum((batch + 1) * batch_size, number), dtype=tf.int64
        )
        return positions, tf.ones([tf.size(positions), chances])

    def shuffled(batch):
        examples = batch * batch_size + tf.range(batch_size, dtype=tf.int64)
        epochs = examples // number
        # The raw op: tf.random.experimental.index_shuffle refuses one seed per index.
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
