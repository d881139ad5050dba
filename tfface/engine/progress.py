"""Output of a run: log, metrics.jsonl, TensorBoard, previews, and a progress bar with ETA."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tfface.data.images import grid, save_image
from tfface.engine.run import Run

logger = logging.getLogger("tfface")


@contextlib.contextmanager
def logging_to(run: Run, console: Console):
    """Logs to the console, above the progress bar, and to `log.txt`, within the block."""

    class ToConsole(logging.Handler):
        def emit(self, record):
            # The reader may be gone, such as a closed terminal or a pipe to `head`.
            with contextlib.suppress(OSError):
                console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)

    class ToFile(logging.FileHandler):
        def handleError(self, record):
            error = sys.exc_info()[1]
            if not isinstance(error, OSError):
                super().handleError(record)
            elif self in logger.handlers:  # Warn once; metrics and checkpoints matter more.
                logger.removeHandler(self)
                logger.warning("log.txt cannot be written: %s", error.strerror)

    file = ToFile(run.path / "log.txt")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers = [ToConsole(), file]
    level, propagate = logger.level, logger.propagate
    logger.propagate = False  # TensorFlow adds a handler to the root logger.
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        with contextlib.suppress(OSError):
            file.close()
        logger.setLevel(level)
        logger.propagate = propagate


def make_console() -> Console:
    """A console for a run's output; plain lines if it is not a terminal.

    Also plain in notebooks, where rich's HTML would add a scroll bar to each line.
    """
    plain = {"force_jupyter": False, "force_terminal": False}
    return Console(**plain) if Console().is_jupyter else Console()


class Report:
    """Reports of one training run.

    Args:
        run: The run folder.
        console: Console for the progress bar.
        start: Number of steps completed before.
        steps: Total number of steps.
    """

    def __init__(self, run: Run, console: Console, start: int, steps: int):
        self._run, self._start, self._steps = run, start, steps
        self._writer = tf.summary.create_file_writer(str(run.path / "tensorboard"))
        self._terminal = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._terminal,
            speed_estimate_period=120,
        )
        self._task = self._progress.add_task("training", total=steps, completed=start, rate="")
        self._clock, self._last = time.monotonic(), start
        self._paused, self._warned = 0.0, False

    def __enter__(self) -> Report:
        self._progress.start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):  # A terminal that has closed.
            self._progress.stop()
        with self._tensorboard():
            self._writer.close()

    @contextlib.contextmanager
    def _tensorboard(self) -> Iterator[None]:
        """Warns once if TensorBoard's files cannot be written; metrics.jsonl has the same data."""
        try:
            yield
        except tf.errors.OpError as error:
            if not self._warned:
                logger.warning("tensorboard/ cannot be written: %s", error.message)
            self._warned = True

    def advance(self, step: int) -> None:
        """Moves the progress bar to `step` completed steps."""
        self._progress.update(self._task, completed=step)

    @contextlib.contextmanager
    def pause(self):
        """Excludes the time of the block from the training rate."""
        begin = time.monotonic()
        yield
        self._paused += time.monotonic() - begin

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Logs mean losses since the last call, with the training rate and the ETA."""
        seconds = max(time.monotonic() - self._clock - self._paused, 1e-9)
        rate = (step - self._last) / seconds
        self._clock, self._last, self._paused = time.monotonic(), step, 0.0
        self._run.add_metrics(step, {**values, "steps_per_second": rate})
        self._scalars(step, {**values, "steps_per_second": rate})
        self._progress.update(self._task, rate=f"{rate:.1f} steps/s")
        eta = time.strftime("%H:%M:%S", time.gmtime((self._steps - step) / max(rate, 1e-9)))
        losses = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        logger.info("step %d/%d  %.1f steps/s  eta %s  %s", step, self._steps, rate, eta, losses)

    def evaluation(self, step: int, values: dict[str, float]) -> None:
        """Logs evaluation metrics measured after a step."""
        self._run.add_metrics(step, values)
        self._scalars(step, values)

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        with self._tensorboard(), self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def preview(self, step: int, columns: dict[str, np.ndarray]) -> None:
        """Writes a preview image from columns of images [B,S,S,3] in [-1,1], by caption."""
        image = grid(list(zip(*columns.values(), strict=True)), list(columns))
        save_image(image, self._run.path / "previews" / f"{step:07d}.png")
        with self._tensorboard():
            with self._writer.as_default(step):
                tf.summary.image("preview", np.asarray(image)[None])
            self._writer.flush()
