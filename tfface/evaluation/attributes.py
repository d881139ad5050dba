"""What is measured and shown of ELEGANT, by `tfface.evaluate` and `tfface.demo`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfface import html
from tfface.client import FaceClient
from tfface.data.base import Source
from tfface.evaluation.classifier import Classifier
from tfface.evaluation.real_pictures import COLUMNS, ENOUGH, ROWS, evaluate_pairs
from tfface.evaluation.synthetic_truth import draw, evaluate_exchange, evaluate_several, held_out
from tfface.methods.trained import Trained
from tfface.metrics.figures import EDITED, KINDS, SEED, rows_of
from tfface.metrics.tally import Watch, joined, unwatched

TITLE = "ELEGANT: changing an attribute of a face"
CURVES = ("generator/reconstruction", "generator/adv1", "discriminator/disc1")
YARDSTICK = "classifier"
COUNTS = 96, 4
_KINDS = {**KINDS, "unchanged": "input, decoded from its own code"}
TABLE = (
    tuple(_KINDS.values()),
    rows_of(
        _KINDS,
        {
            "right": ("exchanged attribute right", "share"),
            "second/right": ("exchanged attribute right, by a second judge", "share"),
            "others": ("other attributes kept", "share"),
            "all_others": ("all others kept", "share"),
            **EDITED,
        },
    )
    + rows_of(
        {f"several/{kind}": title for kind, title in _KINDS.items()},
        {
            "all_right": ("all exchanged at once: all of them right", "share"),
            "improved_over_input": ("all right, and nearer to the truth than the input", "share"),
        },
    ),
)
REAL_TABLE = COLUMNS, ROWS
BASELINES = (
    "Copying the input shows what doing nothing scores, the true render what could be reached at "
    "best. The input decoded from its own, unchanged code (strength 0) shows which exchanges are "
    "only damage: none of it is asked for."
)
_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def evaluate(
    trained: Trained,
    client: FaceClient,
    yardstick: Classifier,
    count: int,
    seed: int,
    watch: Watch = unwatched,
    second: Classifier | None = None,
) -> dict[str, Any]:
    """Figures of held-out people; as of `evaluate_exchange`, with `unchanged`: strength 0.

    Of two attributes or more also those of `evaluate_several`.
    """
    config, transfer = trained.method.config, _transfer(trained, client)
    options = config.attributes, config.data.size, count, seed, yardstick

    def unchanged(source, reference, attribute):
        return transfer(source, reference, attribute, np.zeros(len(source), np.float32))

    figures = evaluate_exchange(transfer, *options, watch, second)
    baseline = evaluate_exchange(unchanged, *options, second=second)
    intervals = {"unchanged": baseline["intervals"]["edited"]}
    figures = joined(figures, {"unchanged": baseline["edited"], "intervals": intervals})
    if len(config.attributes) < 2:
        return figures

    def all_at_once(source, reference):
        shape = len(source), len(config.attributes)
        inputs = {
            "source": source,
            "reference": np.repeat(reference[:, None], shape[1], 1),
            "attribute": np.tile(np.array(config.attributes, object), (shape[0], 1)),
            "strength": np.ones(shape, np.float32),
        }
        return client.predict(inputs, "several")["image"]

    return joined(figures, evaluate_several(all_at_once, *options))


def evaluate_real(
    trained: Trained,
    client: FaceClient,
    source: Source,
    yardstick: Classifier,
    count: int | None,
    split: str,
    watch: Watch,
) -> dict[str, Any]:
    """Figures of a split of another data set; as of `evaluate_pairs`."""
    transfer, count = _transfer(trained, client), count or ENOUGH
    return evaluate_pairs(transfer, source, split, count, yardstick, watch)


def _transfer(trained: Trained, client: FaceClient):
    names = np.array(trained.method.config.attributes, object)

    def transfer(source, reference, attribute, strength=None):
        inputs = {
            "source": source,
            "reference": reference,
            "attribute": names[attribute],
            "strength": np.ones(len(source), np.float32) if strength is None else strength,
        }
        return client.predict(inputs)["image"]

    return transfer


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
        html.section(
            "Exchanged attributes",
            html.text(
                "People that were not in training. A and B were sent as PNGs to the server and "
                "came back with each other's attribute.",
                soft=True,
            ),
            html.faces((*columns, "C: A with B's", "D: B with A's"), rows, group=2),
        ),
        html.section(
            "Interpolation",
            html.text("From B as it is to B with all of A's attribute.", soft=True),
            html.faces((*columns, *(f"{s:.0%}" for s in _STRENGTHS)), steps, group=2),
        ),
    ]
