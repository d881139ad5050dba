"""Instance normalisation."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfface")
class InstanceNormalization(keras.layers.Layer):
    """Instance normalisation (Ulyanov et al. 2016): mean and variance per image and channel.

    The statistics and the affine transform are float32 under any precision policy. Equal to
    `keras.layers.GroupNormalization(groups=-1)`, with fewer passes over the feature map.

    Args:
        epsilon: Added to the variance; 1e-5 is PyTorch's default.
        affine: Whether to create the weights `gamma` [C], initially 1, and `beta` [C], initially 0.

    Input and output: [B,H,W,C].
    """

    def __init__(self, epsilon: float = 1e-5, affine: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.epsilon, self.affine = epsilon, affine

    def build(self, input_shape):
        """Creates the affine weights."""
        if not self.affine:
            return
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta", autocast=False)

    def call(self, inputs):
        """Normalises."""
        x = ops.cast(inputs, "float32")
        mean = ops.mean(x, axis=(1, 2), keepdims=True)
        variance = ops.mean(ops.square(x - mean), axis=(1, 2), keepdims=True)
        scale = ops.rsqrt(variance + self.epsilon)
        if not self.affine:
            return ops.cast((x - mean) * scale, self.compute_dtype)
        scale = self.gamma * scale
        return ops.cast(x * scale + (self.beta - mean * scale), self.compute_dtype)

    def get_config(self) -> dict:
        """Returns the arguments."""
        return {**super().get_config(), "epsilon": self.epsilon, "affine": self.affine}
