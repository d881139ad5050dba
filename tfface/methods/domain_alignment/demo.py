"""The demonstration of domain alignment: what `tfface.demo` measures and shows of it."""

from __future__ import annotations

from typing import Any

from tfface import report
from tfface.client import FaceClient
from tfface.config import Data
from tfface.data.pictures import to_picture
from tfface.data.synthetic import SyntheticFaces
from tfface.demo import SEED, SHOWN
from tfface.engine.load import Trained
from tfface.methods.label_maps import colour_labels
from tfface.metrics.synthetic_truth import evaluate_alignment

TITLE = "Domain alignment: a face from a label map in the style of another"
CURVES = ("generator/pixel", "generator/warp", "generator/mask")
YARDSTICK = ""
COUNTS = 256, 16
BASELINES = (
    "The error is the mean absolute difference to the true render, as a share of the range of the "
    "pixels' values. Copying the exemplar shows what doing nothing scores."
)


def evaluate(
    trained: Trained, client: FaceClient, yardstick: None, count: int, seed: int
) -> dict[str, Any]:
    """Figures of held-out people; as of `evaluate_alignment`."""

    def paint(condition, exemplar):
        made = client.predict({"condition": condition.numpy(), "exemplar": exemplar.numpy()})
        return made["image"], made["warped"]

    size = trained.method.config.data.size
    return evaluate_alignment(paint, size, count, seed)


def show(trained: Trained, client: FaceClient) -> list[str]:
    """The report's sections with pictures."""
    faces = SyntheticFaces(Data(size=trained.method.config.data.size))
    batch = next(iter(faces.exemplars("test", SHOWN, seed=SEED)))
    rows = []
    for labels, exemplar, truth in zip(
        batch["label_map"], batch["exemplar"].numpy(), batch["image"].numpy(), strict=True
    ):
        given = to_picture(exemplar)
        made = client.generate(labels.numpy().astype("uint8"), given)
        map_ = to_picture(colour_labels(labels).numpy())
        rows.append(("", [map_, given, made, to_picture(truth)]))
    return [
        report.section(
            "Held-out faces",
            report.text(
                "People that were not in training. The label map of one and the picture of another "
                "were sent as PNGs to the server. The truth is what the renderer draws for the "
                "first one in the colours, the light and the beard of the second.",
                soft=True,
            ),
            report.faces(("label map", "exemplar", "made", "truth"), rows),
        )
    ]


def table(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What was painted, the warped exemplar, and the baseline."""
    titles = {
        "painted": "painted",
        "warped": "exemplar as warped, half the size",
        "copy": "copy of the exemplar",
    }
    return ["DOMAIN ALIGNMENT", "error", "PSNR"], [
        [title, f"{figures[kind]['error']:.2%}", f"{figures[kind]['psnr']:.1f} dB"]
        for kind, title in titles.items()
    ]
