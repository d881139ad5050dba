"""Progress bars."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress


def progress() -> Progress:
    """A progress bar; shown on terminals only."""
    console = Console()
    return Progress(console=console, transient=True, disable=not console.is_terminal)
