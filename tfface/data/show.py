"""Images side by side, to look at in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tfface.data.images import grid, to_image
from tfface.data.label_maps import colour
from tfface.errors import UserError

_LEAST = 96  # Pixels that an image is shown with at least.


def show(
    images: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    rows: Sequence[str] = (),
    across: int | None = None,
) -> Image.Image:
    """Images side by side with captions, enlarged if they are small.

    An image is a Pillow image, floats [H,W,3] in [-1,1], or a label map, integers [H,W] of 0 to
    19, which is shown in the colours of its classes; as an array or a tensor. None is an empty
    place.

    Args:
        images: An image by each caption, or several, which then are a column: a list, or an
            array [N,H,W,3] or [N,H,W]. Or a list of rows, each of images by captions, of which
            the first row's are shown.
        rows: Names of the rows.
        across: Break a single row after so many images; without captions.

    Returns:
        One image, which a notebook shows as the last value of a cell.

    Raises:
        UserError: Something that is no image.
    """
    if isinstance(images, Mapping):
        columns = [_several(name, value) for name, value in images.items()]
        captions, count = list(images), max(map(len, columns), default=0)
        lines = [[c[i] if i < len(c) else None for c in columns] for i in range(count)]
    else:
        captions = list(images[0])
        lines = [[_image(name, value) for name, value in row.items()] for row in images]
    if across:
        flat = [cell for line in lines for cell in line]
        captions, lines = [], [flat[i : i + across] for i in range(0, len(flat), across)]
    blank = Image.new("RGB", (_LEAST, _LEAST), "white")
    return grid([[cell or blank for cell in line] for line in lines], captions, rows)


def _several(name: str, value: Any) -> list[Image.Image | None]:
    if value is None or isinstance(value, Image.Image):
        return [_image(name, value)]
    if not isinstance(value, list | tuple):
        value = np.asarray(value)
        if value.ndim == 2 or (value.ndim == 3 and value.dtype.kind == "f"):
            value = [value]
    return [_image(name, one) for one in value]


def _image(name: str, value: Any) -> Image.Image | None:
    if value is None:
        return None
    if not isinstance(value, Image.Image):
        value = np.asarray(value)
        if value.ndim == 3 and value.shape[2] == 3 and value.dtype.kind == "f":
            value = to_image(value)
        elif value.ndim == 2 and value.dtype.kind in "iu":
            value = Image.fromarray(colour(value))
        else:
            raise UserError(
                f"{name} is {value.dtype} {list(value.shape)}: expected an image, floats [H,W,3] "
                f"in [-1,1], or a label map, integers [H,W]"
            )
    factor = -(-_LEAST // max(value.size))
    return value.resize((factor * value.width, factor * value.height), Image.Resampling.NEAREST)
