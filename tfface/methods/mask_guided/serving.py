"""Signatures of an exported model of mask-guided synthesis."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.image_ops import encode_squares, example_image, example_png, to_squares
from tfface.data.label_map_ops import check_labels, encode_labels, example_labels, to_label_squares
from tfface.methods.base import Method, Networks, Signature, traced


def signatures(method: Method, nets: Networks) -> dict[str, Signature]:
    """Signatures for styles from seeds, from reference faces, and as style codes.

    Seeds: `serving_default`, `bytes`; faces: `reference`, `reference_bytes`; codes: `style_code`,
    which accepts codes returned by the other signatures and interpolations of them.
    """
    size = method.config.data.size
    text = tf.TensorSpec([None], tf.string)
    maps = tf.TensorSpec([None, size, size], tf.int32)
    images = tf.TensorSpec([None, size, size, 3], tf.float32)
    codes = tf.TensorSpec([None, method.config.style_dim], tf.float32)
    labels, image = example_labels(size), example_image(size)
    map_png, seed = encode_labels(labels), tf.constant([1], tf.int64)

    @traced(maps, codes)
    def face(label_map, code):
        return method.generate(nets, label_map, code)

    @traced(images)
    def face_style(reference):
        return method.style_of_faces(nets, reference)

    def generate(label_map, code):
        return {"image": face(check_labels(label_map), code), "style_code": code}

    def generate_bytes(label_map_bytes, code):
        return {"image_bytes": encode_squares(face(to_label_squares(label_map_bytes, size), code))}

    return {
        "serving_default": Signature(
            lambda label_map, seed: generate(label_map, method.style_of_seeds(nets, seed)),
            {"label_map": maps, "seed": tf.TensorSpec([None], tf.int64)},
            {"label_map": labels, "seed": seed},
        ),
        "bytes": Signature(
            lambda label_map_bytes, seed: generate_bytes(
                label_map_bytes, method.style_of_seeds(nets, seed)
            ),
            {"label_map_bytes": text, "seed": tf.TensorSpec([None], tf.int64)},
            {"label_map_bytes": map_png, "seed": seed},
        ),
        "reference": Signature(
            lambda label_map, reference: generate(label_map, face_style(reference)),
            {"label_map": maps, "reference": images},
            {"label_map": labels, "reference": image},
        ),
        "reference_bytes": Signature(
            lambda label_map_bytes, reference_bytes: generate_bytes(
                label_map_bytes, face_style(to_squares(reference_bytes, size))
            ),
            {"label_map_bytes": text, "reference_bytes": text},
            {"label_map_bytes": map_png, "reference_bytes": example_png(image)},
        ),
        "style_code": Signature(
            lambda label_map, style_code: generate(label_map, style_code),
            {"label_map": maps, "style_code": codes},
            {"label_map": labels, "style_code": method.style_of_seeds(nets, seed)},
        ),
    }
