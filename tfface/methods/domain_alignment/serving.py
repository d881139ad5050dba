"""Signatures of an exported model of domain alignment."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.image_ops import encode_squares, example_image, example_png, to_squares
from tfface.data.label_map_ops import check_labels, encode_labels, example_labels, to_label_squares
from tfface.methods.base import Method, Networks, Signature


def signatures(method: Method, nets: Networks) -> dict[str, Signature]:
    """`serving_default` for class codes and float images, `bytes` for encoded ones."""
    size, lines = method.config.data.size, method.takes == "lines"
    text = tf.TensorSpec([None], tf.string)
    image, labels = example_image(size), example_labels(size, lines)

    def generate(condition, exemplar):
        condition = check_labels(condition, lines)
        result = method.generate(nets, method.encode(condition), exemplar)
        return {"image": result["image"], "warped": result["warped"]}

    def generate_bytes(condition_bytes, exemplar_bytes):
        condition = to_label_squares(condition_bytes, size, lines)
        result = generate(condition, to_squares(exemplar_bytes, size))
        return {"image_bytes": encode_squares(result["image"])}

    return {
        "serving_default": Signature(
            generate,
            {
                "condition": tf.TensorSpec([None, size, size], tf.int32),
                "exemplar": tf.TensorSpec([None, size, size, 3], tf.float32),
            },
            {"condition": labels, "exemplar": image},
        ),
        "bytes": Signature(
            generate_bytes,
            {"condition_bytes": text, "exemplar_bytes": text},
            {
                "condition_bytes": encode_labels(labels),
                "exemplar_bytes": example_png(image),
            },
        ),
    }
