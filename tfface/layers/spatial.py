"""Reflection padding, up-sampling convolution, and labels as channels."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfface")
class ReflectionPadding2D(keras.layers.Layer):
    """Pads height and width by mirroring, without repeating the edge (PyTorch's `ReflectionPad2d`).

    Args:
        padding: Rows and columns added at each side; must be less than height and width.
    """

    def __init__(self, padding: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.padding = padding

    def call(self, inputs):
        """Pads [B,H,W,C] to [B,H+2p,W+2p,C]."""
        sides = (self.padding, self.padding)
        return ops.pad(inputs, ((0, 0), sides, sides, (0, 0)), mode="reflect")

    def get_config(self) -> dict:
        """Returns the arguments."""
        return {**super().get_config(), "padding": self.padding}


@keras.saving.register_keras_serializable("tfface")
class ConcatLabel(keras.layers.Layer):
    """Concatenates a label vector to every pixel: ([B,H,W,C], [B,N]) to [B,H,W,C+N]."""

    def call(self, image, label):
        """Tiles the label over the image and concatenates."""
        height, width = ops.shape(image)[1:3]
        label = ops.cast(label, image.dtype)[:, None, None, :]
        tiled = ops.broadcast_to(label, (ops.shape(image)[0], height, width, label.shape[-1]))
        return ops.concatenate([image, tiled], axis=-1)


@keras.saving.register_keras_serializable("tfface")
class UpConv2D(keras.layers.Conv2DTranspose):
    """Transposed 3x3 convolution of stride 2 that doubles the side as in PyTorch.

    PyTorch's padding 1 with output padding 1 drops the first row and column of the full result;
    Keras's "same" drops the last ones.

    Args:
        filters: Channels of the result.
        **kwargs: As for `keras.layers.Conv2DTranspose`.
    """

    def __init__(self, filters: int, **kwargs):
        for fixed in ("kernel_size", "strides", "padding"):
            kwargs.pop(fixed, None)
        super().__init__(filters, 3, strides=2, padding="valid", **kwargs)

    def call(self, inputs):
        """Maps [B,H,W,C] to [B,2H,2W,filters]."""
        return super().call(inputs)[:, 1:, 1:]

    def compute_output_shape(self, input_shape):
        """Doubles height and width."""
        batch, height, width, _ = input_shape
        return (batch, height and 2 * height, width and 2 * width, self.filters)
