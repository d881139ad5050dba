"""Signatures of an exported model of domain alignment."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.image_ops import encode_squares, example_image, example_png, to_squares
from tfface.data.label_map_ops import check_labels, encode_labels, example_labels, to_label_squares
from tfface.methods.base import Method, Networks, Signature, traced


def signatures(method: Method, nets: Networks) -> dict[str, Signature]:
    """`serving_default` for class codes and float images, `bytes` for encoded ones.

    With block alignment also `blocks_bytes`, see `tfface.client.Blocks`.
    """
    size, lines = method.config.data.size, method.takes == "lines"
    text = tf.TensorSpec([None], tf.string)
    maps = tf.TensorSpec([None, size, size], tf.int32)
    images = tf.TensorSpec([None, size, size, 3], tf.float32)
    image, labels = example_image(size), example_labels(size, lines)

    @traced(maps, images)
    def generated(condition, exemplar):
        result = method.generate(nets, method.encode(condition), exemplar)
        return {"image": result["image"], "warped": result["warped"]}

    def generate(condition, exemplar):
        return generated(check_labels(condition, lines), exemplar)

    def decode(condition_bytes, exemplar_bytes):
        condition = to_label_squares(condition_bytes, size, lines)
        return condition, to_squares(exemplar_bytes, size)

    def generate_bytes(**encoded):
        result = generate(*decode(**encoded))
        return {"image_bytes": encode_squares(result["image"])}

    def retrieve_bytes(**encoded):
        # Not the shared function, see `traced`.
        condition, exemplar = decode(**encoded)
        _, result = method.correspond(nets, method.encode(condition), exemplar)
        across = size // 2 // method.config.alignment.block_side
        shape = [-1, across, across, method.config.alignment.top_k]
        return {name: tf.reshape(result[name], shape) for name in ("index", "weights")}

    texts = {"condition_bytes": text, "exemplar_bytes": text}
    example = {"condition_bytes": encode_labels(labels), "exemplar_bytes": example_png(image)}
    by_blocks = method.config.alignment.kind == "block"
    return {
        "serving_default": Signature(
            generate,
            {"condition": maps, "exemplar": images},
            {"condition": labels, "exemplar": image},
        ),
        "bytes": Signature(generate_bytes, texts, example),
        **({"blocks_bytes": Signature(retrieve_bytes, texts, example)} if by_blocks else {}),
    }
