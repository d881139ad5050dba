"""Output of a run: log, metrics.jsonl, TensorBoard, previews, and a progress bar with ETA."""

from __future__ import annotations

import contextlib
import logging
import resource
import sys
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tfface.data.images import grid, save_image
from tfface.engine.run import Run
from tfface.engine.step import NORM

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


MEASURED = ("steps_per_second", "images_per_second", "data_wait", "peak_memory_gb")
"""Metrics of the machine rather than of the training; two runs differ in them."""
_WARM_UP = 10  # Steps that compile functions and fill the pipeline, before a profile.


def profiled_steps(start: int, end: int, count: int) -> range:
    """The steps of a training from `start` to `end` of which `count` are profiled; may be empty."""
    begin = max(start, min(start + _WARM_UP, end - count))
    return range(begin, min(begin + count, end))


def peak_memory() -> int:
    """Largest memory so far, in bytes: of the GPU that used most, or else of this process."""
    if gpus := tf.config.list_logical_devices("GPU"):
        names = [f"GPU:{i}" for i in range(len(gpus))]
        return max(tf.config.experimental.get_memory_info(name)["peak"] for name in names)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Report:
    """Reports of one training run.

    Args:
        run: The run folder.
        console: Console for the progress bar.
        start: Number of steps completed before.
        steps: Total number of steps.
        images: Images in a batch.
    """

    def __init__(self, run: Run, console: Console, start: int, steps: int, images: int):
        self._run, self._steps, self._images = run, steps, images
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
        self._paused, self._warned, self._profiling = 0.0, False, False

    def __enter__(self) -> Report:
        self._progress.start()
        return self

    def __exit__(self, *_):
        self._stop_profile()
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

    def metrics(
        self, step: int, losses: dict[str, float], rates: dict[str, float], waited: float
    ) -> None:
        """Logs losses and the speed since the last call, and the ETA.

        Args:
            step: Number of completed steps.
            losses: Mean losses and norms of gradients since the last call.
            rates: Learning rates.
            waited: Seconds that were spent waiting for data since the last call.
        """
        seconds = max(time.monotonic() - self._clock - self._paused, 1e-9)
        rate = (step - self._last) / seconds
        self._clock, self._last, self._paused = time.monotonic(), step, 0.0
        speed = rate, rate * self._images, waited / seconds, peak_memory() / 1e9
        values = {**losses, **rates, **dict(zip(MEASURED, speed, strict=True))}
        self._run.add_metrics(step, values)
        self._scalars(step, values)
        self._progress.update(self._task, rate=f"{rate:.1f} steps/s")
        eta = time.strftime("%H:%M:%S", time.gmtime((self._steps - step) / max(rate, 1e-9)))
        shown = {name: value for name, value in losses.items() if not name.endswith(NORM)}
        line = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        logger.info("step %d/%d  %.1f steps/s  eta %s  %s", step, self._steps, rate, eta, line)

    def profile(self, number: int, steps: range) -> None:
        """Starts or stops the profiler if `number` is the first of `steps` or follows the last."""
        if number == steps.stop:
            self._stop_profile()
        elif steps and number == steps.start:
            tf.profiler.experimental.start(str(self._run.path / "tensorboard"))
            self._profiling = True

    def _stop_profile(self) -> None:
        if self._profiling:
            self._profiling = False
            tf.test.experimental.sync_devices()
            tf.profiler.experimental.stop()
            logger.info("profile written to %s", self._run.path / "tensorboard" / "plugins")

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
