"""The demonstration of seg_hierarchical: what `tfface.demo` measures and shows of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfface import report
from tfface.client import FaceClient
from tfface.data.pictures import to_picture
from tfface.data.synthetic import EXPRESSIONS, render
from tfface.demo import SEED, SHOWN, draw
from tfface.engine.load import Trained
from tfface.methods.label_maps import colour_labels
from tfface.methods.sargan import demo as sargan
from tfface.metrics.classifier import Classifier
from tfface.metrics.segmentation import Confusion
from tfface.metrics.synthetic_truth import held_out

TITLE = "Segmentation with hierarchical GANs: face parts, and another expression"
CURVES = ("segmentation/seg", "generator/cls", "joint/cls", "joint/seg", "joint/rec")
YARDSTICK = "classifier"
COUNTS = sargan.COUNTS
BASELINES = (
    "Copying the input shows what doing nothing scores, the true render what could be reached at "
    "best. The regions outside and inside are those that expressions move."
)
_AT_ONCE = 32


def evaluate(
    trained: Trained, client: FaceClient, yardstick: Classifier, count: int, seed: int
) -> dict[str, Any]:
    """Figures of held-out people: those of SARGAN's demonstration, and of the `segmentation`."""
    size = trained.method.config.data.size
    people = held_out(4 * count, seed)
    confusion = Confusion()
    for start in range(0, len(people["identity"]), _AT_ONCE):
        some = {name: value[start : start + _AT_ONCE] for name, value in people.items()}
        drawn = render(some, size, ("image", "label_map"))
        found = client.predict({"image": drawn["image"].numpy()}, "segment")["label_map"]
        confusion.add(found, drawn["label_map"].numpy())
    figures = sargan.evaluate(trained, client, yardstick, count, seed)
    return {**figures, "segmentation": confusion.result()}


def show(trained: Trained, client: FaceClient) -> list[str]:
    """The report's sections with pictures."""
    method, people = trained.method, held_out(SHOWN, SEED)
    size = method.config.data.size
    pictures = draw(people, size)
    truths = render(people, size, ("label_map",))["label_map"]
    found = client.segment(pictures)
    faces, parts = [], []
    for picture, labels, truth in zip(pictures, found, truths, strict=True):
        maps = [_coloured(labels), _coloured(truth)]
        edited = client.change_expression(picture, list(EXPRESSIONS))
        faces.append(("", [picture, *maps, *edited]))
    for name in ("happy", "surprised"):
        images = tf.stack([np.asarray(p, np.float32) / 127.5 - 1.0 for p in pictures[:2]])
        asked = tf.fill([2], EXPRESSIONS.index(name))
        made = method.edit(trained.nets, images, asked)
        shown = [
            [to_picture(x) for x in made[k].numpy()] for k in (*method.config.regions, "image")
        ]
        for i in range(2):
            parts.append((name, [pictures[i], *(column[i] for column in shown)]))
    return [
        report.section(
            "Held-out faces",
            report.text(
                "People that were not in training, sent as PNGs to the server. Beside each the "
                "parts that the segmentation network found, and the true ones.",
                soft=True,
            ),
            report.faces(("input", "found", "truth", *EXPRESSIONS), faces),
        ),
        report.section(
            "Parts",
            report.text("What the local generators made, and the face fused from it.", soft=True),
            report.faces(("input", *method.config.regions, "fused"), parts),
        ),
    ]


def _coloured(labels: Any):
    return to_picture(colour_labels(tf.cast(labels, tf.int32)).numpy())


def table(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The edits, the baselines, and the segmentation."""
    found = figures["segmentation"]
    told = f"mIoU {found['miou']:.3f}", f"F1 {found['mean_f1']:.3f}"
    segmentation = ["segmentation", *told, f"pixels {found['pixel_accuracy']:.1%}", ""]
    header = ["SEG_HIERARCHICAL", "asked seen", "outside", "inside", "PSNR"]
    return header, [*sargan.rows(figures), segmentation]
