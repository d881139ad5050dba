"""The face parts that expressions move: brows, eyes, mouth, folds; also the nose and beard.

Every layer that depends on the expression is exactly zero outside `moving_region`, so an expression
changes no pixel outside it.
"""

from __future__ import annotations

import tensorflow as tf

from tfface.data.synthetic.shapes import Layers, Planes, bump, clip, smooth, spot

LABELS = {"nose": 2, "l_eye": 4, "r_eye": 5, "l_brow": 6, "r_brow": 7, "mouth": 10, "u_lip": 11,
          "l_lip": 12}  # fmt: skip
EYE_WIDTH = 0.128
REST_CORNER = 0.014  # How far the corners of a mouth at rest turn up.


def moving_region(p: Planes, f: dict[str, tf.Tensor]) -> tf.Tensor:
    """Signed distance (negative inside) to the region that expressions may change."""
    # Eyes and brows: a rounded box.
    dx = p.a - 0.33
    dy = tf.abs(p.vf - f["eye_level"] + 0.11) - 0.165
    corner = tf.sqrt(tf.square(tf.nn.relu(dx)) + tf.square(tf.nn.relu(dy)))
    eyes_brows = corner + tf.minimum(tf.maximum(dx, dy), 0.0) - 0.085

    def ellipse(x, y, width, height):
        return (tf.sqrt(tf.square(x / width) + tf.square(y / height)) - 1.0) * height

    lips = ellipse(p.uf, p.vf - f["mouth_level"] + 0.04, 0.36, 0.28)
    cheeks = ellipse(p.a - 0.275, p.vf - 0.195, 0.123, 0.108)
    return tf.minimum(eyes_brows, tf.minimum(lips, cheeks))


def brows(layers: Layers, p: Planes, f, m, colour, face) -> None:
    """The two brows: position, slope, arch and thickness, frayed along their hairs."""
    thick = 0.0165 * f["brow_thickness"] * (1.0 + 0.4 * f["male"])
    thick = thick * (1.0 + 0.7 * f["bushy"])
    inner, outer = 0.085 - m["squeeze"], 0.375
    t = (p.a - inner) / (outer - inner)
    raised = m["one_brow"] * p.side
    line = (
        f["eye_level"]
        - f["brow_level"]
        - raised
        - m["brow_in"] * (1.0 - t)
        - (m["brow_out"] + f["brow_slope"]) * t
        - f["brow_arch"] * (1.0 - tf.square(2.2 * t - 1.45))
    )
    half = thick * (1.0 - 0.72 * tf.nn.relu(t) * t)
    off = p.vf - line
    hairs = 0.0016 * tf.sin(230.0 * (p.a + 0.9 * off)) * clip(p.sharp / 100.0)
    along = (tf.abs(t - 0.5) - 0.5) * 0.28
    alpha = p.cover(tf.maximum(tf.abs(off) - half + hairs, along), 1.6)
    alpha = alpha * (0.72 + 0.2 * smooth(t, 0.0, 0.3)) * face
    layers.paint(alpha, colour["brow"])
    layers.mark(alpha * 1.2 * p.side, LABELS["l_brow"])
    layers.mark(alpha * 1.2 * (1.0 - p.side), LABELS["r_brow"])


def eyes(layers: Layers, p: Planes, f, m, colour) -> None:
    """The two eyes: lids, lashes, crease, white, iris, pupil and highlight."""
    size = f["eye_size"]
    width = EYE_WIDTH * size
    narrow = 1.0 - 0.42 * f["narrow_eyes"]
    high = 0.066 * size * narrow * (1.0 + m["lid_up"])
    low = 0.040 * size * narrow * (1.0 + m["lid_low"])
    x = p.a - f["eye_gap"]
    y = p.vf - f["eye_level"] + f["eye_tilt"] * x
    c = 1.0 - tf.square(x / width)
    top, bottom = -high * c * (1.0 - 0.9 * x), low * c * (1.0 + 0.9 * x)
    opening = p.cover(tf.maximum(top - y, y - bottom))
    black = tf.zeros_like(colour["iris"]) + tf.constant([[0.035, 0.025, 0.03]])

    # Lashes: a dark line on the upper lid, thicker outside.
    lash = (0.011 - 0.003 * f["male"]) * (1.0 + 2.0 * tf.nn.relu(x))
    upper = p.cover(tf.abs(y - top + 0.4 * lash) - lash) * clip(6.0 * (c + 0.12))
    layers.paint(0.9 * upper, 0.75 * black + 0.25 * colour["brow"] * 0.5)
    layers.mark(opening * p.side, LABELS["l_eye"])
    layers.mark(opening * (1.0 - p.side), LABELS["r_eye"])

    # The eyes look into the camera while the head turns a little.
    look = -0.12 * p.turn_x * (2.0 * p.side - 1.0)
    dx, dy = x - look, y + 0.012 * size + 0.10 * p.turn_y
    radius = tf.sqrt(tf.square(dx) + tf.square(dy))
    full = 0.056 * size
    glint_at = -0.35 * full * (2.0 * p.side - 1.0)
    glint = tf.sqrt(tf.square(dx - glint_at) + tf.square(dy + 0.35 * full))
    white = tf.ones_like(colour["iris"])
    layers.paint(opening * p.cover(glint - 0.30 * full), white)
    layers.paint(opening * p.cover(radius - 0.42 * full), black)
    iris = opening * p.cover(radius - full)
    share = layers.paint(iris, colour["iris"])
    layers.tint(share * clip(0.5 + dy / full * 0.9), colour["iris"], colour["iris_light"])
    layers.tint(share * smooth(radius / full, 0.72, 1.0) * 0.7, colour["iris"], black)
    # The white of the eye is round and lies in the shade of the upper lid.
    ball = white * tf.constant([[0.95, 0.94, 0.93]])
    share = layers.paint(opening, ball)
    shade = clip(1.05 - (y - top) / 0.05) * 0.45 + 0.35 * clip(1.0 - 1.2 * c)
    layers.tint(share * clip(shade), ball, colour["skin_shadow"] * 0.9)

    # Lower lid line, crease of the upper lid.
    inside = clip(4.0 * c)
    line = p.cover(tf.abs(y - bottom - 0.006) - 0.006, 1.5) * inside
    layers.paint(0.35 * line, colour["skin_shadow"] * 0.8)
    fold = (0.030 - 0.012 * (1.0 - narrow)) * size
    crease = p.cover(tf.abs(y - top + fold) - 0.007, 1.8) * clip(3.0 * (c + 0.05))
    layers.paint(0.42 * crease, colour["skin_shadow"] * 0.85)
    lid = p.cover(tf.maximum(top - fold - y, y - top), 1.5) * inside
    layers.paint(0.18 * lid, colour["skin_shadow"])
    pouch = spot(x, y, (0.0, low + 0.035), (0.11, 0.03))
    bags = 0.10 + 0.16 * f["age"] + 0.3 * tf.nn.relu(-m["lid_low"])
    layers.paint(bags * pouch, colour["skin_shadow"])


def mouth(layers: Layers, p: Planes, f, m, colour) -> None:
    """The lips, and between them teeth, tongue and darkness."""
    half = f["mouth_width"] + m["width"]
    x = p.uf / half
    q = 1.0 - x * x
    corner = m["corner"] + m["one_corner"] * p.side
    y = p.vf - f["mouth_level"] + m["lift"] + (corner + REST_CORNER) * tf.minimum(x * x, 1.2)
    arch = q + m["oval"] * (tf.sqrt(tf.nn.relu(q) + 1e-6) - tf.nn.relu(q))
    top, bottom = -m["gap_up"] * arch, m["gap_low"] * arch
    gap = m["gap_up"] + m["gap_low"]
    full = f["lip_fullness"] * (1.0 + m["lips"]) * (1.12 - 0.24 * f["male"])
    bow = 1.0 - 0.28 * bump(tf.square(x / 0.22)) + 0.1 * bump(tf.square((tf.abs(x) - 0.3) / 0.25))
    upper_edge = top - 0.046 * full * q * bow
    within = tf.maximum(q, -1.0)
    lower_edge = bottom + 0.058 * full * (1.06 * within - 0.06) * (0.72 + 0.28 * within)

    near = clip(10.0 * (1.15 - tf.abs(x)))  # The curves would meet again further out.
    inside = near * p.cover(tf.maximum(top - y, y - bottom)) * clip(gap / 0.012)
    upper = near * p.cover(tf.maximum(upper_edge - y, y - top))
    lower = near * p.cover(tf.maximum(bottom - y, y - lower_edge))
    dark = tf.zeros_like(colour["lips"]) + tf.constant([[0.13, 0.03, 0.035]])
    tooth = tf.zeros_like(dark) + tf.constant([[0.95, 0.93, 0.89]])

    # The line where the lips meet extends a little beyond them.
    seam = p.cover(tf.abs(y - top) - 0.0075, 1.3) * clip(7.0 * (1.10 - tf.abs(x)))
    layers.paint(0.78 * seam * (1.0 - 0.6 * inside), dark * 0.8 + 0.2 * colour["skin_shadow"])

    layers.mark(inside, LABELS["mouth"])
    clench = m["clench"]
    teeth_low = top + tf.maximum(0.040 * (1.0 - 0.25 * x * x), 0.55 * gap * clench)
    teeth = p.cover(y - teeth_low)
    lower_teeth = p.cover(teeth_low + 0.008 - y) * clip(clench * 2.5)
    rows = inside * tf.maximum(teeth, lower_teeth) * clip(1.35 - 0.9 * x * x)
    share = layers.paint(rows, tooth)
    gaps = clip(0.5 + 0.5 * tf.cos(p.uf * 118.0) - 0.72) * 2.0 * clip(p.sharp / 64.0 - 0.3)
    shade = clip(0.62 * x * x + 0.25 * gaps + 0.5 * p.cover(y - top - 0.01, 2.0))
    layers.tint(share * shade, tooth, colour["lips"] * 0.55)
    tongue = inside * spot(x, y, (0.0, bottom), (0.62, 0.45 * gap + 0.01))
    layers.paint(0.75 * tongue, tf.constant([[0.70, 0.27, 0.28]]) + 0.0 * dark)
    layers.paint(inside, dark)

    layers.mark(upper, LABELS["u_lip"])
    layers.mark(lower, LABELS["l_lip"])
    share = layers.paint(upper * (0.86 + 0.12 * q), colour["lips"] * 0.86)
    share = layers.paint(lower * (0.86 + 0.12 * q), colour["lips"])
    middle = (bottom + lower_edge) * 0.5
    shine = spot(x, y, (0.0, middle), (0.55, 0.018))
    gloss = 0.30 + 0.25 * f["lipstick"]
    layers.tint(share * shine * gloss, colour["lips"], tf.ones_like(dark))
    layers.tint(share * smooth(y, middle, lower_edge) * 0.35, colour["lips"], colour["lips"] * 0.6)

    # Shade below the lower lip, soft ends at the corners.
    under = spot(x, y, (0.0, lower_edge + 0.022), (0.62, 0.030))
    layers.paint(0.30 * under, colour["skin_shadow"])
    ends = spot(tf.abs(x), y, (1.04, 0.0), (0.16, 0.04))
    layers.paint(0.40 * ends, colour["skin_shadow"])


def folds(layers: Layers, p: Planes, f, m, colour) -> None:
    """Moving skin: folds beside the mouth, cheeks, and furrow and wrinkles at the nose."""
    nose, lips = f["nose_length"], f["mouth_level"]
    # From the wing of the nose to beside the corner of the mouth.
    t = clip((p.vf - nose + 0.02) / (lips - nose + 0.05))
    line = 0.115 + 0.17 * t - 0.035 * t * t
    ends = bump(tf.square((p.vf - 0.5 * (nose + lips) - 0.01) / 0.135))
    crease = bump(tf.square((p.a - line) / 0.028)) * ends
    depth = m["fold"] + m["one_fold"] * p.side
    layers.paint(clip(0.55 * depth) * crease, colour["skin_shadow"] * 0.92)
    aged = 0.22 * f["age"] * bump(tf.square((p.a - line) / 0.04)) * ends
    layers.paint(aged, colour["skin_shadow"])
    raised = m["cheek"]
    apple = spot(p.a, p.vf, (0.275, 0.195), (0.115, 0.10))
    layers.paint(0.42 * raised * apple, colour["skin_light"])
    under = spot(p.a, p.vf, (0.25, 0.045), (0.12, 0.03))
    layers.paint(0.30 * raised * under, colour["skin_shadow"])

    between = f["eye_level"] - 0.13
    lines = bump(tf.square((p.a - 0.028) / 0.016)) * bump(tf.square((p.vf - between) / 0.085))
    layers.paint(0.72 * m["furrow"] * lines, colour["skin_shadow"] * 0.85)
    ripple = clip(0.5 + 0.9 * tf.cos((p.vf - 0.25 * p.a) * 150.0))
    bridge = spot(p.uf, p.vf, (0.0, between + 0.14), (0.085, 0.075))
    layers.paint(0.62 * m["wrinkle"] * ripple * bridge, colour["skin_shadow"] * 0.85)


def _bristles(p: Planes) -> tf.Tensor:
    """Unevenness of the outline of a beard, if the resolution is high enough."""
    coarse = tf.sin(63.0 * p.uf + 30.0 * p.vf) + tf.sin(111.0 * p.uf - 47.0 * p.vf)
    return 0.0035 * coarse * clip(p.sharp / 90.0)


def beard(layers: Layers, p: Planes, f, m, colour) -> None:
    """Mustache, which moves with the upper lip, and goatee."""
    half = f["mouth_width"] + 0.5 * m["width"]
    x = p.uf / half
    corner = m["corner"] + m["one_corner"] * p.side
    y = p.vf - f["mouth_level"] + m["lift"] + (corner + REST_CORNER) * tf.minimum(x * x, 1.2)
    q = 1.0 - tf.square(x / 1.12)
    hairs = _bristles(p)
    low = -0.026 - m["gap_up"] * q + 0.022 * x * x
    high = low - 0.075 * q - 0.012
    shape = tf.maximum(tf.maximum(high - y, y - low), (tf.abs(x) - 1.12) * 0.2)
    alpha = p.cover(shape + hairs, 1.8) * f["mustache"]
    layers.paint(0.90 * alpha, colour["beard"])
    dx = p.uf / 0.125
    dy = (p.vf - f["mouth_level"] - 0.205) / 0.115
    chin = (tf.sqrt(dx * dx + dy * dy) - 1.0) * 0.1
    alpha = p.cover(chin + hairs, 2.5) * f["goatee"]
    layers.paint(0.86 * alpha, colour["beard"])


def nose(layers: Layers, p: Planes, f, colour) -> None:
    """Nostrils, wings and the shade below; the ridge is part of the relief of the head."""
    wide, tip = f["nose_width"], f["nose_length"]
    # The tip protrudes, so it moves further than the face when the head turns.
    x = p.uf - 0.22 * p.turn_x
    y = p.vf - tip - 0.15 * p.turn_y
    a = tf.abs(x)
    hole = tf.sqrt(tf.square((a - 0.042 * wide) / 0.026) + tf.square((y - 0.012) / 0.014))
    layers.paint(0.62 * p.cover((hole - 1.0) * 0.018, 1.4), colour["skin_shadow"] * 0.42)
    wing = tf.sqrt(tf.square((a - 0.058 * wide) / 0.044) + tf.square((y + 0.008) / 0.046))
    rim = p.cover(tf.abs(wing - 1.0) * 0.042 - 0.006, 1.8) * smooth(a, 0.05 * wide, 0.085 * wide)
    layers.paint(0.34 * rim, colour["skin_shadow"] * 0.8)
    base = p.cover(tf.abs(y - 0.022 + 0.25 * a) - 0.008, 2.0) * clip(6.0 - a * (62.0 / wide))
    layers.paint(0.30 * base, colour["skin_shadow"] * 0.75)
    if layers.label is not None:
        ridge = clip((p.vf + 0.1) / (tip + 0.1))
        body = tf.maximum(a - (0.045 + 0.05 * ridge * ridge) * wide, tf.abs(p.vf - 0.5 * tip + 0.04)
                          - 0.5 * tip - 0.07)  # fmt: skip
        layers.mark(p.cover(body), LABELS["nose"])
