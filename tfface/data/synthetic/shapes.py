"""Coordinate planes, shapes on them, and colour layers."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

SKULL_LEVEL = -0.12  # Level at which the head is widest.
SKULL_HEIGHT = 0.585  # Distance from there to the top of the head.


def clip(x: tf.Tensor) -> tf.Tensor:
    """Limits to [0,1]."""
    return tf.clip_by_value(x, 0.0, 1.0)


def bump(square: tf.Tensor) -> tf.Tensor:
    """(1 - square)^2 for squares below 1, exactly 0 otherwise: a soft spot of finite size."""
    return tf.square(tf.nn.relu(1.0 - square))


def spot(x, y, at: tuple, radius: tuple) -> tf.Tensor:
    """A soft elliptical spot, 1 at its centre and exactly 0 outside."""
    return bump(tf.square((x - at[0]) / radius[0]) + tf.square((y - at[1]) / radius[1]))


def smooth(x: tf.Tensor, low, high) -> tf.Tensor:
    """Smooth step from 0 at low to 1 at high."""
    t = clip((x - low) / (high - low))
    return t * t * (3.0 - 2.0 * t)


@dataclasses.dataclass(frozen=True)
class Planes:
    """Coordinates of the pixel centres, each [B,S,S] or broadcastable to it.

    Attributes:
        size: S.
        x: Image coordinate, -1 to 1 to the right, [1,1,S].
        y: The same downwards, [1,S,1].
        u: Head coordinate to the right: unrotated and in head units.
        v: The same downwards.
        uf: Face coordinate: `u` minus the parallax of a turned head.
        vf: The same downwards.
        a: |uf|, the same for the left and right half.
        side: 1 on the right half of the face in the image, else 0.
        turn_x: Parallax at the middle of the face, [B,1,1].
        turn_y: The same downwards.
        sharp: Pixels per head unit, [B,1,1].
    """

    size: int
    x: tf.Tensor
    y: tf.Tensor
    u: tf.Tensor
    v: tf.Tensor
    uf: tf.Tensor
    vf: tf.Tensor
    a: tf.Tensor
    side: tf.Tensor
    turn_x: tf.Tensor
    turn_y: tf.Tensor
    sharp: tf.Tensor

    def cover(self, distance: tf.Tensor, softness: float = 1.0) -> tf.Tensor:
        """Share of each pixel inside a shape, from the signed distance (negative inside)."""
        return clip(0.5 - distance * (self.sharp / softness))


_TURN_WIDTH, _TURN_HEIGHT = 0.68, 1.1


def _turned(u, v):
    """Depth of the face relative to its rim, which scales the parallax of a turned head."""
    across = tf.nn.relu(1.0 - tf.square(u / _TURN_WIDTH))
    return across * tf.nn.relu(1.0 - tf.square(v / _TURN_HEIGHT))


def _frame(factors):
    """Centre x, y, zoom, cos and sin of the roll, parallax x, y: each [B,1,1]."""
    degrees = np.pi / 180.0
    roll = factors["roll"] * degrees
    return (
        factors["shift_x"],
        factors["shift_y"] + 0.015,
        factors["zoom"],
        tf.cos(roll),
        tf.sin(roll),
        0.36 * tf.sin(factors["yaw"] * degrees),
        0.36 * tf.sin(factors["pitch"] * degrees),
    )


def planes(factors: dict[str, tf.Tensor], size: int) -> Planes:
    """The coordinate planes of faces in their poses, for images of `size` pixels."""
    centres = tf.constant((np.arange(size) + 0.5) / size * 2.0 - 1.0, tf.float32)
    x, y = centres[None, None, :], centres[None, :, None]
    cx, cy, zoom, cos, sin, turn_x, turn_y = _frame(factors)
    u = ((x - cx) * cos + (y - cy) * sin) / zoom
    v = ((y - cy) * cos - (x - cx) * sin) / zoom
    turned = _turned(u, v)
    uf, vf = u - turn_x * turned, v - turn_y * turned
    side = tf.cast(uf > 0.0, tf.float32)
    return Planes(size, x, y, u, v, uf, vf, tf.abs(uf), side, turn_x, turn_y, 0.5 * size * zoom)


def pixels(factors: dict[str, tf.Tensor], size: int, points: tf.Tensor) -> tf.Tensor:
    """Image positions of points of the face: [B,N,2] from face units to pixels.

    The inverse of `planes`: the centre of the first pixel is (0, 0).
    """
    cx, cy, zoom, cos, sin, turn_x, turn_y = (p[:, :, 0] for p in _frame(factors))
    a, b = points[..., 0], points[..., 1]
    u, v = a, b
    for _ in range(6):  # u - turn * turned(u, v) = a, by fixed-point iteration
        turned = _turned(u, v)
        u, v = a + turn_x * turned, b + turn_y * turned
    x = cx + zoom * (u * cos - v * sin)
    y = cy + zoom * (u * sin + v * cos)
    return (tf.stack([x, y], axis=-1) + 1.0) * (size / 2.0) - 0.5


def head_radius(p: Planes, factors: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Radius coordinate of the bare head (1 at its outline), and its sideways part."""
    below = tf.nn.relu(p.v - SKULL_LEVEL) / factors["face_length"]
    above = tf.nn.relu(SKULL_LEVEL - p.v) / SKULL_HEIGHT
    man = factors["male"]
    square = 0.20 + 0.30 * man + 0.15 * factors["jaw"]
    taper = 0.32 - 0.17 * man - 0.12 * factors["jaw"]
    low2 = below * below
    # The chin moves with a turned head.
    across = (p.u - 0.5 * p.turn_x * clip(1.2 * below)) / factors["face_width"]
    across = across * (1.0 + taper * low2)
    down = low2 * (1.0 - square + square * low2) + above * above
    return tf.sqrt(tf.square(across) + down), across


HEAD_UNIT = 0.55  # Head units per unit of head radius, near the outline.


class Layers:
    """Colour layers, composed from front to back.

    Each layer covers its share of what the layers before it left free. The image is the sum of
    shares times colours, which a single matrix product computes for all three channels.

    Args:
        like: A plane [B,S,S].
        labelled: Whether to compose the label map too.
    """

    def __init__(self, like: tf.Tensor, labelled: bool):
        self.free = tf.ones_like(like)
        self.label = tf.fill(tf.shape(like), -1) if labelled else None
        self._shares: list[tf.Tensor] = []
        self._colours: list[tf.Tensor] = []

    def paint(self, alpha: tf.Tensor, colour: tf.Tensor, label: int | None = None) -> tf.Tensor:
        """Adds a layer of one colour [B,3]; returns its share of each pixel."""
        share = self.free * alpha
        self.free = self.free - share
        self._add(share, colour)
        if label is not None:
            self.mark(alpha, label)
        return share

    def tint(self, share: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> None:
        """Shifts a painted share (times an amount) from one colour towards another."""
        self._add(share, end - start)

    def mark(self, alpha: tf.Tensor, label: int) -> None:
        """Assigns a class to the pixels that have no class from a layer in front."""
        if self.label is not None:
            self.label = tf.where((alpha > 0.5) & (self.label < 0), label, self.label)

    def _add(self, share, colour):
        self._shares.append(share)
        self._colours.append(colour)

    def image(self) -> tf.Tensor:
        """The composed image, [B,S,S,3] in [-1,1]."""
        shape = tf.shape(self.free)
        shares = tf.stack([tf.reshape(s, [shape[0], -1]) for s in self._shares], axis=1)
        flat = tf.matmul(shares, tf.stack(self._colours, axis=1), transpose_a=True)
        size = self.free.shape[-1]
        return tf.clip_by_value(tf.reshape(flat, [-1, size, size, 3]) * 2.0 - 1.0, -1.0, 1.0)


def three_tone(layers: Layers, share, shade, base, dark, light) -> None:
    """Shades a painted share: 0 dark, 0.5 its base colour, 1 light."""
    layers.tint(share * clip(1.0 - 2.0 * shade), base, dark)
    layers.tint(share * clip(2.0 * shade - 1.0), base, light)
