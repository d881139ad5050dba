"""Evaluation of a trained method, computed in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfface.client import FaceClient
from tfface.data.alignment import crop_of
from tfface.data.files import user_errors
from tfface.errors import UserError
from tfface.evaluation.attributes import Attributes
from tfface.evaluation.base import Evaluation
from tfface.evaluation.classifier import Classifier
from tfface.evaluation.exemplars import Exemplars
from tfface.evaluation.expressions import Expressions
from tfface.evaluation.face_api import FaceApi
from tfface.evaluation.label_maps import LabelMaps
from tfface.evaluation.photo_edits import PhotoEdits
from tfface.evaluation.realism import Judges, Realism
from tfface.evaluation.segmented import Segmentation, SegmentedExpressions
from tfface.methods.base import Task
from tfface.methods.trained import Trained
from tfface.metrics.bootstrap import Observer, merge_results, no_observer
from tfface.metrics.tables import SEED, flat
from tfface.shipped import is_shipped

__all__ = [
    "EVALUATIONS",
    "Evaluation",
    "Judges",
    "cache_of",
    "evaluation_of",
    "flat",
    "measure",
    "measure_small",
]

EVALUATIONS: dict[Task, type[Evaluation]] = {
    Task.EXPRESSION: Expressions,
    Task.SEGMENTED_EXPRESSION: SegmentedExpressions,
    Task.SEGMENTATION: Segmentation,
    Task.ATTRIBUTE: Attributes,
    Task.LABEL_MAP: LabelMaps,
    Task.EXEMPLAR: Exemplars,
}
"""The evaluation of each task."""


def evaluation_of(trained: Trained, client: FaceClient | None = None) -> Evaluation:
    """The evaluation of a run, in this process or through a client."""
    return EVALUATIONS[trained.method.task](trained, client)


def cache_of(trained: Trained) -> Path:
    """The folder where the judges of a run are cached.

    For built-in faces `.cache` beside the run, shared by all runs there; for a shipped model
    `runs/.cache`; for other data `evaluation` in the run's folder.
    """
    if is_shipped(trained.path):
        return Path("runs", ".cache")
    if evaluation_of(trained).has_truth:
        return trained.path.resolve().parent / ".cache"
    return trained.path / "evaluation"


def measure(
    trained: Trained,
    *,
    count: int | None = None,
    seed: int = SEED,
    small: bool = False,
    cache: Path | None = None,
    split: str = "test",
    judge_steps: int | None = None,
    judges: Judges | None = None,
    observer: Observer = no_observer,
) -> dict[str, Any]:
    """Computes a method's metrics on held-out people; deterministic for given arguments.

    Edits are scored by a judge: an independent classifier (or segmenter) trained on real images
    only.

    Args:
        trained: A loaded run.
        count: Number of people, pairs of people or images; None: on built-in faces the default of
            the task (`Evaluation.counts`), on other data 512, or the whole split for segmentation.
        seed: Seed that selects built-in faces; on other data the first images are used.
        small: Use a small sample that takes seconds, unless `count` is given, and no second judge,
            which would have to be trained first.
        cache: Folder where the judges are cached; None: they are trained anew.
        split: "train", "val" or "test"; for data other than built-in faces.
        judge_steps: Training steps of the judges; None: 1800 for a classifier, 2300 for a
            segmenter.
        judges: Networks for the realism metrics (FID and others) and for edits of photographs;
            None: these are not computed.
        observer: Receives the evaluated images.

    Returns:
        Nested dicts as returned by the run's `Evaluation`, and the accuracy of the judges on real
        images: `classifier` or `segmenter`, and `second_classifier`, whose verdicts are under
        `second`. With `judges` also `realism`, see `tfface.evaluation.realism.Realism.result`, and
        with its `faces` also `photographs`, see `tfface.evaluation.photo_edits.PhotoEdits.result`.

    Raises:
        UserError: `count` is below 1, the split has no images, a file of a judge is missing or
            invalid, or the data set cannot be opened.
    """
    evaluation, source = evaluation_of(trained), trained.method.evaluation_source()
    if count is not None and count < 1:
        raise UserError(f"count is {count}: expected at least 1")
    full, few = evaluation.counts
    count = count or (few if small else None)
    if source.count(split) == 0:
        raise UserError(f"the data set {source.data.name!r} has no images in the split {split!r}")
    photos = None
    if judges is not None and judges.faces is not None:
        if evaluation.has_truth:
            raise UserError("the judges are for photographs: the run has built-in faces")
        crop = crop_of(trained.method.config.data)
        observer = photos = PhotoEdits(FaceApi(judges.faces, crop), observer)
    with user_errors(source):
        first = evaluation.judge(cache, judge_steps)
        second = None if small else evaluation.judge(cache, judge_steps, second=True)
        if judges is not None:
            known = first if isinstance(first, Classifier) else None
            split = "test" if evaluation.has_truth else split
            observer = realism = Realism(judges, source, split, known, observer)
        if evaluation.has_truth:
            both = [judge for judge in (first, second) if judge]
            result = evaluation.against_truth(both, count or full, seed, observer)
        else:
            result = evaluation.without_truth(first, source, count, split, observer)
        if judges is not None:
            metrics = realism.result(cache)
            intervals = {"realism": metrics.pop("intervals", {})}
            result = merge_results(result, {"realism": metrics, "intervals": intervals})
        if photos is not None:
            result = merge_results(result, photos.result())
    by_name = {evaluation.judged_by: first, f"second_{evaluation.judged_by}": second}
    return {**{name: judge.accuracy for name, judge in by_name.items() if judge}, **result}


def measure_small(trained: Trained, split: str) -> dict[str, float]:
    """Metrics of a small sample by name, for use during training; arguments as for `measure`."""
    return flat(measure(trained, small=True, cache=cache_of(trained), split=split))
