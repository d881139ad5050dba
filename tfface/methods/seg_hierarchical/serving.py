"""Signatures of an exported model of segmentation with hierarchical GANs."""

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
from tfface.methods.base import Method, Networks, Signature, traced
from tfface.methods.labels import index_of


def signatures(method: Method, nets: Networks) -> dict[str, Signature]:
    """Signatures by name.

    `serving_default` and `bytes` edit expressions; the former also returns label maps. `segment`
    and `segment_bytes` return label maps, the former also probabilities. `parts_bytes` returns the
    results of the regions' generators. With `only_segmenter`, `serving_default` and `bytes` are the
    same as `segment` and `segment_bytes`, and there is no `parts_bytes`.
    """
    config = method.config
    size, classes = config.data.size, config.classes
    text = tf.TensorSpec([None], tf.string)
    images = tf.TensorSpec([None, size, size, 3], tf.float32)
    image = example_image(size)

    @traced(images)
    def probabilities_of(image):
        return method.segment(nets, image)

    def segment(image):
        probabilities = probabilities_of(image)
        return {"label_map": _labels(probabilities), "probabilities": probabilities}

    def segment_bytes(image_bytes):
        labels = _labels(probabilities_of(to_squares(image_bytes, size)))
        return {"label_map_bytes": encode_labels(labels)}

    segmentation = (
        Signature(segment, {"image": images}, {"image": image}),
        Signature(segment_bytes, {"image_bytes": text}, {"image_bytes": example_png(image)}),
    )
    if config.only_segmenter:
        editing = segmentation
    else:
        name = tf.constant([classes[0]])

        @traced(images, tf.TensorSpec([None], tf.int32))
        def edited_by(image, index):
            edited = method.edit(nets, image, index)
            return {"image": edited["image"], "label_map": edited["label_map"]}

        def edit(image, expression):
            return edited_by(image, index_of(expression, classes, "expression"))

        def edit_encoded(image_bytes, expression):
            def edit_squares(squares):
                return edit(squares, expression)["image"]

            return {"image_bytes": edit_bytes(edit_squares, image_bytes, size)}

        def parts_bytes(image_bytes, expression):
            # Not the shared function, see `traced`.
            index = index_of(expression, classes, "expression")
            edited = method.edit_parts(nets, to_squares(image_bytes, size), index)
            return {f"{name}_bytes": encode_squares(part) for name, part in edited.items()}

        editing = (
            Signature(
                edit,
                {"image": images, "expression": text},
                {"image": image, "expression": name},
            ),
            Signature(
                edit_encoded,
                {"image_bytes": text, "expression": text},
                {"image_bytes": example_png(image), "expression": name},
            ),
        )
    names = ("serving_default", "bytes", "segment", "segment_bytes")
    result = dict(zip(names, (*editing, *segmentation), strict=True))
    if not config.only_segmenter:
        encoded = result["bytes"]
        result["parts_bytes"] = Signature(parts_bytes, encoded.inputs, encoded.example)
    return result


def _labels(probabilities: tf.Tensor) -> tf.Tensor:
    return tf.argmax(probabilities, -1, tf.int32)
