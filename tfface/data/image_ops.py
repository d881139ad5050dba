"""Encoded images in the graph of an exported model."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfface.data.image_heads import MAX_PIXELS  # More would fill the server's memory.
from tfface.data.marks import Mark
from tfface.data.orientation_ops import (
    jpeg_orientation,
    png_orientation,
    png_transparency,
    upright,
)


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one JPEG or PNG, string [], to uint8 [H,W,3], like `tfface.data.images.load_image`.

    The image is turned upright according to its EXIF data; transparent parts become white.

    Raises:
        tf.errors.InvalidArgumentError: The format is unknown, the file is damaged, or the image has
            more than 50 megapixels (checked in the header before decoding).
    """
    is_jpeg = tf.io.is_jpeg(encoded)
    is_png = tf.equal(tf.strings.substr(encoded, 0, 8), b"\x89PNG\r\n\x1a\n")
    known = tf.debugging.Assert(is_jpeg | is_png, ["unknown image format; expected JPEG or PNG"])
    with tf.control_dependencies([known]):
        shape = tf.cond(
            is_jpeg, lambda: tf.io.extract_jpeg_shape(encoded)[:2], lambda: _png_shape(encoded)
        )
    pixels = tf.reduce_prod(tf.cast(shape, tf.int64))
    small = tf.debugging.Assert(
        pixels <= MAX_PIXELS,
        ["image too large; expected at most", MAX_PIXELS, "pixels, received", shape],
    )
    with tf.control_dependencies([small]):
        return tf.cond(is_jpeg, lambda: _decode_jpeg(encoded), lambda: _decode_png(encoded))


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    # Pillow, which decodes the training images, uses the accurate transform too.
    image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return upright(image, jpeg_orientation(encoded))


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    transparent, orientation = png_transparency(encoded), png_orientation(encoded)
    image = tf.cond(
        transparent,
        lambda: _on_white(tf.io.decode_png(encoded, channels=4)),
        lambda: tf.io.decode_png(encoded, channels=3),
    )
    return upright(image, orientation)


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """Blends an image uint8 [H,W,4] with white; returns uint8 [H,W,3]."""
    colours, alpha = tf.split(tf.cast(image, tf.float32), [3, 1], -1)
    return tf.saturate_cast(tf.round(255.0 + (colours - 255.0) * (alpha / 255.0)), tf.uint8)


def _png_shape(encoded: tf.Tensor) -> tf.Tensor:
    """Height and width from a PNG's header (bytes 16 to 23: width, height, big-endian)."""
    header = tf.strings.substr(tf.strings.join([encoded, tf.constant(b"\0" * 24)]), 16, 8)
    width, height = tf.unstack(tf.io.decode_raw(header, tf.int32, little_endian=False), num=2)
    return tf.stack([height, width])


def _square(height: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Top, left and side of the central square, like `tfface.data.images.face_box`."""
    side = tf.minimum(height, width)
    return (height - side) // 2, (width - side) // 2, side


def to_square(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resized central square of an image uint8 [H,W,3]: float32 [size,size,3] in [-1,1]."""
    top, left, side = _square(tf.shape(image)[0], tf.shape(image)[1])
    square = image[top : top + side, left : left + side]
    square = tf.image.resize(square, [size, size], "bilinear", antialias=True)
    return tf.ensure_shape(square / 127.5 - 1.0, [size, size, 3])


def to_squares(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes images, string [B], to central squares float32 [B,size,size,3] in [-1,1]."""
    spec = tf.TensorSpec([size, size, 3], tf.float32)
    return tf.map_fn(lambda x: to_square(decode(x), size), encoded, fn_output_signature=spec)


def paste_back(encoded: tf.Tensor, edited: tf.Tensor, square: tf.Tensor) -> tf.Tensor:
    """Adds the edit of a central square to its image, like `tfface.data.images.paste_back`.

    Args:
        encoded: The original image, string [].
        edited: Its edited square, float32 [S,S,3] in [-1,1].
        square: The square before the edit, as from `to_square`.

    Returns:
        PNG of the original's size, string [].
    """
    image = decode(encoded)
    top, left, side = _square(tf.shape(image)[0], tf.shape(image)[1])
    rows, columns = slice(top, top + side), slice(left, left + side)
    difference = tf.image.resize(edited - square, [side, side], "bicubic", antialias=True)
    pixels = tf.cast(image[rows, columns], tf.float32) + difference * 127.5
    pixels = tf.saturate_cast(tf.round(pixels), tf.uint8)
    middle = tf.concat([image[rows, :left], pixels, image[rows, left + side :]], 1)
    whole = tf.concat([image[:top], middle, image[top + side :]], 0)
    # Level 1: the default takes ten times as long and saves a tenth of the size.
    return tf.io.encode_png(whole, compression=1)


def edit_bytes(edit: Callable[[tf.Tensor], tf.Tensor], encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Edits encoded images, string [B], with a function of squares; returns PNGs of their sizes."""
    squares = to_squares(encoded, size)
    return tf.map_fn(
        lambda parts: paste_back(*parts),
        (encoded, edit(squares), squares),
        fn_output_signature=tf.TensorSpec([], tf.string),
    )


def to_bytes(images: tf.Tensor) -> tf.Tensor:
    """Converts images float32 [...,3] in [-1,1] to uint8; values outside are clipped."""
    return tf.saturate_cast(tf.round((images + 1.0) * 127.5), tf.uint8)


def encode_squares(squares: tf.Tensor) -> tf.Tensor:
    """Encodes images float32 [B,S,S,3] in [-1,1] as PNGs, string [B]."""
    return tf.map_fn(
        tf.io.encode_png, to_bytes(squares), fn_output_signature=tf.TensorSpec([], tf.string)
    )


_PNG_HEADER = 33
"""Bytes of a PNG's signature and of its header, after which other chunks may follow."""


def mark_pngs(encoded: tf.Tensor, mark: Mark) -> tf.Tensor:
    """Adds a mark to PNGs, string [B]."""
    head = tf.strings.substr(encoded, 0, _PNG_HEADER)
    tail = tf.strings.substr(encoded, _PNG_HEADER, 2**31 - 1)
    return tf.strings.join([head, mark.png_chunk(), tail])


def example_image(size: int) -> tf.Tensor:
    """A smooth, fixed texture of many colours: float32 [1,size,size,3] in [-0.9,0.9].

    A blank image would hide most differences between a network and its export.
    """
    position = tf.linspace(0.0, 1.0, size)
    shift = tf.constant([0.0, 2.0, 4.0])  # Phase of each colour channel.
    across = tf.sin(7.0 * position[None, :, None] + shift)
    down = tf.cos(5.0 * position[:, None, None] - shift)
    return 0.9 * (across * down)[None]


def example_png(image: tf.Tensor) -> tf.Tensor:
    """Encodes an image float32 [1,S,S,3] in [-1,1] as a PNG, string [1]."""
    return encode_squares(image)
