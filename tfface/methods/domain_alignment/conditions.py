"""A condition as channels: one for each class of a label map, or fifteen of a drawing of lines."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.label_map_ops import one_hot
from tfface.data.label_maps import CLASSES_19, LINE
from tfface.data.lines import OUTLINED as PARTS

CHANNELS = {"labels": len(CLASSES_19), "lines": len(PARTS) + 2}
# CoCosNet's code: distances in pixels of an image of 286, over 3, in 8 bits.
_REACH = 3 * 255 / 286


def encode(condition: tf.Tensor, kind: str) -> tf.Tensor:
    """Codes int32 [B,S,S] to channels float32 [B,S,S,C]; `kind` is "labels" or "lines"."""
    if kind == "labels":
        return one_hot(condition)
    return line_channels(condition)


def line_channels(lines: tf.Tensor) -> tf.Tensor:
    """The edge condition of CoCosNet's code from a drawing of lines.

    Args:
        lines: Codes int32 [B,S,S]: 0 nothing, 1 to 18 a line of this part, `LINE` any other line.

    Returns:
        float32 [B,S,S,15] in [0,1]: all lines; the city-block distance to the lines of each of 13
        parts, as a share of 2.67 times the image's side (1 if there is none); the parts' lines.
    """
    codes = tf.constant([CLASSES_19.index(name) for name in PARTS], lines.dtype)
    parts = tf.equal(lines[..., None], codes)
    size = lines.shape[1]
    distance = tf.minimum(_city_block(parts) / (_REACH * size), 1.0)
    of_parts = tf.cast((lines > 0) & (lines != LINE), tf.float32)
    return tf.concat([tf.cast(lines > 0, tf.float32)[..., None], distance, of_parts[..., None]], -1)


def _city_block(marked: tf.Tensor) -> tf.Tensor:
    """City-block distance [B,S,S,C], in pixels, to the nearest marked pixel of each channel.

    Along one axis after the other, over shifts of 1, 2, 4, ...: any distance is a sum of them.
    """
    size = marked.shape[1]
    far = 4.0 * size
    distance = tf.where(marked, 0.0, far)
    for axis in (1, 2):
        shift = 1
        while shift < size:
            padding, part = [[0, 0]] * 4, [slice(None)] * 4
            padding[axis] = [shift, shift]
            wide = tf.pad(distance, padding, constant_values=far) + shift
            for begin in (0, 2 * shift):
                part[axis] = slice(begin, begin + size)
                distance = tf.minimum(distance, wide[tuple(part)])
            shift *= 2
    return distance


def half(x: tf.Tensor) -> tf.Tensor:
    """[B,H,W,C] averaged over 2 x 2 pixels."""
    return tf.nn.avg_pool2d(x, 2, 2, "VALID")


def double(x: tf.Tensor) -> tf.Tensor:
    """[B,H,W,C], every pixel as 2 x 2."""
    return tf.repeat(tf.repeat(x, 2, 1), 2, 2)


def shares(labels: tf.Tensor) -> tf.Tensor:
    """Label maps int32 [B,S,S] to the classes' shares of 2 x 2 pixels, float32 [B,S/2,S/2,19]."""
    return half(one_hot(labels))
