"""`python -m tfface.models`: lists the trained models that come with the package."""

from __future__ import annotations

import json
import sys

from tfface.cli import Parser, aligned, command
from tfface.shipped import shipped


@command
def main(argv: list[str] | None = None) -> int:
    """Lists; returns the exit status."""
    Parser(
        "models",
        description="List the trained models that come with tfface. edit, export, serve, evaluate "
        "and train --init take their names as they take run folders.",
    ).parse_args(argv)
    rows = [["name", "size", "what it does", "card"]]
    for name, folder in shipped().items():
        card = json.loads((folder / "figures.json").read_text())
        size = sum(file.stat().st_size for file in (folder / "checkpoints").iterdir())
        rows.append([name, f"{size / 2**20:.1f} MiB", card["summary"], str(folder / "README.md")])
    print(aligned(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
