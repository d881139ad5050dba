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

_CHUNK = 16
"""Faces drawn at a time, so that their planes fit into the processor's cache."""
STYLES = 2**58
"""Offset of the faces that give exemplars their colours: beyond the faces of `batches`."""


def _check(kind: str, names, known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise UserError(
                f"The built-in faces have no {kind} {name!r}; they have {', '.join(known)}"
            )


class SyntheticFaces(Source):
    """An endless set of faces rendered from integer seeds, with complete annotations.

    Face number n of a split has the seed 3 n + (0 train, 1 val, 2 test), so no face is in two
    splits. Expressions are uniform over `classes`, with intensities from 0.7 to 1. If attributes
    but no classes are requested, all faces are neutral, and Smiling and Mouth_Slightly_Open are
    independent; otherwise both follow from the expression.

    `data.flip` is ignored: a mirrored contemptuous face (always the same corner of the mouth) would
    be another expression, and the set is endless anyway.

    Args:
        data: Only `size` is used, 32 to 256.
        attributes: Names from ATTRIBUTES.
        classes: Names from EXPRESSIONS; the field `expression` has indices in this order.
        fields: Names from FIELDS.

    Raises:
        UserError: A name is unknown.
    """

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes or EXPRESSIONS, fields)
        _check("attribute", self.attributes, ATTRIBUTES)
        _check("expression", self.classes, EXPRESSIONS)
        _check("field", self.fields, FIELDS)
        self._own_mouth = bool(attributes) and not classes

    def count(self, split: str) -> None:
        """None, as the set is endless."""
        _check("split", [split], SPLITS)

    def factors(
        self, split: str, first: tf.Tensor, count: int, where: tuple[str, bool] | None = None
    ) -> dict[str, tf.Tensor]:
        """The factors of a range of faces, for example to re-render the people after an edit.

        Args:
            split: "train", "val" or "test".
            first: Number of the first face, an int or int64 scalar.
            count: Number of faces.
            where: As in `batches`.

        Returns:
            Factors of `count` faces, as from `sample_factors`.
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

        With `where`, the attribute is added to or removed from every face; face number n with and
        without it are otherwise the same.
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
            indices = [order.index(i) if i in order else 0 for i in range(len(EXPRESSIONS))]
            batch["expression"] = tf.gather(tf.constant(indices, tf.int32), batch["expression"])
            if "attributes" in batch and self.attributes:
                columns = [ATTRIBUTES.index(name) for name in self.attributes]
                batch["attributes"] = tf.gather(batch["attributes"], columns, axis=1)
            return batch

        return self._drawn(draw, batch_size, start)

    def exemplars(self, split, batch_size, *, seed=None, start=0, paired=1.0):
        """Batches as `Source` describes; a pair is two people with the same colours.

        The target of a pair has the shape of one person with the colours, light and beard of the
        exemplar: the output of a perfect method. Endless with and without a seed.
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
        # Conversion takes time and is not needed.
        draw = tf.autograph.experimental.do_not_convert(draw)
        faces = numbers.map(draw, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return faces.prefetch(1)


def _offset(seed: int | None) -> int:
    """Number of a seed's first face: each seed starts at another position among 2^58 faces."""
    if seed is None:
        return 0
    return 1 + int(uniform(tf.constant([seed], tf.int64), "offset")[0, 0] * 2.0**24) * 2**34


def _render_in_chunks(factors, size: int, fields, count: int) -> dict[str, tf.Tensor]:
    parts = []
    for begin in range(0, count, _CHUNK):
        chunk = {name: value[begin : begin + _CHUNK] for name, value in factors.items()}
        parts.append(render(chunk, size, fields))
    return {name: tf.concat([part[name] for part in parts], axis=0) for name in parts[0]}
