"""The training loop, shared by all methods."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from tfface.config import Adam, learning_rate
from tfface.data.base import Source
from tfface.data.files import user_errors
from tfface.engine.checkpoint import Checkpoints, State, write_replay
from tfface.engine.load import averaged
from tfface.engine.progress import Report, logging_to, make_console, profiled_steps
from tfface.engine.run import Run, fingerprint
from tfface.engine.step import (
    NORM,
    FusedAdam,
    TrainStep,
    make_optimizers,
    make_strategy,
    resolve_precision,
    split_batch,
)
from tfface.engine.stopping import StopSignals
from tfface.engine.workers import ALONE, Agreement, Workers
from tfface.errors import Interrupted, NotFinite, UserError, invocation
from tfface.layers import precision
from tfface.methods.base import Batch, Method
from tfface.methods.trained import Trained

logger = logging.getLogger("tfface")
PREVIEW_BATCHES, PREVIEW_ROWS = 3, 3


# Values of each loss term, "PHASE/TERM", in the steps since the last line of metrics.
Pending = dict[str, list[float]]
Terms = tuple[int, list[str], tf.Tensor]  # Number of a step, and the result of `Trainer.step`.
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def adam(config: Adam) -> keras.Optimizer:
    """Creates the optimiser of a phase; the engine sets its learning rate in every step."""
    return FusedAdam(
        config.learning_rate,
        config.beta_1,
        config.beta_2,
        config.epsilon,
        global_clipnorm=config.clip_norm or None,
    )


class Trainer:
    """Trains a method, continuing from the latest checkpoint of the run folder.

    Args:
        method: The method.
        source: The data set; None if only `step` is called.
        run: The run folder.
        optimizer: Creates the optimiser of a phase from the method's Adam options.
        init: Run folder whose weights initialise a run without a checkpoint.
        evaluate: Evaluation for `train.evaluate_every`: a function from the current run and a split
            to metrics by name. None disables it; studies evaluate on their own.
        workers: The processes that train together, joined.

    Attributes:
        nets: Networks by name.
        averages: Copies with averaged weights, by name.
        checkpoints: Checkpoints of the run.
    """

    def __init__(
        self,
        method: Method,
        source: Source | None,
        run: Run,
        optimizer: Callable[[Adam], keras.Optimizer] = adam,
        init: str | Path = "",
        evaluate: Callable[[Trained, str], dict[str, float]] | None = None,
        workers: Workers = ALONE,
    ):
        self.method, self.source, self.run, self._init = method, source, run, init
        self._evaluation, self._workers = evaluate, workers
        config = method.config
        self.config = config.train
        if self.config.deterministic:
            tf.config.experimental.enable_op_determinism()
            # Grappler's remapper fuses biases with the following operations in some processes but
            # not in others, which changes the last bits of sums.
            tf.config.optimizer.set_experimental_options({"remapping": False})
        if workers.strategy and self.config.replicas:
            raise UserError(
                f"train.replicas is {self.config.replicas}: expected 0 with TF_CONFIG; each worker "
                f"uses all its GPUs, or those in CUDA_VISIBLE_DEVICES"
            )
        self.strategy = workers.strategy or make_strategy(self.config.replicas)
        replicas, parts = self.strategy.num_replicas_in_sync, self.config.accumulate
        for name, size in config.batch_sizes().items():
            if size % (replicas * parts):
                times = f" times train.accumulate {parts}" if parts > 1 else ""
                raise UserError(
                    f"{name} is {size}: expected a multiple of the {replicas} device(s){times}"
                )
        policy, self._precision = resolve_precision(self.config.precision)
        keras.utils.set_random_seed(self.config.seed)
        with self.strategy.scope(), precision(policy):
            self.nets = method.build()
            self.averages = averaged(method, self.nets)
            self.optimizers = make_optimizers(method, self.nets, optimizer)
            state = self.nets, self.averages, self.optimizers
            self._step = TrainStep(method, self.strategy, *state)
            self.checkpoints = Checkpoints(run.path / "checkpoints", *state, self.config.keep)

    def train(self, until: int | None = None) -> int:
        """Trains to `train.steps` or to an earlier step; call it again to continue.

        Args:
            until: Step to stop at, with a checkpoint; None for `train.steps`. Schedules always
                refer to `train.steps`.

        Returns:
            Total number of completed steps.

        Raises:
            NotFinite: A loss or weight is not finite.
            UserError: The disk is full, too many images are unreadable, or another process is
                training the run.
            Interrupted: Ctrl-C or another signal of `tfface.engine.stopping`; the state is saved.
        """
        end = self.config.steps if until is None else min(until, self.config.steps)
        if not self._workers.chief:
            return self._train(end, None)
        console = make_console()
        with self.run.alone(), logging_to(self.run, console), self._cannot_write():
            return self._train(end, console)

    def _train(self, end: int, console: Console | None) -> int:
        """Trains to step `end`; without a console, as a worker that writes nothing."""
        start = self._begin()
        report = None
        with contextlib.ExitStack() as stack:
            if console:
                self.run.truncate_metrics(start)
                self.run.describe([d.name for d in tf.config.list_logical_devices()])
                self._announce(start)
                images = self.method.config.data.batch_size
                report = stack.enter_context(Report(self.run, console, start, end, images))
            stop = stack.enter_context(StopSignals())
            stack.enter_context(user_errors(self.source, self.method.labelled))
            return self._loop(start, end, report, stop)

    def _begin(self) -> int:
        """Restores the run's checkpoint, or else the weights of `init`; returns completed steps."""
        start = self._restore() if self._workers.chief else 0
        if self._workers.count == 1:
            return start
        own = {"step": np.int64(start), "options": np.int64(fingerprint(self.method.config))}
        shared = self._workers.share({**self.checkpoints.state(), **own})
        if shared["options"] != own["options"]:
            raise UserError(
                f"{self._workers} has other options than worker 0: start the same command on all"
            )
        self.checkpoints.assign(shared)
        return int(shared["step"])

    def _restore(self) -> int:
        start = self.checkpoints.restore()
        if self._init and not self.checkpoints.steps():
            step = self.checkpoints.initialize(Path(self._init) / "checkpoints")
            self.run.remember("init", {"run": str(Path(self._init).resolve()), "step": step})
            logger.info("initialised with the weights of step %d of %s", step, self._init)
        return start

    def batches(self, start: int) -> Iterator[Batch]:
        """Training batches from a step on, distributed over the devices."""
        return iter(self.distribute(self._whole_batches(start)))

    def _whole_batches(self, start: int, complete: bool = False) -> tf.data.Dataset:
        """Batches; unless they must be complete, without images that only other workers need."""
        size, seed = self.method.config.data.batch_size, self.config.seed
        complete = complete or self.method.mixes_images
        for source in filter(None, (self.source, self.method.labelled)):
            source.share = (0, 1) if complete else (self._workers.index, self._workers.count)
        return self.method.batches(self.source, "train", size, seed=seed, start=start)

    def distribute(self, data: tf.data.Dataset) -> tf.data.Dataset:
        """Distributes whole batches over the devices; a worker keeps the parts of its devices."""
        replicas = self.strategy.num_replicas_in_sync
        if replicas == 1:
            return data.prefetch(2)
        local = replicas // self._workers.count
        first = self._workers.index * local

        @tf.autograph.experimental.do_not_convert
        def own(batch):
            return {k: v[first : first + local] for k, v in split_batch(batch, replicas).items()}

        # Without this, the workers would agree before each batch on whether there is one.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        data = data.map(own).unbatch().apply(endless).prefetch(2 * local)
        return self.strategy.distribute_datasets_from_function(lambda _: data)

    def step(self, number: int, batch: Batch) -> tuple[list[str], tf.Tensor]:
        """Runs one training step.

        Args:
            number: Number of the step, from 0.
            batch: A training batch.

        Returns:
            Names "PHASE/TERM" of the loss terms and "PHASE/gradient_norm", and their values as a
            float32 vector.
        """
        return self.steps(number, [batch])[0]

    def steps(self, number: int, batches: list[Batch]) -> list[tuple[list[str], tf.Tensor]]:
        """Runs consecutive training steps in one call; returns the result of `step` for each."""
        rates = [self.learning_rates(n) for n in range(number, number + len(batches))]
        return self._step(number, batches, rates)

    def learning_rates(self, number: int) -> dict[str, float]:
        """The learning rates of a step by the name of the optimiser, see `Phase.groups`."""
        rate = learning_rate(self.method.config.adam, number, self.config.steps)
        groups = [phase.groups() for phase in self.method.phases()]
        return {name: rate * factor for group in groups for name, (_, factor) in group.items()}

    def _loop(self, start: int, end: int, report: Report | None, stop: StopSignals) -> int:
        config, agreement = self.config, Agreement(self._workers)
        pending: Pending = self.checkpoints.notes.get("pending", {}) if start else {}
        fixed = self._preview_batches() if report else []
        if report and start == 0:
            self._preview(report, 0, fixed)
        profiled = profiled_steps(start, end, config.profile)
        data = self.batches(start) if start < end else iter(())
        # Reading values blocks the host until the device is done, so it is not done in every step.
        unread: list[Terms] = []
        good = start, self.checkpoints.state()
        waited, done, stopping = 0.0, start, None
        while done < end:
            number, begin = done, time.monotonic()
            done = self._end_of_call(number, profiled.start, profiled.stop, end)
            try:
                batches = [next(data) for _ in range(number, done)]
            except Exception:  # Such as deleted images: save before raising.
                self._read(unread, pending, good)
                self._save(number, pending)
                raise
            waited += time.monotonic() - begin
            if report:
                report.profile(number, profiled)
            results = self.steps(number, batches)
            unread += [(number + i, *terms) for i, terms in enumerate(results)]
            stopping = agreement(stop.received)
            last = done == end or stopping is not None
            saving = done % config.save_every == 0 or last
            reporting = done % config.log_every == 0 or done == config.steps
            if reporting or saving:
                self._read(unread, pending, good)
            if report:
                report.advance(done)
                if reporting:
                    report.metrics(done, _means(pending), self._rates(done - 1), waited)
            if reporting:
                pending, waited = {}, 0.0
                good = done, self.checkpoints.state()
            if report:
                with report.pause():
                    self._write(report, done, pending, fixed, saving, last)
            if last:
                break
        self._workers.part()
        # A signal may also have come while the last step was saved.
        if (received := stopping or stop.received) is not None:
            saved = f"; saved to {self.run.path}" if report else ""
            raise Interrupted(f"stopped at step {done} of {config.steps}{saved}", received)
        logger.info("done: %d steps, saved to %s", end, self.run.path)
        return end

    def _end_of_call(self, number: int, *stops: int) -> int:
        """The step at which a call that begins at `number` ends, to log, save or stop there."""
        c = self.config
        intervals = (c.log_every, c.preview_every, c.evaluate_every, c.save_every)
        ends = [number - number % every + every for every in intervals if every]
        return min(number + c.steps_per_call, *ends, *(stop for stop in stops if stop > number))

    def _write(
        self,
        report: Report,
        done: int,
        pending: Pending,
        fixed: list[Batch],
        saving: bool,
        last: bool,
    ) -> None:
        config = self.config
        if saving:
            self._save(done, pending)
        if done % config.preview_every == 0 or last:
            self._preview(report, done, fixed)
        if self._evaluation and config.evaluate_every and done % config.evaluate_every == 0:
            with _continue_on_error("evaluation", done):
                self._evaluate(report, done)

    def _rates(self, number: int) -> dict[str, float]:
        """The learning rates of a step, for the metrics."""
        rates = {f"{name}/learning_rate": r for name, r in self.learning_rates(number).items()}
        base = learning_rate(self.method.config.adam, number, self.config.steps)
        return {"learning_rate": base, **rates}

    def _read(self, unread: list[Terms], pending: Pending, good: tuple[int, State]) -> None:
        """Moves loss terms of steps to `pending` after checking that all values are finite.

        Raises:
            NotFinite: A loss term or weight is not finite, see `_locate`.
        """
        try:
            for terms in unread:
                _add(pending, *terms)
            if unread:
                self._check_weights(unread[-1][0] + 1)
        except NotFinite as error:
            self._locate(error, good, unread[-1][0] + 1)
        unread.clear()

    def _save(self, step: int, pending: Pending) -> None:
        if self._workers.chief and step not in self.checkpoints.steps():
            self.checkpoints.save(step, {"pending": pending})

    def _locate(self, error: NotFinite, good: tuple[int, State], end: int) -> None:
        """Repeats the steps from the last finite weights, to find the first step that diverges.

        Raises:
            NotFinite: Always; names a file from which `train --replay` repeats the step.
        """
        step, state = good
        logger.warning("%s", error)
        logger.warning("repeating from step %d to find the first diverging step", step + 1)
        self.checkpoints.assign(state)
        data = self.batches(step)
        for number in range(step, end):
            before, batch = self.checkpoints.state(), next(data)
            try:
                _add({}, number, *self.step(number, batch))
                self._check_weights(number + 1)
            except NotFinite as first:
                if not self._workers.chief:
                    self._workers.part()
                    raise
                name, _ = self.run.read_config()
                file = self.run.path / f"replay-{number + 1}.npz"
                whole = next(self._whole_batches(number, complete=True).as_numpy_iterator())
                write_replay(file, name, self.method.config, number, before, whole)
                self._workers.part()
                raise NotFinite(
                    f"{first}. The weights before this step and its batch are in {file}; to repeat "
                    f"the step: {invocation('train')} {name} --replay {shlex.quote(str(file))}"
                ) from error
        raise NotFinite(f"{error}. Repeating the steps did not reproduce it") from error

    def _check_weights(self, step: int) -> None:
        """Raises NotFinite if a weight is not finite, which can happen although the loss is."""
        for name, net in self.nets.items():
            for variable in net.trainable_variables:
                if not np.isfinite(variable.numpy()).all():
                    raise NotFinite(
                        f"training diverged by step {step}: weight {variable.path!r} of network "
                        f"{name!r} is not finite. A lower adam.learning_rate, or train.precision "
                        f"float32, may help; the last checkpoint is intact"
                    )

    def _preview_batches(self) -> list[Batch]:
        """Held-out batches for previews, or training batches if there are none; [] if both fail."""
        splits = ("train",) if self.source.count("val") == 0 else ("val", "train")
        for split in splits:
            try:
                data = self.method.batches(self.source, split, PREVIEW_ROWS)
                return list(itertools.islice(data, PREVIEW_BATCHES))
            except Exception as error:
                logger.warning("no previews from the split %r: %s", split, error)
        return []

    def _preview(self, report: Report, step: int, fixed: list[Batch]) -> None:
        if not fixed:
            return
        with _continue_on_error("preview", step):
            nets = {**self.nets, **self.averages}
            parts = [self.method.preview(nets, batch) for batch in fixed]
            report.preview(step, {k: np.concatenate([p[k] for p in parts]) for k in parts[0]})

    def _evaluate(self, report: Report, step: int) -> None:
        name, _ = self.run.read_config()
        nets = {**self.nets, **self.averages}
        trained = Trained(name, self.method, nets, step, self.run.path)
        split = "test" if self.source.count("val") == 0 else "val"
        metrics = self._evaluation(trained, split)
        report.evaluation(step, {f"evaluation/{name}": value for name, value in metrics.items()})

    def _announce(self, start: int) -> None:
        config, parts = self.method.config, self.config.accumulate
        replicas, workers = self.strategy.num_replicas_in_sync, self._workers.count
        counts = {split: self.source.count(split) for split in ("train", "val", "test")}
        sizes = ", ".join(f"{k} {'endless' if n is None else n}" for k, n in counts.items())
        logger.info("run %s", self.run.path)
        logger.info(
            "data %s %s: %s; %d px", config.data.name, config.data.path, sizes, config.data.size
        )
        for name, net in self.nets.items():
            logger.info("network %s: %s weights", name, f"{net.count_params():,}")
        logger.info(
            "batch %d over %d device(s)%s, %d each%s; %s; %s; averaged: %s",
            config.data.batch_size,
            replicas,
            f" of {workers} workers" if workers > 1 else "",
            config.data.batch_size // replicas,
            f", in {parts} parts" if parts > 1 else "",
            self._precision,
            self._step.compilation,
            ", ".join(self.averages) or "no network",
        )
        if start:
            logger.info("continued from step %d", start)

    @contextlib.contextmanager
    def _cannot_write(self):
        """Raises a UserError that names the last checkpoint if the disk is full or fails."""
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            full = "No space left" in str(error)
            if not full and getattr(error, "errno", None) not in _CANNOT_WRITE:
                raise
            reason = "the disk is full" if full else getattr(error, "strerror", str(error))
            steps = self.checkpoints.steps()
            kept = (
                f"the checkpoint of step {steps[-1]} is kept" if steps else "there is no checkpoint"
            )
            raise UserError(
                f"{self.run.path} cannot be written: {reason}; {kept}. Free some space, then "
                f"continue with: {self.run.resume_command()}"
            ) from error


@contextlib.contextmanager
def _continue_on_error(what: str, step: int) -> Iterator[None]:
    """Logs errors of the block, which is not essential for the training."""
    try:
        yield
    except Exception as error:
        logger.warning("the %s at step %d failed; training continues: %s", what, step, error)


def _add(pending: Pending, number: int, names: list[str], values: tf.Tensor) -> None:
    """Adds the loss terms of a step to `pending`.

    Raises:
        NotFinite: A value is not finite; names the step, phase and term.
    """
    for name, value in zip(names, values.numpy(), strict=True):
        if name.endswith(NORM) and not np.isfinite(value):
            continue  # With mixed_float16 the optimiser skips such a step; else the weights tell.
        if not np.isfinite(value):
            phase, term = name.split("/")
            raise NotFinite(
                f"training diverged at step {number + 1}: term {term!r} of phase {phase!r} is "
                f"{value}. A lower adam.learning_rate, or train.precision float32, may help; "
                f"the last checkpoint is intact"
            )
        pending.setdefault(name, []).append(float(value))


def _means(pending: Pending) -> dict[str, float]:
    """Mean of each term over the steps that computed it."""
    return {name: float(np.mean(values)) for name, values in pending.items()}
