"""JSON as TF Serving reads and writes it: NaN and Infinity are numbers, float32 stays short."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import orjson


def loads(text: bytes):
    """The value of a JSON text; NaN, Infinity and -Infinity are numbers.

    Raises:
        ValueError: It is none; a `json.JSONDecodeError` says where.
        RecursionError: It is nested too deeply.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # the standard, which it keeps to, knows no NaN
        return json.loads(text)


def dumps(value, arrays: Iterable[np.ndarray]) -> bytes:
    """The JSON text of a value.

    Floats are written with as few digits as give the same float again, whole ones with `.0`.

    Args:
        value: What JSON knows, and arrays and scalars of NumPy (bool, integers, float32, float64).
        arrays: The arrays of floats in it.
    """
    if all(np.isfinite(array).all() for array in arrays):
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(value, default=_plain).encode()


def _plain(array: np.ndarray | np.generic):
    """Nested lists; a float32 becomes the float64 that is written with the float32's digits."""
    if array.dtype == np.float32:
        array = np.asarray(array).astype("S").astype(np.float64)
    return array.tolist()
