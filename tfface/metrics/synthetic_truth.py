"""Edits of built-in faces against what the same people really look like so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfface.config import Data
from tfface.data.synthetic import (
    ATTRIBUTES,
    EXPRESSIONS,
    SyntheticFaces,
    moving_mask,
    render,
    with_attribute,
    with_expression,
)
from tfface.errors import UserError
from tfface.metrics.classifier import Classifier, first_face, progress

# Training faces have intensities uniform in [0.7, 1]; an edit is asked for a name only.
INTENSITY = 0.85
_BATCH = 32
_RANGE = 2.0  # Pictures are in [-1,1].

ExpressionEdit = Callable[[np.ndarray, np.ndarray], Any]
Painting = Callable[[Any, Any], tuple[Any, Any]]
Transfer = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]


def held_out(count: int, seed: int, attributes: tuple[str, ...] = (), where=None) -> dict:
    """Factors of people of the split "test": others for every seed.

    With attributes, Smiling and Mouth_Slightly_Open are drawn on their own, on neutral faces.

    Args:
        count: How many people.
        seed: Which ones.
        attributes: As of `SyntheticFaces`.
        where: (attribute, value) to put on every face.

    Returns:
        Factors, as from `sample_factors`.
    """
    first = first_face(seed, "held out")
    return SyntheticFaces(Data(), attributes).factors("test", first, count, where)


def evaluate_expressions(
    edit: ExpressionEdit, size: int, count: int, seed: int, classifier: Classifier
) -> dict[str, Any]:
    """Gives held-out people each of the eight expressions, and compares with their true renders.

    The true render has the asked expression with intensity 0.85, the mean of the training faces.
    Errors are absolute differences as a share of the range of the pixels' values.

    Args:
        edit: From pictures float32 [N,S,S,3] in [-1,1] and indices int32 [N] into EXPRESSIONS to
            edited pictures of the same kind.
        size: Side of the pictures, in pixels.
        count: How many people; each is edited eight times.
        seed: Which people.
        classifier: Of the same size.

    Returns:
        `people`; and for `edited`, and the baselines `copy` (the input) and `target` (the true
        render): `accuracy`, the share in which the classifier sees the asked expression;
        `accuracy_by_expression`; `confusion`, rows asked, columns seen, as shares of the row;
        `error_outside` and `error_inside` the regions that expressions move; `psnr` in dB of the
        mean squared error (None without any error).
    """
    tallies = {name: _Tally() for name in ("edited", "copy", "target")}
    kinds = len(EXPRESSIONS)
    people = held_out(count, seed)
    for some in _chunks(people, count, _BATCH // kinds, "editing held-out faces"):
        some = {name: tf.repeat(value, kinds) for name, value in some.items()}
        asked = np.arange(len(some["identity"]), dtype=np.int32) % kinds
        image = render(some, size)["image"].numpy()
        target = render(with_expression(some, asked, INTENSITY), size)["image"].numpy()
        moving = moving_mask(some, size).numpy()
        made = {"edited": np.asarray(edit(image, asked)), "copy": image, "target": target}
        for name, pictures in made.items():
            tallies[name].add(asked, classifier.expressions(pictures), pictures - target, moving)
    return {"people": count, **{name: tally.result() for name, tally in tallies.items()}}


class _Tally:
    """Sums over batches of edited pictures."""

    def __init__(self):
        self.seen = np.zeros((len(EXPRESSIONS), len(EXPRESSIONS)), np.int64)
        self.absolute, self.pixels = np.zeros(2), np.zeros(2)
        self.squared = 0.0

    def add(self, asked, seen, difference, moving) -> None:
        np.add.at(self.seen, (asked, seen), 1)
        error = np.abs(difference.astype(np.float64)) / _RANGE
        for i, region in enumerate((~moving, moving)):
            self.absolute[i] += error[region].sum()
            self.pixels[i] += error[region].size
        self.squared += np.square(error).sum()

    def result(self) -> dict[str, Any]:
        shares = self.seen / np.maximum(self.seen.sum(axis=1, keepdims=True), 1)
        outside, inside = self.absolute / np.maximum(self.pixels, 1)
        mean = self.squared / self.pixels.sum()
        return {
            "accuracy": float(self.seen.trace() / self.seen.sum()),
            "accuracy_by_expression": {
                name: float(shares[i, i]) for i, name in enumerate(EXPRESSIONS)
            },
            "confusion": shares.tolist(),
            "error_outside": float(outside),
            "error_inside": float(inside),
            "psnr": decibels(mean),
        }


def evaluate_exchange(
    transfer: Transfer,
    attributes: tuple[str, ...],
    size: int,
    count: int,
    seed: int,
    classifier: Classifier,
) -> dict[str, Any]:
    """Exchanges each attribute between held-out people who have it (A) and who lack it (B).

    Args:
        transfer: From sources float32 [N,S,S,3] in [-1,1], references of the same kind and indices
            int32 [N] into the attributes to the sources with the references' attribute.
        attributes: Names.
        size: Side of the pictures, in pixels.
        count: How many pairs per attribute; each is exchanged both ways.
        seed: Which people.
        classifier: Of the same size, that tells these attributes (and others, if it may).

    Returns:
        `pairs`; and for `edited`, and the baselines `copy` (the source) and `target` (the source's
        true render with and without the attribute), each as a mean and by attribute
        (`by_attribute`): `right`, the share in which the classifier sees the exchanged attribute as
        it should be; `others`, the share of the other attributes that it sees as they were;
        `all_others`, the share of pictures in which all of them are so.
    """
    columns = [classifier.names.index(name) for name in attributes]
    found: dict[str, dict[str, Any]] = {name: {} for name in ("edited", "copy", "target")}
    for i, name in enumerate(attributes):
        rows: dict[str, list[np.ndarray]] = {kind: [] for kind in found}
        have = held_out(count, seed + 2 * i, attributes, (name, True))
        lack = held_out(count, seed + 2 * i + 1, attributes, (name, False))
        both = {k: tf.stack([have[k], lack[k]], 1) for k in have}  # [pairs, A and B]
        for some in _chunks(both, count, _BATCH // 2, f"exchanging {name}"):
            source = {k: tf.reshape(tf.transpose(v), [-1]) for k, v in some.items()}
            half = len(source["identity"]) // 2
            drawn = render(source, size, ("image", "attributes"))
            image = drawn["image"].numpy()
            truth = drawn["attributes"].numpy()[:, [ATTRIBUTES.index(n) for n in attributes]]
            truth[:, i] = 1 - truth[:, i]
            made = {
                "edited": transfer(
                    image, np.roll(image, half, axis=0), np.full(2 * half, i, np.int32)
                ),
                "copy": image,
                "target": render(with_attribute(source, name, truth[:, i] == 1), size)["image"],
            }
            for kind, pictures in made.items():
                rows[kind].append(classifier.attributes(pictures)[:, columns] == (truth == 1))
        for kind, parts in rows.items():
            found[kind][name] = _exchange_shares(np.concatenate(parts), i)
    return {"pairs": count, **{kind: _with_mean(named) for kind, named in found.items()}}


def evaluate_alignment(paint: Painting, size: int, count: int, seed: int) -> dict[str, Any]:
    """Paints held-out people's shapes in other people's colours, and compares with the truth.

    The truth is the person whose label map is given, drawn in the exemplar's colours, light and
    beard. Colours of what the exemplar does not show (the hair of a hat's wearer) cannot be known.

    Args:
        paint: From label maps int32 [N,S,S] and exemplars float32 [N,S,S,3] in [-1,1] to the
            pictures painted, and the exemplars as they were warped for it [N,S/2,S/2,3].
        size: Side of the pictures, in pixels.
        count: How many pairs of people; a multiple of 16.
        seed: Which people.

    Returns:
        `pairs`; and for `painted`, `warped` (at twice its size) and the baseline `copy` (the
        exemplar): `error`, the mean absolute difference to the truth as a share of the range of the
        pixels' values; `psnr` in dB of the mean squared one (None without any error).

    Raises:
        UserError: `count` is no multiple of 16.
    """
    batch_size = _BATCH // 2
    if count < 1 or count % batch_size:
        raise UserError(f"count is {count}: expected a multiple of {batch_size}")
    data = SyntheticFaces(Data(size=size)).exemplars("test", batch_size, seed=seed)
    sums: dict[str, np.ndarray] = {}
    with progress() as bar:
        batches = count // batch_size
        for batch in bar.track(data.take(batches), batches, description="painting held-out faces"):
            painted, warped = paint(batch["label_map"], batch["exemplar"])
            warped = np.repeat(np.repeat(warped, 2, 1), 2, 2)
            made = {"painted": painted, "warped": warped, "copy": batch["exemplar"]}
            for name, pictures in made.items():
                error = (np.asarray(pictures, np.float64) - batch["image"].numpy()) / _RANGE
                found = np.array([np.abs(error).mean(), np.square(error).mean()]) / batches
                sums[name] = sums.get(name, 0.0) + found
    return {
        "pairs": count,
        **{
            name: {"error": float(absolute), "psnr": decibels(squared)}
            for name, (absolute, squared) in sums.items()
        },
    }


def decibels(squared: float) -> float | None:
    """Peak signal-to-noise ratio of a mean squared error; None without any."""
    return float(-10.0 * np.log10(squared)) if squared > 0 else None


def _exchange_shares(right: np.ndarray, exchanged: int) -> dict[str, float]:
    """Shares of what is right, bool [N,A]."""
    others = np.delete(right, exchanged, axis=1)
    return {
        "right": float(right[:, exchanged].mean()),
        "others": float(others.mean()) if others.size else 1.0,
        "all_others": float(others.all(axis=1).mean()),
    }


def _with_mean(named: dict[str, dict[str, float]]) -> dict[str, Any]:
    keys = next(iter(named.values()))
    means = {key: float(np.mean([values[key] for values in named.values()])) for key in keys}
    return {**means, "by_attribute": named}


def _chunks(factors: dict, count: int, chunk: int, title: str) -> Iterator[dict]:
    """Some faces at a time, with a progress bar on a terminal."""
    with progress() as bar:
        for start in bar.track(range(0, count, chunk), description=title):
            yield {name: value[start : start + chunk] for name, value in factors.items()}
