"""Loading, preprocessing and saving of images, shared by training, editing and the clients.

Needs only Pillow and NumPy, so a client can use it without TensorFlow.
"""

from __future__ import annotations

import contextlib
import io
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageFont, PngImagePlugin

from tfface.data.image_heads import MAX_PIXELS
from tfface.data.marks import XMP_KEY, Mark
from tfface.errors import UserError

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WEBP",
}
MIN_SIDE = 16
_ORIENTATION = 0x0112  # EXIF tag.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its EXIF orientation."""
MAX_ASPECT = 3
# Some of Pillow's decoders run other programs (EPS), which is unsafe for untrusted images.
_READABLE = tuple(sorted(set(FORMATS.values())))


def load_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """Reads and decodes an image completely.

    Args:
        source: A file, or its content as bytes.
        name: Name of the image in error messages; None: the file's path.

    Returns:
        The image as RGB, upright according to its EXIF data, transparent parts on white.

    Raises:
        UserError: The file is missing, not an image, truncated, larger than 50 megapixels, smaller
            than 16 pixels on a side, or its aspect ratio is above 3.
    """
    name = name or ("the image" if isinstance(source, bytes) else str(source))
    with opened(source, name, "not an image (expected JPEG, PNG, BMP or WebP)") as image:
        if (turn := _TURNS.get(orientation(image))) is not None:
            image = image.transpose(turn)
            image.info.pop("exif", None)
        plain = image.mode == "RGB" and not image.has_transparency_data
        return image if plain else _to_rgb(image)


def orientation(image: Image.Image) -> int:
    """Orientation according to EXIF data: 1 for upright, as for missing or damaged data."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises nearly anything for damaged EXIF data.
        return 1


@contextlib.contextmanager
def opened(
    source: str | Path | bytes, name: str, unknown: str, formats: Sequence[str] = _READABLE
) -> Iterator[Image.Image]:
    """Context manager that opens and fully decodes an image in its stored mode; checks its shape.

    Args:
        source: A file, or its content as bytes.
        name: Name of the image in error messages.
        unknown: Error message for other formats.
        formats: Accepted formats, by Pillow's names.

    Raises:
        UserError: See `load_image`.
    """
    try:
        with Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats
        ) as image:
            _check_shape(*image.size, name)
            image.load()
            yield image
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{name}: more than {MAX_PIXELS // 10**6} megapixels") from error
    except FileNotFoundError as error:
        raise UserError(f"{name}: no such file") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{name}: {unknown}") from error
    except Exception as error:
        # Decoders raise nearly anything for a damaged file: OSError, SyntaxError, ValueError,
        # struct.error, zlib.error, KeyError. None of these may abort a training run.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{name}: cannot be read as an image: {reason}") from error


def _check_shape(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{name}: {width}x{height} is more than {MAX_PIXELS // 10**6} megapixels; "
            "resize it first"
        )
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(
            f"{name}: {width}x{height} is not the shape of a face image: expected at least "
            f"{MIN_SIDE} pixels on each side and at most {MAX_ASPECT} times as long as wide"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if not image.mode.startswith(("RGB", "P")):
        # A profile of grey levels or inks is not valid for RGB, as which the image may be saved.
        profile = image.info.pop("icc_profile", None)
        if image.mode == "CMYK" and profile:
            with contextlib.suppress(ImageCms.PyCMSError):
                return _from_inks(image, profile)
    if image.mode.startswith("I") or image.mode == "F":
        # 16 bits per pixel; Pillow's own conversion clips at 255 instead of scaling.
        values = np.asarray(image, np.float32) / 256
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _from_inks(image: Image.Image, profile: bytes) -> Image.Image:
    """Converts CMYK to sRGB by the image's colour profile; Pillow's conversion is far too vivid."""
    inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(image, inks, ImageCms.createProfile("sRGB"), outputMode="RGB")


def face_box(width: int, height: int) -> tuple[int, int, int, int]:
    """The part of an image that the networks see: its central square.

    Returns:
        left, upper, right, lower in pixels; right and lower are exclusive.
    """
    side = min(width, height)
    left, upper = (width - side) // 2, (height - side) // 2
    return left, upper, left + side, upper + side


def to_array(image: Image.Image, size: int) -> np.ndarray:
    """Crops an RGB image to its face box and resizes it for the networks (bilinear, antialiased).

    Returns:
        float32 [size,size,3] in [-1,1].
    """
    # Cropped first: resize(box=...) would blend in pixels from outside the square, unlike
    # tf.image.resize(antialias=True) in the exported graphs.
    square = image.crop(face_box(*image.size))
    resized = square.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32) / np.float32(127.5) - np.float32(1)


def to_image(array: np.ndarray) -> Image.Image:
    """Converts float [H,W,3] in [-1,1] to an 8-bit image; values outside are clipped."""
    values = (np.clip(np.asarray(array, np.float32), -1, 1) + 1) * 127.5
    return Image.fromarray(np.rint(values).astype(np.uint8))


def to_png(image: Image.Image, **options: Any) -> bytes:
    """Encodes an image as PNG; `options` are those of Pillow's writer."""
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def paste_back(image: Image.Image, edited: np.ndarray, face: np.ndarray) -> Image.Image:
    """Adds the edit of a face box to its image, which keeps its full-resolution detail.

    Only the difference made by the edit is enlarged, not the network's small output: where the edit
    changes nothing, the pixels stay the same.

    Args:
        image: The original image, of any size.
        edited: The edited face box, float [S,S,3] in [-1,1].
        face: The face box before the edit, as from `to_array`.

    Returns:
        A copy of the image, of the original size, with the difference added to its face box
        (bicubic).
    """
    left, upper, right, lower = face_box(*image.size)
    size = (right - left, lower - upper)
    # In floats, channel by channel, as differences can be negative.
    channels = np.moveaxis(np.asarray(edited, np.float32) - np.asarray(face, np.float32), -1, 0)
    enlarged = [Image.fromarray(x).resize(size, Image.Resampling.BICUBIC) for x in channels]
    square = np.asarray(image.crop((left, upper, right, lower)), np.float32)
    values = np.clip(square + np.stack(enlarged, -1) * np.float32(127.5), 0, 255)
    result = image.copy()
    result.paste(Image.fromarray(np.rint(values).astype(np.uint8)), (left, upper))
    return result


def save_image(image: Image.Image, path: str | Path, mark: Mark | None = None) -> None:
    """Writes an image atomically, in the format of its suffix; creates missing folders.

    Args:
        image: The image.
        path: The file.
        mark: States that the image was generated or edited.

    Raises:
        UserError: The suffix is unknown, its format cannot hold the mark, or the file cannot be
            written.
    """
    path = Path(path)
    file_format = FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise UserError(f"{path}: unknown image format; expected one of {' '.join(FORMATS)}")
    metadata = {}
    if mark and file_format == "PNG":
        metadata["pnginfo"] = PngImagePlugin.PngInfo()
        metadata["pnginfo"].add_itxt(XMP_KEY, mark.xmp().decode())
    elif mark and file_format in ("JPEG", "WEBP"):
        metadata["xmp"] = mark.xmp()
    elif mark:
        raise UserError(f"{path}: a {file_format} file cannot state that an image was generated")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            image.save(temporary, format=file_format, quality=95, **metadata)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_mark(path: str | Path) -> Mark | None:
    """Reads the statement of an image file that it was generated or edited; None: it has none.

    Raises:
        UserError: See `load_image`; or its XMP metadata is damaged.
    """
    with opened(path, str(path), "not an image that can be read") as image:
        packet = image.info.get("xmp") or image.info.get(XMP_KEY)
    if not packet:
        return None
    try:
        return Mark.from_xmp(packet)
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: its XMP metadata is damaged: {error}") from error


def is_image_name(name: str) -> bool:
    """Whether a file name has an image suffix and is not hidden (macOS creates `._*.jpg`)."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in FORMATS


def list_images(folder: str | Path) -> list[Path]:
    """The images directly in a folder, sorted by name.

    Raises:
        UserError: The folder is missing or has none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = sorted(folder / name for name in os.listdir(folder) if is_image_name(name))
    if not files:
        raise UserError(f"{folder}: has no images ({' '.join(FORMATS)})")
    return files


def grid(
    rows: Sequence[Sequence[np.ndarray | Image.Image]],
    columns: Sequence[str] = (),
    row_names: Sequence[str] = (),
) -> Image.Image:
    """A contact sheet of images on white, with small gaps.

    Args:
        rows: Images, or float arrays [H,W,3] in [-1,1]; rows may differ in length.
        columns: Captions above the columns.
        row_names: Captions to the left of the rows.

    Returns:
        The sheet as one RGB image.
    """
    cells = [[c if isinstance(c, Image.Image) else to_image(c) for c in row] for row in rows]
    width = max((c.width for row in cells for c in row), default=1)
    height = max((c.height for row in cells for c in row), default=1)
    font = ImageFont.load_default(min(max(width // 8, 12), 24))
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def extent(texts):
        boxes = [measure.multiline_textbbox((0, 0), text, font=font) for text in texts]
        return tuple(max((int(np.ceil(box[i])) for box in boxes), default=0) for i in (2, 3))

    gap = max(width // 32, 2)
    caption_width, caption_height = extent(columns)
    name_width, name_height = extent(row_names)
    step_x, step_y = max(width, caption_width) + gap, max(height, name_height) + gap
    inset = (step_x - gap - width) // 2
    left = gap + (name_width + 2 * gap if name_width else 0)
    top = gap + (caption_height + gap if caption_height else 0)
    across = max([len(row) for row in cells] + [len(columns)])
    sheet = Image.new("RGB", (left + across * step_x, top + len(cells) * step_y), "white")
    draw = ImageDraw.Draw(sheet)
    for x, caption in enumerate(columns):
        centre = left + x * step_x + inset + width / 2
        draw.multiline_text((centre, gap), caption, "black", font, anchor="ma", align="center")
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            sheet.paste(cell, (left + x * step_x + inset, top + y * step_y))
        if y < len(row_names):
            middle = top + y * step_y + height / 2
            draw.multiline_text((gap, middle), row_names[y], "black", font, anchor="lm")
    return sheet
