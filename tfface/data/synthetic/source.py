"""The built-in faces as a data set."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.base import SPLITS, Source
from tfface.data.synthetic.factors import (
    ATTRIBUTES,
    EXPRESSIONS,
    NEUTRAL,
    sample_factors,
    uniform,
    with_attribute,
    with_factors,
)
from tfface.data.synthetic.render import FIELDS, render
from tfface.errors import UserError

# Faces drawn at a time: their planes stay in the processor's cache.
_CHUNK = 16
# Where the faces begin whose colours exemplars have: behind all that `batches` and targets reach.
STYLES = 2**58


def _check(kind: str, names, known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise UserError(
                f"The built-in faces have no {kind} {name!r}; they have {', '.join(known)}"
            )


class SyntheticFaces(Source):
    """Endless faces drawn from integer seeds, with all that is true of them.

    Face number n of a split has the seed 3 n + (0 train, 1 val, 2 test), so that no face is in two
    splits. Expressions are uniform over `classes`, with intensities from 0.7 to 1. When attributes
    but no classes are asked for, all faces are neutral, and Smiling and Mouth_Slightly_Open are
    drawn on their own; otherwise both follow from the expression.

    `data.flip` is ignored: mirrored, a contemptuous face (one corner of the mouth, always the same)
    would be another expression, and there is no end of faces anyway.

    Args:
        data: `size` is used, 32 to 256.
        attributes: Of ATTRIBUTES.
        classes: Of EXPRESSIONS, in the order wanted; the field `expression` counts in this order.
        fields: Of FIELDS.

    Raises:
        UserError: An unknown name.
    """

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes or EXPRESSIONS, fields)
        _check("attribute", self.attributes, ATTRIBUTES)
        _check("expression", self.classes, EXPRESSIONS)
        _check("field", self.fields, FIELDS)
        self._own_mouth = bool(attributes) and not classes

    def count(self, split: str) -> None:
        """There is no end of faces."""
        _check("split", [split], SPLITS)

    def factors(
        self, split: str, first: tf.Tensor, count: int, where: tuple[str, bool] | None = None
    ) -> dict[str, tf.Tensor]:
        """The factors behind some faces, to draw the same people once more in another way.

        Args:
            split: "train", "val" or "test".
            first: Number of the first face, an int or int64 scalar.
            count: How many faces.
            where: As in `batches`.

        Returns:
            As from `sample_factors`, `count` faces.
        """
        _check("split", [split], SPLITS)
        numbers = tf.cast(first, tf.int64) + tf.range(count, dtype=tf.int64)
        seeds = numbers * len(SPLITS) + SPLITS.index(split)
        factors = sample_factors(seeds)
        if self._own_mouth:
            factors = with_factors(factors, expression=NEUTRAL)
            factors = with_attribute(factors, "Smiling", uniform(seeds, "smiling")[:, 0] < 0.45)
            opened = uniform(seeds, "mouth_open")[:, 0] < 0.45
            factors = with_attribute(factors, "Mouth_Slightly_Open", opened)
        else:
            kinds = tf.constant([EXPRESSIONS.index(name) for name in self.classes], tf.int32)
            choice = uniform(seeds, "expression")[:, 0] * len(self.classes)
            factors["expression"] = tf.gather(kinds, tf.cast(choice, tf.int32))
        if where is not None:
            factors = with_attribute(factors, *where)
        return factors

    def batches(self, split, batch_size, *, seed=None, start=0, where=None):
        """Batches of one split, endless with and without a seed.

        With `where`, the attribute is put on every face or taken off it; faces number n with and
        without it are otherwise the same face.
        """
        _check("split", [split], SPLITS)
        if where is not None:
            _check("attribute", [where[0]], ATTRIBUTES)
        offset = _offset(seed)
        fields = ("image", "expression", *self.fields)
        fields += ("attributes",) if self.attributes else ()

        def draw(number):
            factors = self.factors(split, number * batch_size + offset, batch_size, where)
            batch = _render_in_chunks(factors, self.data.size, fields, batch_size)
            order = [EXPRESSIONS.index(name) for name in self.classes]
            places = [order.index(i) if i in order else 0 for i in range(len(EXPRESSIONS))]
            batch["expression"] = tf.gather(tf.constant(places, tf.int32), batch["expression"])
            if "attributes" in batch and self.attributes:
                columns = [ATTRIBUTES.index(name) for name in self.attributes]
                batch["attributes"] = tf.gather(batch["attributes"], columns, axis=1)
            return batch

        return self._drawn(draw, batch_size, start)

    def exemplars(self, split, batch_size, *, seed=None, start=0, paired=1.0):
        """Batches as `Source` describes; a pair is two people of the same colours.

        The target of a pair is a face of its own shape in all the colours, the light and the beard
        of the exemplar: what a perfect method would make. Endless with and without a seed.
        """
        _check("split", [split], SPLITS)
        offset = _offset(seed)

        def draw(number):
            first = number * batch_size + offset
            shape = self.factors(split, first, batch_size)
            style = self.factors(split, first + STYLES, batch_size)
            pair = uniform(shape["identity"], "paired")[:, 0] < paired
            other = with_factors(shape, colours=style)
            target = {k: tf.where(pair, other[k], value) for k, value in shape.items()}
            both = {k: tf.concat([value, style[k]], 0) for k, value in target.items()}
            fields = ("image", "label_map")
            drawn = _render_in_chunks(both, self.data.size, fields, 2 * batch_size)
            return {
                **{k: v[:batch_size] for k, v in drawn.items()},
                "exemplar": drawn["image"][batch_size:],
                "exemplar_label_map": drawn["label_map"][batch_size:],
                "paired": tf.cast(pair, tf.float32),
            }

        return self._drawn(draw, batch_size, start)

    def _drawn(self, draw, batch_size: int, start: int) -> tf.data.Dataset:
        numbers = tf.data.Dataset.range(start, 2**62 // batch_size // 4)
        draw = tf.autograph.experimental.do_not_convert(draw)  # Takes longer, for nothing.
        faces = numbers.map(draw, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return faces.prefetch(1)


def _offset(seed: int | None) -> int:
    """Number of a seed's first face: every seed begins somewhere else among 2^58 faces."""
    if seed is None:
        return 0
    return 1 + int(uniform(tf.constant([seed], tf.int64), "offset")[0, 0] * 2.0**24) * 2**34


def _render_in_chunks(factors, size: int, fields, count: int) -> dict[str, tf.Tensor]:
    parts = []
    for begin in range(0, count, _CHUNK):
        some = {name: value[begin : begin + _CHUNK] for name, value in factors.items()}
        parts.append(render(some, size, fields))
    return {name: tf.concat([part[name] for part in parts], axis=0) for name in parts[0]}
