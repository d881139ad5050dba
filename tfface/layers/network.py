"""Base class of the networks, functional graphs with a serialisable constructor, and helpers."""

from __future__ import annotations

import contextlib

import keras


@contextlib.contextmanager
def precision(policy: str | None):
    """Layers created inside compute with this precision policy; None: the current one."""
    before = keras.config.dtype_policy()
    if policy is not None:
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Network(keras.Model):
    """A functional Keras model whose `get_config` returns the arguments of its constructor.

    A subclass builds its graph in `__init__`, inside `precision(dtype)`, and passes inputs and
    outputs to this constructor, together with its own arguments.

    Args:
        inputs: Keras tensors at the start of the graph.
        outputs: Keras tensors at its end, cast to float32 by the subclass.
        arguments: The subclass's constructor arguments, returned by `get_config`.
        name: Name of the model.
    """

    def __init__(self, inputs, outputs, *, arguments: dict, name: str | None):
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        self._arguments = dict(arguments)
        self.dtype_policy = keras.config.dtype_policy()

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**self._arguments, "dtype": self.dtype_policy.name, "name": self.name}


def copied(network: Network, dtype: str | None = None) -> Network:
    """A copy of a network with the same weights.

    Args:
        network: The network.
        dtype: Precision policy of the copy, such as "mixed_bfloat16"; None: that of the network.
    """
    config = network.get_config()
    copy = type(network).from_config(config if dtype is None else {**config, "dtype": dtype})
    for target, source in zip(copy.variables, network.variables, strict=True):
        target.assign(source)
    return copy


def torch_default(gain: float = 1.0) -> keras.initializers.Initializer:
    """PyTorch's default initial weights of convolutions: uniform in +-gain/sqrt(fan_in)."""
    return keras.initializers.VarianceScaling(gain**2 / 3, "fan_in", "uniform")


def to_float32(x, name: str):
    """Casts a tensor to a float32 output with this name, under any precision policy."""
    return keras.layers.Activation("linear", dtype="float32", name=name)(x)
