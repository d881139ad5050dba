"""Signatures of an exported ELEGANT model."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.image_ops import edit_bytes, example_image, example_png, to_squares
from tfface.methods.base import Method, Networks, Signature, traced
from tfface.methods.labels import index_of


def signatures(method: Method, nets: Networks) -> dict[str, Signature]:
    """`serving_default` for float images, `bytes` for encoded ones; attributes by name.

    `several` and `several_bytes` make any number of changes to each image at once. All images of a
    request have the same number of changes; pad with changes of strength 0.
    """
    size, names = method.config.data.size, method.config.attributes
    face = example_image(size)
    references = tf.stack([face[:, :, ::-1], face[:, ::-1]], 1)
    attributes, strengths = tf.constant([[names[0], names[-1]]]), tf.ones([1, 2])

    @traced(
        tf.TensorSpec([None, size, size, 3], tf.float32),
        tf.TensorSpec([None, None, size, size, 3], tf.float32),
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None, None], tf.float32),
    )
    def blend(source, reference, index, strength):
        return method.blend(nets, source, reference, index, strength)

    def exchange(source, reference, attribute, strength):
        index = index_of(attribute, names, "attribute")
        if attribute.shape.rank == 1:  # One change of each image.
            reference, index, strength = reference[:, None], index[:, None], strength[:, None]
        return blend(source, reference, index, strength)

    def exchange_bytes(source_bytes, reference_bytes, attribute, strength):
        squares = to_squares(tf.reshape(reference_bytes, [-1]), size)
        shape = tf.concat([tf.shape(reference_bytes), [size, size, 3]], 0)
        reference = tf.reshape(squares, shape)
        return {
            "image_bytes": edit_bytes(
                lambda source: exchange(source, reference, attribute, strength),
                source_bytes,
                size,
            )
        }

    def pair(changes, reference, attribute, strength):
        """The two signatures for `changes`: [] is one change, [None] is any number."""
        file, text = (tf.TensorSpec([None, *shape], tf.string) for shape in ([], changes))
        image = tf.TensorSpec([None, size, size, 3], tf.float32)
        images = tf.TensorSpec([None, *changes, size, size, 3], tf.float32)
        common = {"attribute": text, "strength": tf.TensorSpec([None, *changes], tf.float32)}
        example = {"attribute": attribute, "strength": strength}
        files = example_png(tf.reshape(reference, [-1, size, size, 3]))
        return (
            Signature(
                lambda **inputs: {"image": exchange(**inputs)},
                {"source": image, "reference": images, **common},
                {"source": face, "reference": reference, **example},
            ),
            Signature(
                exchange_bytes,
                {"source_bytes": file, "reference_bytes": text, **common},
                {
                    "source_bytes": example_png(face),
                    "reference_bytes": tf.reshape(files, attribute.shape),
                    **example,
                },
            ),
        )

    single = pair([], references[:, 0], attributes[:, 0], strengths[:, 0])
    several = pair([None], references, attributes, strengths)
    signature_names = "serving_default", "bytes", "several", "several_bytes"
    return dict(zip(signature_names, (*single, *several), strict=True))
