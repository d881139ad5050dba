"""Keras Tuner's oracles, which propose trials: none twice, and their state survives a kill."""

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
"""So many failed trials in a row end a study."""

EPOCHS, _FACTOR = 9, 3  # Hyperband counts steps in ninths.
_CANDIDATES = 100


class _StudyOracle:
    """Added to an oracle of Keras Tuner.

    Args:
        plan: The study.
        **options: Of the oracle.

    Attributes:
        ended: Why the search has ended before all trials of the study; "" if it has not.
    """

    def __init__(self, plan: Plan, **options):
        study = plan.study
        super().__init__(
            objective=keras_tuner.Objective(study.objective.measure, study.objective.direction),
            hyperparameters=_space(plan.parameters),
            seed=study.seed + 1,  # 0 is none to Keras Tuner.
            max_consecutive_failed_trials=FAILURES,
            **options,
        )
        self.plan, self.ended = plan, ""
        self.max_trials = study.trials  # Hyperband's does not take it as an argument.
        self.verbose = 0
        self._ended_before = 0

    def populate_space(self, trial_id):
        """As of the overridden one, with exact values that were not tried before.

        The first trial is what the study starts from.
        """
        if not self.trials and (start := self.plan.start()):
            return {"status": "RUNNING", "values": start}
        found = super().populate_space(trial_id)
        if found["status"] != "RUNNING":
            return self._stopped()
        values = self._exact(found["values"])
        if self._duplicate(values):
            values = self._instead()
        return {"status": "RUNNING", "values": values} if values else self._stopped()

    def end_trial(self, trial):
        """As of the overridden one; the values stay those that were proposed, not rounded."""
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters
        super().end_trial(trial)

    def _stopped(self) -> dict:
        count = self.plan.combinations()
        self.ended = (
            f"all {count} combinations of the options were tried"
            if len(self._tried_so_far) >= count
            else "no other values were found in the ranges of the options"
        )
        self.save()
        return {"status": "STOPPED"}

    def _instead(self) -> dict | None:
        """Values instead of those that were tried before; None if there are none."""
        return self._random_values()

    def _random_values(self):
        """Values at random that were not tried; None if there are none."""
        values = super()._random_values()
        if values:
            return self._exact(values)
        count = self.plan.combinations()
        if count == math.inf:
            return None
        first = random.Random(self._seed_state).randrange(count)
        places = ((first + number) % count for number in range(count))
        combinations = map(self.plan.combination, places)
        return next((v for v in combinations if not self._duplicate(v)), None)

    def _exact(self, values: dict) -> dict:
        return {p.name: p.exact(values[p.name]) for p in self.plan.parameters}

    def _compute_values_hash(self, values):
        """Of the exact values alone: however long Hyperband trains them, they are the same."""
        return super()._compute_values_hash(self._exact(values))

    def _check_consecutive_failures(self):
        """Raises a RuntimeError for failures since the study was begun or gone on with."""
        last = [self.trials[name] for name in self.end_order[self._ended_before :][-FAILURES:]]
        if len(last) == FAILURES and all(trial.status == "FAILED" for trial in last):
            raise RuntimeError(f"consecutive failures: {FAILURES}")

    def get_state(self):
        return {**super().get_state(), "ended": self.ended}

    # Keras Tuner writes these files in place, and finds them by a pattern.
    def save(self):
        write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial):
        write_text(self._trial_file(trial.trial_id), json.dumps(trial.get_state()))

    def reload(self):
        state = json.loads(Path(self._get_oracle_fname()).read_text())
        # A trial whose file alone was written before a kill has not begun.
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
    def _instead(self):
        """The most promising one of many that were not tried."""
        candidates = [self._random_values() for _ in range(_CANDIDATES)]
        if candidates[0] is None:
            return None
        space = self.hyperparameters.space
        places = [[hp.value_to_prob(values[hp.name]) for hp in space] for values in candidates]
        mean, deviation = self.gpr.predict(np.array(places), return_std=True)
        return candidates[int(np.argmin(mean - self.beta * deviation))]


class _Hyperband(_StudyOracle, HyperbandOracle):
    """Brackets may have fewer trials than they should: where values run out, or trials fail.

    Keras Tuner's own would wait for them for ever, and train none any longer.
    """

    def populate_space(self, trial_id):
        """The next trial of a bracket: one that goes on from a better trial, or a new one."""
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
        """Of each round the better third goes on, as soon as it is known to be among them."""
        number, rounds = bracket["bracket_num"], bracket["rounds"]
        size = len(rounds[0]) if bracket.get("closed") else self._get_size(number, 0)
        for place, (past, here) in enumerate(itertools.pairwise(rounds), start=1):
            trials = [self.trials[info["id"]] for info in past]
            left = size - sum(trial.status == "FAILED" for trial in trials)
            size = max(math.ceil(left / _FACTOR), len(here))
            begun = {info["past_id"] for info in here}
            ready = [t for t in trials if t.status == "COMPLETED" and t.trial_id not in begun]
            if len(here) < size and len(ready) > left - size:
                pick = max if self.objective.direction == "max" else min
                better = pick(ready, key=lambda trial: trial.score)
                here.append({"past_id": better.trial_id, "id": trial_id})
                return {
                    **self._exact(better.hyperparameters.values),
                    "tuner/trial_id": better.trial_id,
                    "tuner/epochs": self._get_epochs(number, place),
                    "tuner/initial_epoch": self._get_epochs(number, place - 1),
                }
        return None


def make_oracle(plan: Plan) -> keras_tuner.Oracle:
    """The oracle of a study."""
    if plan.study.oracle == "hyperband":
        return _Hyperband(plan, max_epochs=EPOCHS, factor=_FACTOR)
    if plan.study.oracle == "bayesian":  # Keras Tuner's own number may be more than all trials.
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
