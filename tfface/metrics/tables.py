"""Figures by name, and tables of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

SEED = 1
"""Of the people that are measured and shown."""

KINDS = {"edited": "edited", "copy": "copy of the input", "target": "true render"}
"""Titles of what is measured of methods that edit images."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table of figures.

    Attributes:
        title: What was measured.
        names: The figures, one for each column; "" where there is none.
        unit: "share" and "error", shown in percent; "dB"; "number"; or "digits", four of them.
    """

    title: str
    names: tuple[str, ...]
    unit: Literal["share", "error", "dB", "number", "digits"] = "share"


Table = tuple[tuple[str, ...], tuple[Row, ...]]
"""Titles of columns, and rows."""


def rows_of(kinds: Mapping[str, str], rows: Mapping[str, tuple[str, str]]) -> tuple[Row, ...]:
    """Rows of the same measure of several kinds: measure to title and unit."""
    return tuple(
        Row(title, tuple(f"{kind}/{measure}" for kind in kinds), unit)
        for measure, (title, unit) in rows.items()
    )


EDITED = {
    "improved_over_input": (
        "improved over the input: shows it, with a higher PSNR to the truth",
        "share",
    ),
    "improved_by_half_db": ("improved by 0.5 dB or more", "share"),
    "second/improved_over_input": ("improved over the input, by a second judge", "share"),
    "identity": ("person of the input kept: cosine", "number"),
    "error_outside": ("error outside", "error"),
    "error_inside": ("error inside", "error"),
    "psnr": ("PSNR", "dB"),
}
"""Measures of edits that have a true render, for `rows_of`."""


def flat(figures: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of nested figures by their names, joined by slashes, such as `edited/accuracy`."""
    return {
        name: float(value) for name, value in _leaves(figures) if isinstance(value, int | float)
    }


def table(
    rows: tuple[Row, ...], figures: Mapping[str, Any], intervals: bool = True
) -> list[list[str]]:
    """Rows of text, without those that nothing was measured for.

    Args:
        rows: What to show.
        figures: Nested figures, with their 95 % confidence `intervals`.
        intervals: Whether to show these too.
    """
    values = dict(_leaves(figures))
    lines = []
    for row in rows:
        if any(name in values for name in row.names):
            cells = [_cell(values, name, row.unit, intervals) for name in row.names]
            lines.append([row.title, *cells])
    return lines


def _leaves(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in figures.items():
        nested = isinstance(value, Mapping)
        found += _leaves(value, f"{prefix}{key}/") if nested else [(f"{prefix}{key}", value)]
    return found


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
