"""The demonstration of mask-guided synthesis: what `tfface.demo` measures and shows of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfface import report
from tfface.client import FaceClient
from tfface.data.pictures import to_picture
from tfface.data.synthetic import render
from tfface.demo import SEED, SHOWN, draw
from tfface.engine.load import Trained
from tfface.methods.label_maps import colour_labels
from tfface.metrics.segmenter import Segmenter
from tfface.metrics.synthesis import REGIONS, evaluate_synthesis
from tfface.metrics.synthetic_truth import held_out

TITLE = "Mask-guided synthesis: many faces of one label map"
CURVES = ("generator/rec", "generator/style", "generator/diversity", "discriminator/r1")
YARDSTICK = "segmenter"
COUNTS = 64, 8
BASELINES = (
    "An untrained generator shows what chance scores, real renders of the same label maps in other "
    "people's colours what could be reached at best. Colours are means over a part of the face."
)
_STYLES, _STEPS = 4, 6


def evaluate(
    trained: Trained, client: FaceClient, yardstick: Segmenter, count: int, seed: int
) -> dict[str, Any]:
    """Figures of held-out people; as of `evaluate_synthesis`."""
    method = trained.method
    tf.keras.utils.set_random_seed(SEED)
    random = method.build()

    def of_seed(labels, number):
        seeds = np.full(len(labels), number, np.int64)
        return client.predict({"label_map": labels, "seed": seeds})["image"]

    def untrained(labels, number):
        seeds = tf.fill([len(labels)], tf.constant(number, tf.int64))
        return method.paint(random, labels, method.style_of_seeds(random, seeds)).numpy()

    def of_face(labels, reference):
        inputs = {"label_map": labels, "reference": reference}
        return client.predict(inputs, "reference")["image"]

    size = method.config.data.size
    return evaluate_synthesis(of_seed, untrained, of_face, size, count, _STYLES, seed, yardstick)


def show(trained: Trained, client: FaceClient) -> list[str]:
    """The report's sections with pictures."""
    size = trained.method.config.data.size
    people = held_out(SHOWN, SEED)
    maps = render(people, size, ("label_map",))["label_map"]
    shown = [to_picture(picture) for picture in colour_labels(maps).numpy()]
    maps = list(maps.numpy().astype(np.uint8))
    truths, references = draw(people, size), draw(held_out(SHOWN, SEED + 1), size)
    seeds = list(range(1, _STEPS + 1))
    styles = [
        ("", [picture, *client.synthesize(labels, seeds)])
        for picture, labels in zip(shown, maps, strict=True)
    ]
    own = client.synthesize(maps, reference=truths)
    others = [client.synthesize(labels, reference=references) for labels in maps[:3]]
    return [
        report.section(
            "One label map, many styles",
            report.text(
                "Label maps of people that were not in training were sent as PNGs to the server, "
                "each with the numbers of some styles. A column is one style on different maps.",
                soft=True,
            ),
            report.faces(("label map", *(f"style {seed}" for seed in seeds)), styles),
        ),
        report.section(
            "Styles of other faces",
            report.text("The style of each face in the first row, on three label maps.", soft=True),
            report.faces(
                ("label map", *(f"reference {i + 1}" for i in range(SHOWN))),
                [
                    ("", [None, *references]),
                    *(("", [shown[i], *row]) for i, row in enumerate(others)),
                ],
            ),
        ),
        report.section(
            "Their own styles",
            report.text("A face made again from its label map and its own style.", soft=True),
            report.faces(
                ("label map", "made", "truth"),
                [("", list(row)) for row in zip(shown, own, truths, strict=True)],
            ),
        ),
    ]


def table(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What the segmenter finds again, how faces differ, and whether colours are kept."""
    found, diversity = figures["segmentation"], figures["diversity"]
    palette, colours = figures["palette"], figures["colours"]
    rows = [
        ["mIoU of the label map, found by the segmenter", *_three(found, "miou")],
        ["its pixels", *_three(found, "pixel_accuracy")],
        [
            "difference of two styles on one map",
            f"{diversity['made']:.2%}",
            "",
            f"{diversity['real']:.2%}",
        ],
    ]
    for region in REGIONS:
        kept = f"{_percent(colours[region]['same_style'])}"
        other = f"{_percent(colours[region]['same_map'])} between styles"
        rows.append([f"{region}'s colour between maps, same style", kept, other, ""])
    for region in REGIONS:
        values = {kind: _percent(palette[kind][region]) for kind in palette}
        other = f"{values['other']} from another's"
        rows.append(
            [f"{region}'s colour from the reference's", values["made"], other, values["true"]]
        )
    return ["MASK-GUIDED", "made", "baseline", "real renders"], rows


def _three(found: dict[str, Any], measure: str) -> list[str]:
    values = {kind: f"{found[kind][measure]:.3f}" for kind in ("made", "untrained", "real")}
    return [values["made"], f"{values['untrained']} untrained", values["real"]]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
