"""The demonstration of ELEGANT: what `tfface.demo` measures and shows of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfface import report
from tfface.client import FaceClient
from tfface.demo import KINDS, SEED, draw
from tfface.engine.load import Trained
from tfface.metrics.classifier import Classifier
from tfface.metrics.synthetic_truth import evaluate_exchange, held_out

TITLE = "ELEGANT: changing an attribute of a face"
CURVES = ("generator/reconstruction", "generator/adv1", "discriminator/disc1")
YARDSTICK = "classifier"
COUNTS = 96, 4
BASELINES = (
    "Copying the input shows what doing nothing scores, the true render what could be reached at "
    "best."
)
_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def evaluate(
    trained: Trained, client: FaceClient, yardstick: Classifier, count: int, seed: int
) -> dict[str, Any]:
    """Figures of held-out people; as of `evaluate_exchange`."""
    config = trained.method.config

    def transfer(source, reference, attribute):
        inputs = {
            "source": source,
            "reference": reference,
            "attribute": np.array(config.attributes, object)[attribute],
            "strength": np.ones(len(source), np.float32),
        }
        return client.predict(inputs)["image"]

    return evaluate_exchange(transfer, config.attributes, config.data.size, count, seed, yardstick)


def show(trained: Trained, client: FaceClient) -> list[str]:
    """The report's sections with pictures."""
    config = trained.method.config
    rows, steps = [], []
    for i, name in enumerate(config.attributes):
        pairs = zip(
            draw(held_out(2, SEED + 2 * i, config.attributes, (name, True)), config.data.size),
            draw(held_out(2, SEED + 2 * i + 1, config.attributes, (name, False)), config.data.size),
            strict=True,
        )
        for has, lacks in pairs:
            exchanged = client.transfer_attribute([has, lacks], [lacks, has], name)
            rows.append((name, [has, lacks, *exchanged]))
            blended = client.transfer_attribute(lacks, has, name, list(_STRENGTHS))
            steps.append((name, [has, lacks, *blended]))
    columns = ("A (has it)", "B (lacks it)")
    return [
        report.section(
            "Exchanged attributes",
            report.text(
                "People that were not in training. A and B were sent as PNGs to the server and "
                "came back with each other's attribute.",
                soft=True,
            ),
            report.faces((*columns, "C: A with B's", "D: B with A's"), rows, group=2),
        ),
        report.section(
            "Interpolation",
            report.text("From B as it is to B with all of A's attribute.", soft=True),
            report.faces((*columns, *(f"{s:.0%}" for s in _STRENGTHS)), steps, group=2),
        ),
    ]


def table(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Exchanged faces, then the baselines."""
    names = list(figures["edited"]["by_attribute"])
    header = [
        "ELEGANT",
        "exchanged attribute right",
        *names,
        "other attributes kept",
        "all others kept",
    ]
    rows = [
        [
            title,
            f"{f['right']:.1%}",
            *(f"{f['by_attribute'][name]['right']:.1%}" for name in names),
            f"{f['others']:.1%}",
            f"{f['all_others']:.1%}",
        ]
        for f, title in ((figures[kind], title) for kind, title in KINDS.items())
    ]
    return header, rows
