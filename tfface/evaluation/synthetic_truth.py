"""Edits of built-in faces against what the same people really look like so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tfface.config import Data
from tfface.data.base import Source
from tfface.data.label_map_ops import colour_labels
from tfface.data.label_maps import CLASSES_19
from tfface.data.pictures import to_picture
from tfface.data.synthetic import (
    ATTRIBUTES,
    EXPRESSIONS,
    SyntheticFaces,
    moving_mask,
    render,
    with_attribute,
    with_expression,
)
from tfface.evaluation.classifier import Classifier, first_face
from tfface.metrics.tally import RANGE, Roles, Tally, Watch, compared, means, ratio, unwatched
from tfface.progress import progress

# Training faces have intensities uniform in [0.7, 1]; an edit is asked for a name only.
INTENSITY = 0.85
_BATCH = 32
SHOWN = 6
"""Rows of images in a report, about."""

_LEVEL = RANGE / 255  # Of an 8-bit colour.
_HALF = 0.5  # Decibels.
ERROR = "error to the true render"
PARTS_OF_FACE = {
    "eyes": ("l_eye", "r_eye"),
    "mouth": ("mouth", "u_lip", "l_lip"),
    "skin": ("skin",),
    "hair": ("hair",),
    "cloth": ("cloth",),
    "background": ("background",),
}
"""Classes of the regions whose errors are told apart."""

ExpressionEdit = Callable[[np.ndarray, np.ndarray], Any]
Painting = Callable[[dict[str, Any]], tuple[Any, Any]]
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


def draw(factors: dict, size: int) -> list[Image.Image]:
    """Built-in faces as pictures."""
    return [to_picture(array) for array in render(factors, size)["image"].numpy()]


def evaluate_expressions(
    edit: ExpressionEdit,
    size: int,
    count: int,
    seed: int,
    classifier: Classifier,
    watch: Watch = unwatched,
    classes: tuple[str, ...] = EXPRESSIONS,
    second: Classifier | None = None,
) -> dict[str, Any]:
    """Gives held-out people each of some expressions, and compares with their true renders.

    The true render has the asked expression with intensity 0.85, the mean of the training faces.
    Errors are absolute differences as a share of the range of the pixels' values.

    Args:
        edit: From pictures float32 [N,S,S,3] in [-1,1] and indices int32 [N] into EXPRESSIONS to
            edited pictures of the same kind.
        size: Side of the pictures, in pixels.
        count: How many people; each is edited once for each expression.
        seed: Which people.
        classifier: Of the same size.
        watch: Is shown the edits.
        classes: The expressions asked for, of EXPRESSIONS.
        second: Another judge of the same size.

    Returns:
        `people`; and for `edited`, and the baselines `copy` (the input) and `target` (the true
        render): `accuracy`, the share in which the classifier sees the asked expression;
        `improved_over_input`, the share in which it does, and which have a higher PSNR than the
        input, of those whose true render is not the input; `improved_by_half_db`, the same by at
        least 0.5 dB; these three by the second judge in `second`; `identity`, the mean cosine of
        the person with the input's, if the classifier knows people;
        `accuracy_by_expression`; `confusion`, rows asked, columns seen, as shares of the row;
        `error`, and `error_outside` and `error_inside` the regions that expressions move; `psnr` in
        dB of the mean squared error (None without any error); `intervals` as of `Tally.result`.
    """
    tally, kinds, judges = Tally(), len(classes), [classifier, *([second] if second else [])]
    wanted = np.array([EXPRESSIONS.index(name) for name in classes], np.int32)
    seen: dict[str, np.ndarray] = {}
    people = held_out(count, seed)
    for some in _chunks(people, count, _BATCH // kinds, "editing held-out faces"):
        some = {name: tf.repeat(value, kinds) for name, value in some.items()}
        asked = np.tile(wanted, len(some["identity"]) // kinds)
        image = render(some, size)["image"].numpy()
        target = render(with_expression(some, asked, INTENSITY), size)["image"].numpy()
        moving = moving_mask(some, size).numpy()
        made = {"edited": np.asarray(edit(image, asked)), "copy": image, "target": target}
        errors = {kind: compared(pictures, target, moving) for kind, pictures in made.items()}
        for kind, pictures in made.items():
            found = [judge.expressions(pictures) for judge in judges]
            counts = seen.setdefault(kind, np.zeros((kinds, len(EXPRESSIONS))))
            np.add.at(counts, (np.arange(len(asked)) % kinds, found[0]), 1)
            right = [expressions == asked for expressions in found]
            rows = {**errors[kind], **_kept_person(classifier, pictures, image)}
            rows |= _verdicts("accuracy", right, errors[kind], errors["copy"])
            for i, name in zip(wanted, classes, strict=True):
                rows[f"accuracy_by_expression/{name}"] = means(right[0], asked == i)
            tally.add(kind, rows, per=kinds)
        names = [EXPRESSIONS[i] for i in asked]
        shown = {"input": image, "edited": made["edited"], "true render": target}
        roles = Roles(("edited",), "input", "true render", per=kinds)
        watch(ERROR, names, shown, ratio(errors["edited"]["error"]), roles)
    figures = {"people": count, **tally.result()}
    for kind, counts in seen.items():
        figures[kind]["confusion"] = (counts / count).tolist()
    return figures


def evaluate_exchange(
    transfer: Transfer,
    attributes: tuple[str, ...],
    size: int,
    count: int,
    seed: int,
    classifier: Classifier,
    watch: Watch = unwatched,
    second: Classifier | None = None,
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
        watch: Is shown the exchanged pictures.
        second: Another judge, of the same kind.

    Returns:
        `pairs`; and for `edited`, and the baselines `copy` (the source) and `target` (the source's
        true render with and without the attribute), over all and by attribute (`by_attribute`):
        `right`, the share in which the classifier sees the exchanged attribute as it should be;
        `improved_over_input`, the share in which it does, and which have a higher PSNR than the
        source; `improved_by_half_db`, the same by at least 0.5 dB; these three by the second judge
        in `second`; `identity`, the mean cosine of the person with the source's, if the classifier
        knows people; `others`, the share of the other attributes that it sees as they were;
        `all_others`, the share of pictures in which all of them are so; `error`, `error_outside`
        and `error_inside` the pixels that the true render changes, and `psnr`, as of `compared`.
        `intervals` as of `Tally.result`, over pairs.
    """
    tally = Tally()
    judges = [classifier, *([second] if second else [])]
    columns = [[judge.names.index(name) for name in attributes] for judge in judges]
    for i, name in enumerate(attributes):
        have = held_out(count, seed + 2 * i, attributes, (name, True))
        lack = held_out(count, seed + 2 * i + 1, attributes, (name, False))
        both = {k: tf.stack([have[k], lack[k]], 1) for k in have}  # [pairs, A and B]
        for some in _chunks(both, count, _BATCH // 2, f"exchanging {name}"):
            source = {k: tf.reshape(v, [-1]) for k, v in some.items()}
            drawn = render(source, size, ("image", "attributes"))
            image = drawn["image"].numpy()
            truth = drawn["attributes"].numpy()[:, [ATTRIBUTES.index(n) for n in attributes]]
            truth[:, i] = 1 - truth[:, i]
            reference = swapped(image)
            target = render(with_attribute(source, name, truth[:, i] == 1), size)["image"].numpy()
            edited = np.asarray(transfer(image, reference, np.full(len(image), i, np.int32)))
            changed = np.abs(target - image).max(-1) > _LEVEL
            made = {"edited": edited, "copy": image, "target": target}
            errors = {kind: compared(pictures, target, changed) for kind, pictures in made.items()}
            for kind, pictures in made.items():
                right = [
                    judge.attributes(pictures)[:, own] == (truth == 1)
                    for judge, own in zip(judges, columns, strict=True)
                ]
                rows = {**exchange_rows(right[0], i), **errors[kind]}
                rows |= _kept_person(classifier, pictures, image)
                rows |= _verdicts("right", [r[:, i] for r in right], errors[kind], errors["copy"])
                for group in (kind, f"{kind}/by_attribute/{name}"):
                    tally.add(group, rows, per=2)
            shown = {"input": image, "reference": reference}
            shown |= {"edited": edited, "true render": target}
            names = [f"{'with' if value else 'without'} {name}" for value in truth[:, i]]
            roles = Roles(("edited",), "input", "true render", per=2)
            watch(ERROR, names, shown, ratio(errors["edited"]["error"]), roles)
    return {"pairs": count, **tally.result()}


def _verdicts(
    asked: str,
    verdicts: Sequence[np.ndarray],
    rows: dict[str, np.ndarray],
    copied: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Rows of edits that show what was asked, and of those that are nearer to the truth as well.

    A caricature shows it, and a copy has a small error: it takes both to have done what was asked.

    Args:
        asked: What the share of those that show it is called.
        verdicts: Of one judge or two, which show it, bool [N].
        rows: Of the edits, as of `compared`.
        copied: Of the inputs. Those that are their own true render are left out.
    """
    before = ratio(copied["psnr"])
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = 10 * np.log10(before / ratio(rows["psnr"]))  # In dB.
    found = {}
    for prefix, shows in zip(("", "second/"), verdicts, strict=False):
        found[f"{prefix}{asked}"] = means(shows)
        found[f"{prefix}improved_over_input"] = means(shows & (gain > 0), before > 0)
        found[f"{prefix}improved_by_half_db"] = means(shows & (gain >= _HALF), before > 0)
    return found


def _kept_person(judge: Classifier, made: np.ndarray, source: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of how like the person in pictures is to the one in those that they were made of."""
    return {"identity": means(judge.similarity(made, source))} if judge.knows_people else {}


def swapped(values: np.ndarray) -> np.ndarray:
    """Of pairs that follow each other, each one's other: [2N,...] to [2N,...]."""
    return values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)


def exchange_rows(right: np.ndarray, exchanged: int) -> dict[str, np.ndarray]:
    """Rows, for `Tally.add`, of what is right, bool [N,A], after an attribute was exchanged."""
    others = np.delete(right, exchanged, axis=1)
    return {
        "right": means(right[:, exchanged]),
        "others": means(others) if others.size else means(np.ones(len(right))),
        "all_others": means(others.all(axis=1)),
    }


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
    hat's wearer) cannot be known. Of other data it is the picture that the exemplar was made of.

    Args:
        paint: From a batch of `Source.exemplars` to the pictures painted float32 [N,S,S,3], and the
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
    tally, batch_size = Tally(), _BATCH // 2
    data = source.exemplars(split, batch_size, seed=seed)
    numbers = range(0, count, batch_size)
    with progress() as bar:
        for first, batch in bar.track(
            zip(numbers, data, strict=False), len(numbers), description="painting held-out faces"
        ):
            batch = {name: value[: count - first] for name, value in batch.items()}
            painted, warped = (np.asarray(pictures) for pictures in paint(batch))
            target, exemplar = batch["image"].numpy(), batch["exemplar"].numpy()
            labels = batch["label_map"].numpy()
            regions = {
                name: np.isin(labels, [CLASSES_19.index(part) for part in parts])
                for name, parts in PARTS_OF_FACE.items()
            }
            warped = np.repeat(np.repeat(warped, 2, 1), 2, 2)
            for kind, pictures in (
                ("painted", painted),
                ("warped", warped),
                ("copy", exemplar),
                ("target", target),
            ):
                tally.add(kind, compared(pictures, target))
                absolute = np.abs(pictures - target) / RANGE
                for region, inside in regions.items():
                    rows = {region: means(absolute, inside[..., None])}
                    tally.add(f"{kind}/error_by_region", rows)
            shown = {"label map": colour_labels(labels), "exemplar": exemplar}
            shown |= {"painted": painted, "truth": target}
            scores = ratio(compared(painted, target)["error"])
            roles = Roles(("painted",), "exemplar", "truth")
            watch("error to the truth", [""] * len(painted), shown, scores, roles)
    return {"pairs": count, **tally.result()}


def evaluate_several(
    transfer: Callable[[np.ndarray, np.ndarray], Any],
    attributes: tuple[str, ...],
    size: int,
    count: int,
    seed: int,
    classifier: Classifier,
) -> dict[str, Any]:
    """Gives held-out people who have none of some attributes all of another person's at once.

    Of attributes that exclude each other the reference has the last.

    Args:
        transfer: From sources float32 [N,S,S,3] in [-1,1] and references of the same kind to the
            sources with all attributes of the references.
        attributes: Names.
        size: Side of the pictures, in pixels.
        count: How many pairs of a source and a reference.
        seed: Which people; none of those of `evaluate_exchange`.
        classifier: Of the same size, that tells these attributes.

    Returns:
        `several`: for `edited`, and the baselines `copy` (the source) and `target` (the source's
        true render with the attributes), `all_right`, the share in which the classifier sees every
        attribute as it should be; `improved_over_input`, the share in which it does, and which have
        a higher PSNR than the source; `error`, and `psnr`, as of `compared`. `intervals` as of
        `Tally.result`.
    """
    tally, first = Tally(), seed + 2 * len(attributes)
    source, reference = (held_out(count, first + i, attributes) for i in (0, 1))
    for name in attributes:
        source = with_attribute(source, name, False)
    target = source
    for name in attributes:
        reference, target = (with_attribute(some, name, True) for some in (reference, target))
    people = {k: tf.stack([source[k], reference[k], target[k]], 1) for k in source}
    seen = [classifier.names.index(name) for name in attributes]
    for some in _chunks(people, count, _BATCH, "exchanging all attributes"):
        image, other, drawn = (
            render({k: v[:, i] for k, v in some.items()}, size, ("image", "attributes"))
            for i in range(3)
        )
        image, other, truth = (faces["image"].numpy() for faces in (image, other, drawn))
        asked = tf.gather(drawn["attributes"], [ATTRIBUTES.index(n) for n in attributes], axis=1)
        made = {"edited": np.asarray(transfer(image, other)), "copy": image, "target": truth}
        errors = {kind: compared(pictures, truth) for kind, pictures in made.items()}
        before = ratio(errors["copy"]["psnr"])
        for kind, pictures in made.items():
            right = (classifier.attributes(pictures)[:, seen] == (asked.numpy() == 1)).all(1)
            rows = {"all_right": means(right), **errors[kind]}
            nearer = ratio(errors[kind]["psnr"]) < before  # In mean squared errors.
            rows["improved_over_input"] = means(right & nearer, before > 0)
            tally.add(f"several/{kind}", rows)
    return tally.result()


def _chunks(factors: dict, count: int, chunk: int, title: str) -> Iterator[dict]:
    """Some faces at a time, with a progress bar on a terminal."""
    with progress() as bar:
        for start in bar.track(range(0, count, chunk), description=title):
            yield {name: value[start : start + chunk] for name, value in factors.items()}
