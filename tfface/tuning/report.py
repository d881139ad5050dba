"""Results of a study: report, best configuration, and all metrics."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from pathlib import Path

import yaml

from tfface import html
from tfface.config import to_dict
from tfface.engine.run import Run, write_text
from tfface.tuning.study import Parameter, Plan
from tfface.tuning.trials import COMPLETED, STOPPED, Trial, best_trial, read_trials, short

_LEAST = 8  # Minimum number of trials for a meaningful forest.
_HOW = (
    "Permutation importance: a random forest of 100 trees is fitted to predict the last value of "
    "the objective from the options of the trials. The importance of an option is the loss of "
    "explained variance when its values are permuted among the trials (mean of 10 permutations), "
    "as a share of the sum over all options. With a few dozen trials it is only an indication."
)


def write_report(plan: Plan, out: Path) -> None:
    """Writes `report.html`, `results.json` and, if a trial is completed, `best.yaml`."""
    trials, objective = read_trials(out), plan.study.objective
    best = best_trial(trials, objective)
    shares = importance(trials, plan.parameters)
    results = {
        "method": plan.method,
        "study": dataclasses.asdict(plan.study),
        "best": best and best.id,
        "importance": shares,
        "trials": [dataclasses.asdict(trial) for trial in trials],
    }
    write_text(out / "results.json", json.dumps(results, indent=1) + "\n")
    if best:
        write_text(out / "best.yaml", _preset(plan, best, out))
    write_text(out / "report.html", _page(plan, out, trials, best, shares))


def importance(trials: list[Trial], parameters: tuple[Parameter, ...]) -> dict[str, float] | None:
    """Permutation importance of the parameters for the objective, see `_HOW`.

    Returns:
        Shares by parameter name, with sum 1; None with too few trials or if no parameter matters.
    """
    measured = _measured(trials)
    if len(measured) < _LEAST:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    inputs = [[p.place(trial.values[p.name]) for p in parameters] for trial in measured]
    values = [trial.value for trial in measured]
    forest = RandomForestRegressor(100, random_state=0).fit(inputs, values)
    importances = permutation_importance(forest, inputs, values, n_repeats=10, random_state=0)
    means = [max(float(mean), 0.0) for mean in importances.importances_mean]
    if not sum(means):
        return None
    return {p.name: mean / sum(means) for p, mean in zip(parameters, means, strict=True)}


def _measured(trials: list[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.status in (COMPLETED, STOPPED)]


def summary(plan: Plan, out: Path) -> str:
    """Summary of a finished study: the best trial, and why there are fewer trials than planned."""
    trials = read_trials(out)
    best = best_trial(trials, plan.study.objective)
    return "\n".join(["", *_fewer(plan, out, trials), *_best(plan, best, out / "best.yaml")])


def _fewer(plan: Plan, out: Path, trials: list[Trial]) -> list[str]:
    """Why the search ended with fewer trials than planned; [] if it did not."""
    file = out / "oracle" / "oracle.json"
    reason = json.loads(file.read_text())["ended"] if file.exists() else ""
    if not reason or len(trials) >= plan.study.trials:
        return []
    return [f"ended after {len(trials)} of {plan.study.trials} trials: {reason}"]


def _best(plan: Plan, best: Trial | None, file: Path | str) -> list[str]:
    if not best:
        return ["no trial was completed"]
    steps, measure = plan.study.steps, plan.study.objective.measure
    lines = [f"best: trial {best.id}, {measure} {best.value:.4g} after {best.step} steps; {file}"]
    if best.step < steps:
        lines.append(f"no trial was trained for all {steps} steps, so this result is preliminary")
    return lines


def _preset(plan: Plan, best: Trial, out: Path) -> str:
    """The best trial's configuration as an option file, with the base's number of steps."""
    objective = plan.study.objective
    file = shlex.quote(str((out / "best.yaml").resolve()))
    head = (
        f"# {plan.method}: best of a study of {plan.study.trials} trials, trial {best.id}, "
        f"{objective.measure} {best.value:.4g} after {best.step} of {plan.study.steps} steps.\n"
        f"# Command:  python -m tfface.train {plan.method} --config {file}\n"
        f"# Tuned options: {', '.join(f'{k} {short(v)}' for k, v in best.values.items())}\n"
    )
    _, own = Run(out / "trials" / best.id).read_config()
    return head + yaml.safe_dump(to_dict(plan.whole(own)), sort_keys=False)


def _page(
    plan: Plan, out: Path, trials: list[Trial], best: Trial | None, shares: dict | None
) -> str:
    objective = plan.study.objective
    direction = "maximise" if objective.direction == "max" else "minimise"
    counts = ", ".join(
        f"{sum(t.status == status for t in trials)} {status}"
        for status in dict.fromkeys(t.status for t in trials)
    )
    parts = [
        html.text(
            f"{len(trials)} of {plan.study.trials} trials ({counts}) of {plan.study.steps} steps, "
            f"proposed by Keras Tuner's {plan.study.oracle} search. Objective: {direction} "
            f"{objective.measure}, measured on {plan.study.images} held-out people or pairs."
        ),
        *(html.text(f"The search {reason}.") for reason in _fewer(plan, out, trials)),
    ]
    if measured := _measured(trials):
        plots = [(p.name, _plot(p, measured, best, objective.measure)) for p in plan.parameters]
        parts.append(
            html.section(
                f"{objective.measure} against each option",
                html.tiles(plots),
                html.text("Solid: the best trial. Rings: trials stopped early.", soft=True),
            )
        )
        if plan.study.also:
            others = [(name, _against(name, measured, best)) for name in plan.study.also]
            title = f"{objective.measure} against other metrics"
            parts.append(html.section(title, html.tiles(others)))
    parts.append(html.section("Importance of the options", *_importance(shares)))
    if best:
        parts.append(
            html.section(
                "Best configuration",
                *(html.text(f"{line}.") for line in _best(plan, best, "best.yaml")),
                html.table(["option", "value"], [[k, short(v)] for k, v in best.values.items()]),
            )
        )
    if trials:
        parts.append(html.section("Trials", *_table(plan, trials, best)))
    return html.page(f"Study of {plan.method}", parts)


def _importance(shares: dict[str, float] | None) -> list[str]:
    if shares is None:
        return [html.text(f"Needs at least {_LEAST} trials with different objective values.")]
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    rows = [[name, f"{share:.0%}"] for name, share in ranked]
    return [html.table(["option", "importance"], rows), html.text(_HOW, soft=True)]


def _plot(parameter: Parameter, trials: list[Trial], best: Trial | None, measure: str) -> str:
    xs = [parameter.place(trial.values[parameter.name]) for trial in trials]
    ticks = [(parameter.place(value), short(value)) for value in parameter.corners()]
    points = _points(xs, trials, best)
    return html.scatter(f"{measure} against {parameter.name}", points, ticks)


def _against(measure: str, trials: list[Trial], best: Trial | None) -> str:
    known = [trial for trial in trials if not math.isnan(trial.figure(measure))]
    if not known:
        return html.text(f"No trial has {measure}.")
    xs = [trial.figure(measure) for trial in known]
    ticks = [(value, short(value)) for value in (min(xs), max(xs))]
    return html.scatter(f"the objective against {measure}", _points(xs, known, best), ticks)


def _points(xs: list[float], trials: list[Trial], best: Trial | None) -> list[tuple]:
    """Points for `html.scatter`: the objective of the trials at positions `xs`."""
    kinds = ["best" if t is best else "part" if t.status == STOPPED else "" for t in trials]
    values = [trial.value for trial in trials]
    return list(zip(xs, values, kinds, strict=True))


def _table(plan: Plan, trials: list[Trial], best: Trial | None) -> list[str]:
    """The trials, best first."""
    sign = -1 if plan.study.objective.direction == "max" else 1

    def rank(trial: Trial) -> tuple:
        unknown = math.isnan(trial.value)
        return trial is not best, trial.status != COMPLETED, unknown, sign * trial.value

    start, rows = plan.start(), []
    for trial in sorted(trials, key=rank):
        name = f"{trial.id} (base configuration)" if trial.values == start else trial.id
        values = [trial.value, *(trial.figure(measure) for measure in plan.study.also)]
        shown = ["-" if math.isnan(value) else f"{value:.4g}" for value in values]
        options = [short(trial.values[p.name]) for p in plan.parameters]
        rows.append([name, trial.status, str(trial.step), *shown, *options])
    header = ["trial", "status", "steps", *plan.study.measures()]
    reasons = [
        f"Trial {trial.id} {trial.status}: {trial.reason}." for trial in trials if trial.reason
    ]
    return [
        html.table([*header, *(p.name for p in plan.parameters)], rows),
        *(html.text(reason, soft=True) for reason in reasons),
    ]
