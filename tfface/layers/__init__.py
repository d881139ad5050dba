"""Keras layers that methods share or that are useful on their own."""

from tfface.layers.attention import (
    BlockAlignment,
    DenseAlignment,
    block_attention,
    dense_attention,
)
from tfface.layers.blocks import merge_blocks, partition_blocks
from tfface.layers.convolution import Conv2D
from tfface.layers.fusion import AdaptiveFusion
from tfface.layers.network import Network, copied, precision, to_float32, torch_default
from tfface.layers.norm import InstanceNormalization
from tfface.layers.spade import PositionalNormalization, Spade
from tfface.layers.spatial import ConcatLabel, ReflectionPadding2D, UpConv2D
from tfface.layers.spectral import SpectralConv2D, fix_norms, spectral_norm
from tfface.layers.transport import sinkhorn_top_k, soft_top_k

__all__ = [
    "AdaptiveFusion",
    "BlockAlignment",
    "ConcatLabel",
    "Conv2D",
    "DenseAlignment",
    "InstanceNormalization",
    "Network",
    "PositionalNormalization",
    "ReflectionPadding2D",
    "Spade",
    "SpectralConv2D",
    "UpConv2D",
    "block_attention",
    "copied",
    "dense_attention",
    "fix_norms",
    "merge_blocks",
    "partition_blocks",
    "precision",
    "sinkhorn_top_k",
    "soft_top_k",
    "spectral_norm",
    "to_float32",
    "torch_default",
]
