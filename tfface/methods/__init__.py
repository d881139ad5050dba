"""The methods: a folder each, listed here. Importing this imports no TensorFlow."""

from __future__ import annotations

import importlib

from tfface.config import nearest
from tfface.errors import UserError

METHODS = {
    "domain_alignment": "DomainAlignment",
    "elegant": "Elegant",
    "mask_guided": "MaskGuided",
    "sargan": "Sargan",
    "seg_hierarchical": "SegHierarchical",
}


def _look_up(name: str, part: str, suffix: str) -> type:
    if name not in METHODS:
        raise UserError(
            f"there is no method {name!r}{nearest(name, METHODS)}; "
            f"expected one of {', '.join(METHODS)}"
        )
    return getattr(importlib.import_module(f"tfface.methods.{name}.{part}"), METHODS[name] + suffix)


def get_method(name: str) -> type:
    """The `Method` class of a name; imports TensorFlow."""
    return _look_up(name, "method", "")


def get_config(name: str) -> type:
    """The config class of a method; imports no TensorFlow."""
    return _look_up(name, "config", "Config")
