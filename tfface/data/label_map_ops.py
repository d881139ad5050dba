"""Encoded label maps in the graph of an exported model, like `tfface.data.label_maps`."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfface.data.image_ops import _png_shape, _square
from tfface.data.images import MAX_ASPECT, MAX_PIXELS, MIN_SIDE
from tfface.data.label_maps import CLASSES_19, LINE, THICKEST, colour
from tfface.data.lines import draw_lines

_COLOURS = colour(np.arange(LINE + 1))
_KEYS = _COLOURS.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
_GREY, _RGB, _PALETTE, _RGBA = 0, 2, 3, 6  # Colour types in a PNG header.


def one_hot(labels: tf.Tensor) -> tf.Tensor:
    """One-hot encodes label maps int32 [B,S,S] as float32 [B,S,S,19]."""
    return tf.one_hot(labels, len(CLASSES_19))


def decode_labels(encoded: tf.Tensor, lines: bool = False) -> tf.Tensor:
    """Decodes one PNG of grey class ids or class colours, string [], to int32 [H,W].

    Args:
        encoded: The PNG.
        lines: Expect a line drawing, with codes up to 19 (white).

    Raises:
        tf.errors.InvalidArgumentError: See `tfface.data.label_maps.load_label_map`.
    """
    is_png = tf.equal(tf.strings.substr(encoded, 0, 8), b"\x89PNG\r\n\x1a\n")
    with tf.control_dependencies(
        [tf.debugging.Assert(is_png, ["a label map is not a PNG; expected a PNG of class ids"])]
    ):
        shape = _png_shape(encoded)
    sides = tf.cast(shape, tf.int64)
    fits = (
        (tf.reduce_prod(sides) <= MAX_PIXELS)
        & (tf.reduce_min(sides) >= MIN_SIDE)
        & (tf.reduce_max(sides) <= MAX_ASPECT * tf.reduce_min(sides))
    )
    small = tf.debugging.Assert(
        fits, ["a label map is too large, too small or too long; received shape", shape]
    )
    with tf.control_dependencies([small]):
        depth, kind = _byte(encoded, 24), _byte(encoded, 25)
    opaque = tf.debugging.Assert(
        tf.reduce_any(tf.equal(kind, [_GREY, _RGB, _PALETTE, _RGBA])),
        ["a label map is partly transparent; expected ids in grey, or colours"],
    )
    with tf.control_dependencies([opaque]):
        labels = tf.cond(
            tf.equal(kind, _GREY),
            lambda: _decode_ids(encoded, depth, lines),
            lambda: _decode_colours(encoded, lines),
        )
    if lines:
        message = "received a label map, or lines that are far too thick; expected a line drawing"
        with tf.control_dependencies([tf.debugging.Assert(~_is_filled(labels), [message])]):
            labels = tf.identity(labels)
    return labels


def _is_filled(labels: tf.Tensor) -> tf.Tensor:
    """See `tfface.data.label_maps._is_filled`."""
    height, width = tf.shape(labels)[0], tf.shape(labels)[1]
    far = tf.maximum(tf.minimum(height, width) // THICKEST, 1)
    down, across = tf.range(height), tf.range(width)
    within = labels > 0
    for shift in (-far, far):
        rows = tf.clip_by_value(down + shift, 0, height - 1)
        columns = tf.clip_by_value(across + shift, 0, width - 1)
        within &= tf.equal(tf.gather(labels, rows), labels)
        within &= tf.equal(tf.gather(labels, columns, axis=1), labels)
    marked = tf.math.count_nonzero(labels)
    return (2 * marked > tf.size(labels, tf.int64)) | (4 * tf.math.count_nonzero(within) > marked)


def _byte(encoded: tf.Tensor, position: int) -> tf.Tensor:
    """One byte of a string [], uint8 []; 0 past its end."""
    padded = tf.strings.join([encoded, tf.constant(b"\0" * (position + 1))])
    return tf.io.decode_raw(tf.strings.substr(padded, position, 1), tf.uint8)[0]


def _first(wrong: tf.Tensor) -> tf.Tensor:
    """Row and column of the first True in bool [H,W]."""
    index = tf.argmax(tf.reshape(tf.cast(wrong, tf.uint8), [-1]), output_type=tf.int32)
    return tf.stack([index // tf.shape(wrong)[1], index % tf.shape(wrong)[1]])


def _decode_ids(encoded: tf.Tensor, depth: tf.Tensor, lines: bool) -> tf.Tensor:
    values = tf.cond(
        tf.equal(depth, 16),
        lambda: tf.cast(tf.io.decode_png(encoded, 1, tf.uint16), tf.int32),
        lambda: tf.cast(tf.io.decode_png(encoded, 1, tf.uint8), tf.int32),
    )
    return check_labels(values[None, ..., 0], lines)[0]


def _decode_colours(encoded: tf.Tensor, lines: bool) -> tf.Tensor:
    # With channels=4, opaque pixels of a palette with few colours would not have alpha 255.
    values = tf.io.decode_png(encoded)
    opaque = tf.debugging.Assert(
        tf.reduce_all(tf.equal(values[..., 3:], 255)),
        ["a label map is partly transparent; expected ids in grey, or colours"],
    )
    with tf.control_dependencies([opaque]):
        red, green, blue = (tf.cast(values[..., i], tf.int32) for i in range(3))
    packed = red * (1 << 16) + green * (1 << 8) + blue
    codes = np.argsort(_KEYS) if lines else np.argsort(_KEYS[:LINE])
    known = _KEYS[codes].astype(np.int32)
    index = tf.searchsorted(known, tf.reshape(packed, [-1]))
    index = tf.reshape(tf.minimum(index, len(known) - 1), tf.shape(packed))
    wrong = tf.not_equal(tf.gather(known, index), packed)
    at = _first(wrong)
    right = tf.debugging.Assert(
        ~tf.reduce_any(wrong),
        ["a label map has a colour that belongs to no class:", values[at[0], at[1], :3]]
        + ["at row and column", at, "; expected CelebAMask-HQ's colours, or ids in grey"],
        summarize=4,
    )
    with tf.control_dependencies([right]):
        return tf.gather(tf.constant(codes, tf.int32), index)


def to_label_squares(encoded: tf.Tensor, size: int, lines: bool = False) -> tf.Tensor:
    """Decodes label maps, string [B], to int32 [B,size,size]: central squares, nearest pixels."""

    def decode(png):
        labels = decode_labels(png, lines)
        top, left, side = _square(tf.shape(labels)[0], tf.shape(labels)[1])
        nearest = (2 * tf.range(size) + 1) * side // (2 * size)
        square = tf.gather(tf.gather(labels, top + nearest), left + nearest, axis=1)
        return tf.ensure_shape(square, [size, size])

    spec = tf.TensorSpec([size, size], tf.int32)
    return tf.map_fn(decode, encoded, fn_output_signature=spec)


def check_labels(labels: tf.Tensor, lines: bool = False) -> tf.Tensor:
    """Returns the labels int32 [B,H,W] unchanged after checking their range.

    Raises:
        tf.errors.InvalidArgumentError: A label is not in 0 to 18, or 0 to 19 for line drawings.
    """
    most = LINE if lines else LINE - 1
    wrong = (labels < 0) | (labels > most)
    first = tf.boolean_mask(labels, wrong)[:1]
    right = tf.debugging.Assert(
        ~tf.reduce_any(wrong), ["a label map has the value", first, "; expected 0 to", most]
    )
    with tf.control_dependencies([right]):
        return tf.identity(labels)


def colour_labels(labels: tf.Tensor) -> tf.Tensor:
    """Colours label maps or line drawings, int32 [...] from 0 to 19: float32 [...,3] in [-1,1]."""
    return tf.gather(tf.constant(_COLOURS / np.float32(127.5) - np.float32(1)), labels)


def example_labels(size: int, lines: bool = False) -> tf.Tensor:
    """A fixed, simple face of ellipses, or its line drawing: int32 [1,size,size]."""
    position = (np.arange(size) + 0.5) / size
    x, y = position[None, :], position[:, None]
    labels = np.zeros((size, size), np.int32)
    for name, across, down, width, height in (
        ("cloth", 0.5, 1.05, 0.48, 0.22),
        ("hair", 0.5, 0.42, 0.36, 0.38),
        ("neck", 0.5, 0.82, 0.13, 0.14),
        ("l_ear", 0.79, 0.5, 0.05, 0.09),
        ("r_ear", 0.21, 0.5, 0.05, 0.09),
        ("skin", 0.5, 0.52, 0.27, 0.34),
        ("nose", 0.5, 0.56, 0.05, 0.10),
        ("l_eye", 0.62, 0.45, 0.06, 0.03),
        ("r_eye", 0.38, 0.45, 0.06, 0.03),
        ("l_brow", 0.62, 0.37, 0.08, 0.02),
        ("r_brow", 0.38, 0.37, 0.08, 0.02),
        ("u_lip", 0.5, 0.70, 0.10, 0.03),
        ("l_lip", 0.5, 0.74, 0.09, 0.03),
    ):
        inside = ((x - across) / width) ** 2 + ((y - down) / height) ** 2 < 1
        labels[inside] = CLASSES_19.index(name)
    return tf.constant((draw_lines(labels).astype(np.int32) if lines else labels)[None])


def encode_labels(labels: tf.Tensor) -> tf.Tensor:
    """Encodes label maps or line drawings int32 [B,S,S] as grey PNGs of ids, string [B]."""
    return tf.map_fn(
        lambda x: tf.io.encode_png(tf.cast(x[..., None], tf.uint8)),
        labels,
        fn_output_signature=tf.TensorSpec([], tf.string),
    )
