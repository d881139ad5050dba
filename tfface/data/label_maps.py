"""Label maps between files and arrays: which part of a face each pixel shows.

Needs Pillow and numpy only, so that a client can use it without TensorFlow. In the graph of an
exported model: `tfface.data.label_map_ops`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tfface.data.images import face_box, opened, save_image
from tfface.errors import UserError

CLASSES_19 = (
    "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
"""Classes of the label map in CelebAMask-HQ's order; l_ is the person's left, right in the
image."""

PALETTE = np.array(
    [
        (0, 0, 0), (204, 0, 0), (76, 153, 0), (204, 204, 0), (51, 51, 255), (204, 0, 204),
        (0, 255, 255), (255, 204, 204), (102, 51, 0), (255, 0, 0), (102, 204, 0), (255, 255, 0),
        (0, 0, 153), (0, 0, 204), (255, 51, 153), (0, 204, 204), (0, 51, 0), (255, 153, 51),
        (0, 204, 0),
    ],
    np.uint8,
)  # fmt: skip
"""Colours of the classes, as CelebAMask-HQ's authors draw them (g_color.py)."""

LINE = 19
"""In a line drawing, the code of a line that is not the outline of a part; drawn white."""

THICKEST = 32
"""A drawing's lines are up to two of so many parts of its side thick; what is more is an area."""

FLIPPED = np.arange(LINE + 1, dtype=np.int32)
"""The code that takes the place of each code when an image is mirrored: sides are swapped."""
FLIPPED[[4, 5, 6, 7, 8, 9]] = 5, 4, 7, 6, 9, 8

_COLOURS = np.concatenate([PALETTE, np.full((1, 3), 255, np.uint8)])
_GREY, _COLOURED = ("1", "L", "I", "I;16", "I;16B"), ("RGB", "RGBA", "P")


def load_label_map(
    source: str | Path | bytes, lines: bool | None = False, name: str | None = None
) -> np.ndarray:
    """Reads a label map, or a line drawing, from a PNG.

    Args:
        source: A file, or the bytes of one: grey, of class ids, or in the colours of PALETTE.
        lines: A line drawing is expected, see `tfface.data.lines`; None: either.
        name: What to call it in an error; the file's path if not given.

    Returns:
        uint8 [H,W] of ids 0 to 18; of a line drawing 0 to 19.

    Raises:
        UserError: The file is missing, truncated or not a PNG; not of the size or shape of a face
            image (see `load_image`); has other ids or colours; is the mask of a single part; or
            is a label map where a line drawing is expected.
    """
    name = name or ("the label map" if isinstance(source, bytes) else str(source))
    unknown = "not a PNG; a label map must be one, as other formats do not keep its values exactly"
    with opened(source, name, unknown, ("PNG",)) as image:
        if image.mode in _GREY:
            values = np.asarray(image.convert("L") if image.mode == "1" else image)
            labels = _from_ids(values, lines is not False, name)
        elif image.mode in _COLOURED:
            # The transparency of a palette belongs to its colours; of RGB it would be one more.
            opaque = image.mode == "RGB" or not image.has_transparency_data
            values = np.asarray(image.convert("RGB" if opaque else "RGBA"))
            labels = _from_colours(values, lines is not False, name)
        else:
            raise UserError(f"{name}: is partly transparent; expected ids in grey, or colours")
    if lines and _is_filled(labels):
        raise UserError(
            f"{name}: is a label map, or its lines are far too thick; expected a line drawing, "
            "which `python -m tfface.prepare lines` makes of a label map"
        )
    return labels.astype(np.uint8)


def _is_filled(labels: np.ndarray) -> bool:
    """Whether codes [H,W] fill areas: half of all, or a quarter of the marked within its like."""
    far = max(min(labels.shape) // THICKEST, 1)
    padded = np.pad(labels, far, mode="edge")
    height, width = labels.shape
    within = labels > 0
    for down, across in ((0, far), (2 * far, far), (far, 0), (far, 2 * far)):
        within = within & (padded[down : down + height, across : across + width] == labels)
    marked = np.count_nonzero(labels)
    return 2 * marked > labels.size or 4 * np.count_nonzero(within) > marked


def _from_ids(values: np.ndarray, lines: bool, name: str) -> np.ndarray:
    most = LINE if lines else LINE - 1
    wrong = values > most
    if wrong.any():
        if not lines and not ((values != 0) & (values != 255)).any():
            raise _single_part(name)
        row, column = np.unravel_index(np.argmax(wrong), wrong.shape)
        raise UserError(
            f"{name}: has the value {values[row, column]} (first at row {row}, column {column}); "
            f"expected 0 to {most}, or the colours of CelebAMask-HQ's classes"
        )
    return values


def _from_colours(values: np.ndarray, lines: bool, name: str) -> np.ndarray:
    if (values[..., 3:] != 255).any():
        raise UserError(f"{name}: is partly transparent; expected ids in grey, or colours")
    keys, packed = _pack(_COLOURS), _pack(values)
    order = np.argsort(keys)
    labels = order[np.searchsorted(keys[order], packed).clip(max=LINE)]
    wrong = keys[labels] != packed
    if not lines:
        white = labels == LINE
        if white.any() and not ((packed != 0) & (packed != keys[LINE])).any():
            raise _single_part(name)
        wrong |= white
    if wrong.any():
        row, column = np.unravel_index(np.argmax(wrong), wrong.shape)
        colour = ", ".join(str(value) for value in values[row, column, :3])
        raise UserError(
            f"{name}: has the colour ({colour}) (first at row {row}, column {column}); expected "
            f"the colours of CelebAMask-HQ's classes{' and white' if lines else ''}, or a grey "
            "PNG of ids"
        )
    return labels


def _pack(colours: np.ndarray) -> np.ndarray:
    """One int32 for each colour uint8 [...,3 or 4]."""
    red, green, blue = (colours[..., i].astype(np.int32) for i in range(3))
    return red << 16 | green << 8 | blue


def _single_part(name: str) -> UserError:
    return UserError(
        f"{name}: is black and white, the mask of a single part; expected a label map, into which "
        "the part masks of CelebAMask-HQ are composed by `python -m tfface.prepare label_maps`"
    )


def to_labels(labels: np.ndarray, size: int) -> np.ndarray:
    """The central square of a label map, brought to a size by taking the nearest pixels.

    Args:
        labels: Integers [H,W].
        size: Side wanted, in pixels.

    Returns:
        int32 [size,size]: pixel i is that at (i + 0.5) * side / size of the square.
    """
    left, upper, right, _ = face_box(*labels.shape[::-1])
    nearest = (2 * np.arange(size) + 1) * (right - left) // (2 * size)
    return labels[upper + nearest[:, None], left + nearest].astype(np.int32)


def colour(labels: np.ndarray) -> np.ndarray:
    """A label map or line drawing, integers [...] of 0 to 19, in colours: uint8 [...,3]."""
    return _COLOURS[labels]


def save_label_map(labels: np.ndarray, path: str | Path) -> None:
    """Writes a label map or line drawing, integers [H,W] of 0 to 19, as a grey PNG of its ids.

    Raises:
        UserError: The file does not end in `.png`, or cannot be written.
    """
    _save_png(Image.fromarray(np.asarray(labels).astype(np.uint8)), path)


def save_colours(labels: np.ndarray, path: str | Path) -> None:
    """Writes a label map or line drawing as a PNG to look at, which can be read back as exactly.

    Args:
        labels: Integers [H,W] of 0 to 19.
        path: The file.

    Raises:
        UserError: As `save_label_map`.
    """
    _save_png(Image.fromarray(colour(labels)), path)


def _save_png(image: Image.Image, path: str | Path) -> None:
    if Path(path).suffix.lower() != ".png":
        raise UserError(f"{path}: expected a name that ends in .png, which keeps values exactly")
    save_image(image, path)
