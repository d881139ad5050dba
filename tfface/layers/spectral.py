"""Spectral normalisation."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

_ROUNDS = 5  # Rounds of two squarings: (W^T W)^1024, equal to 1024 power iterations.
_TINY = 1e-30  # Avoids 0/0, so that a zero matrix has norm 0.


def spectral_norm(matrix):
    """Largest singular value of a matrix [N,M], float32 [], differentiable.

    Computed by the power method on the smaller Gram matrix, raised to a high power by squaring,
    from a fixed start vector. PyTorch's and Keras's layers take one power iteration per training
    step and store the vector; this function has no state, so its value is the same on every device
    and in every call. The gradient treats the singular vectors as constants (Miyato et al. 2018,
    equation 11).
    """
    matrix = ops.cast(matrix, "float32")
    if matrix.shape[0] < matrix.shape[1]:
        matrix = ops.transpose(matrix)
    fixed = ops.stop_gradient(matrix)
    power = ops.matmul(ops.transpose(fixed), fixed)
    for _ in range(_ROUNDS):
        power = power / (ops.max(power) + _TINY)  # The largest entry is on the diagonal.
        power = ops.matmul(power, power)
        power = ops.matmul(power, power)
    start = np.random.RandomState(0).normal(size=(matrix.shape[1], 1)).astype("float32")
    right = _unit(ops.matmul(power / (ops.max(power) + _TINY), start))
    left = _unit(ops.matmul(fixed, right))
    return ops.sum(left * ops.matmul(matrix, right))


def _unit(vector):
    return vector / (ops.sqrt(ops.sum(vector * vector)) + _TINY)


@keras.saving.register_keras_serializable("tfface")
class SpectralConv2D(keras.layers.Conv2D):
    """A convolution whose kernel is divided by its spectral norm (Miyato et al. 2018).

    A re-parametrisation: the weight itself is not changed, and the gradient goes through the norm.
    (`keras.layers.SpectralNormalization` overwrites the weight instead.) Arguments and shapes are
    those of `keras.layers.Conv2D`; the norm is that of the kernel as a matrix
    [height*width*in, out].
    """

    _fixed: float | None = None

    def fix_norm(self):
        """Computes the norm now and for good, for a network that is not trained any more."""
        self._fixed = float(self._norm(self.kernel))

    def convolution_op(self, inputs, kernel):
        """Convolves with kernel / norm."""
        norm = self._norm(kernel) if self._fixed is None else self._fixed
        kernel = ops.cast(ops.cast(kernel, "float32") / norm, kernel.dtype)
        return super().convolution_op(inputs, kernel)

    def _norm(self, kernel):
        return spectral_norm(ops.reshape(kernel, (-1, kernel.shape[-1])))


def fix_norms(network: keras.Model) -> None:
    """Fixes the norms of all layers of a network, see `SpectralConv2D.fix_norm`."""
    for layer in network.layers:
        if isinstance(layer, SpectralConv2D):
            layer.fix_norm()
