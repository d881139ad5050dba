"""Conditional face generation and editing: train, tune and serve, in TensorFlow."""

from __future__ import annotations

from pathlib import Path

from tfface.version import __version__

__all__ = ["__version__", "get_method", "list_methods", "load", "show"]


def list_methods() -> tuple[str, ...]:
    """Names of the methods that can be trained."""
    from tfface.methods import METHODS

    return tuple(METHODS)


def get_method(name: str) -> type:
    """The `Method` class of a name; raises a UserError for an unknown one."""
    from tfface.methods import get_method

    return get_method(name)


def load(run: str | Path, step: int | None = None):
    """Loads a trained run, to edit or export with.

    Example:
        >>> trained = tfface.load("sargan/faces64")
        >>> trained.edit("face.png", expression="happy")["happy"].save("happy.png")

    Args:
        run: A run folder, or the name of a model that comes with tfface, as `tfface models` lists
            them.
        step: Step of the checkpoint; None: the newest.

    Returns:
        A `tfface.methods.trained.Trained`: `method`, `nets`, `step`. The networks that have
        averaged weights hold those. Spectral norms of their weights are computed once, here: to
        train them further, start a training from the run with `--init`.

    Raises:
        UserError: The folder is no run, has no (such) checkpoint, or one that does not fit.
    """
    from tfface.cli import import_tensorflow

    import_tensorflow()
    from tfface.engine.load import load_run

    return load_run(run, step)


def show(images, rows=(), across=None):
    """Images side by side, for a notebook; see `tfface.data.show.show`."""
    from tfface.data.show import show

    return show(images, rows, across)
