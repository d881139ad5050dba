"""How large encoded images are, told from their heads; nothing is decoded, nothing imported."""

from __future__ import annotations

import re
import struct

# What may be in one request together, and for each byte of it beyond 2**22 pixels. Photographs have
# about 3 pixels for a byte, or 13 after a messenger has shrunk them; label maps of 512 x 512, which
# begin within those 2**22, 50 to 100.
MAX_PIXELS = 50_000_000
_FREE_PIXELS = 2**22
_PIXELS_PER_BYTE = 32
# A JPEG's markers: garbage between them is skipped, as decoders do.
_MARKER = re.compile(rb"\xff+([^\xff\0])", re.S)
_STARTS_OF_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ENDS = {0xD9, 0xDA}  # of the image, and of its head
_WITHOUT_CONTENT = {0x01, *range(0xD0, 0xD8)}


def may_hold(pixels: int, sent: int, most_pixels: int = MAX_PIXELS) -> bool:
    """Whether a request may hold images of so many pixels together.

    Args:
        pixels: Of all its images.
        sent: Their bytes.
        most_pixels: However many bytes there are.
    """
    return pixels <= min(most_pixels, _FREE_PIXELS + _PIXELS_PER_BYTE * sent)


def image_size(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG, PNG, GIF, BMP or WebP; (0, 0) of all else.

    Only its head is looked at. What a decoder makes of a damaged one may be smaller.
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
    except (struct.error, IndexError):  # cut off: no decoder takes it either
        pass
    return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Of the first frame; a decoder refuses a second one."""
    place = 2
    while match := _MARKER.search(data, place):
        marker, place = match[1][0], match.end()
        if marker in _STARTS_OF_FRAMES:
            return struct.unpack_from(">HH", data, place + 3)
        if marker in _ENDS:
            break
        if marker not in _WITHOUT_CONTENT:
            place += struct.unpack_from(">H", data, place)[0]
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
