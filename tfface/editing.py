"""Edits of images through a model's signatures, on a server or in this process.

A model's kind is identified by the inputs of its `bytes` signature. Each kind has its own options,
and turns them into rows of named edits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tfface.client import FaceClient, ServerError
from tfface.config import nearest
from tfface.errors import UserError, one_for_each

# NumPy and Pillow are imported where they are used, to keep `--help` fast.
if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from tfface.client.packing import Encoded
    from tfface.client.types import Signatures

Edit = tuple[str, Callable[[list[Any]], list[Any]]]
"""A name, and a function from a list of inputs to an image (or uint8 label map [S,S]) for each."""


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of an edit.

    Attributes:
        kind: Type of its values: "name" (of an expression or attribute), "image", "strength" (a
            float) or "seed", each a list; or "count", a single integer.
        metavar: Placeholder for a value in the help text.
        help: Help text.
    """

    kind: Literal["name", "image", "strength", "seed", "count"]
    metavar: str
    help: str


OPTIONS = {
    "expression": Option("name", "NAME", 'target expressions, or "all" (default: all)'),
    "attribute": Option(
        "name",
        "NAME",
        "attribute to transfer; several are transferred together (default: the model's, if it has "
        "only one)",
    ),
    "reference": Option(
        "image",
        "IMAGE",
        "reference faces: for attribute transfer, one edit per face that shows the attribute (with "
        "several attributes: one face per attribute, in order, or one for all); for mask-guided "
        "synthesis, faces whose style is used",
    ),
    "strength": Option(
        "strength",
        "A",
        "strength of the edit, from 0 (no change) to 1 (full transfer) (default: 1)",
    ),
    "matrix": Option(
        "count",
        "N",
        "N x N interpolation between the image and three references (one attribute), or over two "
        "attributes with one reference each",
    ),
    "exemplar": Option("image", "IMAGE", "faces whose style is used"),
    "seed": Option(
        "seed",
        "N",
        "seeds of random styles, also as a range 1..8; a seed gives the same style for every map "
        "(default: 1..4 unless reference faces are given)",
    ),
    "interpolate": Option("count", "N", "N faces from each style to the next, including both ends"),
}
"""All options; which of them a model accepts depends on its kind."""

_STYLES = 4  # Number of seeds used when no style is given.


class OptionError(UserError):
    """An option of an edit that is missing, not accepted or has a wrong value.

    The message starts with the option's name: "reference is missing". The command `edit` puts "--"
    in front of it.

    Args:
        option: Name of the option.
        problem: Rest of the sentence.
    """

    def __init__(self, option: str, problem: str):
        super().__init__(f"{option} {problem}")


@dataclasses.dataclass(frozen=True)
class Model:
    """A model to edit with.

    Attributes:
        client: Client that runs the model's signatures.
        signatures: Signatures, as returned by `FaceClient.metadata`.
        name: Name used in messages.
        labels: Names of its expressions or attributes; empty if unknown.
        lines: Whether it expects line drawings instead of label maps; None if unknown.
    """

    client: FaceClient
    signatures: Signatures
    name: str = "the served model"
    labels: tuple[str, ...] = ()
    lines: bool | None = None

    @classmethod
    def of(cls, client: FaceClient, name: str = "the served model") -> Model:
        """The model of a client, with what it states about itself.

        Raises:
            tfface.client.ServerError: No such model, or the server was not reached within the
                timeout.
        """
        about = client.about()
        lines = None if about.takes in (None, "image") else about.takes == "lines"
        return cls(client, client.metadata(), name, about.labels, lines)


@contextlib.contextmanager
def as_user_errors() -> Iterator[None]:
    """Raises a ServerError as a UserError of one line, with the ServerError as its cause."""
    try:
        yield
    except ServerError as error:
        raise UserError(" ".join(str(error).split())) from error


class Editor:
    """Applies the edits selected by options with a model.

    Args:
        model: The model.
        options: Option values by name, see OPTIONS.

    Attributes:
        takes: Expected input: "image" to edit; or "label_map", "lines" or "condition" (either of
            the two) to generate images from.
        size: Side of the networks' images in pixels; 0 if the model does not state it.

    Raises:
        OptionError: An option that the model does not accept, or a missing or wrong value.
        UserError: A model that was not exported by tfface, or an unknown label.
    """

    def __init__(self, model: Model, options: dict[str, Any]):
        inputs = frozenset(model.signatures.get("bytes", {"inputs": ()})["inputs"])
        if inputs not in KINDS:
            raise UserError(
                f"model {model.client.model} at {model.client.target} has no `bytes` signature as "
                f"written by tfface.export"
            )
        kind = KINDS[inputs]
        self.takes = kind.takes
        if self.takes == "condition" and model.lines is not None:
            self.takes = "lines" if model.lines else "label_map"
        _check_options(model, options, kind.options)
        self.size = _size(model.signatures)
        self._client = model.client
        self._rows: list[list[Edit]] = kind.rows(model, options)

    def aligned(self, image: Any) -> Encoded:
        """Finds the face to edit in a photograph, if the client aligns.

        See `FaceClient.aligned`, and `as_user_errors`.
        """
        with as_user_errors():
            return self._client.aligned(image)

    def edit(self, inputs: Sequence[Any]) -> list[list[list[tuple[str, Image]]]]:
        """Edits images, or generates images from label maps.

        Args:
            inputs: Images or label maps, in any form that the client accepts.

        Returns:
            For each input, rows of (name of the edit, image). Edited images have the size of the
            original, with the change added to it. Images generated from a label map, colour-coded
            segmentations and outputs of single face parts have the networks' size.

        Raises:
            UserError: An input that cannot be read or that the model rejects.
        """
        with as_user_errors():
            edited = [[(name, edit(list(inputs))) for name, edit in row] for row in self._rows]
        return [
            [[(name, _as_image(results[i])) for name, results in row] for row in edited]
            for i in range(len(inputs))
        ]


def _as_image(result: Any) -> Image:
    import numpy as np
    from PIL import Image

    from tfface.data.label_maps import colour

    return Image.fromarray(colour(result)) if isinstance(result, np.ndarray) else result


def _size(signatures: Signatures) -> int:
    inputs = signatures.get("serving_default", {"inputs": {}})["inputs"]
    shapes = [tensor["shape"] or () for tensor in inputs.values()]
    return next((shape[1] or 0 for shape in shapes if len(shape) > 1), 0)


def _check_options(model: Model, options: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            accepted = ", ".join(known) or "none"
            raise OptionError(name, f"is not an option of {model.name}; its options: {accepted}")


def _check_labels(model: Model, what: str, names: Sequence[str]) -> None:
    """Raises a UserError for a label that the model does not have, if its labels are known."""
    for name in names:
        if model.labels and name not in model.labels:
            raise UserError(
                f"there is no {what} {name!r}{nearest(name, model.labels)}; expected one of "
                f"{', '.join(model.labels)}"
            )


# Expression editing.


def _expressions(model: Model, options: dict[str, Any]) -> list[list[Edit]]:
    """A row per expression, with the outputs of the part generators; and the segmentation."""
    client, names = model.client, options.get("expression", ["all"])
    if "all" in names and not model.labels:
        raise OptionError(
            "expression", f"must name expressions: {model.name} does not list its own"
        )
    names = model.labels if "all" in names else names
    _check_labels(model, "expression", names)
    parts = model.signatures.get("parts_bytes", {"outputs": ()})["outputs"]
    parts = [name.removesuffix("_bytes") for name in parts]

    def to(name: str, part: str | None = None) -> Edit:
        edit = functools.partial(client.change_expression, expression=name, part=part)
        return f"{name}-{part}" if part else name, edit

    if "segment_bytes" not in model.signatures:
        return [[to(name) for name in names]]
    rows = [[to(name), *(to(name, part) for part in parts)] for name in names]
    rows[0].append(("segmentation", client.segment))
    return rows


def _segmentation(model: Model, options: dict[str, Any]) -> list[list[Edit]]:
    return [[("segmentation", model.client.segment)]]


# Attribute transfer.


def _transfers(model: Model, options: dict[str, Any]) -> list[list[Edit]]:
    """A row per reference and a column per strength; several attributes are one edit."""
    references = options.get("reference", [])
    if not references:
        raise OptionError("reference", "is missing: expected an image that shows the attribute")
    names = options.get("attribute") or (model.labels if len(model.labels) == 1 else ())
    if not names:
        expected = f"one of {', '.join(model.labels)}" if model.labels else "the name of one"
        raise OptionError("attribute", f"is missing: expected {expected}")
    _check_labels(model, "attribute", names)
    if "matrix" in options:
        return _matrix(model, names, references, options)
    if len(names) > 1:
        changes = {"+".join(names): (one_for_each(references, names), names)}
    else:
        changes = {
            f"{names[0]}{number}": ([reference], names)
            for number, reference in _numbered(references)
        }
    return [
        [
            (f"{name}-{strength:g}", _transfer(model, *change, strength))
            for strength in options.get("strength", [1.0])
        ]
        for name, change in changes.items()
    ]


def _transfer(
    model: Model, references: Sequence[Any], names: Sequence[str], strength: float | list[float]
) -> Callable[[list[Any]], list[Any]]:
    """Transfer of one attribute, or of several together."""
    if len(names) == 1:
        return functools.partial(
            model.client.transfer_attribute,
            reference=references[0],
            attribute=names[0],
            strength=strength,
        )
    if "several_bytes" not in model.signatures:
        raise UserError(
            f"{model.name} cannot transfer {len(names)} attributes at once: it was exported by an "
            f"earlier version; export it again"
        )
    return functools.partial(
        model.client.transfer_attributes,
        reference=list(references),
        attribute=list(names),
        strength=strength,
    )


def _matrix(
    model: Model, names: Sequence[str], references: Sequence[Any], options: dict[str, Any]
) -> list[list[Edit]]:
    import numpy as np

    if "strength" in options:
        raise OptionError("strength", "cannot be combined with a matrix, which sets the strengths")
    weights = matrix_weights(options["matrix"])
    counts = len(names), len(references)
    if counts == (1, 3):
        changed = [*names] * 3
    elif counts == (2, 2):
        # The strength of the first attribute grows to the right, that of the second downwards.
        changed = names
        both = weights[..., 2]
        weights = np.stack([weights[..., 0] + both, weights[..., 1] + both], -1)
    else:
        raise OptionError(
            "matrix",
            f"needs one attribute and three references, or two attributes and two references; "
            f"received {counts[0]} and {counts[1]}",
        )
    return [
        [
            (
                f"{'-'.join(names)}-{row + 1}-{column + 1}",
                _transfer(model, references, changed, cell.tolist()),
            )
            for column, cell in enumerate(line)
        ]
        for row, line in enumerate(weights)
    ]


def matrix_weights(steps: int) -> np.ndarray:
    """Bilinear weights of three references at corners of a square; the source is at the fourth.

    Args:
        steps: Number of rows and columns of the matrix, at least 2.

    Returns:
        float32 [steps,steps,3]: weights of the top right, bottom left and bottom right references.

    Raises:
        OptionError: Fewer than two steps.
    """
    import numpy as np

    if steps < 2:
        raise OptionError("matrix", f"is {steps}: expected at least 2")
    v, u = np.meshgrid(np.linspace(0, 1, steps), np.linspace(0, 1, steps), indexing="ij")
    return np.stack([(1 - v) * u, v * (1 - u), v * u], -1).astype(np.float32)


# Synthesis from label maps.


def _faces(model: Model, options: dict[str, Any]) -> list[list[Edit]]:
    if not options.get("exemplar"):
        raise OptionError("exemplar", "is missing: expected a face whose style is used")
    return [
        [
            (f"face{number}", functools.partial(model.client.generate, exemplar=exemplar))
            for number, exemplar in _numbered(options["exemplar"])
        ]
    ]


def _styles(model: Model, options: dict[str, Any]) -> list[list[Edit]]:
    """A face for each seed and reference, or an interpolation between successive styles."""
    seeds, references = options.get("seed", []), options.get("reference", [])
    if not seeds and not references:
        seeds = range(1, _STYLES + 1)
    styles: dict[str, dict[str, Any]] = {f"seed-{seed}": {"seed": seed} for seed in seeds}
    styles |= {f"reference{n}": {"reference": file} for n, file in _numbered(references)}
    if "interpolate" in options:
        return _between(model, styles, options["interpolate"])
    synthesize = model.client.synthesize
    return [[(name, functools.partial(synthesize, **style)) for name, style in styles.items()]]


def _between(model: Model, styles: dict[str, dict[str, Any]], steps: int) -> list[list[Edit]]:
    """A row from each style to the next, interpolated between their style codes."""
    import numpy as np

    from tfface.client.packing import Encoded
    from tfface.data.images import to_array, to_image
    from tfface.data.label_maps import load_label_map, to_labels

    if steps < 2:
        raise OptionError("interpolate", f"is {steps}: expected at least 2, for the two ends")
    if len(styles) < 2:
        raise OptionError("interpolate", "needs at least two styles (seeds or references)")
    predict, size = model.client.predict, _size(model.signatures)

    def code(seed: int | None = None, reference: Any = None) -> np.ndarray:
        inputs = {"label_map": np.zeros([1, size, size], np.int32)}
        if reference is None:
            return predict({**inputs, "seed": np.array([seed], np.int64)})["style_code"]
        inputs["reference"] = to_array(Encoded.of(reference).seen, size)[None]
        return predict(inputs, "reference")["style_code"]

    def generate(maps: list[Any], code: np.ndarray) -> list[Image]:
        loaded = [m if isinstance(m, np.ndarray) else load_label_map(m) for m in maps]
        inputs = {"label_map": np.stack([to_labels(m, size) for m in loaded])}
        inputs["style_code"] = code.repeat(len(maps), 0)
        return [to_image(image) for image in predict(inputs, "style_code")["image"]]

    codes = [(name, code(**style)) for name, style in styles.items()]
    shares = np.linspace(0, 1, steps, dtype=np.float32)
    return [
        [
            (f"{a}-{b}-{i + 1:02}", functools.partial(generate, code=one + (two - one) * share))
            for i, share in enumerate(shares)
        ]
        for (a, one), (b, two) in zip(codes, codes[1:], strict=False)
    ]


def _numbered(images: Sequence[Any]) -> list[tuple[str, Any]]:
    """Each image with a suffix for the names of its edits; no suffix if there is only one."""
    return [(f"-{i}" if len(images) > 1 else "", image) for i, image in enumerate(images, 1)]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        title: What it does, for the help text.
        takes: Expected input, as for `Editor`.
        options: Names of the options that it accepts.
        rows: Builds the rows of edits from option values.
    """

    title: str
    takes: str
    options: tuple[str, ...]
    rows: Callable[[Model, dict[str, Any]], list[list[Edit]]]


KINDS: dict[frozenset[str], Kind] = {
    frozenset({"image_bytes", "expression"}): Kind(
        "expression editing (sargan, seg_hierarchical)", "image", ("expression",), _expressions
    ),
    frozenset({"image_bytes"}): Kind("segmentation", "image", (), _segmentation),
    frozenset({"source_bytes", "reference_bytes", "attribute", "strength"}): Kind(
        "attribute transfer (elegant)",
        "image",
        ("attribute", "reference", "strength", "matrix"),
        _transfers,
    ),
    frozenset({"condition_bytes", "exemplar_bytes"}): Kind(
        "synthesis in the style of an exemplar (domain_alignment)",
        "condition",
        ("exemplar",),
        _faces,
    ),
    frozenset({"label_map_bytes", "seed"}): Kind(
        "synthesis in many styles (mask_guided)",
        "label_map",
        ("seed", "reference", "interpolate"),
        _styles,
    ),
}
"""Kinds by the inputs of a model's `bytes` signature."""
