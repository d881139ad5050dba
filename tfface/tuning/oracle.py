"""Keras Tuner oracles that propose no trial twice and whose state survives a kill."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial
from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle, RandomSearchOracle

from tfface.engine.run import write_text
from tfface.tuning.study import Parameter, Plan

FAILURES = 3
"""Number of consecutive failed trials that ends a study."""

EPOCHS, _FACTOR = 9, 3  # An epoch of Hyperband is a ninth of the steps.
_CANDIDATES = 100


class _StudyOracle:
    """Mixin for Keras Tuner oracles.

    Args:
        plan: The study.
        **options: Arguments of the oracle.

    Attributes:
        ended: Why the search ended before all trials of the study; "" if it did not.
    """

    def __init__(self, plan: Plan, **options):
        study = plan.study
        super().__init__(
            objective=keras_tuner.Objective(study.objective.measure, study.objective.direction),
            hyperparameters=_space(plan.parameters),
            seed=study.seed + 1,  # Keras Tuner treats 0 as no seed.
            max_consecutive_failed_trials=FAILURES,
            **options,
        )
        self.plan, self.ended = plan, ""
        self.max_trials = study.trials  # HyperbandOracle does not accept it as an argument.
        self.verbose = 0
        self._ended_before = 0

    def populate_space(self, trial_id):
        """Like the overridden method, but with exact values that were not tried before.

        The first trial has the values of the study's base config.
        """
        if not self.trials and (start := self.plan.start()):
            return {"status": "RUNNING", "values": start}
        proposal = super().populate_space(trial_id)
        if proposal["status"] != "RUNNING":
            return self._stopped()
        values = self._exact(proposal["values"])
        if self._duplicate(values):
            values = self._replacement()
        return {"status": "RUNNING", "values": values} if values else self._stopped()

    def end_trial(self, trial):
        """Like the overridden method, but keeps the proposed values, which are not rounded."""
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters
        super().end_trial(trial)

    def _stopped(self) -> dict:
        count = self.plan.combinations()
        self.ended = (
            f"all {count} combinations of the options were tried"
            if len(self._tried_so_far) >= count
            else "no new values were found in the ranges of the options"
        )
        self.save()
        return {"status": "STOPPED"}

    def _replacement(self) -> dict | None:
        """Values to try instead of duplicates; None if there are none."""
        return self._random_values()

    def _random_values(self):
        """Random values that were not tried; None if there are none."""
        values = super()._random_values()
        if values:
            return self._exact(values)
        count = self.plan.combinations()
        if count == math.inf:
            return None
        first = random.Random(self._seed_state).randrange(count)
        numbers = ((first + offset) % count for offset in range(count))
        combinations = map(self.plan.combination, numbers)
        return next((v for v in combinations if not self._duplicate(v)), None)

    def _exact(self, values: dict) -> dict:
        return {p.name: p.exact(values[p.name]) for p in self.plan.parameters}

    def _compute_values_hash(self, values):
        """Hash of the exact values only, regardless of how long Hyperband trains them."""
        return super()._compute_values_hash(self._exact(values))

    def _check_consecutive_failures(self):
        """Raises a RuntimeError for consecutive failures since the study was started or resumed."""
        last = [self.trials[name] for name in self.end_order[self._ended_before :][-FAILURES:]]
        if len(last) == FAILURES and all(trial.status == "FAILED" for trial in last):
            raise RuntimeError(f"consecutive failures: {FAILURES}")

    def get_state(self):
        return {**super().get_state(), "ended": self.ended}

    # Keras Tuner would write these files in place, and find them with a glob pattern.
    def save(self):
        write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial):
        write_text(self._trial_file(trial.trial_id), json.dumps(trial.get_state()))

    def reload(self):
        state = json.loads(Path(self._get_oracle_fname()).read_text())
        # Ignore a trial file that was written just before a kill: the trial has not begun.
        for name in state["start_order"]:
            self.trials[name] = Trial.from_state(json.loads(self._trial_file(name).read_text()))
        self.set_state(state)
        ongoing = [trial.trial_id for trial in self.ongoing_trials.values()]
        self._retry_queue += [name for name in ongoing if name not in self.end_order]
        self.ongoing_trials = {}
        self._ended_before = len(self.end_order)

    def _trial_file(self, name: str) -> Path:
        return Path(self._get_trial_dir(name)) / "trial.json"


class _Random(_StudyOracle, RandomSearchOracle):
    pass


class _Bayesian(_StudyOracle, BayesianOptimizationOracle):
    def _replacement(self):
        """The most promising of many random values that were not tried."""
        candidates = [self._random_values() for _ in range(_CANDIDATES)]
        if candidates[0] is None:
            return None
        space = self.hyperparameters.space
        points = [[hp.value_to_prob(values[hp.name]) for hp in space] for values in candidates]
        mean, deviation = self.gpr.predict(np.array(points), return_std=True)
        return candidates[int(np.argmin(mean - self.beta * deviation))]


class _Hyperband(_StudyOracle, HyperbandOracle):
    """Allows incomplete brackets, when values run out or trials fail.

    Keras Tuner's own oracle would wait for the missing trials forever.
    """

    def populate_space(self, trial_id):
        """The next trial of a bracket: a new one, or one that continues a good trial."""
        while True:
            for bracket in self._brackets:
                if values := self._new(bracket, trial_id) or self._promoted(bracket, trial_id):
                    return {"status": "RUNNING", "values": values}
            if self._current_bracket == 0:
                return {"status": "IDLE"} if self.ongoing_trials else self._stopped()
            self._increment_bracket_num()
            self._start_new_bracket()

    def _stopped(self):
        if any(bracket.get("closed") for bracket in self._brackets):
            return super()._stopped()
        self.ended = "a round of Hyperband is complete"
        self.save()
        return {"status": "STOPPED"}

    def _new(self, bracket: dict, trial_id: str) -> dict | None:
        number, first = bracket["bracket_num"], bracket["rounds"][0]
        if bracket.get("closed") or len(first) == self._get_size(number, 0):
            return None
        values = self._random_values()
        if not values:
            bracket["closed"] = True
            return None
        first.append({"past_id": None, "id": trial_id})
        return {**values, "tuner/epochs": self._get_epochs(number, 0), "tuner/initial_epoch": 0}

    def _promoted(self, bracket: dict, trial_id: str) -> dict | None:
        """Continues a trial as soon as it is certain to be in the best third of its round."""
        number, rounds = bracket["bracket_num"], bracket["rounds"]
        size = len(rounds[0]) if bracket.get("closed") else self._get_size(number, 0)
        for index, (past, current) in enumerate(itertools.pairwise(rounds), start=1):
            trials = [self.trials[info["id"]] for info in past]
            left = size - sum(trial.status == "FAILED" for trial in trials)
            size = max(math.ceil(left / _FACTOR), len(current))
            begun = {info["past_id"] for info in current}
            ready = [t for t in trials if t.status == "COMPLETED" and t.trial_id not in begun]
            if len(current) < size and len(ready) > left - size:
                pick = max if self.objective.direction == "max" else min
                best = pick(ready, key=lambda trial: trial.score)
                current.append({"past_id": best.trial_id, "id": trial_id})
                return {
                    **self._exact(best.hyperparameters.values),
                    "tuner/trial_id": best.trial_id,
                    "tuner/epochs": self._get_epochs(number, index),
                    "tuner/initial_epoch": self._get_epochs(number, index - 1),
                }
        return None


def make_oracle(plan: Plan) -> keras_tuner.Oracle:
    """The oracle of a study."""
    if plan.study.oracle == "hyperband":
        return _Hyperband(plan, max_epochs=EPOCHS, factor=_FACTOR)
    if plan.study.oracle == "bayesian":  # The default of Keras Tuner could exceed all trials.
        return _Bayesian(plan, num_initial_points=max(plan.study.trials // 3, 3))
    return _Random(plan)


def _space(parameters: tuple[Parameter, ...]) -> keras_tuner.HyperParameters:
    space = keras_tuner.HyperParameters()
    for p in parameters:
        if p.values:
            space.Choice(p.name, list(p.values))
            continue
        make = space.Int if isinstance(p.low, int) else space.Float
        make(p.name, p.low, p.high, sampling="log" if p.log else "linear")
    return space
