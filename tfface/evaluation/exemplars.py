"""What is measured and shown of domain alignment, by `tfface.evaluate` and `tfface.demo`."""

from __future__ import annotations

from typing import Any

from tfface import html
from tfface.client import FaceClient
from tfface.config import Data
from tfface.data.base import Source
from tfface.data.label_map_ops import colour_labels
from tfface.data.pictures import to_picture
from tfface.data.synthetic import SyntheticFaces
from tfface.evaluation.real_pictures import ENOUGH
from tfface.evaluation.synthetic_truth import PARTS_OF_FACE, SHOWN, Painting, evaluate_alignment
from tfface.methods.trained import Trained
from tfface.metrics.figures import SEED, rows_of
from tfface.metrics.tally import Watch, unwatched

TITLE = "Domain alignment: a face from a label map in the style of another"
CURVES = ("generator/pixel", "generator/warp", "generator/mask")
YARDSTICK = ""
COUNTS = 256, 16
_KINDS = {
    "painted": "painted",
    "warped": "exemplar as warped, half the size",
    "copy": "copy of the exemplar",
    "target": "truth",
}
TABLE = REAL_TABLE = (
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
BASELINES = (
    "The error is the mean absolute difference to the true render, as a share of the range of the "
    "pixels' values. Copying the exemplar shows what doing nothing scores."
)


def evaluate(
    trained: Trained,
    client: FaceClient,
    yardstick: None,
    count: int,
    seed: int,
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Figures of held-out people; as of `evaluate_alignment`."""
    source = SyntheticFaces(Data(size=trained.method.config.data.size))
    return evaluate_alignment(painter(trained, client), source, count, seed, watch=watch)


def evaluate_real(
    trained: Trained,
    client: FaceClient,
    source: Source,
    yardstick: None,
    count: int | None,
    split: str,
    watch: Watch,
) -> dict[str, Any]:
    """Figures of a split of another data set; as of `evaluate_alignment`."""
    count = min(count or ENOUGH, source.count(split))
    return evaluate_alignment(painter(trained, client), source, count, None, split, watch)


def painter(trained: Trained, client: FaceClient) -> Painting:
    """What `evaluate_alignment` asks of the method."""

    def paint(batch):
        inputs = {"condition": trained.method.condition(batch), "exemplar": batch["exemplar"]}
        made = client.predict({name: value.numpy() for name, value in inputs.items()})
        return made["image"], made["warped"]

    return paint


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
        html.section(
            "Held-out faces",
            html.text(
                "People that were not in training. The label map of one and the picture of another "
                "were sent as PNGs to the server. The truth is what the renderer draws for the "
                "first one in the colours, the light and the beard of the second.",
                soft=True,
            ),
            html.faces(("label map", "exemplar", "made", "truth"), rows),
        )
    ]
