"""Labels by name, within the graph."""

from __future__ import annotations

import tensorflow as tf


def index_of(names: tf.Tensor, known: tuple[str, ...], what: str) -> tf.Tensor:
    """Indices int32 of names, string of the same shape, among the known ones.

    Raises:
        tf.errors.InvalidArgumentError: An unknown name; the message lists those that exist.
    """
    matches = tf.equal(names[..., None], tf.constant(known))
    message = f"unknown {what}; expected one of {', '.join(known)}; received"
    check = tf.debugging.Assert(tf.reduce_all(tf.reduce_any(matches, -1)), [message, names])
    with tf.control_dependencies([check]):
        return tf.argmax(tf.cast(matches, tf.int32), -1, output_type=tf.int32)
