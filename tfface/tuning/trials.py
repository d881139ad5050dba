"""Records of trials, stored as `trial.json` in their run folders."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfface.engine.run import write_text
from tfface.tuning.study import EarlyStop, Objective, Value

FILE = "trial.json"
COMPLETED, STOPPED, FAILED, RUNNING = "completed", "stopped", "failed", "running"


@dataclass
class Trial:
    """Record of a trial.

    Attributes:
        id: Number of the trial, and name of its run folder.
        values: Values of the study's parameters.
        status: "running" (or interrupted), "completed", "stopped" (by the median rule) or "failed".
        reason: Why it failed or was stopped.
        evaluations: Evaluations in order: `step`; `objective`, the value at this step; `figures`,
            all metrics by name.
    """

    id: str
    values: dict[str, Value]
    status: str = RUNNING
    reason: str = ""
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The last value of the objective; NaN before an evaluation."""
        return self.evaluations[-1]["objective"] if self.evaluations else math.nan

    @property
    def step(self) -> int:
        """The step of this value."""
        return self.evaluations[-1]["step"] if self.evaluations else 0

    def figure(self, measure: str) -> float:
        """The last value of a metric; NaN if there is none."""
        return (
            self.evaluations[-1]["figures"].get(measure, math.nan) if self.evaluations else math.nan
        )

    def at(self, step: int) -> float | None:
        """The objective at a step; None if the trial was not evaluated there."""
        return next((e["objective"] for e in self.evaluations if e["step"] == step), None)

    def save(self, folder: Path) -> None:
        """Writes the record to a run folder."""
        write_text(folder / FILE, json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def read_trials(out: Path) -> list[Trial]:
    """The trials in the folder of a study, ordered by number."""
    folder = out / "trials"
    files = [path / FILE for path in folder.iterdir()] if folder.exists() else []
    trials = [Trial(**json.loads(file.read_text())) for file in files if file.exists()]
    return sorted(trials, key=lambda trial: int(trial.id))


def best_trial(trials: Iterable[Trial], objective: Objective) -> Trial | None:
    """The best of the completed trials that were trained longest; None if there are none."""
    completed = [trial for trial in trials if trial.status == COMPLETED]
    longest = max((trial.step for trial in completed), default=0)
    whole = [trial for trial in completed if trial.step == longest]
    pick = max if objective.direction == "max" else min
    return pick(whole, key=lambda trial: trial.value, default=None)


def hopeless(
    trial: Trial, others: Iterable[Trial], objective: Objective, rule: EarlyStop
) -> str | None:
    """The median rule: stops a trial that is worse than the median of the others at the same step.

    Args:
        trial: A trial that has just been evaluated.
        others: All other trials, finished or not.
        objective: The objective.
        rule: The minimum number of other trials.

    Returns:
        Why the trial should be stopped; None if it should continue.
    """
    values = [v for other in others if (v := other.at(trial.step)) is not None]
    if len(values) < rule.least:
        return None
    median = statistics.median(values)
    if not objective.better(median, trial.value):
        return None
    return f"worse than {median:.4g}, the median of {len(values)} other trials at this step"


def short(value: Any) -> str:
    """Formats a value for messages and reports."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe(trial: Trial, objective: Objective) -> str:
    """One line about the status and result of a trial."""
    line = f"trial {trial.id} {trial.status}"
    if trial.evaluations:
        line += f": {objective.measure} {trial.value:.4g} at step {trial.step}"
    return line + (f"; {trial.reason}" if trial.reason else "")
