"""Orientation and transparency of encoded images, read from their headers in a graph.

Only the first bytes are read, where cameras and programs write this data.
"""

from __future__ import annotations

import tensorflow as tf

_JPEG_HEAD = 4096  # bytes
_PNG_HEAD = 65_536  # Colour profiles may come first.
_MOST_ENTRIES = 64  # Maximum entries of an EXIF directory.
_ENTRY = 12  # bytes
_ORIENTATION = 0x0112
_ALPHA = 4  # A bit of a PNG's colour type.


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image [H,W,C] upright according to EXIF's `Orientation`, int32 [] from 1 to 8."""

    def turn() -> tf.Tensor:
        turned = tf.cond(orientation >= 5, lambda: _transposed(image), lambda: image)
        for axis, mirrored in ((1, (2, 3, 6, 7)), (0, (3, 4, 7, 8))):
            flip = tf.reduce_any(orientation == mirrored)
            turned = tf.cond(flip, lambda x=turned, a=axis: tf.reverse(x, [a]), lambda x=turned: x)
        return turned

    return tf.cond(orientation > 1, turn, lambda: image)


def _transposed(image: tf.Tensor) -> tf.Tensor:
    # With a gather: `tf.transpose` of uint8 logs an error on some processors.
    height, width, channels = tf.unstack(tf.shape(image))
    indices = width * tf.range(height)[None] + tf.range(width)[:, None]
    return tf.gather(tf.reshape(image, [-1, channels]), indices)


def jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """EXIF's `Orientation` of a JPEG, string [], as int32 []; 1 if there is none."""

    def read() -> tf.Tensor:
        head = _head(encoded, _JPEG_HEAD)
        return _orientation(head, _find(head, b"Exif\0\0") + 6)

    # A single operation, as most images have no EXIF data.
    start = tf.strings.substr(encoded, 0, _JPEG_HEAD)
    found = tf.strings.regex_full_match(start, r"\C*Exif\x00\x00\C*")
    return tf.cond(found, read, lambda: 1)


def png_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """EXIF's `Orientation` of a PNG, string [], as int32 []; 1 if there is none."""
    head = _head(encoded, _PNG_HEAD)
    position = _find(head, b"eXIf")
    return tf.cond(position < 0, lambda: 1, lambda: _orientation(head, position + 4))


def png_transparency(encoded: tf.Tensor) -> tf.Tensor:
    """Whether a PNG, string [], has an alpha channel or tRNS chunk, bool []."""
    head = _head(encoded, _PNG_HEAD)
    kind = _number(head, 25, 1, True)
    return (tf.bitwise.bitwise_and(kind, _ALPHA) > 0) | (_find(head, b"tRNS") >= 0)


def _head(encoded: tf.Tensor, length: int) -> tf.Tensor:
    """The first bytes, int32 [length], padded with zeros."""
    head = tf.io.decode_raw(encoded, tf.uint8, fixed_length=length)
    return tf.ensure_shape(tf.cast(head, tf.int32), [length])


def _find(head: tf.Tensor, word: bytes) -> tf.Tensor:
    """Position of the first occurrence of a word; -1 if there is none."""
    last = head.shape[0] - len(word) + 1
    equal = [head[i : last + i] == letter for i, letter in enumerate(word)]
    matches = tf.reduce_all(equal, 0)
    position = tf.argmax(tf.cast(matches, tf.uint8), output_type=tf.int32)
    return tf.where(tf.reduce_any(matches), position, -1)


def _number(head: tf.Tensor, position, length: int, big: bool | tf.Tensor) -> tf.Tensor:
    """Numbers of one, two or four bytes at one or many positions; bytes past the end are 0."""
    indices = tf.convert_to_tensor(position)[..., None] + tf.range(length)
    inside = (indices >= 0) & (indices < head.shape[0])
    values = tf.where(inside, tf.gather(head, tf.where(inside, indices, 0)), 0)
    powers = tf.range(length)
    powers = tf.where(big, length - 1 - powers, powers)
    return tf.reduce_sum(tf.bitwise.left_shift(values, 8 * powers), -1)


def _orientation(head: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """The orientation in the first directory of the EXIF data that begin at a position."""
    big = tf.equal(head[tf.minimum(position, head.shape[0] - 1)], ord("M"))
    directory = position + _number(head, position + 4, 4, big)
    count = _number(head, directory, 2, big)
    numbers = tf.range(_MOST_ENTRIES)
    entries = directory + 2 + _ENTRY * numbers
    wanted = (_number(head, entries, 2, big) == _ORIENTATION) & (numbers < count)
    value = tf.reduce_max(tf.where(wanted, _number(head, entries + 8, 2, big), 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)
