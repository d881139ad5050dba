"""Progress bars of what takes longer than a moment."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress


def progress() -> Progress:
    """A progress bar on a terminal, nothing elsewhere."""
    console = Console()
    return Progress(console=console, transient=True, disable=not console.is_terminal)
