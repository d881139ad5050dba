"""Figures of a trained method, computed in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfface.client import FaceClient
from tfface.data.files import user_errors
from tfface.errors import UserError
from tfface.evaluation.attributes import Attributes
from tfface.evaluation.base import Evaluation
from tfface.evaluation.classifier import Classifier
from tfface.evaluation.exemplars import Exemplars
from tfface.evaluation.expressions import Expressions
from tfface.evaluation.label_maps import LabelMaps
from tfface.evaluation.realism import Judges, Realism
from tfface.evaluation.segmented import Segmentation, SegmentedExpressions
from tfface.methods.base import Task
from tfface.methods.trained import Trained
from tfface.metrics.bootstrap import Watch, joined, unwatched
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
"""What measures and shows a task."""


def evaluation_of(trained: Trained, client: FaceClient | None = None) -> Evaluation:
    """What measures and shows a run, in this process or through a client."""
    return EVALUATIONS[trained.method.task](trained, client)


def cache_of(trained: Trained) -> Path:
    """Where what judges a run is kept: in `.cache` beside it, for all runs on built-in faces.

    Of a shipped model: in `runs/.cache`.
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
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """A method's figures on held-out people; the same arguments give the same figures.

    Args:
        trained: A loaded run.
        count: How many people, pairs of people or images; None: as many as the figures need on
            built-in faces; of others 512, but for label maps that are found all of the split.
        seed: Which people, of built-in faces; of others they are the first ones.
        small: A small sample, in seconds, unless `count` says otherwise; without a second judge,
            which has to be trained first.
        cache: Folder in which the classifier or segmenter that judges is kept; None: it is trained
            anew.
        split: "train", "val" or "test", of other data than built-in faces.
        judge_steps: Training steps of the classifier or segmenter; None: enough.
        judges: What judges what was made as images; None: nothing does.
        watch: Is shown what is measured.

    Returns:
        Nested dicts, as of the run's `Evaluation`; with a judge its accuracy on real images by its
        kind, "classifier" or "segmenter", and that of a second one, "second_classifier", whose
        figures are in `second`; with judges `likeness`, as of
        `tfface.evaluation.realism.Realism.result`.

    Raises:
        UserError: `count` is below 1, the split has no images, a file of a judge is missing or
            something else, or what opening the data set raises.
    """
    evaluation, source = evaluation_of(trained), trained.method.evaluation_source()
    if count is not None and count < 1:
        raise UserError(f"count is {count}: expected at least 1")
    full, few = evaluation.counts
    count = count or (few if small else None)
    if source.count(split) == 0:
        raise UserError(f"the data set {source.data.name!r} has no images in the split {split!r}")
    with user_errors(source):
        first = evaluation.judge(cache, judge_steps)
        second = None if small else evaluation.judge(cache, judge_steps, second=True)
        if judges is not None:
            known = first if isinstance(first, Classifier) else None
            split = "test" if evaluation.has_truth else split
            watch = likeness = Realism(judges, source, split, known, watch)
        if evaluation.has_truth:
            both = [judge for judge in (first, second) if judge]
            found = evaluation.against_truth(both, count or full, seed, watch)
        else:
            found = evaluation.without_truth(first, source, count, split, watch)
        if judges is not None:
            figures = likeness.result(cache)
            intervals = {"likeness": figures.pop("intervals", {})}
            found = joined(found, {"likeness": figures, "intervals": intervals})
    known = {evaluation.judged_by: first, f"second_{evaluation.judged_by}": second}
    return {**{name: judge.accuracy for name, judge in known.items() if judge}, **found}


def measure_small(trained: Trained, split: str) -> dict[str, float]:
    """Figures of a small sample by name, while training; arguments as of `measure`."""
    return flat(measure(trained, small=True, cache=cache_of(trained), split=split))
