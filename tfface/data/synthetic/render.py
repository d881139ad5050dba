"""Draws faces from factors."""

from __future__ import annotations

import functools

import tensorflow as tf

from tfface.data.label_maps import CLASSES_19
from tfface.data.synthetic import features, scene
from tfface.data.synthetic.anatomy import (
    colours,
    column,
    columns,
    light_direction,
    mouth_state,
    movement,
)
from tfface.data.synthetic.factors import attribute_values, graph_of, sample_factors
from tfface.data.synthetic.shapes import HEAD_UNIT, Layers, head_radius, pixels, planes
from tfface.errors import UserError

FIELDS = (
    "image",
    "label_map",
    "attributes",
    "expression",
    "intensity",
    "identity",
    "landmarks",
    "pose",
    "light",
)
_SMALLEST, _LARGEST = 32, 256


def render(
    factors: dict[str, tf.Tensor], size: int, fields: tuple[str, ...] = ("image",)
) -> dict[str, tf.Tensor]:
    """Renders faces and their annotations.

    Args:
        factors: Factors of B faces, as from `sample_factors`.
        size: Image side in pixels, 32 to 256.
        fields: Requested fields, from FIELDS.

    Returns:
        A dict with the requested fields:
        `image` float32 [B,S,S,3] in [-1,1];
        `label_map` int32 [B,S,S], indices into CLASSES_19 (glasses include the lenses, except for
        eyes and brows, which keep their own class);
        `attributes` int32 [B,len(ATTRIBUTES)] of 0 and 1;
        `expression` int32 [B], index into EXPRESSIONS; `intensity` float32 [B];
        `identity` int64 [B];
        `landmarks` float32 [B,5,2], x and y in pixels (first pixel's centre = 0) of the left eye
        as imaged, the right one, tip of the nose, left corner of the mouth as imaged, right;
        `pose` float32 [B,3], yaw (positive: to the right of the image), pitch (positive: down),
        roll (positive: clockwise), in degrees;
        `light` float32 [B,3], unit vector to the light: x right, y up, z towards the camera.

    Raises:
        UserError: The size is out of range or a field does not exist.
    """
    if not _SMALLEST <= size <= _LARGEST:
        raise UserError(
            f"size is {size}: expected {_SMALLEST} to {_LARGEST} pixels for built-in faces"
        )
    for name in fields:
        if name not in FIELDS:
            raise UserError(
                f"The built-in faces have no field {name!r}; they have {', '.join(FIELDS)}"
            )
    f = factors
    out = {name: f[name] for name in ("expression", "intensity", "identity") if name in fields}
    if "image" in fields or "label_map" in fields:
        wanted = tuple(name for name in ("image", "label_map") if name in fields)
        out |= _drawer(size, wanted)(f)
    if "attributes" in fields:
        out["attributes"] = attribute_values(f, *mouth_state(f, movement(f)))
    if "landmarks" in fields:
        out["landmarks"] = _landmarks(f, movement(f), size)
    if "pose" in fields:
        out["pose"] = tf.stack([f["yaw"], f["pitch"], f["roll"]], axis=1)
    if "light" in fields:
        out["light"] = light_direction(f)
    return out


def moving_mask(factors: dict[str, tf.Tensor], size: int) -> tf.Tensor:
    """The region where an expression may change the image of a face.

    Outside it, images of a face with any expressions, intensities and mouth attributes are
    bit-identical. It does not depend on the expression itself.

    Args:
        factors: As from `sample_factors`.
        size: Image side in pixels.

    Returns:
        bool [B,S,S].
    """
    f = columns(factors)
    p = planes(f, size)
    return features.moving_region(p, f) * p.sharp < 1.0


@functools.lru_cache
def _drawer(size: int, wanted: tuple[str, ...]):
    """Drawing as one function of about a thousand operations, traced once per process."""
    specs = {name: value.dtype for name, value in sample_factors(tf.range(1)).items()}
    names = sorted(specs)

    def draw(*values):
        f = dict(zip(names, values, strict=True))
        layers = _draw(f, size, "label_map" in wanted)
        outputs = {}
        if "image" in wanted:
            outputs["image"] = layers.image()
        if "label_map" in wanted:
            outputs["label_map"] = layers.label
        return outputs

    signature = [tf.TensorSpec([None], specs[name]) for name in names]
    graph = graph_of(draw, signature)
    return lambda f: graph(*(f[name] for name in names))


def _draw(factors, size: int, labelled: bool) -> Layers:
    """Draws all layers, from front to back."""
    colour = colours(factors)
    f = columns(factors)
    moved = {name: column(x) for name, x in movement(factors).items()}
    p = planes(f, size)
    radius, across = head_radius(p, f)
    hair = scene.Hair(p, f, radius)
    layers = Layers(p.u, labelled)

    scene.hat(layers, p, f, colour)
    scene.jewellery(layers, p, f, colour)
    scene.paint_hair(layers, hair.front, hair.shade, colour)
    scene.glasses(layers, p, f, colour)
    face = p.cover((radius - 1.0) * HEAD_UNIT)
    features.brows(layers, p, f, moved, colour, face)
    features.eyes(layers, p, f, moved, colour)
    layers.mark(scene.glasses_area(p, f), CLASSES_19.index("eye_g"))
    features.nose(layers, p, f, colour)
    features.beard(layers, p, f, moved, colour)
    features.mouth(layers, p, f, moved, colour)
    features.folds(layers, p, f, moved, colour)
    scene.head(layers, p, f, colour, face, radius, across, hair)
    scene.ears(layers, p, f, colour)
    scene.body(layers, p, f, colour, radius, hair)
    scene.paint_hair(layers, hair.back, hair.shade_back, colour)
    scene.background(layers, p, f, colour)
    return layers


def _landmarks(f, moved, size: int) -> tf.Tensor:
    zero = tf.zeros_like(f["eye_gap"])
    eye, level = f["eye_gap"], f["eye_level"]
    half = f["mouth_width"] + moved["width"]
    low = f["mouth_level"] - moved["lift"] - moved["corner"] - features.REST_CORNER
    points = [
        (-eye, level),
        (eye, level),
        (zero, f["nose_length"]),
        (-half, low),
        (half, low - moved["one_corner"]),
    ]
    return pixels(
        columns(f), size, tf.stack([tf.stack(point, axis=-1) for point in points], axis=1)
    )
