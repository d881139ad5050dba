"""Encoding of images and label maps, and grouping of them into requests."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.data.image_heads import image_size, may_hold
from tfface.errors import UserError

# NumPy and Pillow are imported where they are used; see `tfface.client.methods`.
if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from tfface.data.alignment import AlignedFace

    ImageSource = str | Path | bytes | Image.Image | np.ndarray | "Encoded"
    Condition = str | Path | bytes | np.ndarray
    Align = Callable[..., "Aligned"]

_CONDITIONS = ("condition_bytes", "label_map_bytes")
_EDITED = ("image_bytes", "source_bytes")
_HEAD = 1024  # upper bound on the bytes of names and shapes in a request


def is_list(name: str, value: Any) -> bool:
    """Whether a value is a list; an array [H,W] is one label map, and [H,W,3] is one image."""
    if not hasattr(value, "__len__") or isinstance(value, str | bytes):
        return False
    rank_of_one = 2 if name in _CONDITIONS else 3 if name.endswith("_bytes") else 0
    return getattr(value, "ndim", None) != rank_of_one


def lengths_of(values: dict[str, Any]) -> dict[str, int]:
    """The lengths of the values that are lists, by input name.

    Raises:
        UserError: They differ.
    """
    lengths = {name: len(value) for name, value in values.items() if is_list(name, value)}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        raise UserError(f"lists of different lengths: {given}")
    return lengths


def rows(
    values: dict[str, Any], lengths: dict[str, int], align: Align | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the inputs of each face; a single value is repeated for every face.

    Images are read lazily, so that they are not all in memory at once. Images are encoded, except
    for aligned ones that are edited: these are `Aligned`.

    Args:
        values: Values by input name: images for names that end in `_bytes`, label maps for
            `condition_bytes` and `label_map_bytes`.
        lengths: Lengths of the values that are lists.
        align: `Aligned.find` with a crop; None: images stay as they are. Of images that are not
            edited, the largest face is used.
    """

    def encode(name: str, value: Any) -> Any:
        return _encode(name, value, align)

    row = {name: encode(name, value) for name, value in values.items() if name not in lengths}
    for index in range(max(lengths.values(), default=1)):
        row |= {name: encode(name, values[name][index]) for name in lengths}
        yield dict(row)


def together(values: dict[str, Any], align: Align | None = None) -> dict[str, list[Any]]:
    """Inputs with several values for one face: a list for each; a single value is repeated.

    Args:
        values: Values by input name, as in `rows`.
        align: As in `rows`.

    Raises:
        UserError: Lists of different lengths.
    """
    changes = list(rows(values, lengths_of(values), align))
    return {name: [change[name] for change in changes] for name in values}


def requests(
    rows: Iterator[dict[str, Any]], max_rows: int, max_bytes: int, size_of: Callable[[Any], int]
) -> Iterator[list[dict[str, Any]]]:
    """Groups rows into requests, see `columns`.

    A request also has no more pixels than `tfface.serve` accepts.

    Args:
        rows: The inputs of each face.
        max_rows: Maximum number of rows in a request.
        max_bytes: Maximum size of a request, except for a single larger row.
        size_of: Returns the bytes that a value takes in a request.
    """
    group: list[dict] = []
    size, pixels = _HEAD, 0
    for row in rows:
        values = list(chain(*(x if isinstance(x, list) else [x] for x in _sent(row).values())))
        row_size = sum(map(size_of, values))
        row_pixels = sum(math.prod(image_size(x)) for x in values if isinstance(x, bytes))
        fits = size + row_size <= max_bytes and len(group) < max_rows
        fits = fits and may_hold(pixels + row_pixels, size + row_size - _HEAD)
        if group and not fits:
            yield group
            group, size, pixels = [], _HEAD, 0
        group.append(row)
        size += row_size
        pixels += row_pixels
    if group:
        yield group


def columns(group: list[dict[str, Any]]) -> dict[str, Any]:
    """The inputs of a request: lists by input name, numbers as float32."""
    import numpy as np

    sent = [_sent(row) for row in group]
    inputs: dict[str, Any] = {name: [row[name] for row in sent] for name in sent[0]}
    if "strength" in inputs:
        inputs["strength"] = np.array(inputs["strength"], np.float32)
    return inputs


def _sent(row: dict[str, Any]) -> dict[str, Any]:
    return {name: x.data if isinstance(x, Aligned) else x for name, x in row.items()}


def _encode(name: str, value: Any, align: Align | None) -> Any:
    if name in _CONDITIONS:
        return _encode_condition(value)
    if not name.endswith("_bytes"):
        return value
    image = Encoded.of(value)
    edited = name in _EDITED
    if align:
        image = align(image) if edited else align(image, number=1)
    return image if edited and isinstance(image, Aligned) else image.data


def pasted(group: list[dict[str, Any]], edited: list[Image.Image]) -> list[Image.Image]:
    """Pastes the edits of aligned faces back into their photographs; keeps the others.

    Args:
        group: The rows of the request.
        edited: The edited image of each row.
    """
    photographs = [next((x for x in row.values() if isinstance(x, Aligned)), None) for row in group]
    return [
        image if photograph is None else photograph.face.paste(image)
        for photograph, image in zip(photographs, edited, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An image, decoded and in the encoded form that is sent to the server.

    Attributes:
        image: The decoded image, RGB, upright.
        data: JPEG or PNG file, upright, 8 bits per channel, which the server can decode.
        name: Its name in messages.
    """

    image: Image.Image
    data: bytes
    name: str = "the image"

    @property
    def seen(self) -> Image.Image:
        """The image that the model sees."""
        return self.image

    @classmethod
    def read(cls, source: str | Path | bytes) -> Encoded:
        """Reads an image file, or its bytes, and decodes it once.

        A file that the server can decode is sent unchanged.

        Raises:
            UserError: As of `tfface.data.images.load_image`.
        """
        from PIL import Image

        from tfface.data.images import load_image, orientation

        loaded = load_image(source)
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        with Image.open(io.BytesIO(data)) as opened:  # reads only the header
            upright = orientation(opened) == 1
            plain = opened.format in ("JPEG", "PNG") and opened.mode in ("RGB", "L") and upright
            plain = plain and not opened.has_transparency_data
        name = cls.name if isinstance(source, bytes) else str(source)
        return cls(loaded, data if plain else _png(loaded), name)

    @classmethod
    def of(cls, image: ImageSource) -> Encoded:
        """Converts any image that the client accepts.

        Raises:
            UserError: As of `read`, or an array that is not an image.
        """
        import numpy as np
        from PIL import Image

        if isinstance(image, Encoded):
            return image
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise UserError(
                    f"the image is an array {image.dtype} {list(image.shape)}: expected "
                    f"uint8 [H,W,3]"
                )
            image = Image.fromarray(image)
        if isinstance(image, Image.Image):
            rgb = image.convert("RGB")
            return cls(rgb, _png(rgb))
        return cls.read(image)


@dataclasses.dataclass(frozen=True)
class Aligned(Encoded):
    """A face of a photograph, `image`: its aligned crop, `data`, is sent and edited.

    Attributes:
        face: The aligned face, which pastes the edit into the photograph.
    """

    face: AlignedFace = dataclasses.field(kw_only=True)

    @property
    def seen(self) -> Image.Image:
        """The image that the model sees."""
        return self.face.crop

    @classmethod
    def find(cls, photograph: Encoded, *, crop: str, number: int = 1) -> Aligned:
        """Finds and aligns a face.

        Args:
            photograph: The photograph; an aligned one is returned as it is.
            crop: Name of the crop that the model's images have.
            number: Number of the face, from the largest, 1.

        Raises:
            UserError: See `tfface.data.alignment.align`.
        """
        from tfface.data.alignment import align

        if isinstance(photograph, Aligned):
            return photograph
        face = align(photograph.image, crop, number=number, name=photograph.name)
        return cls(face.image, _png(face.crop), photograph.name, face=face)


def _encode_condition(condition: Condition) -> bytes:
    """A label map or line drawing as a PNG; a file is sent unchanged. The server checks which."""
    import numpy as np
    from PIL import Image

    from tfface.data.label_maps import LINE, load_label_map

    if isinstance(condition, str | Path):
        load_label_map(condition, lines=None)
        return Path(condition).read_bytes()
    if not isinstance(condition, bytes):
        codes = np.asarray(condition)
        plain = codes.ndim == 2 and codes.dtype.kind in "iu"
        if (
            isinstance(condition, Image.Image)
            or not plain
            or (codes != codes.astype("uint8")).any()
        ):
            raise UserError(
                f"the condition is {type(condition).__name__} {codes.dtype} {list(codes.shape)}: "
                f"expected a PNG file, the bytes of one, or integers [H,W] of 0 to {LINE}"
            )
        condition = _png(Image.fromarray(codes.astype("uint8")))
    load_label_map(condition, lines=None, name="the condition")
    return condition


def _png(image: Image.Image) -> bytes:
    from tfface.data.images import to_png

    return to_png(image, compress_level=1)  # ten times faster than the default level


def decode(files: Iterable[bytes]) -> list[Image.Image]:
    """The images of a reply."""
    from PIL import Image

    images: list[Image.Image] = [Image.open(io.BytesIO(data)) for data in files]
    for image in images:
        image.load()
    return images


def as_array(value: Any) -> np.ndarray:
    """Converts an input to an array; strings become an object array."""
    import numpy as np

    if isinstance(value, np.ndarray) and value.dtype.kind not in "SU":
        return value
    array = np.asarray(value)
    # NumPy converts a list of bytes to fixed-width strings, which lose trailing zeros.
    return np.array(value, object) if array.dtype.kind in "SU" else array
