"""Modulation of features by a label map or another spatial condition."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfface")
class PositionalNormalization(keras.layers.Layer):
    """Normalisation over the channels of each position (PONO, Li et al. 2019); no weights."""

    def call(self, inputs):
        """Normalises [B,H,W,C], in float32."""
        x = ops.cast(inputs, "float32")
        x = x - ops.mean(x, -1, keepdims=True)
        x = x * ops.rsqrt(ops.mean(ops.square(x), -1, keepdims=True) + 1e-5)
        return ops.cast(x, self.compute_dtype)


@keras.saving.register_keras_serializable("tfface")
class Spade(keras.layers.Layer):
    """Spatially-adaptive normalisation (Park et al. 2019): N(x)(1 + gamma(c)) + beta(c).

    Args:
        width: Channels of the hidden convolution of the condition; 128 in SPADE.
        normalize: Whether N is positional normalisation, as in CoCosNet; otherwise N(x) = x, for
            features that are already normalised.

    Inputs: features [B,H,W,C], condition [B,H,W,D]. Output: [B,H,W,C].
    """

    def __init__(self, width: int = 128, normalize: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.width, self.normalize = width, normalize
        self.norm = PositionalNormalization(name="norm")
        self.shared = keras.layers.Conv2D(
            width, 3, padding="same", activation="relu", name="shared"
        )

    def build(self, features_shape, condition_shape):
        """Builds the convolutions."""
        channels = features_shape[-1]
        self.modulate = keras.layers.Conv2D(2 * channels, 3, padding="same", name="modulate")
        self.shared.build(condition_shape)
        self.modulate.build((*condition_shape[:-1], self.width))

    def call(self, features, condition):
        """Modulates the features."""
        gamma, beta = ops.split(self.modulate(self.shared(condition)), 2, axis=-1)
        if self.normalize:
            features = self.norm(features)
        return features * (1.0 + gamma) + beta

    def compute_output_shape(self, features_shape, condition_shape):
        """The shape of the features."""
        return features_shape

    def get_config(self) -> dict:
        """Returns the arguments."""
        return {**super().get_config(), "width": self.width, "normalize": self.normalize}
