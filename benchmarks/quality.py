"""Metrics of every method's demo preset: `python benchmarks/quality.py`, or `make bench-quality`.

Trains the presets (about an hour on two CPU cores) or reuses existing runs, evaluates them on
held-out built-in faces, prints the changes since the last `benchmarks/quality.json`, and updates
that file and the tables between the two marks in `docs/results.md`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from common import Cells, block, markdown, replace_block

from tfface.cli import Parser, command, import_tensorflow
from tfface.errors import Interrupted
from tfface.methods import METHODS

ROOT = Path(__file__).parents[1]
PRESET = "demo"
MARK = "<!-- bench-quality -->"


@command
def main(argv: list[str] | None = None) -> int:
    """Trains, evaluates and updates the tables; returns the exit status."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=sorted(METHODS))
    parser.add_argument("--out", default="runs/bench", help="folder of the runs (%(default)s)")
    arguments = parser.parse_args(argv)
    page, record = ROOT / "docs" / "results.md", ROOT / "benchmarks" / "quality.json"
    block(page, MARK)  # Raises before the work begins.
    import_tensorflow()

    from tfface.engine.run import write_text
    from tfface.evaluate import evaluate_run
    from tfface.train import train_run

    recorded: dict[str, list[Cells]] = json.loads(record.read_text()) if record.exists() else {}
    for method in arguments.methods:
        try:
            trained = train_run(method, preset=PRESET, run=Path(arguments.out) / method)
        except Interrupted as stopped:
            again = "continue with the same command"
            raise Interrupted(f"{stopped}\n{again}", stopped.signal) from stopped
        _, found = evaluate_run(trained, trained.path / "evaluation" / str(trained.step))
        for line in changes(recorded.get(method, []), found):
            print(f"{method}: {line}", flush=True)
        recorded[method] = found
        # Saved after each method, in case a later one fails.
        write_text(record, json.dumps(dict(sorted(recorded.items())), indent=1) + "\n")
    tables = "\n\n".join(
        markdown(cells) for _, found in sorted(recorded.items()) for cells in found
    )
    replace_block(page, MARK, tables)
    return 0


def changes(old: list[Cells], new: list[Cells]) -> list[str]:
    """The differences between two versions of a method's tables, one line each."""
    before, now = _named(old), _named(new)
    return [
        f"{', '.join(name)}: {before.get(name) or 'nothing'} -> {now.get(name) or 'nothing'}"
        for name in {**now, **before}
        if (before.get(name) or "") != (now.get(name) or "")
    ]


def _named(tables: list[Cells]) -> dict[tuple[str, str], str]:
    """Values by row and column title."""
    return {
        (row[0], column): value
        for header, *rows in tables
        for row in rows
        for column, value in zip(header[1:], row[1:], strict=True)
    }


if __name__ == "__main__":
    sys.exit(main())
