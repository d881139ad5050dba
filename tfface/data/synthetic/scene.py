"""Parts that do not change with the expression: head, hair, ears, body, accessories, background."""

from __future__ import annotations

import tensorflow as tf

from tfface.data.synthetic.anatomy import column, kind
from tfface.data.synthetic.factors import HAIR_STYLES
from tfface.data.synthetic.features import EYE_WIDTH
from tfface.data.synthetic.shapes import (
    SKULL_HEIGHT,
    SKULL_LEVEL,
    Layers,
    Planes,
    bump,
    clip,
    smooth,
    spot,
    three_tone,
)

LABELS = {"skin": 1, "eye_g": 3, "l_ear": 8, "r_ear": 9, "hair": 13, "hat": 14, "ear_r": 15,
          "neck_l": 16, "neck": 17, "cloth": 18}  # fmt: skip

# For each hair style: protrusion at the sides and above, lower end (head units down), half-width of
# the opening for the face, level of the hairline, waviness, curliness of the outline.
_HAIR = {
    "parted": (0.045, 0.12, 0.02, 0.435, -0.505, 0.25, 0.0),
    "crop": (0.015, 0.045, -0.04, 0.440, -0.520, 0.10, 0.0),
    "straight": (0.075, 0.10, 1.30, 0.385, -0.520, 0.15, 0.0),
    "wavy": (0.125, 0.13, 1.05, 0.380, -0.520, 1.00, 0.35),
    "bob": (0.105, 0.11, 0.50, 0.380, -0.510, 0.30, 0.0),
    "curly": (0.170, 0.17, 0.26, 0.390, -0.490, 0.60, 1.0),
    "bun": (0.020, 0.05, 0.00, 0.430, -0.530, 0.15, 0.0),
    "receding": (0.020, 0.03, 0.00, 0.450, -0.590, 0.10, 0.0),
}


def _hair_measures(f) -> dict[str, tf.Tensor]:
    table = tf.constant([_HAIR[name] for name in HAIR_STYLES], tf.float32)
    rows = tf.gather(table, tf.cast(f["hair_style"][:, 0, 0], tf.int32))
    names = ("side", "top", "end", "opening", "line", "wave", "curl")
    return {name: column(rows[:, i]) for i, name in enumerate(names)}


class Hair:
    """The shapes of the hair in front of the face and behind it, and its shading.

    Args:
        p: Coordinates.
        f: Factors.
        radius: Radius coordinate of the head.
    """

    def __init__(self, p: Planes, f: dict[str, tf.Tensor], radius: tf.Tensor):
        m = _hair_measures(f)
        phase, part = f["hair_phase"], f["hair_part"]
        volume = 0.75 + 0.5 * f["hair_volume"]
        bald = f["bald"]
        side = f["face_width"] + m["side"] * volume
        top = SKULL_HEIGHT + m["top"] * volume
        level = SKULL_LEVEL

        # Locks: rays from the crown, bent by waves; curls: a cell pattern.
        du, dv = p.u - 0.18 * part, p.v + 0.66
        away = tf.sqrt(du * du + dv * dv + 0.004)
        bend = m["wave"] * (0.10 * tf.sin(11.0 * p.v + phase) + 0.05 * tf.sin(23.0 * p.v - phase))
        ray = du / away + bend
        # Strands finer than the pixels would cause aliasing.
        spread = away * p.sharp
        locks = tf.sin(17.0 * ray + phase) * clip(spread * 0.12 - 0.4)
        locks += 0.8 * tf.sin(41.0 * ray - 2.0 * phase + 3.0 * p.v) * clip(spread * 0.05 - 0.4)
        locks += 0.7 * tf.sin(97.0 * ray + 5.0 * p.v) * clip(spread * 0.021 - 0.4)
        curls = tf.sin(27.0 * p.u + 2.5 * tf.sin(21.0 * p.v + phase)) * tf.sin(
            25.0 * p.v + 2.5 * tf.sin(19.0 * p.u - phase)
        )
        locks = locks + (1.9 * curls - 0.6 * locks) * m["curl"]

        # Outline: an ellipse above, falling locks below.
        above = tf.nn.relu(level - p.v) / top
        fall = tf.nn.relu(p.v - level)
        flare = (side + 0.012 * tf.sin(7.0 * p.v + phase) * tf.tanh(3.0 * fall)) * (
            1.0 + 0.10 * tf.minimum(fall, 0.8) * smooth(m["end"], 0.2, 1.0)
        )
        across = p.u / flare
        rough = m["curl"] * 0.035 * (curls + tf.sin(13.0 * ray + phase))
        dome = (tf.sqrt(across * across + above * above) - 1.0) * 0.6 + rough * 0.6
        ends = p.v - m["end"] - 0.012 * locks * (1.0 - 0.5 * m["curl"])
        ends = ends + 0.45 * smooth(tf.abs(across), 0.55, 1.05) * smooth(m["end"], 0.2, 0.45)
        outline = tf.maximum(dome, ends)
        knot = tf.sqrt(tf.square(p.u - 0.08 * part) + tf.square(p.v + 0.80)) - 0.155 + rough
        is_bun = kind(f["hair_style"], HAIR_STYLES.index("bun"))
        knot = knot + 3.0 * (1.0 - is_bun)

        # Opening for the face; parted hair sweeps across the forehead, receding hair leaves bays.
        line = m["line"] + 0.012 * locks * m["wave"]
        sweep = 0.20 * part * p.uf
        bays = bump(tf.square((p.a - 0.27) / 0.17))
        receding = kind(f["hair_style"], HAIR_STYLES.index("receding"))
        centre = 0.10
        rise = tf.nn.relu(centre - p.vf + sweep)
        rise = rise / (centre - line + 0.10 * bays * receding)
        long = smooth(m["end"], 0.1, 0.6)
        below = tf.nn.relu(p.vf - centre)
        width = m["opening"] * (1.0 - long * 0.22 * tf.minimum(below, 0.6))
        turned = p.uf + 0.35 * p.turn_x
        opening = tf.sqrt(tf.square(turned / width) + rise * rise * (0.55 + 0.45 * rise * rise))
        opening = (opening - 1.0) * 0.45 + 0.006 * locks * smooth(-p.vf, 0.15, 0.4)
        opening = (
            opening + m["curl"] * 0.028 * curls + m["wave"] * 0.010 * tf.sin(13.0 * p.v + phase)
        )

        # A hat hides the hair above its edge.
        shown = (1.0 - bald) * (1.0 - f["hat"] * p.cover(hat_line(p, f) + 0.05))
        cap = p.cover(outline) * p.cover(-opening, 1.4)
        edge = p.vf + 0.262 + 0.022 * locks * (1.0 - 0.4 * m["curl"])
        edge = edge - 0.10 * part * p.uf + 0.10 * tf.square(p.uf) * 2.0
        inside = tf.maximum(dome, tf.abs(turned) - m["opening"] - 0.04)
        fringe = p.cover(edge, 1.4) * p.cover(inside) * f["bangs"]
        self.front = tf.maximum(cap, fringe) * shown
        self.back = tf.maximum(p.cover(outline), p.cover(knot)) * shown
        self.opening = tf.minimum(opening, 1.0)
        self.shade_below = clip(1.0 + opening / 0.10) * shown + 0.75 * f["bangs"] * clip(
            1.0 - (edge - 0.0) / 0.07
        ) * p.cover(edge - 0.07)
        lx, ly = f["light_x"], f["light_y"]
        ring = bump(tf.square((away - 0.40) / 0.17)) + 0.35 * bump(tf.square((away - 0.85) / 0.2))
        form = 0.34 * across * lx - 0.30 * ly * (p.v + 0.25) - 0.16 * across * across
        self.shade = 0.42 + 0.115 * locks + form + ring * (0.26 + 0.10 * locks)
        self.shade_back = 0.16 + 0.09 * locks


def _relief(p: Planes, f) -> tf.Tensor:
    """Height of the facial features above the egg shape of the head, for shading."""
    eye, tip = f["eye_level"], f["nose_length"]
    lips = f["mouth_level"]
    x = p.uf - 0.16 * p.turn_x
    a = tf.abs(x)
    t = clip((p.vf - eye + 0.06) / (tip - eye + 0.04))
    end = smooth(tip + 0.05 - p.vf, 0.0, 0.07)
    wide = f["nose_width"]
    ridge = (0.018 + 0.082 * t * t * t + 0.045 * t) * bump(
        tf.square(a / ((0.070 + 0.045 * t) * wide))
    )
    height = ridge * end * smooth(p.vf, eye - 0.16, eye + 0.02)
    height += 0.040 * spot(x, p.vf, (0.0, tip - 0.02), (0.085, 0.075))
    height += 0.026 * spot(a, p.vf, (0.058 * wide, tip - 0.008), (0.058, 0.056))
    height -= 0.060 * spot(p.a, p.vf, (0.215, eye), (0.20, 0.13))
    height += 0.030 * spot(p.a, p.vf, (0.20, eye - 0.15), (0.26, 0.12))
    height += 0.055 * f["cheekbone"] * spot(p.a, p.vf, (0.31, 0.15), (0.24, 0.24))
    height += 0.030 * spot(p.a, p.vf, (0.0, lips), (0.27, 0.19))
    height -= 0.010 * spot(p.a, p.vf, (0.0, lips - 0.085), (0.03, 0.07))
    height += 0.040 * spot(p.a, p.vf, (0.0, lips + 0.24), (0.16, 0.12))
    return height


def _slopes(height: tf.Tensor, p: Planes) -> tuple[tf.Tensor, tf.Tensor]:
    """Slopes of a plane to the right and downwards, per head unit."""
    half = p.sharp * 0.5
    padded = tf.pad(height, [[0, 0], [1, 1], [1, 1]])
    right = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * half
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * half
    return right, down


def head(layers: Layers, p: Planes, f, colour, face, radius, across, hair: Hair) -> None:
    """The skin of the head, with lighting."""
    right, down = _slopes(_relief(p, f), p)
    nx = 0.92 * across - 1.25 * right
    ny = 0.80 * (p.v - SKULL_LEVEL) - 1.25 * down
    nz2 = tf.nn.relu(1.0 - radius * radius) + 0.05
    length = tf.math.rsqrt(nx * nx + ny * ny + nz2)
    lx, ly, lz = f["light_x"], f["light_y"], f["light_z"]
    diffuse = (nx * lx - ny * ly + tf.sqrt(nz2) * lz) * length
    strength = 0.75 + 0.5 * f["light_strength"]
    shade = 0.52 + 0.46 * strength * (tf.nn.relu(diffuse) - 0.72)
    shade -= 0.16 * smooth(radius, 0.72, 1.02)
    shade -= 0.20 * hair.shade_below * smooth(-p.vf, -0.2, 0.25)
    shade -= 0.24 * f["hat"] * spot(p.uf, p.vf, (0.0, -0.38), (0.6, 0.2))
    share = layers.paint(face, colour["skin"], LABELS["skin"])
    three_tone(layers, share, shade, colour["skin"], colour["skin_shadow"], colour["skin_light"])
    glow = 0.40 * spot(p.a, p.vf, (0.28, 0.17), (0.24, 0.21))
    glow += 0.30 * spot(p.uf, p.vf, (0.0, 0.20), (0.11, 0.10))
    layers.tint(share * glow, colour["skin"], colour["skin_blush"])
    # A specular highlight on the tip of the nose, forehead and cheeks.
    hz = lz + 1.0
    half = tf.math.rsqrt(lx * lx + ly * ly + hz * hz)
    gloss = (nx * lx - ny * ly + tf.sqrt(nz2) * hz) * length * half
    gloss = tf.square(tf.square(tf.square(clip(gloss))))
    gloss = gloss * gloss
    layers.tint(share * gloss * gloss * 0.30, colour["skin"], tf.ones_like(colour["skin"]))
    stubble = spot(p.uf, p.vf, (0.0, 0.50), (0.50, 0.42)) * f["male"] * 0.16
    layers.tint(share * stubble, colour["skin"], colour["beard"])


def paint_hair(layers: Layers, alpha: tf.Tensor, shade: tf.Tensor, colour) -> None:
    """Draws hair of a given shape and shading."""
    share = layers.paint(alpha, colour["hair"], LABELS["hair"])
    three_tone(layers, share, shade, colour["hair"], colour["hair_dark"], colour["hair_light"])


def ears(layers: Layers, p: Planes, f, colour) -> None:
    """Both ears; the nearer one protrudes further."""
    u = p.u + 0.5 * p.turn_x
    size = f["ear_size"]
    x = (tf.abs(u) - f["face_width"] - 0.006) / (0.052 * size)
    y = (p.v - 0.03 + 0.06 * x * 0.3) / (0.135 * size)
    r = tf.sqrt(x * x + y * y * (1.0 + 0.25 * tf.clip_by_value(y, -1.5, 1.5)))
    alpha = p.cover((r - 1.0) * 0.07)
    right = tf.cast(u > 0.0, tf.float32)
    share = layers.paint(alpha, colour["skin"] * tf.constant([[0.96, 0.86, 0.83]]))
    layers.mark(alpha * right, LABELS["l_ear"])
    layers.mark(alpha * (1.0 - right), LABELS["r_ear"])
    lx = f["light_x"] * (2.0 * right - 1.0)
    shade = 0.38 + 0.25 * lx - 0.5 * spot(x, y, (-0.15, 0.05), (0.62, 0.62)) + 0.12 * x
    three_tone(
        layers, share, shade, colour["skin"], colour["skin_shadow"] * 0.9, colour["skin_light"]
    )


def glasses(layers: Layers, p: Planes, f, colour) -> None:
    """Glasses: frames and transparent lenses with a thin reflection."""
    on = f["glasses"]
    x = p.a - f["eye_gap"] - 0.008
    y = p.vf - f["eye_level"] - 0.018
    rounding = 0.035 + 0.055 * f["glasses_round"]
    qx = tf.abs(x) - (EYE_WIDTH + 0.040 - rounding)
    qy = tf.abs(y) - (0.112 - rounding)
    lens = tf.sqrt(tf.square(tf.nn.relu(qx)) + tf.square(tf.nn.relu(qy)))
    lens = lens + tf.minimum(tf.maximum(qx, qy), 0.0) - rounding
    half = 0.0130 + 0.006 * f["glasses_round"]
    rim = tf.abs(lens) - half
    bridge = tf.maximum(tf.abs(y + 0.035 + 0.6 * p.a * p.a) - half, p.a - 0.075)
    arm = tf.maximum(tf.abs(y + 0.045) - half, tf.maximum(0.15 - x, tf.abs(p.u) - f["face_width"]))
    frame = p.cover(tf.minimum(rim, tf.minimum(bridge, arm)))
    share = layers.paint(frame * on, colour["frame"])
    layers.tint(share * p.cover(y + 0.06, 6.0) * 0.3, colour["frame"], tf.ones_like(colour["skin"]))
    streak = bump(tf.square((p.uf + 0.9 * y - 0.17 * tf.sign(p.uf)) / 0.03))
    layers.paint(p.cover(lens) * (0.09 + 0.22 * streak) * on, tf.ones_like(colour["skin"]))


def glasses_area(p: Planes, f) -> tf.Tensor:
    """Frames and lenses together, the class eye_g as annotated in CelebAMask-HQ."""
    x = p.a - f["eye_gap"] - 0.008
    y = p.vf - f["eye_level"] - 0.018
    box = tf.maximum(tf.abs(x) - EYE_WIDTH - 0.050, tf.abs(y) - 0.122)
    bridge = tf.maximum(tf.abs(y + 0.035) - 0.015, p.a - 0.075)
    return p.cover(tf.minimum(box, bridge)) * f["glasses"]


def hat_line(p: Planes, f) -> tf.Tensor:
    """Distance below the lower edge of a hat, in head units; negative above it."""
    u = p.u - 0.1 * p.turn_x
    return p.vf + 0.385 + 0.25 * u * u


def hat(layers: Layers, p: Planes, f, colour) -> None:
    """A knitted hat, a cap or a brimmed hat."""
    on = f["hat"]
    style = [kind(f["hat_style"], i) for i in range(3)]
    side = f["face_width"] + 0.03
    u = p.u - 0.1 * p.turn_x
    y = hat_line(p, f)
    top = 0.59 - 0.02 * style[1]
    dome = tf.sqrt(tf.square(u / side) + tf.square(tf.nn.relu(-p.v - 0.22) / top))
    body = tf.maximum((dome - 1.0) * 0.55, y)
    peak = tf.sqrt(tf.square((u - 0.25 * p.turn_x) / 0.46) + tf.square((y - 0.01) / 0.095))
    peak = tf.maximum((peak - 1.0) * 0.09, -0.02 - y) + 3.0 * (1.0 - style[1])
    brim = tf.sqrt(tf.square(u / 0.80) + tf.square((y + 0.015) / 0.085)) - 1.0
    brim = brim * 0.085 + 3.0 * (1.0 - style[2])
    shape = tf.minimum(body, tf.minimum(peak, brim))
    share = layers.paint(p.cover(shape) * on, colour["hat"], LABELS["hat"])
    form = 0.42 * (u / side) * f["light_x"] - 0.34 * tf.square(u / side)
    ribs = 0.10 * tf.sin(u * 62.0 / (0.6 + 0.4 * clip(1.0 + p.v))) * style[0] * clip(p.sharp / 60.0)
    band = p.cover(tf.abs(y + 0.065) - 0.045)
    on_rim = p.cover(tf.minimum(peak, brim))
    shade = 0.56 + form + ribs * (1.0 + band) - 0.28 * band * style[2] + 0.10 * band * style[0]
    shade += 0.12 * on_rim - 0.22 * p.cover(tf.abs(y + 0.115) - 0.008, 2.0) * style[0]
    shade -= 0.25 * smooth(y, -0.02, 0.08) * on_rim
    black = colour["hat"] * 0.38
    three_tone(layers, share, shade, colour["hat"], black, 0.6 * colour["hat"] + 0.4)


def jewellery(layers: Layers, p: Planes, f, colour) -> None:
    """Earrings: studs with a drop, or hoops, below the lobes."""
    on = f["earrings"]
    u = p.u + 0.5 * p.turn_x
    x = tf.abs(u) - f["face_width"] - 0.022
    hoop = tf.cast(f["hoops"] > 0.6, tf.float32)
    ring = tf.abs(tf.sqrt(x * x + tf.square(p.v - 0.225)) - 0.052) - 0.013
    stud = tf.sqrt(x * x + tf.square(p.v - 0.165)) - 0.024
    drop = tf.sqrt(tf.square(x / 0.7) + tf.square(p.v - 0.235)) - 0.045
    shape = hoop * ring + (1.0 - hoop) * tf.minimum(stud, drop)
    share = layers.paint(p.cover(shape) * on, colour["jewel"], LABELS["ear_r"])
    shade = 0.4 + spot(x, p.v, (-0.012, 0.215), (0.05, 0.05)) - 6.0 * tf.abs(x)
    three_tone(
        layers, share, shade, colour["jewel"], colour["jewel"] * 0.4, tf.ones_like(colour["jewel"])
    )


def body(layers: Layers, p: Planes, f, colour, radius, hair: Hair) -> None:
    """Necklace, clothes and neck; the body does not roll with the head."""
    shift = f["shift_x"]
    male = f["male"]
    x = (p.x - 0.8 * shift) / f["zoom"]
    y = (p.y - f["shift_y"]) / f["zoom"]
    a = tf.abs(x)
    neck_half = 0.235 + 0.065 * male
    slope = tf.nn.relu(y - 0.70)
    neck = a - neck_half - 0.9 * slope * slope - 0.35 * slope
    lx = f["light_x"]

    on = f["necklace"]
    chain = tf.sqrt(tf.square(x / (neck_half + 0.02)) + tf.square((y - 0.66) / 0.185))
    thin = tf.abs(chain - 1.0) * 0.22
    beads = 0.011 + 0.005 * tf.sin(x * 95.0) * clip(p.sharp / 60.0)
    pendant = tf.sqrt(tf.square(x / 0.8) + tf.square(y - 0.865)) - 0.034
    line = tf.maximum(tf.minimum(thin - beads, pendant), 0.66 - y)
    share = layers.paint(p.cover(line) * on, colour["jewel"], LABELS["neck_l"])
    shade = 0.52 + 0.24 * tf.sin(x * 95.0) + lx * x
    three_tone(
        layers, share, shade, colour["jewel"], colour["jewel"] * 0.4, tf.ones_like(colour["jewel"])
    )

    cut_kind = [kind(f["neckline"], i) for i in range(3)]
    shoulder = 0.775 + 0.10 * clip((a - 0.2) / 0.7) + 0.28 * tf.square(tf.nn.relu(a - 0.55)) - y
    round_cut = (tf.sqrt(tf.square(x / 0.36) + tf.square((y - 0.74) / 0.125)) - 1.0) * 0.2
    vee_cut = (y - 0.96 + 0.95 * a) * 0.72
    shirt_cut = (y - 0.92 + 0.80 * a) * 0.78
    cut = cut_kind[0] * round_cut + cut_kind[1] * vee_cut + cut_kind[2] * shirt_cut
    cloth = p.cover(tf.maximum(shoulder, -cut))
    share = layers.paint(cloth, colour["cloth"], LABELS["cloth"])
    creases = 0.05 * tf.sin(9.0 * x + 14.0 * y) + 0.04 * tf.sin(23.0 * a - 11.0 * y)
    hem = p.cover(cut - 0.035) * (1.0 - cut_kind[2])
    collar = p.cover(tf.abs(cut - 0.05) - 0.05) * cut_kind[2]
    edge = p.cover(tf.abs(cut - 0.105) - 0.008, 2.0) * cut_kind[2]
    shade = 0.5 + creases + 0.30 * x * lx - 0.14 * hem + 0.24 * collar - 0.25 * edge
    shade -= 0.22 * tf.square(a)
    dark, bright = colour["cloth"] * 0.45, 0.55 * colour["cloth"] + 0.45
    three_tone(layers, share, shade, colour["cloth"], dark, bright)

    skin = p.cover(tf.maximum(neck, 0.1 - y))
    share = layers.paint(skin, colour["skin"] * 0.97, LABELS["neck"])
    under = clip(1.0 - (radius - 1.0) / 0.34)
    shade = 0.44 + 0.30 * x * lx / neck_half - 0.42 * under * under
    shade -= 0.24 * tf.square(clip(a / neck_half))
    tendon = bump(tf.square((a - 0.16 + 0.35 * (y - 0.72)) / 0.05)) * smooth(y, 0.72, 0.85)
    shade += 0.05 * tendon - 0.10 * bump(tf.square((a - 0.10) / 0.16)) * smooth(y, 0.86, 0.93)
    three_tone(
        layers, share, shade, colour["skin"], colour["skin_shadow"] * 0.85, colour["skin_light"]
    )


def background(layers: Layers, p: Planes, f, colour) -> None:
    """A gradient with blurred spots; fills the remaining area."""
    angle = f["background_angle"]
    x, y = p.x + 0.0 * angle, p.y + 0.0 * angle
    free = layers.free
    layers.paint(tf.ones_like(free), colour["background"], 0)
    along = clip(0.5 + 0.42 * (x * tf.cos(angle) + y * tf.sin(angle)))
    layers.tint(free * along, colour["background"], colour["background_far"])
    blobs = tf.zeros_like(free)
    for i, size in enumerate((0.62, 0.45, 0.35)):
        turn = angle * (1.7 + i) + 2.1 * i
        at = (0.85 * tf.cos(turn), 0.75 * tf.sin(1.3 * turn) - 0.15)
        blobs += spot(x, y, at, (size, size))
    amount = 0.75 * smooth(f["background_blobs"], 0.3, 0.9)
    layers.tint(free * clip(blobs) * amount, colour["background"], colour["background_blob"])
