"""The training loop: the same for every method."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import signal
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfface.config import Adam, learning_rate
from tfface.data.base import Source
from tfface.data.files import user_errors
from tfface.engine.checkpoint import Checkpoints
from tfface.engine.load import Trained, averaged
from tfface.engine.report import Report, logging_to, make_console
from tfface.engine.run import Run
from tfface.engine.step import TrainStep, make_optimizers, make_strategy
from tfface.errors import NotFinite, UserError
from tfface.evaluation import cache_of, flat, measure
from tfface.layers import precision
from tfface.methods.base import Batch, Method

logger = logging.getLogger("tfface")
PREVIEW_BATCHES, PREVIEW_ROWS = 3, 3


class Interrupted(Exception):
    """The user stopped the run; a checkpoint has been saved."""


def adam(config: Adam) -> keras.Optimizer:
    """The optimiser of a phase; the engine sets its learning rate."""
    return keras.optimizers.Adam(
        config.learning_rate,
        config.beta_1,
        config.beta_2,
        config.epsilon,
        global_clipnorm=config.clip_norm or None,
    )


def batch_sizes(config: Any) -> dict[str, int]:
    """Sizes of a method's training batches, by their options; all are split over the devices."""
    sizes = {"data.batch_size": config.data.batch_size}
    if getattr(config, "labelled", None):
        sizes["labelled.batch_size"] = config.labelled.batch_size
    if getattr(config, "classify_first", 0):
        sizes["classify_batch"] = config.classify_batch
    return sizes


class Trainer:
    """Trains a method, or continues where the run folder's newest checkpoint was.

    Args:
        method: The method.
        source: The data set.
        run: The run folder.
        optimizer: Makes the optimiser of a phase from the method's Adam options.

    Attributes:
        nets: The networks.
        averages: Copies with averaged weights, by name.
    """

    def __init__(
        self,
        method: Method,
        source: Source,
        run: Run,
        optimizer: Callable[[Adam], keras.Optimizer] = adam,
    ):
        self.method, self.source, self.run = method, source, run
        config = method.config
        self.config = config.train
        self.strategy = make_strategy(self.config.replicas)
        replicas = self.strategy.num_replicas_in_sync
        for name, size in batch_sizes(config).items():
            if size % replicas:
                raise UserError(f"{name} is {size}: expected a multiple of the {replicas} devices")
        self._rate: float | None = None
        keras.utils.set_random_seed(self.config.seed)
        with self.strategy.scope(), precision(self.config.precision):
            self.nets = method.build()
            self.averages = averaged(method, self.nets)
            self.optimizers = make_optimizers(method, self.nets, optimizer)
            parts = self.nets, self.averages, self.optimizers
            self._step = TrainStep(method, self.strategy, *parts)
            self.checkpoints = Checkpoints(run.path / "checkpoints", *parts, self.config.keep)

    def train(self, until: int | None = None) -> int:
        """Trains up to `train.steps`, or to a step before; can be called again to go on.

        Args:
            until: The step to stop at, saved; None: `train.steps`, which schedules follow anyway.

        Returns:
            Steps done in all.

        Raises:
            NotFinite: A loss or a weight is not finite.
            UserError: The disk is full, too many pictures are bad.
            Interrupted: Ctrl-C or SIGTERM; what was learned is saved.
        """
        console = make_console()
        end = self.config.steps if until is None else min(until, self.config.steps)
        with logging_to(self.run, console), self._disk_full():
            start = self.checkpoints.restore()
            self._rate = None  # Those of the optimisers may have been restored.
            self.run.truncate_metrics(start)
            self.run.describe([d.name for d in tf.config.list_logical_devices()])
            self._announce(start)
            with (
                Report(self.run, console, start, end) as report,
                _stop_signals() as stopped,
                user_errors(self.source, self.method.labelled),
            ):
                return self._loop(start, end, report, stopped)

    def batches(self, start: int) -> Iterator[Batch]:
        """Training batches from a step on, split over the devices."""
        data = self.method.batches(
            self.source,
            "train",
            self.method.config.data.batch_size,
            seed=self.config.seed,
            start=start,
        )
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        data = data.with_options(options).prefetch(2)
        return iter(self.strategy.experimental_distribute_dataset(data))

    def step(self, number: int, batch: Batch) -> tuple[list[str], tf.Tensor]:
        """One training step, counted from 0.

        Returns:
            Names "PHASE/TERM" and their values, a float32 vector.
        """
        config = self.method.config
        rate = learning_rate(config.adam, number, self.config.steps)
        if rate != self._rate:
            for phase in self.method.phases():
                for group, (_, factor) in phase.groups().items():
                    self.optimizers[group].learning_rate = rate * factor
            self._rate = rate
        return self._step(number, batch)

    def _loop(self, start: int, end: int, report: Report, stopped: list) -> int:
        config, pending = self.config, []
        fixed = self._preview_batches()
        if start == 0:
            self._preview(report, 0, fixed)
        data = self.batches(start) if start < end else iter(())
        for number in range(start, end):
            pending.append((number, *self.step(number, next(data))))
            done = number + 1
            report.advance(done)
            stopping = bool(stopped)  # Once: a signal may come while this step is being reported.
            last = done == end or stopping
            if done % config.log_every == 0 or last:
                report.metrics(done, {**_means(pending), "learning_rate": self._rate})
                pending = []
            with report.pause():
                if done % config.preview_every == 0 or last:
                    self._preview(report, done, fixed)
                if done % config.save_every == 0 or last:
                    # Nothing that is not finite is saved over a good checkpoint.
                    _means(pending)
                    self._check_weights(done)
                    self.checkpoints.save(done)
                if config.evaluate_every and done % config.evaluate_every == 0:
                    self._evaluate(report, done)
            if stopping:
                raise Interrupted(
                    f"stopped at step {done} of {config.steps}; saved in {self.run.path}"
                )
        logger.info("done: %d steps, in %s", end, self.run.path)
        return end

    def _check_weights(self, step: int) -> None:
        """Raises NotFinite if a weight is not finite; the loss may have been all the same."""
        for name, net in self.nets.items():
            for variable in net.trainable_variables:
                if not np.isfinite(variable.numpy()).all():
                    raise NotFinite(
                        f"training diverged by step {step}: weight {variable.path!r} of network "
                        f"{name!r} is not finite. A lower adam.learning_rate, or train.precision "
                        f"float32, may help; the last checkpoint is good"
                    )

    def _preview_batches(self) -> list[Batch]:
        split = "train" if self.source.count("val") == 0 else "val"
        return list(
            itertools.islice(self.method.batches(self.source, split, PREVIEW_ROWS), PREVIEW_BATCHES)
        )

    def _preview(self, report: Report, step: int, fixed: list[Batch]) -> None:
        nets = {**self.nets, **self.averages}
        made = [self.method.preview(nets, batch) for batch in fixed]
        report.preview(step, {k: np.concatenate([m[k] for m in made]) for k in made[0]})

    def _evaluate(self, report: Report, step: int) -> None:
        name, _ = self.run.read_config()
        nets = {**self.nets, **self.averages}
        trained = Trained(name, self.method, nets, step, self.run.path)
        split = "test" if self.source.count("val") == 0 else "val"
        found = flat(measure(trained, small=True, cache=cache_of(trained), split=split))
        report.figures(step, {f"evaluation/{name}": value for name, value in found.items()})

    def _announce(self, start: int) -> None:
        config, replicas = self.method.config, self.strategy.num_replicas_in_sync
        counts = {split: self.source.count(split) for split in ("train", "val", "test")}
        told = ", ".join(f"{k} {'endless' if n is None else n}" for k, n in counts.items())
        logger.info("run %s", self.run.path)
        logger.info(
            "data %s %s: %s; %d px", config.data.name, config.data.path, told, config.data.size
        )
        for name, net in self.nets.items():
            logger.info("network %s: %s weights", name, f"{net.count_params():,}")
        logger.info(
            "batch %d over %d device(s), %d each; %s; %s; averaged: %s",
            config.data.batch_size,
            replicas,
            config.data.batch_size // replicas,
            self.config.precision,
            self._step.compilation,
            ", ".join(self.averages) or "no network",
        )
        if start:
            logger.info("continued from step %d", start)

    @contextlib.contextmanager
    def _disk_full(self):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
            if not full:
                raise
            steps = self.checkpoints.steps()
            kept = (
                f"the checkpoint of step {steps[-1]} is kept" if steps else "nothing was saved yet"
            )
            raise UserError(
                f"the disk of {self.run.path} is full; {kept}. Make room, then continue with: "
                f"{self.run.resume_command()}"
            ) from error


def _means(pending: list[tuple[int, list[str], tf.Tensor]]) -> dict[str, float]:
    """Mean of each term over steps; a term counts in the steps that computed it.

    Raises:
        NotFinite: A value that is not finite: names the first step, phase and term.
    """
    values: dict[str, list[float]] = {}
    for number, names, vector in pending:
        for name, value in zip(names, vector.numpy(), strict=True):
            if not np.isfinite(value):
                phase, term = name.split("/")
                raise NotFinite(
                    f"training diverged at step {number + 1}: term {term!r} of phase {phase!r} is "
                    f"{value}. A lower adam.learning_rate, or train.precision float32, may help; "
                    f"the last checkpoint is good"
                )
            values.setdefault(name, []).append(float(value))
    return {name: float(np.mean(v)) for name, v in values.items()}


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[Any]]:
    """Collects Ctrl-C and SIGTERM, so that the step at hand is finished; the second one kills."""
    received: list[Any] = []

    def handler(number, frame):
        if received:
            signal.default_int_handler(number, frame)
        received.append(number)
        logger.info("stopping after this step (again: stop at once)")

    try:
        before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # Not in the main thread: somebody else handles signals.
        before = {}
    try:
        yield received
    finally:
        for number, old in before.items():
            signal.signal(number, old)
