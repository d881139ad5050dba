"""The methods, one folder each, are registered here. Importing this imports no TensorFlow."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from tfface.config import nearest
from tfface.errors import UserError

METHODS = {
    "domain_alignment": "DomainAlignment",
    "elegant": "Elegant",
    "mask_guided": "MaskGuided",
    "sargan": "Sargan",
    "seg_hierarchical": "SegHierarchical",
}


def exports(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a method's package, which imports its public names on first use.

    This way `--help`, which only needs a config, imports no TensorFlow.

    Args:
        package: The package's name.
        modules: Public names of the package, each with the module that defines it.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return get


def _look_up(name: str, part: str, suffix: str) -> type:
    if name not in METHODS:
        raise UserError(
            f"there is no method {name!r}{nearest(name, METHODS)}; "
            f"expected one of {', '.join(METHODS)}"
        )
    return getattr(importlib.import_module(f"tfface.methods.{name}.{part}"), METHODS[name] + suffix)


def get_method(name: str) -> type:
    """The `Method` class of a registered name; imports TensorFlow."""
    return _look_up(name, "method", "")


def get_config(name: str) -> type:
    """The config class of a method; imports no TensorFlow."""
    return _look_up(name, "config", "Config")
