"""What an exported model of this method offers."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.image_ops import (
    edit_bytes,
    encode_squares,
    example_image,
    example_png,
    to_squares,
)
from tfface.data.label_map_ops import encode_labels
from tfface.methods.base import Method, Networks, Signature
from tfface.methods.labels import index_of


def signatures(method: Method, nets: Networks) -> dict[str, Signature]:
    """Signatures by name.

    `serving_default` and `bytes` give faces expressions, and float images their label maps too;
    `segment` and `segment_bytes` give label maps, and float images probabilities too;
    `parts_bytes` what the generators of the regions made. Of a segmentation network alone, the
    first two are the same as the next two, and there are no others.
    """
    config = method.config
    size, classes = config.data.size, config.classes
    text = tf.TensorSpec([None], tf.string)
    images = tf.TensorSpec([None, size, size, 3], tf.float32)
    image = example_image(size)

    def segment(image):
        probabilities = method.segment(nets, image)
        return {"label_map": _labels(probabilities), "probabilities": probabilities}

    def segment_bytes(image_bytes):
        labels = _labels(method.segment(nets, to_squares(image_bytes, size)))
        return {"label_map_bytes": encode_labels(labels)}

    segmenting = (
        Signature(segment, {"image": images}, {"image": image}),
        Signature(segment_bytes, {"image_bytes": text}, {"image_bytes": example_png(image)}),
    )
    if config.only_segmenter:
        changing = segmenting
    else:
        name = tf.constant([classes[0]])

        def change(image, expression):
            made = method.edit(nets, image, index_of(expression, classes, "expression"))
            return {"image": made["image"], "label_map": made["label_map"]}

        def change_bytes(image_bytes, expression):
            def changed(squares):
                return change(squares, expression)["image"]

            return {"image_bytes": edit_bytes(changed, image_bytes, size)}

        def parts_bytes(image_bytes, expression):
            index = index_of(expression, classes, "expression")
            made = method.edit(nets, to_squares(image_bytes, size), index)
            return {f"{name}_bytes": encode_squares(made[name]) for name in config.regions}

        changing = (
            Signature(
                change,
                {"image": images, "expression": text},
                {"image": image, "expression": name},
            ),
            Signature(
                change_bytes,
                {"image_bytes": text, "expression": text},
                {"image_bytes": example_png(image), "expression": name},
            ),
        )
    names = ("serving_default", "bytes", "segment", "segment_bytes")
    found = dict(zip(names, (*changing, *segmenting), strict=True))
    if not config.only_segmenter:
        bytes_ = found["bytes"]
        found["parts_bytes"] = Signature(parts_bytes, bytes_.inputs, bytes_.example)
    return found


def _labels(probabilities: tf.Tensor) -> tf.Tensor:
    return tf.argmax(probabilities, -1, tf.int32)
