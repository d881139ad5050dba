"""Metrics by name, and tables of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

SEED = 1
"""Default seed of the evaluated people."""

KINDS = {"edited": "edited", "copy": "copy of the input", "target": "ground truth"}
"""Column titles for methods that edit images."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table of metrics.

    Attributes:
        title: Title of the row.
        names: Name of the metric in each column; "" for an empty cell.
        unit: "share" and "error", shown in percent; "dB"; "number" (three decimals); or "digits"
            (four significant digits).
    """

    title: str
    names: tuple[str, ...]
    unit: Literal["share", "error", "dB", "number", "digits"] = "share"


Table = tuple[tuple[str, ...], tuple[Row, ...]]
"""Column titles, and rows."""


def rows_of(kinds: Mapping[str, str], rows: Mapping[str, tuple[str, str]]) -> tuple[Row, ...]:
    """Rows with one column for each kind.

    Args:
        kinds: Prefixes of the metric names, one for each column.
        rows: From metric to title and unit.
    """
    return tuple(
        Row(title, tuple(f"{kind}/{metric}" for kind in kinds), unit)
        for metric, (title, unit) in rows.items()
    )


EDITED = {
    "improved_over_input": (
        "improved over the input (target shown and PSNR to the ground truth above the input's)",
        "share",
    ),
    "improved_by_half_db": ("improved by at least 0.5 dB", "share"),
    "second/improved_over_input": ("improved over the input, second judge", "share"),
    "identity": ("identity similarity to the input (cosine)", "number"),
    "error_outside": ("error outside the edited region", "error"),
    "error_inside": ("error inside the edited region", "error"),
    "psnr": ("PSNR", "dB"),
}
"""Rows for edits whose ground truth is known, for `rows_of`."""


def flat(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Flattens nested metrics: names joined by slashes, such as `edited/accuracy`, to numbers."""
    return {
        name: float(value) for name, value in _leaves(metrics) if isinstance(value, int | float)
    }


def table(
    rows: tuple[Row, ...], metrics: Mapping[str, Any], intervals: bool = True
) -> list[list[str]]:
    """The rows as text; rows without any value are left out.

    Args:
        rows: The rows to show.
        metrics: Nested metrics, with their 95 % confidence `intervals`.
        intervals: Whether to show the intervals.
    """
    values = dict(_leaves(metrics))
    lines = []
    for row in rows:
        if any(name in values for name in row.names):
            cells = [_cell(values, name, row.unit, intervals) for name in row.names]
            lines.append([row.title, *cells])
    return lines


def _leaves(metrics: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves = []
    for key, value in metrics.items():
        nested = isinstance(value, Mapping)
        leaves += _leaves(value, f"{prefix}{key}/") if nested else [(f"{prefix}{key}", value)]
    return leaves


def _cell(values: Mapping[str, Any], name: str, unit: str, intervals: bool) -> str:
    if name not in values:
        return ""
    if values[name] is None:
        return "exact" if unit == "dB" else "-"
    if unit == "digits":
        return f"{values[name]:.4g}"
    digits, factor, sign = {
        "share": (1, 100, " %"),
        "error": (2, 100, " %"),
        "dB": (1, 1, " dB"),
        "number": (3, 1, ""),
    }[unit]
    ends = values.get(f"intervals/{name}") if intervals else None
    between = ""
    if ends and ends[0] < ends[1]:
        between = " ({:.{d}f} to {:.{d}f})".format(*(factor * end for end in ends), d=digits)
    return f"{factor * values[name]:.{digits}f}{sign}{between}"
