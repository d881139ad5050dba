"""What a request may unfold to: a few bytes must not fill the memory or keep cores busy.

Bounded by what was sent, and by what the largest models take in one request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tfface.data.image_heads import image_size, may_hold
from tfface.server.status import invalid

# Bytes of values that a request has not sent but stands for, as one value may be the whole tensor:
# 21 float images of 256 x 256.
LARGEST_UNSENT = 2**24
MOST_STRINGS = 2**20  # in a tensor
_STRING_COST = 64  # bytes of memory for a string, beside its own
# Rows that may be made of one string, as each costs a computation.
_MOST_REPEATED_STRINGS = 256


def check_unfolded(count: int, item_size: int, sent: int) -> None:
    """Checks a tensor that has more values than were sent.

    Args:
        count: Its values, at least one.
        item_size: Bytes of a value.
        sent: How many of the values were sent.

    Raises:
        ValueError: It is too large.
    """
    if count > sent and count * item_size > LARGEST_UNSENT:
        raise ValueError("a tensor that was not sent but only claimed")


def check_strings(count: int, sent: int, last: int) -> None:
    """Checks a tensor of strings.

    Args:
        count: How many it has.
        sent: How many were sent.
        last: Bytes of the one that stands for all that were not.

    Raises:
        ValueError: It has too many.
    """
    if count > MOST_STRINGS:
        raise ValueError("too many strings")
    if count > max(sent, _MOST_REPEATED_STRINGS):
        raise ValueError("strings that were not sent but only claimed")
    check_unfolded(count, last + _STRING_COST, sent)


def check_images(values: Iterable[bytes], most_pixels: int) -> None:
    """Checks the encoded images among strings, by what their heads say.

    Args:
        values: The strings of a request.
        most_pixels: Of all images together; 0: any number.

    Raises:
        ServingError: They have more, or too many for the bytes that were sent.
    """
    if not most_pixels:
        return
    pixels = sent = 0
    last = None
    for value in values:
        pixels += math.prod(image_size(value))
        sent += 0 if value is last else len(value)  # one that stands for many was sent once
        last = value
    if not may_hold(pixels, sent, most_pixels):
        raise invalid(
            f"images too large; expected at most {most_pixels} pixels in a request "
            f"(--max_request_pixels), and fewer where these are not made of many bytes; received "
            f"{pixels} pixels in {sent} bytes"
        )
