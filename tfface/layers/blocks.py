"""Feature maps as square blocks of pixels, addressed by index."""

from __future__ import annotations

from keras import ops

from tfface.errors import UserError


def partition_blocks(x, side: int):
    """Splits feature maps into blocks that do not overlap.

    Args:
        x: [B,H,W,C].
        side: Side of a block in pixels; divides H and W.

    Returns:
        [B,M,side*side,C] with M = (H/side)(W/side); block number row * (W/side) + column, its
        pixels row by row.

    Raises:
        UserError: H or W is not a multiple of `side`.
    """
    _, height, width, channels = x.shape
    if height % side or width % side:
        raise UserError(
            f"block side {side} does not divide a feature map of {height} x {width} pixels"
        )
    rows, columns = height // side, width // side
    x = ops.reshape(x, (-1, rows, side, columns, side, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * columns, side * side, channels))


def merge_blocks(blocks, height: int, width: int):
    """The exact inverse of `partition_blocks`.

    Args:
        blocks: [B,M,side*side,C].
        height: H of the feature map.
        width: W of the feature map.

    Returns:
        [B,H,W,C].
    """
    _, _, pixels, channels = blocks.shape
    side = round(pixels**0.5)
    rows, columns = height // side, width // side
    x = ops.reshape(blocks, (-1, rows, columns, side, side, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, width, channels))
