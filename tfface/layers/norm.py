"""Normalisation."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfface")
class InstanceNormalization(keras.layers.Layer):
    """Instance normalisation (Ulyanov et al. 2016): a picture's own mean and variance per channel.

    The statistics and the affine transform are float32 under any precision policy. Equal to
    `keras.layers.GroupNormalization(groups=-1)`, with fewer passes over the feature map.

    Args:
        epsilon: Added to the variance; 1e-5 is PyTorch's default.

    Input and output: [B,H,W,C]. Weights: `gamma` [C] of ones, `beta` [C] of zeros.
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        """Creates the affine weights."""
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta", autocast=False)

    def call(self, inputs):
        """Normalises."""
        x = ops.cast(inputs, "float32")
        mean = ops.mean(x, axis=(1, 2), keepdims=True)
        variance = ops.mean(ops.square(x - mean), axis=(1, 2), keepdims=True)
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return ops.cast(x * scale + (self.beta - mean * scale), self.compute_dtype)

    def get_config(self) -> dict:
        """Returns the arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}
