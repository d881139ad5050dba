"""`python -m tfface.train METHOD`: trains a method, or continues a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.cli import command, import_tensorflow, program

if TYPE_CHECKING:
    from tfface.engine.load import Trained
    from tfface.engine.trainer import Trainer


def train_run(
    method: str,
    *,
    preset: str = "demo",
    run: str | Path = "",
    options: Mapping[str, Any] | None = None,
) -> Trained:
    """Trains a method, or continues a run; from Python what the command `train` does.

    Args:
        method: The method's name.
        preset: One of the method's bundled configurations.
        run: Run folder; one that is there is continued, or left as it is if it has done all steps.
            "": a new runs/NNNNN-...
        options: Changes of the preset by the names of the options, such as `{"train.steps": 100}`.

    Returns:
        The run, loaded as by `tfface.load`.

    Raises:
        UserError: An unknown method, preset or option, a value or data that do not fit, a run with
            other options, training that diverges.
        tfface.engine.trainer.Interrupted: Ctrl-C, or a notebook's stop button; what was learned is
            saved, and the same call continues.
    """
    from tfface.config import from_preset
    from tfface.methods import get_config

    trainer = _open(method, from_preset(method, get_config(method), preset, options), run)
    trainer.train()

    import tfface

    return tfface.load(trainer.run.path)


@command
def main(argv: list[str] | None = None) -> int:
    """Trains; returns the exit status."""
    from tfface.config import parse_training
    from tfface.methods import METHODS, get_config

    configs = {name: get_config(name) for name in METHODS}
    method_name, config, run_path = parse_training(argv, configs, program("train"))
    trainer = _open(method_name, config, run_path)

    from tfface.engine.trainer import Interrupted

    try:
        trainer.train()
    except Interrupted as stopped:
        print(f"{stopped}\ncontinue with: {trainer.run.resume_command()}", file=sys.stderr)
        return 130
    return 0


def _open(name: str, config: Any, path: str | Path) -> Trainer:
    """A trainer of a method, in a run folder that is new or continued."""
    from tfface.data import check_paths

    check_paths(config)
    import_tensorflow()  # The slow import comes after everything that can be told without it.

    from tfface.engine.run import Run
    from tfface.engine.trainer import Trainer
    from tfface.methods import get_method

    method, source = get_method(name).open(config)
    label = Path(config.data.path).name or config.data.name
    return Trainer(method, source, Run.create(name, method.config, str(path), label))


if __name__ == "__main__":
    sys.exit(main())
