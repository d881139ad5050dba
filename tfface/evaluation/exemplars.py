"""Faces from label maps in the style of exemplars."""

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
from tfface.metrics.bootstrap import RANGE, Roles, Tally, Watch, compared, means, ratio, unwatched
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
"""Classes of the regions whose errors are told apart."""

Painting = Callable[[dict[str, Any]], tuple[Any, Any]]

_KINDS = {
    "painted": "painted",
    "warped": "exemplar as warped, half the size",
    "copy": "copy of the exemplar",
    "target": "truth",
}


class Exemplars(Evaluation):
    """Of methods that make a face from a label map in the style of another face."""

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
        "The error is the mean absolute difference to the true render, as a share of the range of "
        "the pixels' values. Copying the exemplar shows what doing nothing scores."
    )

    def against_truth(
        self, judges: Sequence[Any], count: int, seed: int, watch: Watch = unwatched
    ) -> dict[str, Any]:
        """As of `evaluate_alignment`."""
        return evaluate_alignment(self.paint, self._faces(), count, seed, watch=watch)

    def without_truth(
        self, judge: None, source: Source, count: int | None, split: str, watch: Watch = unwatched
    ) -> dict[str, Any]:
        """As of `evaluate_alignment`."""
        count = min(count or ENOUGH, source.count(split))
        return evaluate_alignment(self.paint, source, count, None, split, watch)

    def _faces(self) -> SyntheticFaces:
        return SyntheticFaces(Data(size=self.method.config.data.size))

    def paint(self, batch: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """What `evaluate_alignment` asks of the method."""
        inputs = {"condition": self.method.condition(batch), "exemplar": batch["exemplar"]}
        made = self.client.predict({name: value.numpy() for name, value in inputs.items()})
        return made["image"], made["warped"]

    def show(self) -> list[str]:
        """Label maps, exemplars, and what was made of them, beside the truth."""
        batch = next(iter(self._faces().exemplars("test", SHOWN, seed=SEED)))
        rows = []
        for labels, exemplar, truth in zip(
            batch["label_map"], batch["exemplar"].numpy(), batch["image"].numpy(), strict=True
        ):
            given = to_image(exemplar)
            made = self.client.generate(labels.numpy().astype("uint8"), given)
            map_ = to_image(colour_labels(labels).numpy())
            rows.append(("", [map_, given, made, to_image(truth)]))
        return [
            html.section(
                "Held-out faces",
                html.text(
                    "People that were not in training. The label map of one and the image of "
                    "another were sent as PNGs to the server. The truth is what the renderer draws "
                    "for the first one in the colours, the light and the beard of the second.",
                    soft=True,
                ),
                html.faces(("label map", "exemplar", "made", "truth"), rows),
            )
        ]


def evaluate_alignment(
    paint: Painting,
    source: Source,
    count: int,
    seed: int | None,
    split: str = "test",
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Paints people's shapes in the style of exemplars that fit them, and compares with the truth.

    Of built-in faces the truth is the person whose label map is given, drawn in the colours, light
    and beard of another, the exemplar. Colours of what the exemplar does not show (the hair of a
    hat's wearer) cannot be known. Of other data it is the image that the exemplar was made of.

    Args:
        paint: From a batch of `Source.exemplars` to the images painted float32 [N,S,S,3], and the
            exemplars as they were warped for it [N,S/2,S/2,3].
        source: A data set with label maps.
        count: How many pairs of people.
        seed: Which people; None: the first ones, as of `Source.exemplars`.
        split: Of the data set.
        watch: Is shown what was painted.

    Returns:
        `pairs`; and for `painted`, `warped` (at twice its size) and the baselines `copy` (the
        exemplar) and `target` (the truth) the `error` and the `psnr` to the truth as of `compared`,
        and `error_by_region`, of each of PARTS_OF_FACE; `intervals` as of `Tally.result`.
    """
    tally, batch_size = Tally(), BATCH // 2
    data = source.exemplars(split, batch_size, seed=seed)
    numbers = range(0, count, batch_size)
    with progress() as bar:
        for first, batch in bar.track(
            zip(numbers, data, strict=False), len(numbers), description="painting held-out faces"
        ):
            batch = {name: value[: count - first] for name, value in batch.items()}
            painted, warped = (np.asarray(images) for images in paint(batch))
            target, exemplar = batch["image"].numpy(), batch["exemplar"].numpy()
            labels = batch["label_map"].numpy()
            regions = {
                name: np.isin(labels, [CLASSES_19.index(part) for part in parts])
                for name, parts in PARTS_OF_FACE.items()
            }
            warped = np.repeat(np.repeat(warped, 2, 1), 2, 2)
            for kind, images in (
                ("painted", painted),
                ("warped", warped),
                ("copy", exemplar),
                ("target", target),
            ):
                tally.add(kind, compared(images, target))
                absolute = np.abs(images - target) / RANGE
                for region, inside in regions.items():
                    rows = {region: means(absolute, inside[..., None])}
                    tally.add(f"{kind}/error_by_region", rows)
            shown = {"label map": colour_labels(labels), "exemplar": exemplar}
            shown |= {"painted": painted, "truth": target}
            scores = ratio(compared(painted, target)["error"])
            roles = Roles(("painted",), "exemplar", "truth")
            watch("error to the truth", [""] * len(painted), shown, scores, roles)
    return {"pairs": count, **tally.result()}
