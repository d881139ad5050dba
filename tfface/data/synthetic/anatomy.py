"""From factors to colours, and to the positions of the face parts under an expression.

Lengths are in head units: the image is 2 units wide and high at zoom 1, x to the right and y
down, the origin in the middle of the face.
"""

from __future__ import annotations

import math

import tensorflow as tf

from tfface.data.synthetic.factors import AS_EXPRESSED, EXPRESSIONS, HAPPY

# Movement of each part at full intensity, in head units (lids: share of the opening; cheek, fold,
# furrow, wrinkle, clench, oval: 0 to 1). Parts not listed do not move. `one_*` moves on one side
# only: the person's left, which is on the right in the image.
_MOVES = {
    "angry": dict(
        brow_in=-0.08, brow_out=0.03, squeeze=0.032, lid_up=-0.28, lid_low=-0.35,
        corner=-0.035, width=-0.02, lips=-0.45, furrow=1.0, fold=0.35, lift=0.0,
    ),
    "contemptuous": dict(
        brow_in=-0.015, brow_out=-0.015, one_brow=0.085, lid_up=-0.22, lid_low=-0.1,
        one_corner=0.09, one_fold=1.0, lips=-0.12, width=0.0,
    ),
    "disgusted": dict(
        brow_in=-0.05, brow_out=-0.025, squeeze=0.015, lid_up=-0.42, lid_low=-0.45,
        corner=-0.05, width=-0.02, lift=0.035, gap_up=0.026, gap_low=0.0, wrinkle=1.0, fold=1.0,
        cheek=0.35, furrow=0.4,
    ),
    "fearful": dict(
        brow_in=0.09, brow_out=0.015, squeeze=0.025, lid_up=0.38, lid_low=0.15,
        corner=-0.04, width=0.04, gap_up=0.028, gap_low=0.036, clench=0.45, oval=0.4, furrow=0.3,
    ),
    "happy": dict(
        brow_out=0.015, brow_in=0.01, lid_up=-0.1, lid_low=-0.4, corner=0.074, width=0.05,
        gap_up=0.004, gap_low=0.064, lift=-0.03, cheek=1.0, fold=0.7,
    ),
    "neutral": dict(),
    "sad": dict(
        brow_in=0.075, brow_out=-0.045, squeeze=0.02, lid_up=-0.35, corner=-0.085, width=-0.015,
        lift=0.012, fold=0.25, furrow=0.25,
    ),
    "surprised": dict(
        brow_in=0.095, brow_out=0.105, lid_up=0.5, lid_low=0.2, width=-0.08, gap_up=0.06,
        gap_low=0.115, corner=-0.01, oval=1.0,
    ),
}  # fmt: skip
_PARTS = sorted({part for moves in _MOVES.values() for part in moves})
_SMILE_PARTS = ("corner", "width", "lift", "cheek", "fold")
SMALL_GAP = 0.02  # The smallest gap of an open mouth that is visible at 64 pixels.


def column(x: tf.Tensor) -> tf.Tensor:
    """[B] to float32 [B,1,1], for computations with planes [B,S,S]."""
    return tf.reshape(tf.cast(x, tf.float32), [-1, 1, 1])


def columns(factors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """All factors and the light direction as float32 [B,1,1]."""
    light = dict(zip("xyz", tf.unstack(light_direction(factors), axis=1), strict=True))
    return {name: column(x) for name, x in factors.items()} | {
        f"light_{axis}": column(x) for axis, x in light.items()
    }


def kind(x: tf.Tensor, index: int) -> tf.Tensor:
    """1 where a column of kinds equals `index`, else 0."""
    return tf.cast(x == float(index), tf.float32)


def light_direction(f: dict[str, tf.Tensor]) -> tf.Tensor:
    """Unit vector towards the light [B,3]: x right, y up, z towards the camera."""
    azimuth, elevation = (
        f[name] * (math.pi / 180.0) for name in ("light_azimuth", "light_elevation")
    )
    flat = tf.cos(elevation)
    return tf.stack([flat * tf.sin(azimuth), tf.sin(elevation), flat * tf.cos(azimuth)], axis=1)


def movement(factors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Movement of each part from rest under expression and mouth attributes: float32 [B]."""
    table = [[_MOVES[name].get(part, 0.0) for part in _PARTS] for name in EXPRESSIONS]
    rows = tf.gather(tf.constant(table, tf.float32), factors["expression"])
    rows *= factors["intensity"][:, None]
    moved = dict(zip(_PARTS, tf.unstack(rows, axis=1), strict=True))

    # In anger some people show clenched teeth, others press their lips together.
    teeth = (factors["expression"] == EXPRESSIONS.index("angry")) & (factors["manner"] > 0.5)
    anger = factors["intensity"] * tf.cast(teeth, tf.float32)
    moved["clench"] += anger
    moved["gap_up"] += 0.022 * anger
    moved["gap_low"] += 0.03 * anger
    moved["width"] += 0.03 * anger

    smiling, happy = factors["smiling"], factors["expression"] == HAPPY
    for part in _SMILE_PARTS:
        smile = tf.where(smiling == 1, _MOVES["happy"][part], moved[part])
        moved[part] = tf.where((smiling == 0) & happy, 0.0, smile)
    for part in ("one_corner", "one_fold"):
        moved[part] = tf.where(smiling == 1, 0.0, moved[part])

    gap = moved["gap_up"] + moved["gap_low"]
    opened = tf.maximum(gap, 0.062)
    is_open = factors["mouth_open"]
    low = tf.where(is_open == 1, moved["gap_low"] + opened - gap, moved["gap_low"])
    moved["gap_low"] = tf.where(is_open == 0, 0.0, low)
    moved["gap_up"] = tf.where(is_open == 0, 0.0, moved["gap_up"])
    return moved


def mouth_state(
    factors: dict[str, tf.Tensor], moved: dict[str, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether the drawn mouth smiles, and whether it has a gap: two bool [B]."""
    happy = (factors["expression"] == HAPPY) & (factors["intensity"] > 0.3)
    smiling = tf.where(factors["smiling"] == AS_EXPRESSED, happy, factors["smiling"] == 1)
    return smiling, moved["gap_up"] + moved["gap_low"] >= SMALL_GAP


def ramp(stops: list[tuple[float, float, float]], t: tf.Tensor) -> tf.Tensor:
    """Colours [B,3] at t [B] in [0,1] on a polyline through evenly spaced stops."""
    stops = tf.constant(stops, tf.float32)
    last = stops.shape[0] - 1
    x = tf.clip_by_value(t, 0.0, 1.0) * last
    left = tf.minimum(tf.cast(x, tf.int32), last - 1)
    part = (x - tf.cast(left, tf.float32))[:, None]
    return tf.gather(stops, left) * (1.0 - part) + tf.gather(stops, left + 1) * part


def hsv(hue: tf.Tensor, saturation, value) -> tf.Tensor:
    """Colours [B,3] from hue [B] (any real number, period 1), saturation and value in [0,1]."""
    wheel = (hue[:, None] + tf.constant([[1.0, 2.0 / 3.0, 1.0 / 3.0]])) % 1.0
    full = tf.clip_by_value(tf.abs(wheel * 6.0 - 3.0) - 1.0, 0.0, 1.0)
    saturation, value = (tf.reshape(tf.cast(x, tf.float32), [-1, 1]) for x in (saturation, value))
    return value * (1.0 - saturation * (1.0 - full))


def colours(factors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Colours of the materials, float32 [B,3] in [0,1]."""
    f = factors
    tone = ramp(
        [(0.94, 0.77, 0.65), (0.89, 0.68, 0.54), (0.80, 0.58, 0.43), (0.63, 0.43, 0.30),
         (0.45, 0.29, 0.20)],
        f["skin_tone"] ** 1.3,
    )  # fmt: skip
    tone += f["skin_warmth"][:, None] * tf.constant([[0.012, 0.0, -0.022]])
    pale = tf.constant([[0.965, 0.885, 0.845]])
    skin = tf.where(f["pale"][:, None], pale, tone)
    shadow = skin * tf.constant([[0.60, 0.46, 0.43]])
    light = skin + (1.0 - skin) * tf.constant([[0.42, 0.38, 0.34]])
    blush = skin * tf.constant([[1.0, 0.72, 0.70]])

    dark = tf.gather(
        tf.constant([[.05, .045, .05], [.20, .12, .075], [.62, .44, .22], [.42, .42, .44],
                     [.36, .12, .05]]), f["hair_colour"],
    )  # fmt: skip
    bright = tf.gather(
        tf.constant([[.13, .11, .12], [.40, .26, .16], [.92, .77, .48], [.74, .74, .76],
                     [.66, .28, .12]]), f["hair_colour"],
    )  # fmt: skip
    hair = dark + (bright - dark) * (0.35 + 0.45 * f["hair_shade"][:, None])
    hair_light = hair + (tf.constant([[1.0, 0.95, 0.88]]) - hair) * 0.33

    iris_dark = tf.gather(
        tf.constant([[.20, .11, .06], [.14, .25, .37], [.17, .27, .17], [.26, .30, .33],
                     [.33, .22, .10]]), f["iris"],
    )  # fmt: skip
    lips = skin * tf.constant([[0.90, 0.62, 0.60]]) * (1.0 - 0.08 * f["lip_redness"][:, None])
    lips += f["lip_redness"][:, None] * tf.constant([[0.05, -0.02, -0.01]])
    stick = hsv(0.93 + 0.09 * f["lipstick_shade"], 0.82, 0.62 + 0.22 * f["lipstick_shade"])
    lips = tf.where(f["lipstick"][:, None], stick, lips)
    cloth_value = 0.14 + 0.76 * f["cloth_value"]
    saturation = f["background_saturation"] ** 1.5
    value = 0.16 + 0.72 * f["background_value"]
    jewel = tf.where(
        (f["jewel"] > 0.45)[:, None],
        tf.constant([[0.93, 0.74, 0.32]]),
        tf.constant([[0.87, 0.88, 0.92]]),
    )
    frame = ramp([(0.06, 0.06, 0.07), (0.10, 0.09, 0.10), (0.30, 0.16, 0.09), (0.55, 0.12, 0.14)],
                 f["glasses_shade"])  # fmt: skip
    return {
        "skin": skin,
        "skin_shadow": shadow,
        "skin_light": light,
        "skin_blush": blush,
        "hair": hair,
        "hair_dark": hair * 0.42,
        "hair_light": hair_light,
        # Darker than the skin for any hair colour, as brows carry half of an expression.
        "brow": tf.minimum(0.47 * hair + 0.21 * shadow, 0.55 * skin),
        "beard": 0.75 * hair * 0.85 + 0.25 * shadow * 0.6,
        "iris": iris_dark * (0.85 + 0.5 * f["iris_shade"][:, None]),
        "iris_light": iris_dark * 1.65 + 0.06,
        "lips": lips,
        "cloth": hsv(f["cloth_hue"], 0.25 + 0.45 * (1.0 - f["cloth_value"]), cloth_value),
        "background": hsv(f["background_hue"], 0.08 + 0.42 * saturation, value),
        "background_far": hsv(
            f["background_hue"] + f["background_turn"],
            0.05 + 0.3 * saturation,
            tf.minimum(0.97, value * 1.35 + 0.05),
        ),
        "background_blob": hsv(
            f["background_hue"] + 2.5 * f["background_turn"], 0.1 + 0.35 * saturation, value * 0.78
        ),
        "hat": hsv(f["hat_hue"], 0.55, 0.25 + 0.5 * f["cloth_value"]),
        "jewel": jewel,
        "frame": frame,
    }
