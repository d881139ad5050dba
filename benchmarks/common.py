"""What benchmarks share: timing, the processor, and tables in the documentation."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfface.cli import Parser, aligned, import_tensorflow
from tfface.engine.run import write_text
from tfface.errors import UserError

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
Cells = list[list[str]]
"""A table: its first row is the header."""


def markdown(cells: Cells) -> str:
    """A table in Markdown."""
    header, *rows = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([header, "|" + "---|" * len(cells[0]), *rows])


def block(page: Path, mark: str) -> list[str]:
    """The page before, between and after its two lines `mark`; raises UserError without them."""
    parts = page.read_text().split(mark)
    if len(parts) != 3:
        raise UserError(f"{page}: expected two lines {mark}, around the tables")
    return parts


def replace_block(page: Path, mark: str, text: str) -> None:
    """Replaces what is between the two lines `mark` of a page."""
    before, _, after = block(page, mark)
    write_text(page, f"{before}{mark}\n{text}\n{mark}{after}")


def table_command(
    argv: list[str] | None,
    about: str,
    page: Path,
    mark: str,
    seconds: tuple[float, str],
    measure: Callable[[float], tuple[Cells, str]],
) -> int:
    """The command line of a benchmark that prints a table and, with `--write`, documents it.

    Args:
        argv: Arguments; None: those of the process.
        about: Its description.
        page: Page of the documentation.
        mark: Mark around the table in the page.
        seconds: Default of the option `--seconds`, and its help.
        measure: From the seconds to the table and what it was measured with, without TensorFlow's
            version and the processor.

    Returns:
        The exit status.
    """
    parser = Parser(description=about)
    default, explained = seconds
    parser.add_argument("--seconds", type=float, default=default, help=f"{explained} (%(default)s)")
    parser.add_argument("--write", action="store_true", help=f"write the table into {page.name}")
    arguments = parser.parse_args(argv)
    if arguments.write:
        block(page, mark)  # Raises before the work begins.
    import_tensorflow()
    table, facts = measure(arguments.seconds)
    print(aligned(table))
    if arguments.write:
        replace_block(page, mark, f"{markdown(table)}\n\n{facts}; {processor()}.")
    return 0


def fastest(functions: list[Callable[[], Any]], seconds: float) -> list[float]:
    """Seconds of the fastest call of each function, with alternating calls."""
    times = [float("inf")] * len(functions)
    for function in functions:
        function()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for i, function in enumerate(functions):
            begin = time.perf_counter()
            function()
            times[i] = min(times[i], time.perf_counter() - begin)
    return times


def processor() -> str:
    """Model, cores and vector instructions of the processor."""
    cores = f"{threads()} cores"
    if not Path("/proc/cpuinfo").exists():
        return f"{platform.processor()}, {cores}"
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    info = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = [name for name in INSTRUCTIONS if name in info.get("flags", "").split()]
    model = f"{info.get('model name')} (family {info.get('cpu family')}, model {info.get('model')})"
    return ", ".join([model, cores, *flags])


def threads() -> int:
    """Cores that this process may use; TensorFlow and PyTorch use as many threads."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count()
