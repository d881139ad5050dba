"""Turns a run into a model that ships with the package: `python benchmarks/ship.py RUN NAME`.

Evaluates the run on held-out built-in faces, and writes its weights as float16, rounded to 8
significant bits (the averaged weights where available, without optimizer state), a model card and
its metrics to `tfface/methods/METHOD/models/NAME`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.cli import Parser, command, import_tensorflow
from tfface.errors import UserError

if TYPE_CHECKING:
    from tfface.engine.checkpoint import State
    from tfface.methods.trained import Trained

ROOT = Path(__file__).parents[1]
LARGEST = 8 * 2**20
SAMPLE = 8
"""Number of people in the small sample that a test evaluates again."""


@command
def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="run folder")
    parser.add_argument("name", help="the model's name, equal to the preset's")
    parser.add_argument(
        "--judge_steps", type=int, help="training steps of the judges; default: the evaluation's"
    )
    parser.add_argument(
        "--count", type=int, help="number of people to evaluate on; default: the evaluation's"
    )
    parser.add_argument(
        "--bits",
        type=int,
        default=8,
        choices=range(4, 12),
        metavar="N",
        help="significant bits of the weights, 4 to 11 (default: %(default)s)",
    )
    parser.add_argument(
        "--commit", help="commit that the run was trained with (default: the checkout's)"
    )
    arguments = parser.parse_args(argv)
    import_tensorflow()

    import tfface
    from tfface.engine.checkpoint import read_state, write_state
    from tfface.engine.run import checkpoint_files

    trained = tfface.load(arguments.run)
    out = ROOT / "tfface" / "methods" / trained.name / "models" / arguments.name
    read, _ = read_state(checkpoint_files(trained.path / "checkpoints")[trained.step])
    with tempfile.TemporaryDirectory(dir=trained.path) as folder:
        model_path = Path(folder) / arguments.name
        (model_path / "checkpoints").mkdir(parents=True)
        file = model_path / "checkpoints" / f"step-{trained.step}.npz"
        state = _half(read, arguments.bits)
        write_state(file, state, {}, model_path / "incomplete.npz", compress=True)
        if file.stat().st_size > LARGEST:
            size = file.stat().st_size / 2**20
            raise UserError(f"{size:.1f} MiB: expected at most 8 MiB; --bits takes fewer bits")
        for name in ("method.txt", "config.yaml"):
            shutil.copy(trained.path / name, model_path / name)
        size = sum(value.size for value in state.values())
        _write_card(tfface.load(model_path), trained, arguments, size, file.stat().st_size)
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(exist_ok=True)
        shutil.move(model_path, out)
    print(f"wrote {out}")
    return 0


def _half(state: State, significant: int) -> State:
    """The networks' weights, averaged where available, with float32 rounded to 16 bits or less."""
    nets = {name: value for name, value in state.items() if name.startswith("nets/")}
    for name in nets:
        nets[name] = state.get(name.replace("nets/", "averages/", 1), nets[name])
    for name, value in nets.items():
        if value.dtype == np.float32:
            nets[name] = _rounded(value, significant)
            if not np.isfinite(nets[name]).all():
                raise UserError(f"{name} has values outside the range of float16")
    return nets


def _rounded(values: np.ndarray, significant: int) -> np.ndarray:
    """Float16 with fewer significant bits: with the 8 of bfloat16 they compress by a quarter."""
    drop = 11 - significant
    bits = values.astype(np.float16).view(np.uint16).astype(np.uint32) + (1 << drop >> 1)
    return (bits >> drop << drop).astype(np.uint16).view(np.float16)


def _write_card(model: Trained, trained: Trained, arguments: Any, weights: int, size: int) -> None:
    """Evaluates the stored model; writes `figures.json` and the model card."""
    from tfface.evaluation import cache_of, evaluation_of, measure
    from tfface.metrics.tables import table

    cache, evaluation = cache_of(trained), evaluation_of(model)
    options = {"cache": cache, "judge_steps": arguments.judge_steps}
    figures = measure(model, count=arguments.count, **options)
    sample = measure(model, count=SAMPLE, small=True, **options)
    columns, rows = evaluation.table
    cells = [[model.name, *columns], *table(rows, figures)]
    config = model.method.config
    metrics = [json.loads(line) for line in (trained.path / "metrics.jsonl").open()]
    rates = [line for line in metrics if "steps_per_second" in line]
    seconds = sum(
        (b["step"] - a["step"]) / b["steps_per_second"]
        for a, b in zip([{"step": 0}, *rates], rates, strict=False)
    )
    git = ["git", "rev-parse", "--short", "HEAD"]
    head = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    card = {
        "summary": model.method.title,
        "trained": time.strftime("%Y-%m-%d"),
        "figures": figures,
        "sample": {"people": SAMPLE, **sample},
    }
    (model.path / "figures.json").write_text(json.dumps(card, indent=1, allow_nan=False) + "\n")
    header, *lines = [f"| {' | '.join(row)} |" for row in cells]
    (model.path / "README.md").write_text(
        (ROOT / "benchmarks" / "model_card.md")
        .read_text()
        .format(
            method=model.name,
            name=arguments.name,
            summary=model.method.title,
            size=config.data.size,
            seed=config.train.seed,
            steps=model.step,
            hours=seconds / 3600,
            cores=len(os.sched_getaffinity(0)),
            bits=arguments.bits,
            commit=arguments.commit or head.stdout.strip(),
            weights=weights,
            mebibytes=size / 2**20,
            people=figures.get("people") or figures.get("pairs") or figures.get("maps"),
            table="\n".join([header, "|" + "---|" * len(cells[0]), *lines]),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
