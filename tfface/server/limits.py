"""Limits on the decoded size of a request: a few bytes must not fill memory or keep cores busy.

The limits depend on the bytes that were sent and on the largest requests that the models need.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tfface.data.image_heads import image_size, may_hold
from tfface.server.status import invalid

# A TensorProto may hold a single value that is repeated to fill its shape. Maximum size in bytes of
# such a tensor: 21 float images of 256 x 256.
LARGEST_UNSENT = 2**24
MAX_STRINGS = 2**20  # in a tensor
_STRING_COST = 64  # memory overhead of a string, in bytes
# Maximum number of rows that repeat one string, as each is computed.
_MAX_REPEATED_STRINGS = 256


def check_unfolded(count: int, item_size: int, sent: int) -> None:
    """Checks the size of a tensor whose shape may have more values than were sent.

    Args:
        count: Number of values in the shape, at least 1.
        item_size: Bytes of a value.
        sent: Number of values that were sent.

    Raises:
        ValueError: It is too large.
    """
    if count > sent and count * item_size > LARGEST_UNSENT:
        raise ValueError("the shape has far more values than were sent")


def check_strings(count: int, sent: int, last: int) -> None:
    """Checks a tensor of strings.

    Args:
        count: Number of strings in its shape.
        sent: Number of strings that were sent.
        last: Length in bytes of the last one, which is repeated in place of missing ones.

    Raises:
        ValueError: It has too many strings.
    """
    if count > MAX_STRINGS:
        raise ValueError("too many strings")
    if count > max(sent, _MAX_REPEATED_STRINGS):
        raise ValueError("the shape has far more strings than were sent")
    check_unfolded(count, last + _STRING_COST, sent)


def check_images(values: Iterable[bytes], max_pixels: int) -> None:
    """Checks the total number of pixels of the encoded images in a request, from their headers.

    Args:
        values: The strings of a request, of which some are encoded images.
        max_pixels: Maximum number of pixels of all images together; 0: unlimited.

    Raises:
        ServingError: There are more pixels, or too many for the number of bytes.
    """
    if not max_pixels:
        return
    pixels = sent = 0
    last = None
    for value in values:
        pixels += math.prod(image_size(value))
        sent += 0 if value is last else len(value)  # a repeated string was sent once
        last = value
    if not may_hold(pixels, sent, max_pixels):
        raise invalid(
            f"images too large; expected at most {max_pixels} pixels in a request "
            f"(--max_request_pixels), and fewer for highly compressed images; received "
            f"{pixels} pixels in {sent} bytes"
        )
