"""Encoded test images."""

import io

import numpy as np
from PIL import Image


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def noise(width, height):
    """An image of random noise."""
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


SIZES = (512, 512), (333, 217), (101, 180), (32, 32), (31, 47), (17, 16)
