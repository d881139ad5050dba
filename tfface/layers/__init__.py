"""Keras layers that two methods share, or that are useful on their own."""

from tfface.layers.network import Network, precision
from tfface.layers.norm import InstanceNormalization
from tfface.layers.spatial import ConcatLabel, ReflectionPadding2D, UpConv2D

__all__ = [
    "ConcatLabel",
    "InstanceNormalization",
    "Network",
    "ReflectionPadding2D",
    "UpConv2D",
    "precision",
]
