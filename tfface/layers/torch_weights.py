"""Conversion of weights of the authors' PyTorch networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from tfface.errors import UserError

# PyTorch's parameter names, each with the names that Keras layers use for it.
_ATTRIBUTES = {
    "weight": ("kernel", "gamma"),
    "bias": ("bias", "beta"),
    "alpha": ("alpha",),
    "beta": ("beta",),
    "running_mean": ("moving_mean",),
    "running_var": ("moving_variance",),
}


def assign(
    network: keras.Model, weights: Mapping[str, np.ndarray], layer_name: Callable[[str], str | None]
) -> None:
    """Assigns PyTorch parameters to a network.

    Kernels of convolutions are O,I,H,W in PyTorch and H,W,I,O in Keras, those of transposed
    convolutions I,O,H,W and H,W,O,I, which is the same transposition.

    Args:
        network: Keras network; every weight of it must be in `weights`.
        weights: Parameter name, such as "main.0.weight", to array.
        layer_name: Maps a module name, such as "main.0", to the name of the Keras layer; None: the
            module is not used.

    Raises:
        UserError: A parameter fits no layer or has another shape, or a weight is missing.
    """
    free = {v.path: v for v in network.weights}
    for name, array in weights.items():
        module, _, parameter = name.rpartition(".")
        layer = layer_name(module)
        if layer is None:
            continue
        paths = [f"{layer}/{attribute}" for attribute in _ATTRIBUTES.get(parameter, ())]
        variable = next((free.pop(path) for path in paths if path in free), None)
        if variable is None:
            raise UserError(
                f"parameter {name!r} does not exist in {network.name}: expected a checkpoint of "
                f"this network"
            )
        array = np.asarray(array)
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        if array.shape != tuple(variable.shape):
            raise UserError(
                f"parameter {name!r}: expected shape {tuple(variable.shape)} (as stored here), "
                f"received {array.shape}; check image size, width and number of labels"
            )
        variable.assign(array)
    if free:
        raise UserError(f"{network.name}: the checkpoint lacks {', '.join(sorted(free))}")


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dict without running code from it; needs the extra [weights].

    Raises:
        UserError: PyTorch is not installed, or the file is missing or is not a state dict.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "reading a PyTorch checkpoint needs PyTorch: pip install 'tfface[weights]'"
        ) from error
    import pickle

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{path}: not a checkpoint of PyTorch tensors: {error}") from error
    if not isinstance(state, dict) or not all(hasattr(v, "numpy") for v in state.values()):
        raise UserError(
            f"{path}: expected a state dict, name to tensor; found {type(state).__name__}"
        )
    return {name: tensor.numpy() for name, tensor in state.items()}
