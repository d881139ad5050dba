"""JSON as TF Serving reads and writes it: NaN and Infinity are numbers, float32 stays short."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import orjson


def loads(text: bytes):
    """Parses JSON; NaN, Infinity and -Infinity are numbers.

    Raises:
        ValueError: Not valid JSON; a `json.JSONDecodeError` has the position.
        RecursionError: Nested too deeply.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # orjson follows the standard, which has no NaN
        return json.loads(text)


def dumps(value, arrays: Iterable[np.ndarray]) -> bytes:
    """Writes a value as JSON.

    Floats are written with the fewest digits that round-trip, whole numbers with `.0`.

    Args:
        value: A JSON value, which may contain NumPy arrays and scalars (bool, integers, float32,
            float64).
        arrays: The float arrays in it.
    """
    if all(np.isfinite(array).all() for array in arrays):
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(value, default=_plain).encode()


def _plain(array: np.ndarray | np.generic):
    """Nested lists; a float32 becomes the float64 that is written with the float32's digits."""
    if array.dtype == np.float32:
        array = np.asarray(array).astype("S").astype(np.float64)
    return array.tolist()
