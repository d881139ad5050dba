"""What the client sends: encoded images and label maps, as many as go into a request."""

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

# NumPy and Pillow are imported where they are used, as `tfface.client` says.
if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    ImageSource = str | Path | bytes | Image.Image | np.ndarray | "Encoded"
    Condition = str | Path | bytes | np.ndarray

_CONDITIONS = ("condition_bytes", "label_map_bytes")
_HEAD = 1024  # bytes of a request for the names in it, and for shapes


def is_list(name: str, value: Any) -> bool:
    """Whether an input's value is several; an array [H,W] is one label map, [H,W,3] one image."""
    if not hasattr(value, "__len__") or isinstance(value, str | bytes):
        return False
    of_one = 2 if name in _CONDITIONS else 3 if name.endswith("_bytes") else 0
    return getattr(value, "ndim", None) != of_one


def lengths_of(values: dict[str, Any]) -> dict[str, int]:
    """The lengths of those values, by input name, that are several.

    Raises:
        UserError: They differ.
    """
    lengths = {name: len(value) for name, value in values.items() if is_list(name, value)}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        raise UserError(f"lists of different lengths: {given}")
    return lengths


def rows(values: dict[str, Any], lengths: dict[str, int]) -> Iterator[dict[str, Any]]:
    """The inputs of one face after the other; what is no list goes into every one.

    Images are read when their turn comes, so that not all are in memory at once.

    Args:
        values: By input name: images where it ends in `_bytes`, label maps where it is
            `condition_bytes` or `label_map_bytes`.
        lengths: Of the values that are lists.
    """
    row = {name: _encode(name, value) for name, value in values.items() if name not in lengths}
    for index in range(max(lengths.values(), default=1)):
        row |= {name: _encode(name, values[name][index]) for name in lengths}
        yield dict(row)


def together(values: dict[str, Any]) -> dict[str, list[Any]]:
    """Inputs of which one face has several: each a list; what is none is repeated.

    Args:
        values: By input name, as of `rows`.

    Raises:
        UserError: Lists of different lengths.
    """
    changes = list(rows(values, lengths_of(values)))
    return {name: [change[name] for change in changes] for name in values}


def requests(
    rows: Iterator[dict[str, Any]], most_rows: int, most_bytes: int, size_of: Callable[[Any], int]
) -> Iterator[dict[str, Any]]:
    """As many rows together as go into one request: lists by input name, numbers as float32.

    Nor are there more pixels in one than `tfface.serve` takes.

    Args:
        rows: The inputs of each face.
        most_rows: So many at most in a request.
        most_bytes: The length of a request, unless one row alone has more.
        size_of: The bytes that a value takes in a request.
    """
    taken: list[dict] = []
    size, pixels = _HEAD, 0
    for row in rows:
        values = list(chain(*(x if isinstance(x, list) else [x] for x in row.values())))
        row_size = sum(map(size_of, values))
        row_pixels = sum(math.prod(image_size(x)) for x in values if isinstance(x, bytes))
        fits = size + row_size <= most_bytes and len(taken) < most_rows
        fits = fits and may_hold(pixels + row_pixels, size + row_size - _HEAD)
        if taken and not fits:
            yield _columns(taken)
            taken, size, pixels = [], _HEAD, 0
        taken.append(row)
        size += row_size
        pixels += row_pixels
    if taken:
        yield _columns(taken)


def _columns(taken: list[dict[str, Any]]) -> dict[str, Any]:
    import numpy as np

    inputs: dict[str, Any] = {name: [row[name] for row in taken] for name in taken[0]}
    if "strength" in inputs:
        inputs["strength"] = np.array(inputs["strength"], np.float32)
    return inputs


def _encode(name: str, value: Any) -> Any:
    if name in _CONDITIONS:
        return _encode_condition(value)
    return Encoded.of(value).data if name.endswith("_bytes") else value


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An image as it goes to the server, and as it looks.

    Attributes:
        image: RGB, upright.
        data: JPEG or PNG, upright, 8-bit colour: what the server decodes.
    """

    image: Image.Image
    data: bytes

    @classmethod
    def read(cls, source: str | Path | bytes) -> Encoded:
        """Reads a file, or the bytes of one, and decodes it once.

        A file that the server can decode goes as it is.

        Raises:
            UserError: As of `tfface.data.images.load_image`.
        """
        from PIL import Image

        from tfface.data.images import load_image

        loaded = load_image(source)
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        with Image.open(io.BytesIO(data)) as opened:  # Reads the header only.
            upright = opened.getexif().get(0x0112, 1) == 1
            plain = opened.format in ("JPEG", "PNG") and opened.mode in ("RGB", "L") and upright
            plain = plain and not opened.has_transparency_data
        return cls(loaded, data if plain else _png(loaded))

    @classmethod
    def of(cls, image: ImageSource) -> Encoded:
        """Of whatever the client takes for an image.

        Raises:
            UserError: As of `read`, or an array that is no image.
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


def _encode_condition(condition: Condition) -> bytes:
    """A label map or line drawing (the server knows which it takes) as a PNG; a file as it is."""
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
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=1)  # the default level takes ten times as long
    return file.getvalue()


def decode(files: Iterable[bytes]) -> list[Image.Image]:
    """The images of a reply."""
    from PIL import Image

    images: list[Image.Image] = [Image.open(io.BytesIO(data)) for data in files]
    for image in images:
        image.load()
    return images


def as_array(value: Any) -> np.ndarray:
    """An input as an array; strings as objects."""
    import numpy as np

    if isinstance(value, np.ndarray) and value.dtype.kind not in "SU":
        return value
    array = np.asarray(value)
    # From a list of bytes NumPy would make fixed-width strings, cut at trailing zeros.
    return np.array(value, object) if array.dtype.kind in "SU" else array
