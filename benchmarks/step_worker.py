"""The child processes of `train_step.py`, which take turns: one case in one precision each.

A child prints the weights of its units as a line of JSON, then reads names of units from stdin,
runs each once and prints its seconds. Called as `python step_worker.py CASE_AS_JSON`.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SKIPPED = 8  # Untimed steps before a turn: more than a pipeline keeps ready while the child waits.
Units = dict[str, tuple[float, Callable[[], float]]]
"""By name: weight of the unit in the sum over units, and a function that returns its seconds."""


def serve(units: Units, notes: dict[str, Any]) -> None:
    """Answers on stdout until stdin ends; other output to stdout goes to stderr."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        weights = {name: weight for name, (weight, _) in units.items()}
        print(json.dumps({"units": weights, **notes}), file=answers, flush=True)
        for line in sys.stdin:
            print(units[line.strip()][1](), file=answers, flush=True)


def timed(run: Callable[[], Any]) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


class Stage:
    """Training steps of a stage, with data, as in `Trainer.train`.

    Args:
        trainer: The trainer.
        start: First step of the stage, from 0.
        stop: First step after it.
        steps: Steps per turn.
    """

    def __init__(self, trainer, start: int, stop: int, steps: int):
        self._trainer, self._start, self._stop = trainer, start, stop
        self._steps = min(steps, stop - start - SKIPPED)
        self._number, self._data = stop, iter(())

    def __call__(self) -> float:
        """Seconds of a step, as the mean of a turn."""
        if self._number + SKIPPED + self._steps > self._stop:
            self._number, self._data = self._start, self._trainer.batches(self._start)
        self._run(SKIPPED)
        return timed(lambda: self._run(self._steps)) / self._steps

    def _run(self, count: int) -> None:
        for batch in itertools.islice(self._data, count):
            _, values = self._trainer.step(self._number, batch)
            self._number += 1
        values.numpy()  # Waits for the last step.


def demo(method: str, precision: str, steps: int) -> tuple[Units, dict[str, Any]]:
    """A stage of a `demo` preset per unit; its weight is the stage's number of steps."""
    from tfface.config import from_preset
    from tfface.engine.run import Run
    from tfface.engine.trainer import Trainer
    from tfface.methods import get_config, get_method

    options = {"train.precision": precision} if precision else {}
    config = from_preset(method, get_config(method), "demo", options)
    opened, source = get_method(method).open(config)
    trainer = Trainer(opened, source, Run("unused"))  # `step` and `batches` write nothing.
    ends = {0, config.train.steps}
    for phase in opened.phases():
        ends |= {phase.start, config.train.steps if phase.stop is None else phase.stop}
    units = {
        f"steps {start} to {stop}": (stop - start, Stage(trainer, start, stop, steps))
        for start, stop in itertools.pairwise(sorted(ends))
    }
    return units, {"precision": config.train.precision}


def main() -> None:
    """Serves a case."""
    case = json.loads(sys.argv[1])
    from tfface.cli import import_tensorflow

    import_tensorflow()
    import tfface

    kind, method = case["case"].split("/")
    units, notes = demo(method, case["precision"], case["steps"])
    serve(units, {**notes, "package": str(Path(tfface.__file__).parent)})


if __name__ == "__main__":
    main()
