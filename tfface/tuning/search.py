"""The search: Keras Tuner proposes trials, Trainer trains, `tfface.evaluation` evaluates."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import math
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import keras
import keras_tuner
import keras_tuner.src.config
import tensorflow as tf
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.errors import FailedTrialError, FatalError
from tensorboard.plugins.hparams import api as hparams
from tensorflow.python.framework.ops import gradient_registry

from tfface import evaluation
from tfface.config import nearest
from tfface.engine.run import Run, write_text
from tfface.engine.trainer import Trainer
from tfface.errors import Interrupted, NotFinite, UserError
from tfface.methods import get_method
from tfface.methods.trained import Trained
from tfface.tuning import oracle
from tfface.tuning.folder import check_same
from tfface.tuning.report import summary, write_report
from tfface.tuning.stopping import StopSignal
from tfface.tuning.study import Plan
from tfface.tuning.trials import (
    COMPLETED,
    FAILED,
    FILE,
    RUNNING,
    STOPPED,
    Trial,
    describe,
    hopeless,
    read_trials,
    short,
)


def search(plan: Plan, out: Path) -> None:
    """Runs or continues a study in this process.

    With Keras Tuner's environment variables this process is the chief or one of several workers.

    Args:
        plan: The study.
        out: Folder of the study.

    Raises:
        UserError: A mistake in the study, three failed trials in a row, or an unreachable chief.
        KeyboardInterrupt: Stopped by a signal; the current trial is saved.
    """
    # Otherwise Keras Tuner prints the traceback of every failed trial.
    keras_tuner.src.config.DEBUG = False
    name = os.environ.get("KERASTUNER_TUNER_ID", "")
    chief = "chief" in name
    if chief or not name:
        check_measure(plan, out)
        _describe(plan, out)
    tuner = StudyTuner(plan, out)
    try:
        tuner.search()
    except FatalError as error:
        raise UserError(str(error)) from error
    except (RuntimeError, grpc.RpcError) as error:
        raise _explained(error, out) from error
    finally:
        if not chief:
            write_report(plan, out)
    if not name:
        print(summary(plan, out), flush=True)


def _explained(error: Exception, out: Path) -> Exception:
    """A UserError that explains an error of Keras Tuner, or the error itself."""
    if "consecutive failures" in str(error):
        failed = [trial for trial in read_trials(out) if trial.status == FAILED]
        last = failed[-oracle.FAILURES :]
        reasons = [(trial.id, trial.reason.split(". ")[0]) for trial in last]
        listed = "; ".join(f"trial {name}: {reason}" for name, reason in reasons)
        return UserError(f"study stopped: {oracle.FAILURES} trials in a row failed: {listed}")
    if isinstance(error, grpc.RpcError):
        where = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
        return UserError(f"the chief at {where} does not answer: {error.details()}")
    return error


def check_measure(plan: Plan, out: Path) -> None:
    """Evaluates untrained networks, to check the names of metrics before training.

    The names are stored in `measures.json`. This also trains and caches the classifier or segmenter
    that the evaluation of all trials needs.

    Raises:
        UserError: The objective, or another metric of the study, does not exist.
    """
    file = out / "measures.json"
    if not file.exists():
        values = {p.name: p.corners()[0] for p in plan.parameters}
        method, _ = get_method(plan.method).open(plan.config(values))
        keras.utils.set_random_seed(0)
        untrained = Trained(plan.method, method, method.build(), 0, out)
        write_text(file, json.dumps(sorted(_measured(plan, out, untrained)), indent=1))
    known = json.loads(file.read_text())
    objective, *also = plan.study.measures()
    for key, measure in (("objective.measure is", objective), *(("also has", m) for m in also)):
        if measure not in known:
            raise UserError(
                f"{key} {measure!r}{nearest(measure, known)}; the metrics of {plan.method} are "
                f"{', '.join(known)}"
            )


def _measured(plan: Plan, out: Path, trained: Trained) -> dict[str, float]:
    """All metrics of a run by name; for an untrained run on a small sample where possible.

    Image-quality metrics and the second classifier are slow, and computed only if the study uses
    them.
    """
    # Next to the study, as in `tfface.evaluate`: all runs on built-in faces share a classifier.
    cache = out.parent / ".cache" if evaluation.evaluation_of(trained).has_truth else out / "cache"
    used = plan.study.measures()
    judged = any(name.startswith("realism/") for name in used)
    second = any(name.startswith("second_") or "/second/" in name for name in used)
    few = not (trained.step or judged or second)
    metrics = evaluation.measure(
        trained,
        count=None if few else plan.study.images,
        seed=plan.study.seed,
        small=not second,
        cache=cache,
        judges=evaluation.Judges() if judged else None,
    )
    return evaluation.flat(metrics)


def _describe(plan: Plan, out: Path) -> None:
    """Writes the hyperparameters and the objective for TensorBoard."""
    with _events(out):
        objective = hparams.Metric(plan.study.objective.measure)
        hparams.hparams_config([hparams.HParam(p.name) for p in plan.parameters], [objective])


@contextlib.contextmanager
def _events(folder: Path) -> Iterator[None]:
    writer = tf.summary.create_file_writer(str(folder / "tensorboard"))
    with writer.as_default():
        yield
    writer.close()


@contextlib.contextmanager
def own_gradients() -> Iterator[None]:
    """Unregisters gradients of `tf.custom_gradient` that graphs built in the block registered.

    TensorFlow never removes them, and each keeps its graph and networks alive: hundreds of MB per
    trial. Functions traced in the block cannot be differentiated again afterwards.
    """
    registry = gradient_registry._registry  # There is no public function to remove entries.
    before = set(registry)
    try:
        yield
    finally:
        for name in set(registry) - before:
            if name.startswith("CustomGradient-"):
                del registry[name]


class StudyTuner(BaseTuner):
    """Runs trials as run folders `OUT/trials/ID`.

    Args:
        plan: The study.
        out: Folder of the study; `OUT/oracle` is for Keras Tuner.
    """

    def __init__(self, plan: Plan, out: Path):
        self.plan, self.out = plan, out
        self._idle = False
        super().__init__(oracle.make_oracle(plan), directory=str(out), project_name="oracle")
        if isinstance(self.oracle, keras_tuner.Oracle) and (out / "oracle/oracle.json").exists():
            self.oracle.reload()

    def save(self):
        """Does nothing: the oracle saves all state."""

    def pre_create_trial(self):
        """Waits a second if there was no trial to run the last time."""
        if self._idle:
            time.sleep(1)
        self._idle = True

    def on_trial_begin(self, trial):
        """Prints the values of the trial.

        Raises:
            UserError: The chief runs another study than this worker.
        """
        self._idle = False
        if not isinstance(self.oracle, keras_tuner.Oracle):
            check_same(self.plan, self.out)
        values = ", ".join(f"{k} {short(v)}" for k, v in self._read(trial).values.items())
        print(f"\ntrial {trial.trial_id}: {values}", flush=True)

    def on_trial_end(self, trial):
        """Prints the result of the trial, and writes the report."""
        super().on_trial_end(trial)
        print(describe(self._read(trial), self.plan.study.objective), flush=True)
        write_report(self.plan, self.out)

    def run_trial(self, trial) -> dict[str, float]:
        """Trains and evaluates a trial; returns the objective.

        Raises:
            FailedTrialError: Training diverged, the objective is not finite, or another problem
                that may not affect other trials.
            FatalError: A mistake in the study or its data.
            StopSignal: Stopped by a signal; the trial is saved.
        """
        path = self.out / "trials" / trial.trial_id
        keras.utils.clear_session()
        gc.collect()
        try:
            with own_gradients(), self._alone(trial):
                return {self.plan.study.objective.measure: self._run(trial, path)}
        except Interrupted as stopped:
            raise StopSignal(getattr(stopped, "signal", signal.SIGINT)) from stopped
        except (NotFinite, FailedTrialError) as error:
            reason = str(error)
        except UserError as error:
            raise FatalError(f"trial {trial.trial_id}: {error}") from error
        except Exception as error:  # Such as a network that does not fit into memory.
            reason = f"{type(error).__name__}: {error}"
        record = self._read(trial)
        record.status, record.reason = FAILED, " ".join(reason.split())[:500]
        record.save(path)
        raise FailedTrialError(reason)

    @contextlib.contextmanager
    def _alone(self, trial) -> Iterator[None]:
        """Waits until a worker that is being stopped has saved this trial."""
        folder = self.out / "trials"
        folder.mkdir(exist_ok=True)
        with open(folder / f".{trial.trial_id}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _run(self, trial, path: Path) -> float:
        self._adopt(trial, path)
        record, objective = self._read(trial), self.plan.study.objective
        if record.status in (COMPLETED, STOPPED):
            return record.value  # Interrupted just before the result was reported.
        record.status, record.reason = RUNNING, ""
        method, source = get_method(self.plan.method).open(self.plan.config(record.values))
        run = Run.create(self.plan.method, method.config, str(path))
        record.save(path)
        trainer = Trainer(method, source, run)
        milestones = self._milestones(trial)
        for step in milestones:
            if record.at(step) is not None:
                continue
            done = trainer.train(until=step)
            nets = {**trainer.nets, **trainer.averages}
            self._evaluate(record, Trained(self.plan.method, method, nets, done, path))
            others = [other for other in read_trials(self.out) if other.id != record.id]
            rule = self.plan.study.early_stop
            reason = step != milestones[-1] and hopeless(record, others, objective, rule)
            if reason:
                record.status, record.reason = STOPPED, reason
                break
        else:
            record.status = COMPLETED
        record.save(path)
        return record.value

    def _evaluate(self, record: Trial, trained: Trained) -> None:
        """Evaluates the trial, and writes the metrics to its record and to TensorBoard."""
        study = self.plan.study
        figures = _measured(self.plan, self.out, trained)
        name = study.objective.measure
        value = figures.get(name, math.nan)
        if not math.isfinite(value):
            raise FailedTrialError(f"{name} is {value} at step {trained.step}")
        figures = {k: v for k, v in figures.items() if math.isfinite(v)}
        evaluated = {"step": trained.step, "objective": value, "figures": figures}
        record.evaluations.append(evaluated)
        record.save(trained.path)
        with _events(trained.path):
            hparams.hparams(record.values, trial_id=record.id)
            tf.summary.scalar(name, value, trained.step)

    def _milestones(self, trial) -> list[int]:
        """Steps at which a trial is evaluated."""
        steps, every = self.plan.study.steps, self.plan.study.early_stop.every
        if epochs := trial.hyperparameters.values.get("tuner/epochs"):
            return [math.ceil(steps * epochs / oracle.EPOCHS)]
        return [*(range(every, steps, every) if every else ()), steps]

    def _adopt(self, trial, path: Path) -> None:
        """Copies the run that Hyperband continues with this trial."""
        parent = trial.hyperparameters.values.get("tuner/trial_id")
        if not parent or path.exists():
            return
        temporary = self.out / f".{path.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(path.with_name(parent), temporary)
        (temporary / FILE).unlink()
        temporary.rename(path)

    def _read(self, trial) -> Trial:
        file = self.out / "trials" / trial.trial_id / FILE
        if file.exists():
            return Trial(**json.loads(file.read_text()))
        proposed = trial.hyperparameters.values
        values = {p.name: p.exact(proposed[p.name]) for p in self.plan.parameters}
        return Trial(trial.trial_id, values)
