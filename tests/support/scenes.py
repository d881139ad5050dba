"""Scenes with several built-in faces, rotated and scaled, and their landmarks."""

import functools

import numpy as np
import tensorflow as tf
from PIL import Image
from skimage.transform import SimilarityTransform, warp

from tfface.data.synthetic import render, sample_factors

SIZE = 600, 400  # width and height


@functools.lru_cache
def scene(*, angles=(-20, 15)):
    """A photograph with a larger face on the left and a smaller one on the right.

    Args:
        angles: Rotation of the two faces, in degrees, clockwise.

    Returns:
        The image and the landmarks of the two faces, [2,5,2].
    """
    factors = sample_factors(tf.constant([1003, 1007], tf.int64))
    faces = render(factors, 128, ("image", "landmarks"))
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    values = np.stack([60 + x / 6, 90 + y / 6, 140 + (x + y) / 20], -1)
    landmarks = []
    places = zip(angles, (2.0, 1.3), ((190, 200), (480, 180)), strict=True)
    for number, (angle, scale, centre) in enumerate(places):
        image = (faces["image"][number].numpy() + 1) * 127.5
        to_scene = SimilarityTransform(translation=(-63.5, -63.5)) + SimilarityTransform(
            scale=scale, rotation=np.radians(angle), translation=centre
        )
        drawn = warp(image, to_scene.inverse, output_shape=SIZE[::-1], order=3, mode="edge")
        inside = warp(np.ones([128, 128]), to_scene.inverse, output_shape=SIZE[::-1], order=1)
        values += inside[..., None] * (drawn - values)
        landmarks.append(to_scene(faces["landmarks"][number].numpy()))
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8)), np.stack(landmarks)
