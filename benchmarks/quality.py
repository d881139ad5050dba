"""Metrics of every method's demo preset: `python benchmarks/quality.py`, or `make bench-quality`.

Trains the presets (about forty minutes on two CPU cores) or reuses existing runs, evaluates them on
held-out built-in faces, prints the changes since the last `benchmarks/quality.json`, and updates
that file and the tables between the two marks in `docs/results.md`. With `--seeds 3` it trains with
the seeds 0, 1 and 2, and tells how much the results depend on them.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path

from common import Cells, block, markdown, replace_block

from tfface.cli import Parser, command, import_tensorflow
from tfface.errors import Interrupted, UserError
from tfface.methods import METHODS

ROOT = Path(__file__).parents[1]
PRESET = "demo"
MARK = "<!-- bench-quality -->"
SEEDS = "training seeds"


@command
def main(argv: list[str] | None = None) -> int:
    """Trains, evaluates and updates the tables; returns the exit status."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=sorted(METHODS))
    parser.add_argument("--out", default="runs/bench", help="folder of the runs (%(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings per method (%(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.seeds < 1:
        raise UserError(f"--seeds is {arguments.seeds}: expected 1 or more")
    page, record = ROOT / "docs" / "results.md", ROOT / "benchmarks" / "quality.json"
    block(page, MARK)  # Raises before the work begins.
    import_tensorflow()

    from tfface.engine.run import write_text
    from tfface.evaluate import evaluate_run
    from tfface.train import train_run

    recorded: dict[str, list[Cells]] = json.loads(record.read_text()) if record.exists() else {}
    for method in arguments.methods:
        try:
            tables = []
            for seed in range(arguments.seeds):
                run = Path(arguments.out) / (f"{method}-seed{seed}" if seed else method)
                options = {"train.seed": seed} if seed else {}
                trained = train_run(method, preset=PRESET, run=run, options=options)
                tables.append(evaluate_run(trained, run / "evaluation" / str(trained.step))[1])
        except Interrupted as stopped:
            again = "continue with the same command"
            raise Interrupted(f"{stopped}\n{again}", stopped.signal) from stopped
        found = tables[0]
        if len(tables) > 1:
            found.insert(1, seeds_table([of_seed[0] for of_seed in tables]))
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


def seeds_table(tables: list[Cells]) -> Cells:
    """The first column of a method's tables for each training seed; mean and deviation of them."""
    header = [f"{tables[0][0][0]}, {SEEDS}", *map(str, range(len(tables))), "mean ± deviation"]
    rows = []
    for row in zip(*(table[1:] for table in tables), strict=True):
        values = [cells[1].split(" (")[0] for cells in row]
        numbers = [re.match(r"-?[\d.]+", value) for value in values]
        if not all(numbers):
            continue
        found = [float(number[0]) for number in numbers]
        digits, unit = len(values[0].split()[0].partition(".")[2]), values[0][numbers[0].end() :]
        mean, deviation = statistics.mean(found), statistics.stdev(found)
        rows.append([row[0][0], *values, f"{mean:.{digits}f} ± {deviation:.{digits}f}{unit}"])
    return [header, *rows]


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
