"""Base of the networks: functional graphs with a serialisable constructor; and parts of them."""

from __future__ import annotations

import contextlib

import keras


@contextlib.contextmanager
def precision(policy: str | None):
    """Layers made inside compute with this precision policy; None: the current one."""
    before = keras.config.dtype_policy()
    if policy is not None:
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Network(keras.Model):
    """A functional Keras model whose `get_config` returns the arguments of its constructor.

    A subclass builds its graph in `__init__`, inside `precision(dtype)`, and hands the ends over
    with its own arguments.

    Args:
        inputs: Keras tensors the graph starts from.
        outputs: Keras tensors it ends in; made float32 by the subclass.
        arguments: The subclass's constructor arguments, as `get_config` shall return them.
        name: Name of the model.
    """

    def __init__(self, inputs, outputs, *, arguments: dict, name: str | None):
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        self._arguments = dict(arguments)
        self.dtype_policy = keras.config.dtype_policy()

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**self._arguments, "dtype": self.dtype_policy.name, "name": self.name}


def torch_default(gain: float = 1.0) -> keras.initializers.Initializer:
    """PyTorch's default weights of convolutions, U(+-gain/sqrt(fan_in)): what its authors leave."""
    return keras.initializers.VarianceScaling(gain**2 / 3, "fan_in", "uniform")


def to_float32(x, name: str):
    """The tensor as the network's float32 output of this name, under any precision policy."""
    return keras.layers.Activation("linear", dtype="float32", name=name)(x)
