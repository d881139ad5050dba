"""Look-up of label names inside a TensorFlow graph."""

from __future__ import annotations

import tensorflow as tf


def index_of(names: tf.Tensor, known: tuple[str, ...], what: str) -> tf.Tensor:
    """Indices of names in the tuple of known names.

    Args:
        names: String tensor of any shape; or int32 indices, as models for devices have, which are
            returned as they are.
        known: The known names.
        what: Kind of the names, such as "expression", for the error message.

    Returns:
        int32, of the shape of `names`.

    Raises:
        tf.errors.InvalidArgumentError: A name is unknown; the message lists the known names.
    """
    if names.dtype == tf.int32:
        return names
    matches = tf.equal(names[..., None], tf.constant(known))
    message = f"unknown {what}; expected one of {', '.join(known)}; received"
    check = tf.debugging.Assert(tf.reduce_all(tf.reduce_any(matches, -1)), [message, names])
    with tf.control_dependencies([check]):
        return tf.argmax(tf.cast(matches, tf.int32), -1, output_type=tf.int32)
