"""Convolutions with many channels on small feature maps."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

CHANNELS_PER_POSITION = 16
"""A matrix product is faster from this ratio of output channels to output positions on, measured
by `benchmarks/convolution.py`: 4 to 12 times at 512, 3 to 5 times at 64, 0.9 to 1.9 times at 8."""


@keras.saving.register_keras_serializable("tfface")
class Conv2D(keras.layers.Conv2D):
    """A convolution that is one matrix product where its kernel is large and its output small.

    oneDNN reorders the kernel in each call, forward and in both gradients. For the last layers of
    a discriminator, whose kernels are much larger than their feature maps, this takes far longer
    than the convolution itself. There, the patches of the input are multiplied by the kernel as it
    lies in memory. Values are the same but for the order of summation.

    Arguments and shapes are those of `keras.layers.Conv2D`, without dilation and groups.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.layers import Conv2D
        >>> Conv2D(256, 4, strides=2, padding="same")(tf.zeros([1, 4, 4, 8])).shape
        TensorShape([1, 2, 2, 256])
    """

    def convolution_op(self, inputs, kernel):
        """Convolves by the faster of both ways."""
        height, width = self.compute_output_shape(inputs.shape)[1:3]
        if self.filters < CHANNELS_PER_POSITION * height * width:
            return super().convolution_op(inputs, kernel)
        select = self._selection(inputs.shape[1:3], (height, width))
        pixels = ops.reshape(inputs, (-1, select.shape[1], inputs.shape[-1]))
        patches = ops.matmul(ops.cast(select, inputs.dtype), pixels)
        patches = ops.reshape(patches, (-1, math.prod(kernel.shape[:-1])))
        product = ops.matmul(patches, ops.reshape(kernel, (-1, self.filters)))
        return ops.reshape(product, (-1, height, width, self.filters))

    def _selection(self, sides: tuple[int, int], outputs: tuple[int, int]) -> np.ndarray:
        """A matrix [h*w*k*k,H*W] of 0 and 1 from an image's pixels to the patches of the output.

        As a factor it is faster than slices, whose gradients copy the image for each of them.
        Rows without a 1 are the padding.
        """
        axes = zip(sides, outputs, self.kernel_size, self.strides, strict=True)
        rows, columns = (self._selection_along(*axis) for axis in axes)
        both = np.einsum("iar,jbc->ijabrc", rows, columns)
        return both.reshape(-1, math.prod(sides))

    def _selection_along(self, side: int, output: int, taps: int, stride: int) -> np.ndarray:
        """[output,taps,side] of 0 and 1 for one axis."""
        margin = max((output - 1) * stride + taps - side, 0) if self.padding == "same" else 0
        # As TensorFlow pads: the larger half of an odd margin is at the end.
        first = stride * np.arange(output)[:, None, None] - margin // 2
        position = first + np.arange(taps)[None, :, None]
        return (position == np.arange(side)).astype("float32")
