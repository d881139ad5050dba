"""Size of encoded images, read from their headers without decoding or third-party imports."""

from __future__ import annotations

import re
import struct

# Limits for all images of one request: a total, and beyond 2**22 pixels a number per byte.
# Photographs have about 3 pixels per byte, or 13 after recompression by a messenger; label maps of
# 512 x 512, which stay below 2**22 pixels, 50 to 100.
MAX_PIXELS = 50_000_000
_FREE_PIXELS = 2**22
_PIXELS_PER_BYTE = 32
# JPEG markers; garbage between them is skipped, as decoders do.
_MARKER = re.compile(rb"\xff+([^\xff\0])", re.S)
_STARTS_OF_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ENDS = {0xD9, 0xDA}  # End of the image, and of its header.
_WITHOUT_CONTENT = {0x01, *range(0xD0, 0xD8)}


def may_hold(pixels: int, sent: int, most_pixels: int = MAX_PIXELS) -> bool:
    """Whether a request may contain images with this total number of pixels.

    Args:
        pixels: Total pixels of its images.
        sent: Total encoded size of its images, in bytes.
        most_pixels: Maximum number of pixels, regardless of the bytes.
    """
    return pixels <= min(most_pixels, _FREE_PIXELS + _PIXELS_PER_BYTE * sent)


def image_size(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG, PNG, GIF, BMP or WebP; (0, 0) for anything else.

    Only the header is read. A decoder may return a smaller image if the file is damaged.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg_size(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return struct.unpack_from(">II", data, 16)[::-1]
        if data.startswith(b"GIF8"):
            return struct.unpack_from("<HH", data, 6)[::-1]
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return abs(height), abs(width)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp_size(data)
    except (struct.error, IndexError):  # Truncated: no decoder accepts it either.
        pass
    return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width of the first frame; decoders reject a second one."""
    position = 2
    while match := _MARKER.search(data, position):
        marker, position = match[1][0], match.end()
        if marker in _STARTS_OF_FRAMES:
            return struct.unpack_from(">HH", data, position + 3)
        if marker in _ENDS:
            break
        if marker not in _WITHOUT_CONTENT:
            position += struct.unpack_from(">H", data, position)[0]
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", data, 26))
    return height, width
