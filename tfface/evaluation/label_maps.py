"""Faces made from label maps in many styles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfface import html
from tfface.data.base import Source
from tfface.data.images import to_image
from tfface.data.label_map_ops import colour_labels
from tfface.data.synthetic import render
from tfface.evaluation import segmenter
from tfface.evaluation.base import Evaluation
from tfface.evaluation.real_images import ENOUGH, evaluate_maps, held_out_batches
from tfface.evaluation.segmenter import Segmenter
from tfface.evaluation.synthesis import REGIONS, evaluate_synthesis
from tfface.evaluation.synthetic_truth import SHOWN, draw, held_out
from tfface.metrics.bootstrap import Watch, unwatched
from tfface.metrics.tables import SEED, Row

_STYLES, _STEPS = 4, 6
_KINDS = ("made", "untrained", "real")
_ROWS = (
    *(
        Row(title, tuple(f"segmentation/{kind}/{measure}" for kind in _KINDS), unit)
        for measure, title, unit in (
            ("miou", "mIoU of the label map, found again; untrained", "number"),
            ("pixel_accuracy", "its pixels; untrained", "share"),
        )
    ),
    Row("difference of two styles on one map", ("diversity/made", "", "diversity/real")),
    Row("power at periods of 2 and 4 pixels, relative to real", ("grid/ratio", "", ""), "number"),
    *(
        Row(
            f"{region}'s colour between maps, one style; between styles, one map",
            (f"colours/{region}/same_style", f"colours/{region}/same_map", ""),
        )
        for region in REGIONS
    ),
    *(
        Row(
            f"{region}'s colour from the reference's; from another's",
            tuple(f"palette/{kind}/{region}" for kind in ("made", "other", "true")),
        )
        for region in REGIONS
    ),
    *(
        Row(
            f"style of a reference: {title}; copy of the reference",
            tuple(f"reference/{kind}/{measure}" for kind in ("made", "copy", "true")),
            unit,
        )
        for measure, title, unit in (("error", "error", "error"), ("psnr", "PSNR", "dB"))
    ),
)


class LabelMaps(Evaluation):
    """Of methods that make many faces of one label map."""

    judged_by = "segmenter"
    counts = 64, 8
    table = ("made", "baseline", "real renders"), _ROWS
    baselines = (
        "An untrained generator shows what chance scores, real renders of the same label maps in "
        "other people's colours what could be reached at best. Colours are means over a part of "
        "the face."
    )

    def judge(
        self, cache: Path | None, steps: int | None = None, second: bool = False
    ) -> Segmenter | None:
        """A segmenter of built-in faces."""
        if second or not self.has_truth:
            return None
        size, steps = self.method.config.data.size, steps or segmenter.STEPS
        return segmenter.train_segmenter(size, steps=steps, cache=cache)

    def against_truth(
        self, judges: Sequence[Segmenter], count: int, seed: int, watch: Watch = unwatched
    ) -> dict[str, Any]:
        """As of `evaluate_synthesis`."""
        method, size = self.method, self.method.config.data.size
        tf.keras.utils.set_random_seed(SEED)
        random = method.build()

        def untrained(labels, number):
            seeds = tf.fill([len(labels)], tf.constant(number, tf.int64))
            return method.paint(random, labels, method.style_of_seeds(random, seeds)).numpy()

        makers = self._of_seed, untrained, self._of_face
        return evaluate_synthesis(*makers, size, count, _STYLES, seed, judges[0], watch)

    def without_truth(
        self, judge: None, source: Source, count: int | None, split: str, watch: Watch = unwatched
    ) -> dict[str, Any]:
        """As of `evaluate_maps`."""
        batches = held_out_batches(source, split, count or ENOUGH, "painting label maps")
        return evaluate_maps(self._of_seed, self._of_face, batches, _STYLES, watch)

    def _of_seed(self, labels: np.ndarray, number: int) -> np.ndarray:
        seeds = np.full(len(labels), number, np.int64)
        return self.client.predict({"label_map": labels, "seed": seeds})["image"]

    def _of_face(self, labels: np.ndarray, reference: np.ndarray) -> np.ndarray:
        inputs = {"label_map": labels, "reference": reference}
        return self.client.predict(inputs, "reference")["image"]

    def show(self) -> list[str]:
        """Label maps in many styles, in those of other faces, and in their own."""
        size = self.method.config.data.size
        people = held_out(SHOWN, SEED)
        maps = render(people, size, ("label_map",))["label_map"]
        shown = [to_image(image) for image in colour_labels(maps).numpy()]
        maps = list(maps.numpy().astype(np.uint8))
        truths, references = draw(people, size), draw(held_out(SHOWN, SEED + 1), size)
        seeds = list(range(1, _STEPS + 1))
        styles = [
            ("", [image, *self.client.synthesize(labels, seeds)])
            for image, labels in zip(shown, maps, strict=True)
        ]
        own = self.client.synthesize(maps, reference=truths)
        others = [self.client.synthesize(labels, reference=references) for labels in maps[:3]]
        return [
            html.section(
                "One label map, many styles",
                html.text(
                    "Label maps of people that were not in training were sent as PNGs to the "
                    "server, each with the numbers of some styles. A column is one style on "
                    "different maps.",
                    soft=True,
                ),
                html.faces(("label map", *(f"style {seed}" for seed in seeds)), styles),
            ),
            html.section(
                "Styles of other faces",
                html.text(
                    "The style of each face in the first row, on three label maps.", soft=True
                ),
                html.faces(
                    ("label map", *(f"reference {i + 1}" for i in range(SHOWN))),
                    [
                        ("", [None, *references]),
                        *(("", [shown[i], *row]) for i, row in enumerate(others)),
                    ],
                ),
            ),
            html.section(
                "Their own styles",
                html.text("A face made again from its label map and its own style.", soft=True),
                html.faces(
                    ("label map", "made", "truth"),
                    [("", list(row)) for row in zip(shown, own, truths, strict=True)],
                ),
            ),
        ]
