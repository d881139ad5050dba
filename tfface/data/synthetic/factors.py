"""The factors of built-in faces: sampling from integer seeds, and edits.

The factors are a dict of tensors with one value for each face. Each factor has its own random
stream (an integer hash of the seed and the factor's name), so adding or fixing one factor does not
change the others.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfface.errors import UserError

EXPRESSIONS = (
    "angry",
    "contemptuous",
    "disgusted",
    "fearful",
    "happy",
    "neutral",
    "sad",
    "surprised",
)
NEUTRAL, HAPPY = EXPRESSIONS.index("neutral"), EXPRESSIONS.index("happy")

HAIR_COLOURS = ("Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair", "red")
HAIR_STYLES = ("parted", "crop", "straight", "wavy", "bob", "curly", "bun", "receding")

# Attributes with a Boolean factor of their own.
_SWITCHES = {
    "Bald": "bald",
    "Bangs": "bangs",
    "Bushy_Eyebrows": "bushy",
    "Eyeglasses": "glasses",
    "Goatee": "goatee",
    "Mustache": "mustache",
    "Narrow_Eyes": "narrow_eyes",
    "Pale_Skin": "pale",
    "Wearing_Earrings": "earrings",
    "Wearing_Hat": "hat",
    "Wearing_Lipstick": "lipstick",
    "Wearing_Necklace": "necklace",
}
# Attributes of the mouth: factors with a third value AS_EXPRESSED, which follows the expression.
_MOUTH = {"Mouth_Slightly_Open": "mouth_open", "Smiling": "smiling"}
AS_EXPRESSED = -1

ATTRIBUTES = tuple(sorted([*_SWITCHES, *_MOUTH, *HAIR_COLOURS[:4]]))

# Only one of these can be visible at a time: a hat covers bangs and bald heads, bangs are hair.
_EXCLUDES = {
    "bald": ("bangs", "hat"),
    "bangs": ("bald", "hat"),
    "hat": ("bald", "bangs"),
}

IDENTITY = {
    "skin_tone": (0.0, 1.0),
    "skin_warmth": (-1.0, 1.0),
    "face_width": (0.435, 0.49),
    "face_length": (0.78, 0.85),
    "jaw": (0.0, 1.0),
    "cheekbone": (0.6, 1.3),
    "eye_size": (0.92, 1.1),
    "eye_gap": (0.2, 0.225),
    "eye_tilt": (-0.05, 0.16),
    "eye_level": (-0.085, -0.045),
    "brow_level": (0.165, 0.195),
    "brow_arch": (0.0, 0.035),
    "brow_slope": (-0.02, 0.025),
    "brow_thickness": (0.85, 1.2),
    "nose_width": (0.85, 1.2),
    "nose_length": (0.21, 0.25),
    "lip_fullness": (0.85, 1.35),
    "lip_redness": (0.0, 1.0),
    "mouth_width": (0.185, 0.225),
    "mouth_level": (0.39, 0.415),
    "ear_size": (0.9, 1.1),
    "age": (0.0, 1.0),
    "manner": (0.0, 1.0),
    "hair_shade": (0.0, 1.0),
    "hair_volume": (0.0, 1.0),
    "hair_part": (-1.0, 1.0),
    "hair_phase": (0.0, 6.28),
    "iris_shade": (0.0, 1.0),
}
"""Lowest and highest value of each continuous identity factor."""

_STYLE_UNIFORM = {
    "background_hue": (0.0, 1.0),
    "background_turn": (-0.2, 0.2),
    "background_value": (0.0, 1.0),
    "background_saturation": (0.0, 1.0),
    "background_angle": (0.0, 6.28),
    "background_blobs": (0.0, 1.0),
    "cloth_hue": (0.0, 1.0),
    "cloth_value": (0.0, 1.0),
    "lipstick_shade": (0.0, 1.0),
    "hat_hue": (0.0, 1.0),
    "jewel": (0.0, 1.0),
    "hoops": (0.0, 1.0),
    "glasses_shade": (0.0, 1.0),
    "glasses_round": (0.0, 1.0),
    "light_azimuth": (-55.0, 55.0),
    "light_elevation": (15.0, 50.0),
    "light_strength": (0.0, 1.0),
}
_EXPRESSION_UNIFORM = {"intensity": (0.7, 1.0)}
_POSE_UNIFORM = {
    "yaw": (-20.0, 20.0),
    "pitch": (-10.0, 10.0),
    "roll": (-8.0, 8.0),
    "shift_x": (-0.04, 0.04),
    "shift_y": (-0.025, 0.025),
    "zoom": (1.06, 1.15),
}


def _both(*weights: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return weights, weights


# Weights of the kinds and probabilities of the switches, for men and women.
_KINDS = {
    "hair_style": ((4, 3, 0.3, 0.5, 0, 1.2, 0.2, 1.5), (0.7, 0.3, 3, 3, 2, 1.3, 1.3, 0)),
    "hair_colour": _both(3, 3, 2.5, 2, 1),
    "hair_colour_other": _both(1, 1, 1, 1),
    "iris": _both(4, 2, 2, 1, 1),
    "hat_style": _both(1, 1, 1),
    "neckline": _both(1, 1, 1),
    "expression": _both(*(1,) * len(EXPRESSIONS)),
}
_CHANCES = {
    "hat": (0.13, 0.11),
    "bald": (0.18, 0.02),
    "bangs": (0.48, 0.5),
    "glasses": (0.4, 0.36),
    "mustache": (0.36, 0.0),
    "goatee": (0.34, 0.0),
    "bushy": (0.4, 0.12),
    "pale": (0.15, 0.15),
    "narrow_eyes": (0.2, 0.2),
    "earrings": (0.12, 0.55),
    "necklace": (0.12, 0.5),
    "lipstick": (0.0, 0.62),
}

GROUPS = {
    "identity": (
        "identity",
        "male",
        *IDENTITY,
        "pale",
        "narrow_eyes",
        "bushy",
        "iris",
        "hair_style",
        "hair_colour",
        "hair_colour_other",
        "bald",
        "bangs",
        "mustache",
        "goatee",
    ),
    "style": (
        *_STYLE_UNIFORM,
        "glasses",
        "hat",
        "hat_style",
        "earrings",
        "necklace",
        "lipstick",
        "neckline",
    ),
    "pose": tuple(_POSE_UNIFORM),
    "expression": ("expression", "intensity", "smiling", "mouth_open"),
    # Everything visible that does not change the label map: colours, light, beards, wrinkles.
    "colours": (
        "age",
        "cheekbone",
        "mustache",
        "goatee",
        "skin_tone",
        "skin_warmth",
        "pale",
        "lip_redness",
        "hair_shade",
        "hair_colour",
        "hair_colour_other",
        "iris",
        "iris_shade",
        "lipstick",
        *(name for name in _STYLE_UNIFORM if name not in ("glasses_round", "hoops")),
    ),
}
"""Names of the factors in each group; identity, style, pose and expression partition the factors,
`colours` overlaps them."""

_GOLDEN = 0x9E3779B97F4A7C15


def _mix(x: tf.Tensor) -> tf.Tensor:
    """The finaliser of SplitMix64, uint64 to uint64: every output bit depends on all input bits."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(shift, tf.uint64)))
        x *= tf.constant(factor, tf.uint64)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(31, tf.uint64)))


def uniform(seeds: tf.Tensor, *names: str) -> tf.Tensor:
    """Uniform random numbers for each seed and stream.

    Args:
        seeds: int64 [B].
        *names: Names of the streams; different names give independent values.

    Returns:
        float32 [B, number of names] in [0, 1), the same on every machine.
    """
    salts = [(zlib.crc32(name.encode()) * _GOLDEN) % 2**64 for name in names]
    x = tf.bitcast(tf.cast(seeds, tf.int64), tf.uint64) * tf.constant(_GOLDEN, tf.uint64)
    x = _mix(x + tf.constant(_GOLDEN, tf.uint64))
    x = _mix(x[:, None] + tf.constant(np.array([salts], np.uint64)))
    top = tf.cast(tf.bitwise.right_shift(x, tf.constant(40, tf.uint64)), tf.int32)
    return tf.cast(top, tf.float32) * 2.0**-24


def _choose(u: tf.Tensor, weights: tuple[float, ...]) -> tf.Tensor:
    """From uniform values [B] to int32 [B] with probabilities proportional to the weights."""
    edges = tf.constant([sum(weights[: i + 1]) for i in range(len(weights) - 1)], tf.float32)
    return tf.reduce_sum(tf.cast(u[:, None] * sum(weights) >= edges, tf.int32), axis=1)


def sample_factors(seeds: tf.Tensor) -> dict[str, tf.Tensor]:
    """Samples all factors of the faces with the given seeds.

    Expressions are uniform with an intensity in [0.7, 1]; the mouth follows the expression.

    Args:
        seeds: int64 [B], one for each face.

    Returns:
        A dict of tensors [B]: float32 for continuous factors, bool for switches, int32 for kinds
        (`smiling` and `mouth_open`: 0, 1 or AS_EXPRESSED), int64 for `identity`, the seed.
    """
    seeds = tf.cast(seeds, tf.int64)
    factors = _sampler()(seeds)
    for value in factors.values():
        value.set_shape(seeds.shape)
    return factors


@functools.lru_cache
def _sampler():
    """Sampling as one function of some hundred operations, traced once per process."""
    return graph_of(_sample, [tf.TensorSpec([None], tf.int64)])


def graph_of(function: Callable, signature: list[tf.TensorSpec]) -> Callable:
    """A function as a graph that is traced once, now, even with run_functions_eagerly.

    It is not inlined, so pipelines that call it build quickly and eager calls run the same code.
    """
    options = {"experimental_attributes": {"_noinline": True}}
    return tf.function(function, signature, autograph=False, **options).get_concrete_function()


def _sample(seeds: tf.Tensor) -> dict[str, tf.Tensor]:
    amounts = IDENTITY | _STYLE_UNIFORM | _POSE_UNIFORM | _EXPRESSION_UNIFORM
    names = ("male", *amounts, *_KINDS, *_CHANCES)
    u = dict(zip(names, tf.unstack(uniform(seeds, *names), axis=1), strict=True))
    male = u["male"] < 0.5

    factors = {"identity": seeds, "male": male}
    for name, (low, high) in amounts.items():
        factors[name] = low + (high - low) * u[name]
    for name, (men, women) in _KINDS.items():
        factors[name] = tf.where(male, _choose(u[name], men), _choose(u[name], women))
    for name, (men, women) in _CHANCES.items():
        factors[name] = u[name] < tf.where(male, men, women)
    factors["smiling"] = factors["mouth_open"] = tf.fill(tf.shape(seeds), AS_EXPRESSED)
    return _consistent(factors)


def _consistent(factors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Resolves conflicts: a hat takes precedence over a bald head, that over bangs."""
    bald = factors["bald"] & ~factors["hat"]
    return factors | {"bald": bald, "bangs": factors["bangs"] & ~factors["hat"] & ~bald}


def with_expression(
    factors: dict[str, tf.Tensor],
    expression: tf.Tensor,
    intensity: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """The same faces with another expression, which the mouth follows.

    Args:
        factors: As from `sample_factors`.
        expression: Index into EXPRESSIONS, int32 [B] or one int.
        intensity: float32 [B] or one number from 0 (like neutral) to 1; None: unchanged.

    Returns:
        New factors; the input is not modified.
    """
    like = factors["expression"]
    edited = dict(factors)
    edited["expression"] = tf.zeros_like(like) + tf.cast(expression, tf.int32)
    edited["smiling"] = edited["mouth_open"] = tf.fill(tf.shape(like), AS_EXPRESSED)
    if intensity is not None:
        edited["intensity"] = tf.zeros_like(factors["intensity"]) + intensity
    return edited


def with_attribute(factors: dict[str, tf.Tensor], name: str, value) -> dict[str, tf.Tensor]:
    """The same faces with or without an attribute.

    Bald, Bangs and Wearing_Hat exclude each other: setting one removes the others. A hair colour
    replaces the previous one and gives a bald head hair; removing it sets another colour, always
    the same one for a person. Smiling is the curve of the mouth and the cheeks, Mouth_Slightly_Open
    the gap between the lips; both become independent of the expression, which still determines the
    brows, the eyes and the rest of the mouth.

    Args:
        factors: As from `sample_factors`.
        name: One of ATTRIBUTES.
        value: A bool, or bool [B].

    Returns:
        New factors; the input is not modified.

    Raises:
        UserError: There is no such attribute.
    """
    value = tf.zeros_like(factors["bald"]) | tf.cast(value, tf.bool)
    edited = dict(factors)
    if name in _MOUTH:
        edited[_MOUTH[name]] = tf.cast(value, tf.int32)
    elif name in _SWITCHES:
        switch = _SWITCHES[name]
        edited[switch] = value
        for other in _EXCLUDES.get(switch, ()):
            edited[other] = factors[other] & ~value
    elif name in ATTRIBUTES:
        index = HAIR_COLOURS.index(name)
        colour = factors["hair_colour"]
        another = (index + 1 + factors["hair_colour_other"]) % len(HAIR_COLOURS)
        without = tf.where(colour == index, another, colour)
        edited["hair_colour"] = tf.where(value, index, without)
        edited["bald"] = factors["bald"] & ~value
    else:
        raise UserError(
            f"The built-in faces have no attribute {name!r}; they have {', '.join(ATTRIBUTES)}"
        )
    return edited


def with_factors(factors: dict[str, tf.Tensor], **other) -> dict[str, tf.Tensor]:
    """The same faces with single factors or groups of factors replaced.

    `with_factors(a, pose=b)` gives the people of `a` the poses of `b`; `style=b`, `identity=b` and
    `colours=b` work alike. `with_factors(a, yaw=10.0)` sets a single factor.

    Args:
        factors: As from `sample_factors`.
        **other: The name of a group in GROUPS with the factors to copy it from, or the name of a
            factor with its value, one for all faces or [B].

    Returns:
        New factors; the input is not modified.

    Raises:
        UserError: There is no such group or factor.
    """
    edited = dict(factors)
    for name, value in other.items():
        if name in GROUPS and isinstance(value, dict):
            edited.update({key: value[key] for key in GROUPS[name]})
        elif name in factors:
            like = factors[name]
            edited[name] = tf.broadcast_to(tf.cast(value, like.dtype), tf.shape(like))
        else:
            raise UserError(
                f"The built-in faces have no factor {name!r}; groups: {', '.join(GROUPS)}; "
                f"factors: {', '.join(sorted(factors))}"
            )
    return _consistent(edited)


def attribute_values(
    factors: dict[str, tf.Tensor], smiling: tf.Tensor, mouth_open: tf.Tensor
) -> tf.Tensor:
    """The visible attributes.

    Args:
        factors: As from `sample_factors`.
        smiling: bool [B], whether the drawn mouth smiles.
        mouth_open: bool [B], whether the drawn mouth has a gap.

    Returns:
        int32 [B, len(ATTRIBUTES)] of 0 and 1.
    """
    visible = {name: factors[switch] for name, switch in _SWITCHES.items()}
    visible |= {"Smiling": smiling, "Mouth_Slightly_Open": mouth_open}
    for index, name in enumerate(HAIR_COLOURS[:4]):
        visible[name] = (factors["hair_colour"] == index) & ~factors["bald"]
    return tf.cast(tf.stack([visible[name] for name in ATTRIBUTES], axis=1), tf.int32)
