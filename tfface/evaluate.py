"""`python -m tfface.evaluate RUN`: measures a run's segmentation network on held-out pictures."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.cli import Parser, aligned, command, import_tensorflow
from tfface.errors import UserError

if TYPE_CHECKING:
    from tfface.engine.load import Trained

BATCH = 32
ENDLESS = 512  # Pictures of a data set without an end.


def evaluate_segmentation(
    trained: Trained, split: str = "test", count: int | None = None, path: str | None = None
) -> dict[str, Any]:
    """Compares what a run's segmentation network finds with the label maps of its data set.

    Args:
        trained: A loaded run.
        split: "train", "val" or "test".
        count: How many pictures, of the split's first ones; None: all, or 512 if there is no end.
        path: Folder of the data set, if it is not where it was; None: the run's.

    Returns:
        `pictures`, their number, and what `tfface.metrics.segmentation.Confusion.result` returns.

    Raises:
        UserError: The method has no segmentation network, the split has no pictures, or what
            opening the data set raises.
    """
    import tensorflow as tf

    from tfface.data import check_path, open_source
    from tfface.data.files import user_errors
    from tfface.metrics.classifier import progress
    from tfface.metrics.segmentation import Confusion

    method = trained.method
    if not hasattr(method, "segment"):
        raise UserError(
            f"{trained.path} is a run of {trained.name}, which has no segmentation network; "
            f"the figures of other methods are in the report of tfface.demo"
        )
    config = method.config
    data = config.labelled or config.data
    if path is not None:
        data = dataclasses.replace(data, path=path)
    check_path(data)
    source = open_source(data, fields=("label_map",))
    there = source.count(split)
    if there == 0:
        raise UserError(f"the data set {data.name!r} has no pictures in the split {split!r}")
    count = count or there or ENDLESS
    count = count if there is None else min(count, there)

    @tf.function
    def find(images):
        return tf.argmax(method.segment(trained.nets, images), -1, tf.int32)

    confusion, seen = Confusion(), 0
    with progress() as bar, user_errors(source):
        task = bar.add_task("finding face parts", total=count)
        for batch in source.batches(split, BATCH):
            truth = batch["label_map"].numpy()[: count - seen]
            confusion.add(find(batch["image"]).numpy()[: len(truth)], truth)
            seen += len(truth)
            bar.update(task, completed=seen)
            if seen == count:
                break
    return {"pictures": seen, **confusion.result()}


def table(figures: dict[str, Any]) -> list[list[str]]:
    """Rows of a table by class, and their means."""

    def share(value: float | None, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    rows = [["CLASS", "share", "IoU", "F1"]]
    for name, iou in figures["iou_by_class"].items():
        of_pixels, f1 = figures["share_by_class"][name], figures["f1_by_class"][name]
        rows.append([name, share(of_pixels, 4), share(iou), share(f1)])
    rows.append(["mean", "", share(figures["miou"]), f"{share(figures['mean_f1'])} (parts)"])
    return rows


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "evaluate",
        description="Measure the segmentation network of a seg_hierarchical run on held-out "
        "pictures: IoU and F1 by class, pixel accuracy. Writes RUN/segmentation-SPLIT.json.",
    )
    parser.add_argument("run", help="run folder")
    parser.add_argument(
        "--split", default="test", choices=("train", "val", "test"), help="(%(default)s)"
    )
    parser.add_argument(
        "--count", type=int, metavar="N", help=f"pictures (all; {ENDLESS} of built-in faces)"
    )
    parser.add_argument("--path", metavar="FOLDER", help="the data set, if it has moved")
    parser.add_argument("--step", type=int, help="step of the checkpoint (default: the newest)")
    arguments = parser.parse_args(argv)
    if arguments.count is not None and arguments.count < 1:
        raise UserError(f"--count is {arguments.count}: expected at least 1")
    if not Path(arguments.run).is_dir():
        raise UserError(f"{arguments.run}: no such run folder")
    return arguments


@command
def main(argv: list[str] | None = None) -> int:
    """Measures; returns the exit status."""
    arguments = _parse(argv)
    import_tensorflow()

    import tfface
    from tfface.engine.run import write_text

    trained = tfface.load(arguments.run, arguments.step)
    found = evaluate_segmentation(trained, arguments.split, arguments.count, arguments.path)
    figures = {"split": arguments.split, "step": trained.step, **found}
    file = Path(arguments.run) / f"segmentation-{arguments.split}.json"
    write_text(file, json.dumps(figures, indent=1) + "\n")
    print(aligned(table(figures)))
    print(
        f"pixel accuracy {figures['pixel_accuracy']:.3f}, {figures['pictures']} pictures of the "
        f"split {arguments.split}; see {file}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
