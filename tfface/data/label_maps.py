"""Loading, conversion and saving of label maps: the face part that each pixel shows.

Needs only Pillow and NumPy, so a client can use it without TensorFlow. For the graph of an exported
model see `tfface.data.label_map_ops`.
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
"""Classes of a label map in CelebAMask-HQ's order; l_ is the person's left side, which is on the
right in the image."""

PALETTE = np.array(
    [
        (0, 0, 0), (204, 0, 0), (76, 153, 0), (204, 204, 0), (51, 51, 255), (204, 0, 204),
        (0, 255, 255), (255, 204, 204), (102, 51, 0), (255, 0, 0), (102, 204, 0), (255, 255, 0),
        (0, 0, 153), (0, 0, 204), (255, 51, 153), (0, 204, 204), (0, 51, 0), (255, 153, 51),
        (0, 204, 0),
    ],
    np.uint8,
)  # fmt: skip
"""Colours of the classes in CelebAMask-HQ (g_color.py)."""

LINE = 19
"""Code in line drawings of a line that is not the outline of a face part; drawn white."""

THICKEST = 32
"""Lines may be up to 2/32 of the side of a drawing thick; anything thicker counts as an area."""

FLIPPED = np.arange(LINE + 1, dtype=np.int32)
"""The code that replaces each code when an image is mirrored: left and right are swapped."""
FLIPPED[[4, 5, 6, 7, 8, 9]] = 5, 4, 7, 6, 9, 8

_COLOURS = np.concatenate([PALETTE, np.full((1, 3), 255, np.uint8)])
_GREY, _COLOURED = ("1", "L", "I", "I;16", "I;16B"), ("RGB", "RGBA", "P")


def load_label_map(
    source: str | Path | bytes, lines: bool | None = False, name: str | None = None
) -> np.ndarray:
    """Reads a label map or a line drawing from a PNG.

    Args:
        source: A file, or its content as bytes: grey class ids, or the colours of PALETTE.
        lines: Whether to expect a line drawing, see `tfface.data.lines`; None: accept either.
        name: Name of the label map in error messages; None: the file's path.

    Returns:
        Class ids, uint8 [H,W], from 0 to 18; for a line drawing 0 to 19.

    Raises:
        UserError: The file is missing, truncated or not a PNG; has an invalid size or shape (see
            `load_image`); has other ids or colours; is the mask of a single face part; or is a
            label map where a line drawing is expected.
    """
    name = name or ("the label map" if isinstance(source, bytes) else str(source))
    unknown = "not a PNG; label maps must be PNGs, as other formats do not keep values exactly"
    with opened(source, name, unknown, ("PNG",)) as image:
        if image.mode in _GREY:
            values = np.asarray(image.convert("L") if image.mode == "1" else image)
            labels = _from_ids(values, lines is not False, name)
        elif image.mode in _COLOURED:
            # In a palette, transparency is a property of colours; in RGB it is an extra colour.
            opaque = image.mode == "RGB" or not image.has_transparency_data
            values = np.asarray(image.convert("RGB" if opaque else "RGBA"))
            labels = _from_colours(values, lines is not False, name)
        else:
            raise UserError(f"{name}: is partly transparent; expected ids in grey, or colours")
    if lines and _is_filled(labels):
        raise UserError(
            f"{name}: is a label map, or its lines are far too thick; expected a line drawing, "
            "as `python -m tfface.prepare lines` creates from a label map"
        )
    return labels.astype(np.uint8)


def _is_filled(labels: np.ndarray) -> bool:
    """Whether codes [H,W] fill areas instead of drawing lines.

    They do if more than half of the pixels are marked, or if more than a quarter of the marked
    pixels have the same code at a distance of 1/32 of the side in all four directions.
    """
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
    """Packs colours uint8 [...,3 or 4] into one int32 each."""
    red, green, blue = (colours[..., i].astype(np.int32) for i in range(3))
    return red << 16 | green << 8 | blue


def _single_part(name: str) -> UserError:
    return UserError(
        f"{name}: is black and white, the mask of a single part; expected a label map, which "
        "`python -m tfface.prepare label_maps` composes from the part masks of CelebAMask-HQ"
    )


def to_labels(labels: np.ndarray, size: int) -> np.ndarray:
    """Crops a label map to its central square and resizes it with nearest neighbours.

    Args:
        labels: Integers [H,W].
        size: Side of the result, in pixels.

    Returns:
        int32 [size,size]: pixel i is the one at (i + 0.5) * side / size of the square.
    """
    left, upper, right, _ = face_box(*labels.shape[::-1])
    nearest = (2 * np.arange(size) + 1) * (right - left) // (2 * size)
    return labels[upper + nearest[:, None], left + nearest].astype(np.int32)


def colour(labels: np.ndarray) -> np.ndarray:
    """Colours a label map or line drawing, integers [...] from 0 to 19: uint8 [...,3]."""
    return _COLOURS[labels]


def save_label_map(labels: np.ndarray, path: str | Path) -> None:
    """Writes a label map or line drawing, integers [H,W] from 0 to 19, as a grey PNG of ids.

    Raises:
        UserError: The file does not end in `.png`, or cannot be written.
    """
    _save_png(Image.fromarray(np.asarray(labels).astype(np.uint8)), path)


def save_colours(labels: np.ndarray, path: str | Path) -> None:
    """Writes a label map or line drawing as a coloured PNG, which can be read back exactly.

    Args:
        labels: Integers [H,W] from 0 to 19.
        path: The file.

    Raises:
        UserError: See `save_label_map`.
    """
    _save_png(Image.fromarray(colour(labels)), path)


def _save_png(image: Image.Image, path: str | Path) -> None:
    if Path(path).suffix.lower() != ".png":
        raise UserError(f"{path}: expected a name that ends in .png, as PNGs keep values exactly")
    save_image(image, path)
