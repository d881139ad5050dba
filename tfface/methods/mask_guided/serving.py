"""What an exported model of mask-guided synthesis offers."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.image_ops import encode_squares, example_image, example_png, to_squares
from tfface.data.label_map_ops import check_labels, encode_labels, example_labels, to_label_squares
from tfface.methods.base import Method, Networks, Signature


def signatures(method: Method, nets: Networks) -> dict[str, Signature]:
    """Styles from a seed (`serving_default`, `bytes`), from a face (`reference...`), as codes.

    A code that one signature returns can be given to `style_code`, between two others as well.
    """
    size = method.config.data.size
    text = tf.TensorSpec([None], tf.string)
    maps = tf.TensorSpec([None, size, size], tf.int32)
    images = tf.TensorSpec([None, size, size, 3], tf.float32)
    labels, image = example_labels(size), example_image(size)
    map_png, seed = encode_labels(labels), tf.constant([1], tf.int64)

    def paint(label_map, code):
        made = method.paint(nets, check_labels(label_map), code)
        return {"image": made, "style_code": code}

    def paint_bytes(label_map_bytes, code):
        made = method.paint(nets, to_label_squares(label_map_bytes, size), code)
        return {"image_bytes": encode_squares(made)}

    def of_face(reference):
        return method.style_of_faces(nets, reference)

    return {
        "serving_default": Signature(
            lambda label_map, seed: paint(label_map, method.style_of_seeds(nets, seed)),
            {"label_map": maps, "seed": tf.TensorSpec([None], tf.int64)},
            {"label_map": labels, "seed": seed},
        ),
        "bytes": Signature(
            lambda label_map_bytes, seed: paint_bytes(
                label_map_bytes, method.style_of_seeds(nets, seed)
            ),
            {"label_map_bytes": text, "seed": tf.TensorSpec([None], tf.int64)},
            {"label_map_bytes": map_png, "seed": seed},
        ),
        "reference": Signature(
            lambda label_map, reference: paint(label_map, of_face(reference)),
            {"label_map": maps, "reference": images},
            {"label_map": labels, "reference": image},
        ),
        "reference_bytes": Signature(
            lambda label_map_bytes, reference_bytes: paint_bytes(
                label_map_bytes, of_face(to_squares(reference_bytes, size))
            ),
            {"label_map_bytes": text, "reference_bytes": text},
            {"label_map_bytes": map_png, "reference_bytes": example_png(image)},
        ),
        "style_code": Signature(
            lambda label_map, style_code: paint(label_map, style_code),
            {
                "label_map": maps,
                "style_code": tf.TensorSpec([None, method.config.style_dim], tf.float32),
            },
            {"label_map": labels, "style_code": method.style_of_seeds(nets, seed)},
        ),
    }
