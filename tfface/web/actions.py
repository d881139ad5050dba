"""What the page does: edits through `tfface.editing`, written as marked PNG files.

Images are files, as the browser sends them; label maps and drawings are PNG data URLs, as painted.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfface.client import ServerError
from tfface.client.packing import Aligned, Encoded
from tfface.data.alignment import numbered
from tfface.data.images import face_box, load_image, read_mark, save_image, to_array, to_png
from tfface.data.label_maps import LINE, colour, load_label_map, to_labels
from tfface.data.lines import draw_lines
from tfface.data.marks import Mark
from tfface.editing import Editor
from tfface.errors import UserError
from tfface.web.examples import faces, label_map_of
from tfface.web.offers import Offer, explained

_ACROSS = 4  # Results in a row, if they have no order of their own.
_OUTLINED = 512  # Side in pixels of an image with outlined blocks, if this is enough for them.
_LEAST_BLOCK, _BORDER = 8, 3  # Sides in pixels.
_CYAN = (0.0, 255.0, 255.0)
_DATA_URL = "data:image/png;base64,"
_NAMES = (
    "background", "skin", "nose", "glasses", "left eye", "right eye", "left brow", "right brow",
    "left ear", "right ear", "mouth inside", "upper lip", "lower lip", "hair", "hat", "earring",
    "necklace", "neck", "clothes", "other line",
)  # fmt: skip
PARTS = tuple(zip(_NAMES, colour(np.arange(LINE + 1)).tolist(), strict=True))
"""Names and colours, in RGB, of the codes of label maps and drawings."""
MOST_SEEDS = 16
"""Maximum number of random styles at a time."""


@dataclasses.dataclass(frozen=True)
class Results:
    """Edited or generated images.

    Attributes:
        images: Their files and names.
        columns: Number of them in a row.
        note: What the user should know about them; "" if nothing.
    """

    images: list[tuple[str, str]]
    columns: int
    note: str = ""


class Actions:
    """The actions of a page.

    Args:
        folder: Folder for the images.
    """

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)
        self._numbers = itertools.count()

    def change_expression(
        self, offer: Offer, image: str | None, expressions: Sequence[str]
    ) -> Results:
        """Changes the expression of a face; with the outputs for single face parts, if any.

        Args:
            offer: The model.
            image: File of the image.
            expressions: Target expressions; "all" for all.

        Raises:
            UserError: As of `tfface.editing.Editor`; or the server cannot be reached.
        """
        if not expressions:
            raise UserError("no expression is chosen: choose one or more, or all")
        return self._edit(offer, image, {"expression": list(expressions)})

    def transfer_attributes(
        self,
        offer: Offer,
        image: str | None,
        references: Sequence[str],
        attributes: Sequence[str],
        strength: float,
        matrix: int = 0,
    ) -> Results:
        """Transfers attributes from reference faces.

        Args:
            offer: The model.
            image: File of the image.
            references: Files of the references.
            attributes: Names of the attributes; several are transferred together.
            strength: From 0 to 1.
            matrix: Side of the interpolation matrix, which replaces the strength; 0: none.

        Raises:
            UserError: As of `tfface.editing.Editor`; or the server cannot be reached.
        """
        if not attributes:
            raise UserError("no attribute is chosen: choose one, or several to transfer together")
        options: dict[str, Any] = {
            "attribute": list(attributes),
            "reference": [_read(file, "the reference") for file in references],
        }
        options |= {"matrix": int(matrix)} if matrix else {"strength": [float(strength)]}
        return self._edit(offer, image, options)

    def generate(self, offer: Offer, painted: str | None, exemplars: Sequence[str]) -> Results:
        """Generates faces from a label map or drawing in the style of exemplars.

        Args:
            offer: The model.
            painted: The label map or drawing.
            exemplars: Files of the exemplars.

        Raises:
            UserError: As of `tfface.editing.Editor`; or the server cannot be reached.
        """
        if not exemplars:
            raise UserError("no exemplar is chosen: choose a face whose style is used")
        files = [_read(file, "the exemplar") for file in exemplars]
        return self._edit(offer, _painted(painted, offer), {"exemplar": files})

    def enlarge(self, file: str) -> str:
        """Enlarges a generated face so that its points can be chosen; returns the new file."""
        [(enlarged, _)] = self._save([("enlarged", _square(load_image(file)))], read_mark(file))
        return enlarged

    def retrieve(
        self, offer: Offer, painted: str, exemplar: str, face: str, point: Sequence[int]
    ) -> tuple[str, str, str]:
        """Shows which blocks of the exemplar were retrieved for a point of a generated face.

        Args:
            offer: The model.
            painted: The label map or drawing of the face.
            exemplar: File of its exemplar.
            face: File of the face, as from `enlarge`.
            point: Column and row in its pixels.

        Returns:
            Files of the face with the outlined block of the point, and of the part of the exemplar
            that the model sees, with the outlined retrieved blocks: the larger the weight, the
            brighter; and a note.

        Raises:
            UserError: The model retrieves no blocks, or the server cannot be reached.
        """
        if "blocks_bytes" not in offer.model.signatures:
            raise UserError(
                f"{offer.model.name} retrieves no blocks: its alignment compares all pixels"
            )
        client = offer.model.client
        encoded, note = _face(client.aligned, exemplar, offer)
        condition = _painted(painted, offer)
        found = _called(offer, lambda: client.retrieved_blocks(condition, encoded))
        image, across = load_image(face), len(found.index)
        column, row = (min(x * across // image.width, across - 1) for x in point)
        chosen = outline(image, across, [row * across + column], [1.0])
        retrieved = outline(
            encoded.seen, across, found.index[row, column], found.weights[row, column]
        )
        [(chosen, _)] = self._save([("block", chosen)], read_mark(face))
        [(retrieved, _)] = self._save([("blocks", retrieved)], None)
        return chosen, retrieved, note

    def synthesize(
        self, offer: Offer, painted: str | None, count: int, first: int, references: Sequence[str]
    ) -> Results:
        """Generates faces from a label map in several styles.

        Args:
            offer: The model.
            painted: The label map.
            count: Number of random styles.
            first: Seed of the first.
            references: Files of faces whose styles are used; if there are any, no random styles.

        Raises:
            UserError: Wrong seeds; as of `tfface.editing.Editor`; or the server cannot be reached.
        """
        if references:
            options = {"reference": [_read(file, "the reference") for file in references]}
        else:
            count, first = _integer(count, "the number"), _integer(first, "the first seed")
            if not 1 <= count <= MOST_SEEDS:
                raise UserError(f"the number is {count}: expected 1 to {MOST_SEEDS} random styles")
            if not 0 <= first < 2**63 - count:
                raise UserError(f"the first seed is {first}: expected 0 or more")
            options = {"seed": list(range(first, first + count))}
        return self._edit(offer, _painted(painted, offer), options)

    def segment(
        self, offer: Offer, image: str | None
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, str]], str]:
        """Segments a face.

        Args:
            offer: The model.
            image: File of the image.

        Returns:
            The part of the image that the model sees, uint8 [H,W,3]; for each class that it shows,
            in the order of PARTS, where it is, bool [H,W], and its name; and a note.

        Raises:
            UserError: An image that cannot be read, or the server cannot be reached.
        """
        client = offer.model.client
        encoded, note = _face(client.aligned, image, offer)
        labels = _called(offer, lambda: client.segment(encoded))
        seen = encoded.seen.crop(face_box(*encoded.seen.size))
        # As in `to_labels`, each pixel shows the nearest one of the label map.
        nearest = (2 * np.arange(seen.width) + 1) * len(labels) // (2 * seen.width)
        enlarged = labels[nearest[:, None], nearest]
        codes = np.unique(labels).tolist()
        parts = [(enlarged == code, PARTS[code][0]) for code in codes]
        return np.asarray(seen), parts, note

    def _edit(self, offer: Offer, source: Any, options: dict[str, Any]) -> Results:
        editor = _called(offer, lambda: Editor(offer.model, options))
        note, mark = "", Mark.of_model(editor.takes, offer.model.name)
        if editor.takes == "image":
            source, note = _face(editor.aligned, source, offer)
        [rows] = _called(offer, lambda: editor.edit([source]))
        images = self._save(itertools.chain(*rows), mark)
        longest = max(map(len, rows))
        ordered = longest > 1 and len(rows) > 1
        return Results(images, longest if ordered else min(len(images), _ACROSS), note)

    def _save(
        self, images: Iterable[tuple[str, Image.Image]], mark: Mark | None
    ) -> list[tuple[str, str]]:
        """Saves named images; returns their files and names."""
        folder = self._folder / f"{next(self._numbers)}"
        files = []
        for name, image in images:
            file = folder / f"{name}.png"
            save_image(image, file, mark)
            files.append((str(file), name))
        return files


def outline(
    image: Image.Image, across: int, blocks: Sequence[int], weights: Sequence[float]
) -> Image.Image:
    """Outlines blocks of an image.

    Args:
        image: The image, whose central square is cut into blocks.
        across: Number of blocks in a row, and in a column.
        blocks: Numbers of the blocks to outline, row by row.
        weights: Opacities of their outlines, in [0,1].

    Returns:
        The central square, enlarged, with the outlines.
    """
    side = max(_OUTLINED // across, _LEAST_BLOCK)
    square = _square(image, side * across)
    frame = np.ones((side, side), np.float32)
    frame[_BORDER:-_BORDER, _BORDER:-_BORDER] = 0
    opacities = np.zeros(across * across, np.float32)
    opacities[np.asarray(blocks)] = weights
    opacity = np.kron(opacities.reshape(across, across), frame)[..., None]
    pixels = np.asarray(square, np.float32)
    return Image.fromarray(np.uint8(pixels + opacity * (np.float32(_CYAN) - pixels)))


def _square(image: Image.Image, side: int = _OUTLINED) -> Image.Image:
    return image.crop(face_box(*image.size)).resize((side, side))


def to_painted(file: str | Path, offer: Offer) -> str:
    """Reads a label map or drawing for the page to paint on.

    Args:
        file: A PNG file.
        offer: The model that generates from it.

    Returns:
        The central square at the model's size, in the colours of PARTS, as a PNG data URL.

    Raises:
        UserError: As of `load_label_map`.
    """
    labels = load_label_map(Path(file).read_bytes(), offer.model.lines, Path(file).name)
    return _to_url(to_labels(labels, offer.side))


def example_maps(offer: Offer) -> list[str]:
    """Label maps or drawings of the example faces, as from `to_painted`."""
    if not offer.model.lines:
        return [to_painted(label_map_of(face), offer) for face in faces()]
    return [
        _to_url(
            draw_lines(
                to_labels(load_label_map(label_map_of(face)), offer.side),
                to_array(load_image(face), offer.side),
            )
        )
        for face in faces()
    ]


def _to_url(labels: np.ndarray) -> str:
    return _DATA_URL + base64.b64encode(to_png(Image.fromarray(colour(labels)))).decode()


def _painted(url: str | None, offer: Offer) -> bytes:
    what = "drawing" if offer.model.lines else "label map"
    if not url:
        raise UserError(f"there is no {what}: paint one, choose an example or open a file")
    png = base64.b64decode(url.removeprefix(_DATA_URL))
    load_label_map(png, offer.model.lines, f"the {what}")
    return png


def _integer(value: Any, name: str) -> int:
    if value is None or value != int(value):
        raise UserError(f"{name} is {value}: expected a whole number")
    return int(value)


def _read(file: str, name: str) -> Encoded:
    image = Encoded.read(Path(file).read_bytes())
    return dataclasses.replace(image, name=name)


def _face(
    align: Callable[[Encoded], Encoded], file: str | None, offer: Offer
) -> tuple[Encoded, str]:
    """The image, with the aligned face of a photograph; and a note if it shows several faces."""
    if not file:
        raise UserError("there is no image: upload one, take one with the camera or choose one")
    image = _called(offer, lambda: align(_read(file, "the image")))
    if isinstance(image, Aligned) and len(image.face.faces) > 1:
        found = numbered(image.face.faces)
        return image, f"Several faces ({found}): face {image.face.number} is used."
    return image, ""


def _called(offer: Offer, call: Callable[[], Any]) -> Any:
    """Calls a function; raises an error of the server as a UserError that names the way on."""
    try:
        return call()
    except ServerError as error:
        raise UserError(explained(error, offer.model.client)) from error
    except UserError as error:
        if isinstance(error.__cause__, ServerError):
            raise UserError(explained(error.__cause__, offer.model.client)) from error
        raise
