"""`python -m tfface.train METHOD`: trains a method, or continues a run."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.cli import aligned, command, import_tensorflow, program
from tfface.errors import Interrupted
from tfface.shipped import run_folder

if TYPE_CHECKING:
    from tfface.config import RunOptions
    from tfface.engine.trainer import Trainer
    from tfface.engine.workers import Workers
    from tfface.methods.trained import Trained


def train_run(
    method: str,
    *,
    preset: str = "demo",
    run: str | Path = "",
    options: Mapping[str, Any] | None = None,
    change: bool = False,
    init: str | Path = "",
) -> Trained:
    """Trains a method or continues a run, like the command `train`.

    Args:
        method: Name of the method.
        preset: One of the method's bundled configurations.
        run: Run folder. An existing run is continued, or left unchanged if it has completed all
            steps. "" creates a new runs/NNNNN-...
        options: Values that override the preset, by option name: `{"train.steps": 100}`.
        change: Allow continuing a run with other values of `adam.*`, `train.precision` or a batch
            size.
        init: Run folder with the same networks, whose weights initialise a new run.

    Returns:
        The run, loaded as by `tfface.load`.

    Raises:
        UserError: An unknown method, preset or option; unsuitable values or data; a run with other
            options or in use by another process; training that diverges.
        tfface.errors.Interrupted: Ctrl-C, a notebook's stop button or another signal; the state is
            saved, and the same call continues.
    """
    from tfface.config import RunOptions, from_preset
    from tfface.engine.workers import ALONE
    from tfface.methods import get_config

    config = from_preset(method, get_config(method), preset, options)
    with _opened(method, config, RunOptions(str(run), change, str(init)), ALONE) as trainer:
        trainer.train()

    import tfface

    return tfface.load(trainer.run.path)


@command
def main(argv: list[str] | None = None) -> int:
    """Trains, together with the other workers in `TF_CONFIG` if set; returns the exit status."""
    from tfface.config import parse_training
    from tfface.engine.workers import from_environment
    from tfface.methods import METHODS, get_config

    configs = {name: get_config(name) for name in METHODS}
    method_name, config, options = parse_training(argv, configs, program("train"))
    if options.replay:
        return _replay(options.replay, method_name)
    workers = from_environment()
    with _opened(method_name, config, options, workers) as trainer:
        try:
            trainer.train()
        except Interrupted as stopped:
            how = (
                f"continue with: {trainer.run.resume_command()}"
                if workers.count == 1
                else "continue with the same command on all workers"
            )
            raise Interrupted(f"{stopped}\n{how}", stopped.signal) from stopped
    return 0


@contextlib.contextmanager
def _opened(name: str, config: Any, options: RunOptions, workers: Workers) -> Iterator[Trainer]:
    """A trainer for a new or continued run folder."""
    from tfface.data import check_paths
    from tfface.engine.run import Run

    check_paths(config)
    init = run_folder(options.init) if options.init and workers.chief else ""
    if init:
        Run(init).read_config()  # Raises if it is not a run.
    if workers.count > 1:  # TensorFlow would print a page about each worker that ends.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import_tensorflow()  # After all checks that do not need this slow import.

    from tfface.engine.trainer import Trainer
    from tfface.evaluation import measure_small
    from tfface.methods import get_method

    workers = workers.join()
    with workers.watched():
        method, source = get_method(name).open(config)
        label = Path(config.data.path).resolve().name if config.data.path else config.data.name
        run = (
            Run.create(name, method.config, options.run, label, options.change)
            if workers.chief
            else Run(options.run)  # The chief alone uses it.
        )
        yield Trainer(method, source, run, init=init, evaluate=measure_small, workers=workers)


def _replay(path: str, method: str) -> int:
    import_tensorflow()

    from tfface.engine.replay import check_finite, replay

    values = replay(path, method)
    print(aligned([[name, f"{value:.6g}"] for name, value in values.items()]))
    check_finite(values)
    return 0


if __name__ == "__main__":
    sys.exit(main())
