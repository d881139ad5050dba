"""`python -m tfface.train METHOD`: trains a method, or continues a run."""

from __future__ import annotations

import sys
from pathlib import Path

from tfface.cli import command, import_tensorflow, program


@command
def main(argv: list[str] | None = None) -> int:
    """Trains; returns the exit status."""
    from tfface.config import parse_training
    from tfface.data import check_path
    from tfface.methods import METHODS, get_config

    configs = {name: get_config(name) for name in METHODS}
    method_name, config, run_path = parse_training(argv, configs, program("train"))
    check_path(config.data)
    if getattr(config, "labelled", None):
        check_path(config.labelled, "labelled.path")
    import_tensorflow()  # The slow import comes after everything that can be told without it.

    from tfface.engine.run import Run
    from tfface.engine.trainer import Interrupted, Trainer
    from tfface.methods import get_method

    method, source = get_method(method_name).open(config)
    label = Path(config.data.path).name or config.data.name
    run = Run.create(method_name, method.config, run_path, label)
    try:
        Trainer(method, source, run).train()
    except Interrupted as stopped:
        print(f"{stopped}\ncontinue with: {run.resume_command()}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
