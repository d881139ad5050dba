"""`python -m tfface.models`: lists the trained models shipped with the package."""

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
        description="List the trained models shipped with tfface. Their names can be used instead "
        "of run folders in edit, export, serve, evaluate and train --init.",
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
