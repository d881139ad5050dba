"""Conditions as channels: one per class of a label map, 15 for a line drawing, 2 for edges."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.label_map_ops import one_hot
from tfface.data.label_maps import CLASSES_19, LINE
from tfface.data.lines import OUTLINED as PARTS

CHANNELS = {"labels": len(CLASSES_19), "lines": len(PARTS) + 2, "edges": 2}
# CoCosNet's code: distances in pixels of an image of side 286, divided by 3, in 8 bits.
_REACH = 3 * 255 / 286


def encode(condition: tf.Tensor, kind: str) -> tf.Tensor:
    """Codes int32 [B,S,S] to channels float32 [B,S,S,C]; `kind` is one of CHANNELS."""
    if kind == "labels":
        return one_hot(condition)
    return line_channels(condition) if kind == "lines" else edge_channels(condition)


def edge_channels(edges: tf.Tensor) -> tf.Tensor:
    """Edges, and the distance to the nearest one (ours, like the distances of `line_channels`).

    Args:
        edges: Codes int32 [B,S,S]; lines of parts count as edges.

    Returns:
        float32 [B,S,S,2] in [0,1].
    """
    marked = edges[..., None] > 0
    return tf.concat([tf.cast(marked, tf.float32), _distance(marked)], -1)


def line_channels(lines: tf.Tensor) -> tf.Tensor:
    """The edge condition of CoCosNet's code, computed from a line drawing.

    Args:
        lines: Codes int32 [B,S,S]: 0 nothing, 1 to 18 a line of this class, `LINE` any other line.

    Returns:
        float32 [B,S,S,15] in [0,1]: all lines; for each of 13 face parts the city-block distance to
        its lines, divided by 2.67 times the image's side (1 if it has none); the lines of all
        parts.
    """
    codes = tf.constant([CLASSES_19.index(name) for name in PARTS], lines.dtype)
    parts = tf.equal(lines[..., None], codes)
    distance = _distance(parts)
    part_lines = tf.cast((lines > 0) & (lines != LINE), tf.float32)[..., None]
    return tf.concat([tf.cast(lines > 0, tf.float32)[..., None], distance, part_lines], -1)


def _distance(marked: tf.Tensor) -> tf.Tensor:
    """City-block distance to marked pixels, as a share of the reach of `line_channels`, up to 1."""
    return tf.minimum(_city_block(marked) / (_REACH * marked.shape[1]), 1.0)


def _city_block(marked: tf.Tensor) -> tf.Tensor:
    """City-block distance [B,S,S,C], in pixels, to the nearest marked pixel of each channel.

    Minimum over shifts of 1, 2, 4, ... pixels along each axis: any distance is a sum of these.
    """
    size = marked.shape[1]
    far = 4.0 * size
    distance = tf.where(marked, 0.0, far)
    for axis in (1, 2):
        shift = 1
        while shift < size:
            padding, window = [[0, 0]] * 4, [slice(None)] * 4
            padding[axis] = [shift, shift]
            padded = tf.pad(distance, padding, constant_values=far) + shift
            for begin in (0, 2 * shift):
                window[axis] = slice(begin, begin + size)
                distance = tf.minimum(distance, padded[tuple(window)])
            shift *= 2
    return distance


def half(x: tf.Tensor) -> tf.Tensor:
    """Averages [B,H,W,C] over 2 x 2 pixels, to [B,H/2,W/2,C]."""
    return tf.nn.avg_pool2d(x, 2, 2, "VALID")


def double(x: tf.Tensor) -> tf.Tensor:
    """Repeats every pixel of [B,H,W,C] 2 x 2 times, to [B,2H,2W,C]."""
    return tf.repeat(tf.repeat(x, 2, 1), 2, 2)


def shares(labels: tf.Tensor) -> tf.Tensor:
    """Fractions of the classes in 2 x 2 pixels: int32 [B,S,S] to float32 [B,S/2,S/2,19]."""
    return half(one_hot(labels))
