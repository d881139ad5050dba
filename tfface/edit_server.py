"""`tfface.edit --server`: the same edits by a served model, in place of a run."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tfface.cli import import_tensorflow
from tfface.client import FaceClient, ServerError
from tfface.errors import UserError, one_for_each

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from tfface.client.types import Signatures

# A named function from files to a list of pictures.
Edit = tuple[str, Callable[[list[Path]], Any]]


class Served(NamedTuple):
    """A served model with the edits that are wanted of it.

    Attributes:
        takes: What it edits: "image"; or "label_map", or "condition" (that or a line drawing), of
            which it makes pictures.
        size: Side of the networks' pictures.
        edits: In one row of the grid.
    """

    takes: str
    size: int
    edits: list[Edit]

    def edit(self, files: Iterable[Path]) -> list[list[list[tuple[str, Image]]]]:
        """Edits files; results as of `tfface.edit.edit_pictures`.

        Raises:
            ServerError: The server refused, or was not reached.
        """
        files = list(files)
        made = [[(name, picture) for picture in edit(files)] for name, edit in self.edits]
        return [[list(row)] for row in zip(*made, strict=True)]


@contextlib.contextmanager
def served(target: str, model: str, options: dict[str, Any]) -> Iterator[Served]:
    """Connects to a server.

    Args:
        target: HOST:PORT of its gRPC API or http://HOST:PORT of its REST API.
        model: The model's name.
        options: As of `edit_pictures`, with `reference` and `exemplar` lists of files.

    Yields:
        The model.

    Raises:
        UserError: A server that refuses, here or within the `with`; an option that the model does
            not have, a missing one, one that only a run can have.
    """
    if "matrix" in options:
        raise UserError("--matrix needs a run: a served model moves by one reference only")
    if not target.startswith(("http://", "https://")):
        import_tensorflow()
    try:
        with FaceClient(target, model) as client:
            signatures = client.metadata()
            takes, edits = _edits(client, signatures, options)
            yield Served(takes, _size(signatures), edits)
    except ServerError as error:
        raise UserError(" ".join(str(error).split())) from error


def _size(signatures: Signatures) -> int:
    """Side of the pictures; 0 if the model does not tell."""
    inputs = signatures.get("serving_default", {"inputs": {}})["inputs"]
    shapes = [tensor["shape"] or () for tensor in inputs.values()]
    return next((shape[1] or 0 for shape in shapes if len(shape) > 1), 0)


def _edits(
    client: FaceClient, signatures: Signatures, options: dict[str, Any]
) -> tuple[str, list[Edit]]:
    """What the model takes, and the edits; the inputs of its signature `bytes` tell its kind."""
    inputs = set(signatures.get("bytes", {"inputs": ()})["inputs"])
    if inputs == {"image_bytes", "expression"}:
        _only(options, "expression")
        return "image", _expressions(client, options, "segment_bytes" in signatures)
    if inputs == {"image_bytes"}:
        _only(options)
        return "image", [_segmentation(client)]
    if inputs == {"source_bytes", "reference_bytes", "attribute", "strength"}:
        _only(options, "attribute", "reference", "strength")
        return "image", _transfers(client, options, "several_bytes" in signatures)
    if inputs == {"condition_bytes", "exemplar_bytes"}:
        _only(options, "exemplar")
        return "condition", _faces(client, options)
    if inputs == {"label_map_bytes", "seed"}:
        _only(options, "seed", "reference", "interpolate")
        return "label_map", _styles(client, _size(signatures), options)
    raise UserError(
        f"model {client.model} at {client.target} has no signature `bytes` as tfface.export writes"
    )


def _only(options: dict[str, Any], *known: str) -> None:
    for name in options:
        if name not in known:
            has = ", ".join(f"--{k}" for k in known) or "none"
            raise UserError(f"--{name} is no option of the served model; it has {has}")


def _expressions(client: FaceClient, options: dict[str, Any], segments: bool) -> list[Edit]:
    names = options.get("expression", ["all"])
    if "all" in names:
        raise UserError(
            "--expression: expected names, as a server does not list those that there are"
        )
    edits = [(n, functools.partial(client.change_expression, expression=n)) for n in names]
    return [*edits, _segmentation(client)] if segments else edits


def _segmentation(client: FaceClient) -> Edit:
    from PIL import Image

    from tfface.data.label_maps import colour

    return "segmentation", lambda files: [
        Image.fromarray(colour(labels)) for labels in client.segment(files)
    ]


def _transfers(client: FaceClient, options: dict[str, Any], several: bool) -> list[Edit]:
    references, names = options.get("reference", []), options.get("attribute", [])
    if not references:
        raise UserError("--reference is missing: a picture that shows the attribute")
    if not names:
        raise UserError("--attribute is missing: the name of what is exchanged")
    if len(names) > 1 and not several:
        raise UserError(
            f"--attribute: expected one name, received {len(names)}; the served model was exported "
            f"before it could exchange several"
        )
    if len(names) > 1:
        chosen = one_for_each(references, names)
        edits = {"+".join(names): (client.transfer_attributes, chosen, names)}
    else:
        edits = {
            f"{names[0]}{number}": (client.transfer_attribute, reference, names[0])
            for number, reference in _numbered(references)
        }
    return [
        (
            f"{name}-{strength:g}",
            functools.partial(
                transfer, reference=reference, attribute=attribute, strength=strength
            ),
        )
        for name, (transfer, reference, attribute) in edits.items()
        for strength in options.get("strength", [1.0])
    ]


def _faces(client: FaceClient, options: dict[str, Any]) -> list[Edit]:
    if not options.get("exemplar"):
        raise UserError("--exemplar is missing: a face whose style the result shall have")
    return [
        (f"face{number}", functools.partial(client.generate, exemplar=exemplar))
        for number, exemplar in _numbered(options["exemplar"])
    ]


def _styles(client: FaceClient, size: int, options: dict[str, Any]) -> list[Edit]:
    seeds, references = options.get("seed", []), options.get("reference", [])
    if not seeds and not references:
        seeds = [1, 2, 3, 4]
    styles = {f"seed-{seed}": {"seed": seed} for seed in seeds}
    styles |= {f"reference{n}": {"reference": file} for n, file in _numbered(references)}
    if "interpolate" in options:
        return _between(client, size, styles, options["interpolate"])
    return [(n, functools.partial(client.synthesize, **style)) for n, style in styles.items()]


def _between(
    client: FaceClient, size: int, styles: dict[str, dict[str, Any]], steps: int
) -> list[Edit]:
    """Faces from each style to the next: of style codes, which other signatures give and take."""
    import numpy as np

    from tfface.data.label_maps import load_label_map, to_labels
    from tfface.data.pictures import load_picture, to_array, to_picture

    if steps < 2:
        raise UserError(f"--interpolate is {steps}: expected at least 2, the two ends")
    if len(styles) < 2:
        raise UserError("--interpolate needs two styles or more: of --seed or --reference")

    def code(seed: int | None = None, reference: str | None = None) -> np.ndarray:
        inputs = {"label_map": np.zeros([1, size, size], np.int32)}
        if reference is None:
            inputs |= {"seed": np.array([seed], np.int64)}
            return client.predict(inputs)["style_code"]
        inputs |= {"reference": to_array(load_picture(reference), size)[None]}
        return client.predict(inputs, "reference")["style_code"]

    def paint(files: list[Path], code: np.ndarray) -> list[Image]:
        maps = np.stack([to_labels(load_label_map(file), size) for file in files])
        inputs = {"label_map": maps, "style_code": code.repeat(len(maps), 0)}
        return [to_picture(made) for made in client.predict(inputs, "style_code")["image"]]

    codes = [(name, code(**style)) for name, style in styles.items()]
    return [
        (f"{a}-{b}-{i + 1:02}", functools.partial(paint, code=one + (two - one) * share))
        for (a, one), (b, two) in zip(codes, codes[1:], strict=False)
        for i, share in enumerate(np.linspace(0, 1, steps, dtype=np.float32))
    ]


def _numbered(files: list[Path]) -> list[tuple[str, Path]]:
    """Each with the end of its edits' names, which tells several apart."""
    return [(f"-{i}" if len(files) > 1 else "", file) for i, file in enumerate(files, 1)]
