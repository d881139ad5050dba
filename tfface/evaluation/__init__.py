"""Figures of a trained method, computed in this process."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from tfface.data.files import user_errors
from tfface.errors import UserError
from tfface.evaluation import (
    attributes,
    classifier,
    exemplars,
    expressions,
    label_maps,
    segmented,
    segmenter,
)
from tfface.evaluation.likeness import Judges, Likeness
from tfface.methods.base import Method, Task
from tfface.methods.trained import Trained
from tfface.metrics.figures import SEED, Table, flat
from tfface.metrics.tally import Watch, joined, unwatched

__all__ = [
    "Judges",
    "cache_of",
    "flat",
    "has_truth",
    "measure",
    "parts_of",
    "table_of",
    "yardstick_of",
]


_PARTS: dict[Task, ModuleType] = {
    Task.EXPRESSION: expressions,
    Task.SEGMENTED_EXPRESSION: segmented,
    Task.SEGMENTATION: segmented,
    Task.ATTRIBUTE: attributes,
    Task.LABEL_MAP: label_maps,
    Task.EXEMPLAR: exemplars,
}


def parts_of(method: Method | type[Method]) -> ModuleType:
    """What is measured and shown of a method's task: a module of this package.

    `TITLE` of reports; `CURVES`, the metrics they plot; `YARDSTICK`, a "classifier" or a
    "segmenter" of real pictures that judges the results, or ""; `COUNTS`, how many people are
    measured, and in a small sample; `BASELINES`, what the figures are compared with; `TABLE` and
    `REAL_TABLE`, which figures are shown, of built-in faces and of others; `evaluate` and
    `evaluate_real`, which measure them, through a `FaceClient` (with a classifier `evaluate` takes
    a `second` one too); and `show(trained, client)`, sections of pictures that a server made.
    """
    return _PARTS[method.task]


def has_truth(trained: Trained) -> bool:
    """Whether a method's results can be compared with true renders: on built-in faces.

    Label maps that a segmentation network alone finds are compared with those of its data set.
    """
    method = trained.method
    return method.config.data.name == "synthetic" and method.task is not Task.SEGMENTATION


def cache_of(trained: Trained) -> Path:
    """Where what judges a run is kept: in `.cache` beside it, for all runs on built-in faces."""
    folder = trained.path / "evaluation"
    return trained.path.resolve().parent / ".cache" if has_truth(trained) else folder


def table_of(trained: Trained) -> Table:
    """The titles and rows of a run's table of figures."""
    parts = parts_of(trained.method)
    return parts.TABLE if has_truth(trained) else parts.REAL_TABLE


def yardstick_of(
    trained: Trained, cache: Path | None, steps: int | None = None, second: bool = False
) -> Any:
    """The classifier or segmenter that judges a method; None if there is none.

    It has seen real pictures only: renders, or those of the run's data set.

    Args:
        trained: A run.
        cache: Folder in which it is kept, and found the next time.
        steps: Its training steps; None: enough.
        second: Another classifier in its place, with another architecture and seed: of built-in
            faces only.
    """
    method, kind = trained.method, parts_of(trained.method).YARDSTICK
    size = method.config.data.size
    if method.task is Task.SEGMENTATION:
        return None
    if kind == "classifier":
        options = {"steps": steps or classifier.STEPS, "cache": cache}
        if not has_truth(trained):
            return (
                None
                if second
                else classifier.train_on_pictures(method.evaluation_source(), **options)
            )
        options |= classifier.SECOND if second else {}
        known = method.labels if method.task is Task.ATTRIBUTE else ()
        return classifier.train_classifier(size, known, **options)
    if kind == "segmenter" and has_truth(trained) and not second:
        steps = steps or segmenter.STEPS
        return segmenter.train_segmenter(size, steps=steps, cache=cache)
    return None


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
        count: How many people, pairs of people or pictures; None: as many as the figures need on
            built-in faces; of others 512, but for label maps that are found all of the split.
        seed: Which people, of built-in faces; of others they are the first ones.
        small: A small sample, in seconds, unless `count` says otherwise; without a second judge,
            which has to be trained first.
        cache: Folder in which the classifier or segmenter that judges is kept; None: it is trained
            anew.
        split: "train", "val" or "test", of other data than built-in faces.
        judge_steps: Training steps of the classifier or segmenter; None: enough.
        judges: What judges what was made as pictures; None: nothing does.
        watch: Is shown what is measured.

    Returns:
        Nested dicts, as of the `evaluate` or `evaluate_real` of `parts_of(trained.method)`; with a
        yardstick its accuracy on real pictures by its kind, "classifier" or "segmenter", and that
        of a second one, "second_classifier", whose figures are in `second`; with judges `likeness`,
        as of `tfface.evaluation.likeness.Likeness.result`.

    Raises:
        UserError: `count` is below 1, the split has no pictures, a file of a judge is missing or
            something else, or what opening the data set raises.
    """
    parts = parts_of(trained.method)
    if count is not None and count < 1:
        raise UserError(f"count is {count}: expected at least 1")
    full, few = parts.COUNTS
    count = count or (few if small else None)
    client, source = trained.client, trained.method.evaluation_source()
    truth = has_truth(trained)
    if source.count(split) == 0:
        raise UserError(f"the data set {source.data.name!r} has no pictures in the split {split!r}")
    with user_errors(source):
        yardstick = yardstick_of(trained, cache, judge_steps)
        second = None if small else yardstick_of(trained, cache, judge_steps, second=True)
        if judges is not None:
            known = yardstick if isinstance(yardstick, classifier.Classifier) else None
            split = "test" if truth else split
            watch = likeness = Likeness(judges, source, split, known, watch)
        if truth:
            more = {"second": second} if second else {}
            found = parts.evaluate(trained, client, yardstick, count or full, seed, watch, **more)
        else:
            found = parts.evaluate_real(trained, client, source, yardstick, count, split, watch)
        if judges is not None:
            figures = likeness.result(cache)
            intervals = {"likeness": figures.pop("intervals", {})}
            found = joined(found, {"likeness": figures, "intervals": intervals})
    known = {parts.YARDSTICK: yardstick, f"second_{parts.YARDSTICK}": second}
    return {**{name: judge.accuracy for name, judge in known.items() if judge}, **found}
