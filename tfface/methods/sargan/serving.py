"""Signatures of an exported SARGAN model."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.image_ops import edit_bytes, example_image, example_png
from tfface.methods.base import Method, Networks, Signature, traced
from tfface.methods.labels import index_of


def signatures(method: Method, nets: Networks) -> dict[str, Signature]:
    """`serving_default` for float images, `bytes` for encoded ones; expressions by name."""
    size, classes = method.config.data.size, method.config.classes
    images = tf.TensorSpec([None, size, size, 3], tf.float32)
    names = tf.TensorSpec([None], tf.string)
    image, name = example_image(size), tf.constant([classes[0]])

    @traced(images, tf.TensorSpec([None], tf.int32))
    def edited(image, index):
        return method.edit(nets, image, index)

    def edit(image, expression):
        return edited(image, index_of(expression, classes, "expression"))

    return {
        "serving_default": Signature(
            lambda image, expression: {"image": edit(image, expression)},
            {"image": images, "expression": names},
            {"image": image, "expression": name},
        ),
        "bytes": Signature(
            lambda image_bytes, expression: {
                "image_bytes": edit_bytes(lambda x: edit(x, expression), image_bytes, size)
            },
            {"image_bytes": names, "expression": names},
            {"image_bytes": example_png(image), "expression": name},
        ),
    }
