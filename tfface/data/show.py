"""Images side by side, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tfface.data.images import grid, to_image
from tfface.data.label_maps import colour
from tfface.errors import UserError

_LEAST = 96  # Minimum size of a shown image, in pixels.


def show(
    images: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    rows: Sequence[str] = (),
    across: int | None = None,
) -> Image.Image:
    """Arranges images side by side with captions; small images are enlarged.

    An image is a Pillow image, floats [H,W,3] in [-1,1], or a label map, integers [H,W] from 0 to
    19, which is shown in the colours of its classes; arrays and tensors are accepted. None is an
    empty cell.

    Args:
        images: By caption, one image or a column of several: a list, or an array [N,H,W,3] or
            [N,H,W]. Or a list of rows, each a mapping from captions to images; the captions of the
            first row are shown.
        rows: Names of the rows.
        across: Maximum number of images in a row; captions are then left out.

    Returns:
        One image, which a notebook displays as the last value of a cell.

    Raises:
        UserError: A value is not an image.
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
    return [_image(name, item) for item in value]


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
