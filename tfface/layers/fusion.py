"""Weights of an aligned exemplar's features at each position."""

from __future__ import annotations

import keras
from keras import ops

_HIDDEN = 16
_GAIN = 10.0


@keras.saving.register_keras_serializable("tfface")
class AdaptiveFusion(keras.layers.Layer):
    """Weights, per position, for fusing features of a condition with features aligned to it.

    Both feature maps are projected, pooled to a grid of `side` x `side` positions and correlated,
    every position with every other: the long-range correlation R. Three coefficients of a position
    measure how well the aligned style coheres with the condition: its best correlation with any
    position, its correlation with the same position, and the best correlation minus the mean of
    the best ones over all positions. The weight is the sigmoid of 10 times the last coefficient, as
    in UNITE's code, plus the output of two small convolutions of all three.

    From the paper's abstract (CVIU 2023): weights learned from long-range correlation coefficients.
    Inferred: the choice of coefficients, and the convolutions.

    Args:
        channels: Channels of the projections.
        side: Side of the grid of positions; must divide that of the features.

    Inputs: condition [B,H,W,C], aligned [B,H,W,D]. Output: weights [B,H,W,1] in [0,1], float32;
    1 selects the aligned features only.
    """

    def __init__(self, channels: int, side: int, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.side = channels, side
        self.project_condition = keras.layers.Conv2D(channels, 1, name="project_condition")
        self.project_aligned = keras.layers.Conv2D(channels, 1, name="project_aligned")
        self.hidden = keras.layers.Conv2D(
            _HIDDEN, 3, padding="same", activation="relu", name="hidden", dtype="float32"
        )
        self.correction = keras.layers.Conv2D(
            1, 3, padding="same", name="correction", dtype="float32"
        )

    def build(self, condition_shape, aligned_shape):
        """Builds the convolutions."""
        self.project_condition.build(condition_shape)
        self.project_aligned.build(aligned_shape)
        grid = (None, self.side, self.side)
        self.hidden.build((*grid, 3))
        self.correction.build((*grid, _HIDDEN))

    def call(self, condition, aligned):
        """Returns the weights."""
        height, positions = condition.shape[1], self.side * self.side
        factor = height // self.side

        def tokens(x):
            x = ops.average_pool(x, factor, factor) if factor > 1 else x
            x = ops.cast(ops.reshape(x, (-1, positions, self.channels)), "float32")
            x = x - ops.mean(x, -1, keepdims=True)
            return x * ops.rsqrt(ops.sum(ops.square(x), -1, keepdims=True) + 1e-12)

        a = tokens(self.project_condition(condition))
        z = tokens(self.project_aligned(aligned))
        best = ops.max(ops.matmul(a, ops.transpose(z, (0, 2, 1))), -1)
        same = ops.sum(a * z, -1)
        relative = best - ops.mean(best, -1, keepdims=True)
        grid = ops.reshape(ops.stack([best, same, relative], -1), (-1, self.side, self.side, 3))
        weight = ops.sigmoid(_GAIN * grid[..., 2:] + self.correction(self.hidden(grid)))
        return ops.repeat(ops.repeat(weight, factor, 1), factor, 2)

    def compute_output_shape(self, condition_shape, aligned_shape):
        """[B,H,W,1]."""
        return (*condition_shape[:3], 1)

    def get_config(self) -> dict:
        """Returns the arguments."""
        return {**super().get_config(), "channels": self.channels, "side": self.side}
