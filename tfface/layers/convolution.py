"""Convolutions with many channels on small feature maps."""

from __future__ import annotations

import keras
from keras import ops

CHANNELS_PER_POSITION = 32
"""A matrix product is faster from this ratio of output channels to output positions on, measured
by `benchmarks/convolution.py`: 7 times at a ratio of 512, 1.8 times at 64, half as fast at 8."""


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
        patches = self._patches(inputs, height, width)
        product = ops.matmul(patches, ops.reshape(kernel, (-1, self.filters)))
        return ops.reshape(product, (-1, height, width, self.filters))

    def _patches(self, x, height: int, width: int):
        """The inputs [B*height*width,k*k*C] of each output position, in the kernel's order."""
        (rows, columns), (down, right) = self.kernel_size, self.strides
        if self.padding == "same":
            margins = [
                max((count - 1) * step + taps - side, 0)
                for count, step, taps, side in (
                    (height, down, rows, x.shape[1]),
                    (width, right, columns, x.shape[2]),
                )
            ]
            # As TensorFlow pads: an odd margin has its larger half at the end.
            x = ops.pad(x, [(0, 0), *((m // 2, m - m // 2) for m in margins), (0, 0)])
        taps = [
            x[:, i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * right + 1 : right]
            for i in range(rows)
            for j in range(columns)
        ]
        return ops.reshape(ops.concatenate(taps, axis=-1), (-1, rows * columns * x.shape[-1]))
