"""Edits of images through a model's signatures, on a server or in this process.

A model's kind is known by the inputs of its signature `bytes`. Each kind has options, and makes of
them rows of named edits.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tfface.client import FaceClient, ServerError
from tfface.config import nearest
from tfface.errors import UserError, one_for_each

# NumPy and Pillow are imported where they are used: `--help` shall answer at once.
if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from tfface.client.types import Signatures

Edit = tuple[str, Callable[[list[Any]], list[Any]]]
"""A name, and a function from inputs to as many images (or label maps, uint8 [S,S])."""


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of an edit.

    Attributes:
        kind: What its values are: "name" of an expression or attribute, "image", "strength" (a
            number), "seed", or "count", which is one integer; of the others there is a list.
        metavar: What help calls a value.
        help: What it does.
    """

    kind: Literal["name", "image", "strength", "seed", "count"]
    metavar: str
    help: str


OPTIONS = {
    "expression": Option("name", "NAME", 'names, or "all" (default: all)'),
    "attribute": Option("name", "NAME", "the exchanged attribute; several: at once"),
    "reference": Option(
        "image",
        "IMAGE",
        "faces to take the attribute from, an edit each; for several attributes one face for each "
        "in order, or one for all. Of mask-guided synthesis: faces whose style is taken",
    ),
    "strength": Option(
        "strength", "A", "0 leaves the image as it is, 1 exchanges fully (default: 1)"
    ),
    "matrix": Option(
        "count",
        "N",
        "N x N matrix between the image and three references of one attribute, or two attributes "
        "of one reference each",
    ),
    "exemplar": Option("image", "IMAGE", "faces whose style the results shall have"),
    "seed": Option(
        "seed",
        "N",
        "styles by number, also as 1..8; the same on every map (default, without --reference: "
        "1..4)",
    ),
    "interpolate": Option(
        "count", "N", "N faces from each style to the next one, both ends included"
    ),
}
"""All that there are; which of them a model has depends on its kind."""

_STYLES = 4  # Seeds that are shown where no style is asked for.


@dataclasses.dataclass(frozen=True)
class Model:
    """What edits.

    Attributes:
        client: Answers the model's signatures.
        signatures: As of `FaceClient.metadata`.
        name: What messages call it.
        labels: Names of its expressions or attributes; empty: not known, as of a served model.
        lines: Whether it takes line drawings in place of label maps; None: not known.
    """

    client: FaceClient
    signatures: Signatures
    name: str = "the served model"
    labels: tuple[str, ...] = ()
    lines: bool | None = None


class Editor:
    """The edits that some options ask of a model.

    Args:
        model: The model.
        options: Values of some of OPTIONS by name.

    Attributes:
        takes: What it edits: "image"; or "label_map", "lines" or "condition" (either of them), of
            which it makes images.
        size: Side of the networks' images; 0 if the model does not tell.

    Raises:
        UserError: An option that the model does not have, a wrong or a missing value.
    """

    def __init__(self, model: Model, options: dict[str, Any]):
        inputs = frozenset(model.signatures.get("bytes", {"inputs": ()})["inputs"])
        if inputs not in KINDS:
            raise UserError(
                f"model {model.client.model} at {model.client.target} has no signature `bytes` as "
                f"tfface.export writes"
            )
        kind = KINDS[inputs]
        self.takes = kind.takes
        if self.takes == "condition" and model.lines is not None:
            self.takes = "lines" if model.lines else "label_map"
        _only(model, options, kind.options)
        self.size = _size(model.signatures)
        self._rows: list[list[Edit]] = kind.rows(model, options)

    def edit(self, inputs: Sequence[Any]) -> list[list[list[tuple[str, Image]]]]:
        """Edits images, or makes images of label maps.

        Args:
            inputs: Whatever the client takes for an image, or for a label map.

        Returns:
            For each input the rows of (name of the edit, image): of the original's size, with what
            the edit changes added to it; or of the networks' size what was made of a label map, the
            label map that was found, in its colours, or a part of an edit.

        Raises:
            UserError: An input that cannot be read, or that the model refuses.
        """
        try:
            made = [[(name, edit(list(inputs))) for name, edit in row] for row in self._rows]
        except ServerError as error:
            raise UserError(" ".join(str(error).split())) from error
        return [
            [[(name, _shown(results[i])) for name, results in row] for row in made]
            for i in range(len(inputs))
        ]


def _shown(made: Any) -> Image:
    import numpy as np
    from PIL import Image

    from tfface.data.label_maps import colour

    return Image.fromarray(colour(made)) if isinstance(made, np.ndarray) else made


def _size(signatures: Signatures) -> int:
    inputs = signatures.get("serving_default", {"inputs": {}})["inputs"]
    shapes = [tensor["shape"] or () for tensor in inputs.values()]
    return next((shape[1] or 0 for shape in shapes if len(shape) > 1), 0)


def _only(model: Model, options: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            has = ", ".join(f"--{k}" for k in known) or "none"
            raise UserError(f"--{name} is no option of {model.name}; it has {has}")


def _check_labels(model: Model, what: str, names: Sequence[str]) -> None:
    """Raises for a label that a model does not have, if its labels are known."""
    for name in names:
        if model.labels and name not in model.labels:
            raise UserError(
                f"there is no {what} {name!r}{nearest(name, model.labels)}; expected one of "
                f"{', '.join(model.labels)}"
            )


# Another expression.


def _expressions(model: Model, options: dict[str, Any]) -> list[list[Edit]]:
    """Each expression in a row, beside it what the generators of parts made; the label map."""
    client, names = model.client, options.get("expression", ["all"])
    if "all" in names and not model.labels:
        raise UserError(
            "--expression: expected names, as a server does not list those that there are"
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


# The attributes of others.


def _transfers(model: Model, options: dict[str, Any]) -> list[list[Edit]]:
    """Several references make a row each, strengths the columns; several attributes one edit."""
    references = options.get("reference", [])
    if not references:
        raise UserError("--reference is missing: an image that shows the attribute")
    names = options.get("attribute") or (model.labels if len(model.labels) == 1 else ())
    if not names:
        one_of = f"; expected one of {', '.join(model.labels)}" if model.labels else ""
        raise UserError(f"--attribute is missing: the name of what is exchanged{one_of}")
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
    """Of one attribute, or of several at once."""
    if len(names) == 1:
        return functools.partial(
            model.client.transfer_attribute,
            reference=references[0],
            attribute=names[0],
            strength=strength,
        )
    if "several_bytes" not in model.signatures:
        raise UserError(
            f"{len(names)} changes at once: {model.name} was exported before it could make several"
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
        raise UserError("--strength is no option of a matrix, whose cells have strengths")
    weights = matrix_weights(options["matrix"])
    counts = len(names), len(references)
    if counts == (1, 3):
        changed = [*names] * 3
    elif counts == (2, 2):
        # Right: the first attribute; down: the second; both grow to the full exchange.
        changed = names
        both = weights[..., 2]
        weights = np.stack([weights[..., 0] + both, weights[..., 1] + both], -1)
    else:
        raise UserError(
            f"--matrix takes one attribute and three references, or two attributes and two "
            f"references; received {counts[0]} and {counts[1]}"
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
    """Bilinear weights of three references at the corners of a square; the source is the fourth.

    Args:
        steps: Rows and columns of the matrix, at least 2.

    Returns:
        float32 [steps,steps,3]: weights of the references at top right, bottom left, bottom right.

    Raises:
        UserError: Fewer than two steps.
    """
    import numpy as np

    if steps < 2:
        raise UserError(f"a matrix of {steps} steps: expected at least 2")
    v, u = np.meshgrid(np.linspace(0, 1, steps), np.linspace(0, 1, steps), indexing="ij")
    return np.stack([(1 - v) * u, v * (1 - u), v * u], -1).astype(np.float32)


# Faces from label maps.


def _faces(model: Model, options: dict[str, Any]) -> list[list[Edit]]:
    if not options.get("exemplar"):
        raise UserError("--exemplar is missing: a face whose style the result shall have")
    return [
        [
            (f"face{number}", functools.partial(model.client.generate, exemplar=exemplar))
            for number, exemplar in _numbered(options["exemplar"])
        ]
    ]


def _styles(model: Model, options: dict[str, Any]) -> list[list[Edit]]:
    """A face for each seed and reference; or so many from each of these styles to the next."""
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
    """A row from each style to the next: of style codes, which other signatures give and take."""
    import numpy as np

    from tfface.client.packing import Encoded
    from tfface.data.images import to_array, to_image
    from tfface.data.label_maps import load_label_map, to_labels

    if steps < 2:
        raise UserError(f"--interpolate is {steps}: expected at least 2, the two ends")
    if len(styles) < 2:
        raise UserError("--interpolate needs two styles or more: of --seed or --reference")
    predict, size = model.client.predict, _size(model.signatures)

    def code(seed: int | None = None, reference: Any = None) -> np.ndarray:
        inputs = {"label_map": np.zeros([1, size, size], np.int32)}
        if reference is None:
            return predict({**inputs, "seed": np.array([seed], np.int64)})["style_code"]
        inputs["reference"] = to_array(Encoded.of(reference).image, size)[None]
        return predict(inputs, "reference")["style_code"]

    def paint(maps: list[Any], code: np.ndarray) -> list[Image]:
        codes = [m if isinstance(m, np.ndarray) else load_label_map(m) for m in maps]
        inputs = {"label_map": np.stack([to_labels(m, size) for m in codes])}
        inputs["style_code"] = code.repeat(len(maps), 0)
        return [to_image(made) for made in predict(inputs, "style_code")["image"]]

    codes = [(name, code(**style)) for name, style in styles.items()]
    shares = np.linspace(0, 1, steps, dtype=np.float32)
    return [
        [
            (f"{a}-{b}-{i + 1:02}", functools.partial(paint, code=one + (two - one) * share))
            for i, share in enumerate(shares)
        ]
        for (a, one), (b, two) in zip(codes, codes[1:], strict=False)
    ]


def _numbered(images: Sequence[Any]) -> list[tuple[str, Any]]:
    """Each with the end of its edits' names, which tells several apart."""
    return [(f"-{i}" if len(images) > 1 else "", image) for i, image in enumerate(images, 1)]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        title: What it does.
        takes: As of `Editor`.
        options: Names of those that it has.
        rows: Makes of these the rows of edits.
    """

    title: str
    takes: str
    options: tuple[str, ...]
    rows: Callable[[Model, dict[str, Any]], list[list[Edit]]]


KINDS: dict[frozenset[str], Kind] = {
    frozenset({"image_bytes", "expression"}): Kind(
        "another expression (sargan, seg_hierarchical)", "image", ("expression",), _expressions
    ),
    frozenset({"image_bytes"}): Kind("segmentation", "image", (), _segmentation),
    frozenset({"source_bytes", "reference_bytes", "attribute", "strength"}): Kind(
        "attributes of other faces (elegant)",
        "image",
        ("attribute", "reference", "strength", "matrix"),
        _transfers,
    ),
    frozenset({"condition_bytes", "exemplar_bytes"}): Kind(
        "a face in the style of an exemplar (domain_alignment)",
        "condition",
        ("exemplar",),
        _faces,
    ),
    frozenset({"label_map_bytes", "seed"}): Kind(
        "faces in many styles (mask_guided)",
        "label_map",
        ("seed", "reference", "interpolate"),
        _styles,
    ),
}
"""By the inputs of a model's signature `bytes`."""
