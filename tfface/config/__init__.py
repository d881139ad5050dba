"""Configuration: frozen dataclasses, their values by dotted names, presets and the command line.

Nothing here imports TensorFlow, which keeps `--help` and error messages fast.
"""

from tfface.config.command import RunOptions, parse_training
from tfface.config.groups import (
    Adam,
    ClassifierOptions,
    Crop,
    Data,
    DiscriminatorOptions,
    MethodConfig,
    Train,
    check,
    check_above_zero,
    check_least,
    learning_rate,
)
from tfface.config.presets import from_preset, preset_file, presets
from tfface.config.values import Texts, from_dict, nearest, option_types, replace, to_dict

__all__ = [
    "Adam",
    "ClassifierOptions",
    "Crop",
    "Data",
    "DiscriminatorOptions",
    "MethodConfig",
    "RunOptions",
    "Texts",
    "Train",
    "check",
    "check_above_zero",
    "check_least",
    "from_dict",
    "from_preset",
    "learning_rate",
    "nearest",
    "option_types",
    "parse_training",
    "preset_file",
    "presets",
    "replace",
    "to_dict",
]
