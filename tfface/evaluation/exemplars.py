"""Evaluation of exemplar-guided synthesis: faces from label maps in the style of an exemplar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfface import html
from tfface.config import Data
from tfface.data.base import Source
from tfface.data.images import to_image
from tfface.data.label_map_ops import colour_labels
from tfface.data.label_maps import CLASSES_19
from tfface.data.synthetic import SyntheticFaces
from tfface.evaluation.base import Evaluation
from tfface.evaluation.real_images import ENOUGH
from tfface.evaluation.synthetic_truth import BATCH, SHOWN
from tfface.metrics.bootstrap import (
    RANGE,
    ImageRoles,
    Measurements,
    Observer,
    image_errors,
    means,
    no_observer,
    ratio,
)
from tfface.metrics.tables import SEED, rows_of
from tfface.progress import progress

PARTS_OF_FACE = {
    "eyes": ("l_eye", "r_eye"),
    "mouth": ("mouth", "u_lip", "l_lip"),
    "skin": ("skin",),
    "hair": ("hair",),
    "cloth": ("cloth",),
    "background": ("background",),
}
"""Classes of each region with an error of its own."""

Generate = Callable[[dict[str, Any]], tuple[Any, Any]]

_KINDS = {
    "generated": "generated",
    "warped": "warped exemplar (half size)",
    "copy": "copy of the exemplar",
    "target": "ground truth",
}


class Exemplars(Evaluation):
    """Evaluation of methods that generate a face from a label map in the style of another face."""

    counts = 256, 16
    table = real_table = (
        tuple(_KINDS.values()),
        rows_of(
            _KINDS,
            {
                "error": ("error", "error"),
                "psnr": ("PSNR", "dB"),
                **{
                    f"error_by_region/{name}": (f"error within {name}", "error")
                    for name in PARTS_OF_FACE
                },
            },
        ),
    )
    baselines = (
        "The error is the mean absolute difference to the ground truth, as a share of the pixel "
        "value range. Baseline: a copy of the exemplar."
    )

    def against_truth(
        self, judges: Sequence[Any], count: int, seed: int, observer: Observer = no_observer
    ) -> dict[str, Any]:
        """See `evaluate_alignment`."""
        return evaluate_alignment(self.generate, self._faces(), count, seed, observer=observer)

    def without_truth(
        self,
        judge: None,
        source: Source,
        count: int | None,
        split: str,
        observer: Observer = no_observer,
    ) -> dict[str, Any]:
        """See `evaluate_alignment`."""
        count = min(count or ENOUGH, source.count(split))
        return evaluate_alignment(self.generate, source, count, None, split, observer)

    def _faces(self) -> SyntheticFaces:
        return SyntheticFaces(Data(size=self.method.config.data.size))

    def generate(self, batch: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The `generate` argument of `evaluate_alignment`."""
        inputs = {"condition": self.method.condition(batch), "exemplar": batch["exemplar"]}
        outputs = self.client.predict({name: value.numpy() for name, value in inputs.items()})
        return outputs["image"], outputs["warped"]

    def show(self) -> list[str]:
        """Label maps, exemplars and generated images beside the ground truth."""
        batch = next(iter(self._faces().exemplars("test", SHOWN, seed=SEED)))
        rows = []
        for labels, exemplar, truth in zip(
            batch["label_map"], batch["exemplar"].numpy(), batch["image"].numpy(), strict=True
        ):
            style = to_image(exemplar)
            generated = self.client.generate(labels.numpy().astype("uint8"), style)
            map_ = to_image(colour_labels(labels).numpy())
            rows.append(("", [map_, style, generated, to_image(truth)]))
        return [
            html.section(
                "Held-out faces",
                html.text(
                    "People not seen in training. The label map of one person and the image of "
                    "another were sent to the server as PNGs. The ground truth is a render of the "
                    "first person with the colours, light and beard of the second.",
                    soft=True,
                ),
                html.faces(("label map", "exemplar", "generated", "ground truth"), rows),
            )
        ]


def evaluate_alignment(
    generate: Generate,
    source: Source,
    count: int,
    seed: int | None,
    split: str = "test",
    observer: Observer = no_observer,
) -> dict[str, Any]:
    """Generates images from label maps and matching exemplars, and compares with the ground truth.

    For built-in faces the ground truth is the person of the label map, drawn with the colours,
    light and beard of another person, the exemplar. Colours that the exemplar does not show (such
    as the hair under a hat) cannot be inferred. For other data the ground truth is the image that
    the exemplar was made from.

    Args:
        generate: From a batch of `Source.exemplars` to the generated images float32 [N,S,S,3] and
            the warped exemplars [N,S/2,S/2,3].
        source: A data set with label maps.
        count: Number of pairs of people.
        seed: Seed that selects the people; None: the first ones, see `Source.exemplars`.
        split: Split of the data set.
        observer: Receives the generated images.

    Returns:
        `pairs`; and for `generated`, `warped` (enlarged to twice its size) and the baselines `copy`
        (the exemplar) and `target` (the ground truth) the `error` and `psnr` of `image_errors`,
        and `error_by_region` for each region in PARTS_OF_FACE; `intervals`, see
        `Measurements.result`.
    """
    measurements, batch_size = Measurements(), BATCH // 2
    data = source.exemplars(split, batch_size, seed=seed)
    numbers = range(0, count, batch_size)
    with progress() as bar:
        for first, batch in bar.track(
            zip(numbers, data, strict=False), len(numbers), description="generating held-out faces"
        ):
            batch = {name: value[: count - first] for name, value in batch.items()}
            generated, warped = (np.asarray(images) for images in generate(batch))
            target, exemplar = batch["image"].numpy(), batch["exemplar"].numpy()
            labels = batch["label_map"].numpy()
            regions = {
                name: np.isin(labels, [CLASSES_19.index(part) for part in parts])
                for name, parts in PARTS_OF_FACE.items()
            }
            warped = np.repeat(np.repeat(warped, 2, 1), 2, 2)
            for kind, images in (
                ("generated", generated),
                ("warped", warped),
                ("copy", exemplar),
                ("target", target),
            ):
                measurements.add(kind, image_errors(images, target))
                absolute = np.abs(images - target) / RANGE
                for region, inside in regions.items():
                    rows = {region: means(absolute, inside[..., None])}
                    measurements.add(f"{kind}/error_by_region", rows)
            shown = {"label map": colour_labels(labels), "exemplar": exemplar}
            shown |= {"generated": generated, "ground truth": target}
            scores = ratio(image_errors(generated, target)["error"])
            roles = ImageRoles(("generated",), "exemplar", "ground truth")
            observer("error to the ground truth", [""] * len(generated), shown, scores, roles)
    return {"pairs": count, **measurements.result()}
