"""What is known of each trial: `trial.json` in its run folder."""

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
    """A trial.

    Attributes:
        id: Its number, the name of its run folder.
        values: Those of the study's parameters.
        status: "running" (or interrupted), "completed", "stopped" by the median rule, "failed".
        reason: Why it failed or was stopped.
        evaluations: One after the other: `step`; `objective`, the value at this step; `figures`,
            all measures by name.
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
        """The last value of any measure; NaN where there is none."""
        return (
            self.evaluations[-1]["figures"].get(measure, math.nan) if self.evaluations else math.nan
        )

    def at(self, step: int) -> float | None:
        """The value at a step; None if it was not evaluated there."""
        return next((e["objective"] for e in self.evaluations if e["step"] == step), None)

    def save(self, folder: Path) -> None:
        """Writes it into its run folder."""
        write_text(folder / FILE, json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def read_trials(out: Path) -> list[Trial]:
    """The trials of a study's folder, in the order of their numbers."""
    folder = out / "trials"
    files = [path / FILE for path in folder.iterdir()] if folder.exists() else []
    trials = [Trial(**json.loads(file.read_text())) for file in files if file.exists()]
    return sorted(trials, key=lambda trial: int(trial.id))


def best_trial(trials: Iterable[Trial], objective: Objective) -> Trial | None:
    """The best one of those completed trials that were trained longest; None if there is none."""
    completed = [trial for trial in trials if trial.status == COMPLETED]
    longest = max((trial.step for trial in completed), default=0)
    whole = [trial for trial in completed if trial.step == longest]
    pick = max if objective.direction == "max" else min
    return pick(whole, key=lambda trial: trial.value, default=None)


def hopeless(
    trial: Trial, others: Iterable[Trial], objective: Objective, rule: EarlyStop
) -> str | None:
    """The median rule: why a trial is to be ended at its last evaluation; None if it is not.

    It is ended if its value is worse than the median of the others' values at the same step.

    Args:
        trial: A trial that has just been evaluated.
        others: The other ones, finished or not.
        objective: What is searched for.
        rule: How many of them are needed.
    """
    values = [v for other in others if (v := other.at(trial.step)) is not None]
    if len(values) < rule.least:
        return None
    median = statistics.median(values)
    if not objective.better(median, trial.value):
        return None
    return f"worse than {median:.4g}, the median of {len(values)} other trials at this step"


def short(value: Any) -> str:
    """A value for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def tell(trial: Trial, objective: Objective) -> str:
    """A line about a trial."""
    words = f"trial {trial.id} {trial.status}"
    if trial.evaluations:
        words += f": {objective.measure} {trial.value:.4g} at step {trial.step}"
    return words + (f"; {trial.reason}" if trial.reason else "")
