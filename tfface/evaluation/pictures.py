"""Edits of any pictures, which have no labels: a folder of photographs, paintings or avatars."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfface.data.alignment import crop_of
from tfface.data.images import list_images, load_image, to_array
from tfface.errors import UserError
from tfface.evaluation.attributes import Attributes
from tfface.evaluation.base import Evaluation
from tfface.evaluation.expressions import Expressions
from tfface.evaluation.face_api import FaceApi
from tfface.evaluation.photo_edits import PhotoEdits
from tfface.evaluation.real_images import ENOUGH
from tfface.metrics.bootstrap import (
    ImageRoles,
    Measurements,
    Observer,
    image_errors,
    merge_results,
    no_observer,
    ratio,
)
from tfface.metrics.tables import Table, rows_of
from tfface.progress import progress

UNMEASURED = (
    "The pictures have no labels. Not measured: whether an edit is right, other than by the judges "
    "(--judges), and anything that needs a ground truth."
)
"""Text for reports."""

_BATCH = 32
_CHANGE = "change of the image"


def evaluate_pictures(
    evaluation: Evaluation,
    folder: Path,
    count: int | None = None,
    judges: Path | None = None,
    observer: Observer = no_observer,
) -> dict[str, Any]:
    """Edits the images of a folder, to each expression or with each attribute.

    Attributes come from the next picture, the last one's from the first. The pictures should be
    aligned like the images that the model was trained on, as by `python -m tfface.align`.

    Args:
        evaluation: The evaluation of a run that edits faces.
        folder: The folder; its subfolders are not used.
        count: Maximum number of pictures, the first by name; None: 512.
        judges: Folder of the face networks that judge the edits, see `PhotoEdits`; None: no judges.
        observer: Receives the edited images.

    Returns:
        `pictures`, their number; `available`, how many images the folder has; `unused`, why by the
        name of each file that could not be read; `edits`, by expression or attribute `change`, the
        mean absolute difference to the picture as a share of the value range; with judges
        `photographs`, see `PhotoEdits.result`; `intervals`.

    Raises:
        UserError: A method that does not edit faces, a folder without images that can be read,
            attributes with fewer than two pictures, or judges that do not suit the crop.
    """
    edit, names = _editor(evaluation), evaluation.method.labels
    data, photos = evaluation.method.config.data, None
    if judges is not None:
        observer = photos = PhotoEdits(FaceApi(judges, crop_of(data)), observer)
    files = list_images(folder)
    pictures, shown, unused = _read(files, data.size, count or ENOUGH)
    if isinstance(evaluation, Attributes) and len(pictures) < 2:
        raise UserError(f"{folder}: one picture; expected at least two, to exchange attributes")
    measurements, others = Measurements(), np.roll(pictures, -1, axis=0)
    with progress() as bar:
        task = bar.add_task("editing pictures", total=len(pictures))
        for start in range(0, len(pictures), _BATCH):
            part = slice(start, start + _BATCH)
            batch, references = pictures[part], others[part]
            edited = {name: edit(batch, references, i) for i, name in enumerate(names)}
            changes = [image_errors(images, batch)["error"] for images in edited.values()]
            for name, change in zip(names, changes, strict=True):
                measurements.add(f"edits/{name}", {"change": change})
            images, roles = {"input": batch, **edited}, ImageRoles(tuple(edited), "input")
            if isinstance(evaluation, Attributes):
                images["reference"] = references
                roles = dataclasses.replace(roles, reference="reference")
            observer(_CHANGE, shown[part], images, ratio(np.mean(changes, 0)), roles)
            bar.update(task, completed=start + len(batch))
    counts = {"pictures": len(pictures), "available": len(files), "unused": unused}
    result = {**counts, **measurements.result()}
    return merge_results(result, photos.result()) if photos else result


def _editor(evaluation: Evaluation) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """From pictures, references and the index of a label to edited pictures."""
    if isinstance(evaluation, Expressions):
        change = evaluation.editor(evaluation.method.labels)
        return lambda images, _, i: np.asarray(change(images, np.full(len(images), i)))
    if isinstance(evaluation, Attributes):
        return lambda images, references, i: np.asarray(
            evaluation.transfer(images, references, np.full(len(images), i))
        )
    raise UserError(
        f"{evaluation.trained.name} does not edit faces: pictures without labels can be evaluated "
        "for methods that change expressions or exchange attributes"
    )


def _read(files: list[Path], size: int, count: int) -> tuple[np.ndarray, list[str], dict[str, str]]:
    """Pictures [N,S,S,3], their file names, and why other files cannot be read, by name."""
    arrays, names, unused = [], [], {}
    for path in files:
        if len(names) == count:
            break
        try:
            arrays.append(to_array(load_image(path), size))
            names.append(path.name)
        except UserError as error:
            unused[path.name] = str(error)
    if not arrays:
        reason = next(iter(unused.values()))
        raise UserError(f"{files[0].parent}: no image can be read, such as {reason}")
    return np.stack(arrays), names, unused


def table(result: dict[str, Any]) -> Table:
    """Column titles and rows of a table of `evaluate_pictures`'s result, without the judges'."""
    columns = [*result["edits"]]
    kinds = {f"edits/{name}": name for name in columns}
    return tuple(columns), rows_of(kinds, {"change": (_CHANGE, "error")})
