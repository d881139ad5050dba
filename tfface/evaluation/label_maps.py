"""Evaluation of label-map-guided synthesis: faces from label maps in many styles."""

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
from tfface.metrics.bootstrap import Observer, no_observer
from tfface.metrics.tables import SEED, Row

_STYLES, _STEPS = 4, 6
_KINDS = ("generated", "untrained", "real")
_ROWS = (
    *(
        Row(title, tuple(f"segmentation/{kind}/{metric}" for kind in _KINDS), unit)
        for metric, title, unit in (
            ("miou", "mIoU of the re-segmented generated image; untrained network", "number"),
            (
                "pixel_accuracy",
                "pixel accuracy of the re-segmented generated image; untrained network",
                "share",
            ),
        )
    ),
    Row("difference between two styles on one map", ("diversity/generated", "", "diversity/real")),
    *(
        Row(
            f"the same, in the {region}",
            tuple(
                f"diversity_by_region/{region}/{kind}" if kind else ""
                for kind in ("generated", "", "real")
            ),
        )
        for region in REGIONS
    ),
    Row(
        "spectral power at periods of 2 and 4 pixels, relative to real images",
        ("grid/ratio", "", ""),
        "number",
    ),
    *(
        Row(
            f"difference of the {region} colour between two maps in one style; "
            "between two styles on one map",
            (f"colours/{region}/same_style", f"colours/{region}/same_map", ""),
        )
        for region in REGIONS
    ),
    *(
        Row(
            f"difference of the {region} colour from the reference; from another reference",
            tuple(f"palette/{kind}/{region}" for kind in ("generated", "other", "true")),
        )
        for region in REGIONS
    ),
    *(
        Row(
            f"style of a reference: {title}; copy of the reference",
            tuple(f"reference/{kind}/{metric}" for kind in ("generated", "copy", "true")),
            unit,
        )
        for metric, title, unit in (("error", "error", "error"), ("psnr", "PSNR", "dB"))
    ),
)


class LabelMaps(Evaluation):
    """Evaluation of methods that generate many faces from one label map."""

    judged_by = "segmenter"
    counts = 64, 8
    table = ("generated", "baseline", "real renders"), _ROWS
    baselines = (
        "Where a row names two values separated by a semicolon, the second one is in the column "
        "'baseline'. An untrained generator shows the score of chance; real renders of the same "
        "label maps in other people's colours are the best possible result. Colours are means over "
        "a face part."
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
        self, judges: Sequence[Segmenter], count: int, seed: int, observer: Observer = no_observer
    ) -> dict[str, Any]:
        """See `evaluate_synthesis`."""
        method, size = self.method, self.method.config.data.size
        tf.keras.utils.set_random_seed(SEED)
        random = method.build()

        def untrained(labels, number):
            seeds = tf.fill([len(labels)], tf.constant(number, tf.int64))
            return method.generate(random, labels, method.style_of_seeds(random, seeds)).numpy()

        generators = self._of_seed, untrained, self._of_face
        return evaluate_synthesis(*generators, size, count, _STYLES, seed, judges[0], observer)

    def without_truth(
        self,
        judge: None,
        source: Source,
        count: int | None,
        split: str,
        observer: Observer = no_observer,
    ) -> dict[str, Any]:
        """See `evaluate_maps`."""
        batches = held_out_batches(source, split, count or ENOUGH, "generating from label maps")
        return evaluate_maps(self._of_seed, self._of_face, batches, _STYLES, observer)

    def _of_seed(self, labels: np.ndarray, number: int) -> np.ndarray:
        seeds = np.full(len(labels), number, np.int64)
        return self.client.predict({"label_map": labels, "seed": seeds})["image"]

    def _of_face(self, labels: np.ndarray, reference: np.ndarray) -> np.ndarray:
        inputs = {"label_map": labels, "reference": reference}
        return self.client.predict(inputs, "reference")["image"]

    def show(self) -> list[str]:
        """Label maps in many styles, in the styles of other faces, and in their own."""
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
                    "Label maps of people not seen in training were sent to the server as PNGs, "
                    "each with several style seeds. A column is one style on different maps.",
                    soft=True,
                ),
                html.faces(("label map", *(f"style {seed}" for seed in seeds)), styles),
            ),
            html.section(
                "Styles of other faces",
                html.text(
                    "Three label maps in the style of each face in the first row.", soft=True
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
                html.text("A face reconstructed from its label map and its own style.", soft=True),
                html.faces(
                    ("label map", "reconstruction", "ground truth"),
                    [("", list(row)) for row in zip(shown, own, truths, strict=True)],
                ),
            ),
        ]
