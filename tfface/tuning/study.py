"""Studies: what is searched, and how. Nothing here imports TensorFlow."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from tfface.config import Texts, check, from_dict, nearest, presets, replace
from tfface.errors import UserError

Value = int | float | bool | str
PATHS = {"data.path", "labelled.path"}
"""Options that say where data lie: they may change while a study goes on."""


@dataclass(frozen=True)
class Objective:
    """What is searched for.

    Attributes:
        measure: Name of a measure of `tfface.evaluation`, such as "edited/accuracy".
        direction: Whether the best value is the least ("min") or the greatest ("max").
    """

    measure: str
    direction: Literal["min", "max"]

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is strictly better than `b`."""
        return a > b if self.direction == "max" else a < b


@dataclass(frozen=True)
class EarlyStop:
    """The median rule: ends a trial that is worse than half of the others were at this step.

    Attributes:
        every: Steps between two evaluations of a trial; 0: no trial is ended early.
        least: So many other trials must have been evaluated at the step.
    """

    every: int = 0
    least: int = 4


@dataclass(frozen=True)
class Study:
    """A study, as its file gives it.

    Attributes:
        objective: What is searched for.
        parameters: Dotted option of the method's config to its range, `{low: 0.1, high: 10, log:
            true}`, or its `{values: [1, 2, 4]}`.
        steps: Training steps of a trial.
        preset: The method's preset that trials start from.
        config: A file of options, as `train --config` takes it, instead of a preset.
        trial_options: Dotted options of the trials, but not of the best configuration: a shorter
            schedule, say.
        oracle: What proposes trials. "bayesian" begins with a third of them at random; "hyperband"
            trains many for a ninth of the steps, the best third of them for a third, and the best
            of these for all; 23 trials make it whole.
        trials: At most so many.
        seed: Of what is proposed, and of the images that measure.
        also: Other measures that the report shows beside the objective, such as one at
            whose cost it might be won.
        images: How many people, or pairs, the measures are taken of.
        early_stop: When to give a trial up.
    """

    objective: Objective
    parameters: dict
    steps: int
    preset: str = ""
    config: str = ""
    trial_options: dict = field(default_factory=dict)
    oracle: Literal["random", "bayesian", "hyperband"] = "random"
    trials: int = 16
    seed: int = 0
    also: tuple[str, ...] = ()
    images: int = 64
    early_stop: EarlyStop = EarlyStop()

    def __post_init__(self):
        for name, least in (("steps", 1), ("trials", 1), ("images", 1), ("seed", 0)):
            value = getattr(self, name)
            check(value >= least, f"{name} is {value}: expected at least {least}")
        every, least = self.early_stop.every, self.early_stop.least
        check(
            0 <= every < self.steps,
            f"early_stop.every is {every}: expected 0 or more, and less than steps, {self.steps}",
        )
        check(least >= 1, f"early_stop.least is {least}: expected at least 1")
        check(
            not every or self.oracle != "hyperband",
            f"early_stop.every is {every}: expected 0 with the oracle hyperband, which itself ends "
            f"trials early",
        )
        check(
            self.steps >= 4 or self.oracle != "hyperband",
            f"steps is {self.steps}: expected at least 4 with the oracle hyperband, which trains "
            f"for a ninth, a third and all of them",
        )
        check(
            not (self.preset and self.config), "preset and config are both given: expected only one"
        )
        check(bool(self.parameters), "parameters is empty: expected at least one option")

    def measures(self) -> tuple[str, ...]:
        """The objective's, and those shown beside it."""
        return (self.objective.measure, *self.also)


@dataclass(frozen=True)
class Parameter:
    """An option that trials differ in.

    Attributes:
        name: Its dotted name.
        values: What it can be; empty: any number from `low` to `high`.
        low: The least number.
        high: The greatest number.
        log: Whether the numbers are spread evenly on a logarithmic scale.
    """

    name: str
    values: tuple[Value, ...] = ()
    low: int | float = 0
    high: int | float = 0
    log: bool = False

    def corners(self) -> tuple[Value, ...]:
        """All values, or both ends."""
        return self.values or (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether a trial may have this value."""
        return value in self.values if self.values else self.low <= value <= self.high

    def exact(self, value: Any) -> Value:
        """The value that was meant.

        Keras Tuner rounds numbers to single precision between processes, makes integers of booleans
        and may propose one more than the greatest number.
        """
        if isinstance(value, str):
            return value
        if self.values:
            return min(self.values, key=lambda known: abs(known - value))
        if isinstance(self.low, float):
            value = float(f"{value:.5g}")
        return min(max(value, self.low), self.high)

    def count(self) -> int | float:
        """How many values there are; infinity for a range of real numbers."""
        if self.values:
            return len(self.values)
        return math.inf if isinstance(self.low, float) else self.high - self.low + 1

    def place(self, value: Any) -> float:
        """The value on an axis: the number, its logarithm to base 10, or the index in `values`."""
        if self.values:
            return float(self.values.index(value))
        return math.log10(value) if self.log else float(value)


@dataclass(frozen=True)
class Plan:
    """A study of a method, checked.

    Attributes:
        method: The method's name.
        study: The study.
        base: The config that it starts from.
        parameters: Options that trials differ in.
    """

    method: str
    study: Study
    base: Any
    parameters: tuple[Parameter, ...]

    def config(self, values: Mapping[str, Value]) -> Any:
        """The config of a trial; raises a UserError for values that do not go together."""
        trial = {"train.steps": self.study.steps, **self.study.trial_options}
        return replace(replace(self.base, values), trial)

    def whole(self, trial: Mapping[str, Any]) -> Any:
        """The config for a whole training like a trial's: steps and trial options as in the base.

        Args:
            trial: The options in the trial's run folder.
        """
        config = from_dict(type(self.base), dict(trial))
        names = ["train.steps", *self.study.trial_options]
        names += [f"{name}.path" for name in config.datasets()]
        return replace(config, {name: _get(self.base, name) for name in names})

    def combinations(self) -> int | float:
        """How many trials can differ; infinity with a range of real numbers."""
        return math.prod(p.count() for p in self.parameters)

    def combination(self, number: int) -> dict[str, Value]:
        """The values of one of finitely many combinations, counted from 0."""
        values = {}
        for p in self.parameters:
            number, place = divmod(number, p.count())
            values[p.name] = p.values[place] if p.values else p.low + place
        return values

    def start(self) -> dict[str, Value] | None:
        """The values of the config that the study starts from, if trials may have them."""
        values = {p.name: _get(self.base, p.name) for p in self.parameters}
        return values if all(p.holds(values[p.name]) for p in self.parameters) else None


def read_plan(path: str | Path, method: str, config_class: type, trials: int | None = None) -> Plan:
    """Reads and checks a study.

    Args:
        path: The file.
        method: The method's name.
        config_class: Its config class.
        trials: At most so many trials, instead of what the file says.

    Raises:
        UserError: Any mistake: names the file, the key and what was expected.
    """
    path = Path(path)
    try:
        values = read_yaml(path)
        _check_keys(values, Study)
        if trials is not None:
            values["trials"] = trials
        study = from_dict(Study, values)
        base = _base(study, method, config_class)
        parameters = tuple(_parameter(str(k), v, base) for k, v in study.parameters.items())
        plan = _checked(Plan(method, study, base, parameters))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return plan


def read_yaml(path: Path, loader: type = yaml.SafeLoader) -> dict:
    """The keys and values of a file; raises a UserError, which does not name the file."""
    try:
        values = yaml.load(path.read_text(), loader)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"not YAML: {' '.join(str(error).split())}") from error
    check(isinstance(values, dict), "expected keys and values")
    return values


def _check_keys(values: dict, kind: type, where: str = "") -> None:
    """Raises a UserError for unknown and missing keys, also of the groups within."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in values:
        check(
            key in fields,
            f"unknown key {where + str(key)!r}{nearest(str(key), fields)}; expected "
            f"{', '.join(fields)}",
        )
    for name, known in fields.items():
        needed = known.default is dataclasses.MISSING is known.default_factory
        check(name in values or not needed, f"the key {where + name!r} is missing")
    for name, group in (("objective", Objective), ("early_stop", EarlyStop)):
        if name in values and name in fields:
            keys = ", ".join(f.name for f in dataclasses.fields(group))
            check(isinstance(values[name], dict), f"{name} is {values[name]!r}: expected {keys}")
            _check_keys(values[name], group, f"{name}.")


def _base(study: Study, method: str, config_class: type) -> Any:
    """The config that the study starts from."""
    if study.config:
        try:
            return from_dict(config_class, read_yaml(Path(study.config), Texts))
        except UserError as error:
            raise UserError(f"config {study.config}: {error}") from error
    known, name = presets(method), study.preset or "demo"
    check(
        name in known,
        f"preset is {name!r}{nearest(name, known)}; expected one of {', '.join(known)}",
    )
    return from_dict(config_class, read_yaml(known[name], Texts))


def _parameter(name: str, given: Any, base: Any) -> Parameter:
    where = f"parameters.{name}"
    now = _get(base, name, "parameters")
    check(name != "train.steps", f"{where}: expected another option; the key steps gives it")
    form = "expected {low: ..., high: ..., log: true or false} or {values: [...]}"
    check(isinstance(given, dict), f"{where} is {given!r}: {form}")
    for key in given:
        known = ("low", "high", "log", "values")
        check(key in known, f"{where} has {key!r}{nearest(str(key), known)}; {form}")
    if "values" in given:
        check(len(given) == 1, f"{where} has values beside {', '.join(set(given) - {'values'})}")
        return Parameter(name, _values(where, given["values"], now))
    check(
        {"low", "high"} <= set(given), f"{where} has only {', '.join(given) or 'nothing'}: {form}"
    )
    low, high, log = given["low"], given["high"], given.get("log", False)
    check(
        _is_number(now), f"{where} has low and high, but is {now!r} in what trials start from; "
        "expected values",
    )  # fmt: skip
    for key in ("low", "high"):
        check(
            _is_number(given[key]),
            f"{where}.{key} is {given[key]!r}: expected a number, in YAML such as 0.5 or 1.0e-4",
        )
        check(
            isinstance(now, float) or isinstance(given[key], int),
            f"{where}.{key} is {given[key]!r}: expected a whole number",
        )
    check(isinstance(log, bool), f"{where}.log is {log!r}: expected true or false")
    check(low < high, f"{where} is from {low} to {high}: expected low below high")
    check(low > 0 or not log, f"{where}.low is {low}: expected above 0 with log")
    return Parameter(name, (), type(now)(low), type(now)(high), log)


def _values(where: str, values: Any, now: Any) -> tuple[Value, ...]:
    check(
        isinstance(values, list) and len(values) >= 2,
        f"{where}.values is {values!r}: expected a list of two or more",
    )
    for value in values:
        check(
            isinstance(value, Value),
            f"{where}.values has {value!r}: expected numbers, words, or true and false",
        )
        check(
            _is_number(value) or not _is_number(now),
            f"{where}.values has {value!r}: expected numbers, in YAML such as 0.5 or 1.0e-4",
        )
    if isinstance(now, float):
        values = [float(value) for value in values]
    check(len({type(v) for v in values}) == 1, f"{where}.values has {values}: expected one type")
    check(len(set(values)) == len(values), f"{where}.values names one twice: {values}")
    return tuple(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _checked(plan: Plan) -> Plan:
    """Makes the configs at the ends of all ranges, and of all pairs of them.

    Returns:
        The plan, its trial options parsed.
    """
    given = plan.study.trial_options
    for name in map(str, given):
        _get(plan.base, name, "trial_options")
        twice = name in ("train.steps", *(p.name for p in plan.parameters))
        check(not twice, f"trial_options.{name} is given by another key too: expected one")
    corners = {p.name: p.corners() for p in plan.parameters}
    first = {name: values[0] for name, values in corners.items()}
    for number in range(max(map(len, corners.values()))):
        values = {name: some[number % len(some)] for name, some in corners.items()}
        options = {"train.steps": plan.study.steps, **given, **values}
        parsed = replace(plan.base, options)
    study = dataclasses.replace(
        plan.study, trial_options={name: _get(parsed, name) for name in given}
    )
    plan = dataclasses.replace(plan, study=study)
    for values in _pairs(first, corners):
        plan.config(values)
    return plan


def _pairs(first: dict, corners: dict) -> Iterator[dict]:
    """Every two options at each of their corners, and the others at their first ones."""
    for pair in itertools.combinations(corners, min(2, len(corners))):
        for values in itertools.product(*(corners[name] for name in pair)):
            yield {**first, **dict(zip(pair, values, strict=True))}


def _get(config: Any, name: str, where: str = "") -> Any:
    """The value of a dotted option; raises a UserError for one that there is not."""
    value = config
    for part in name.split("."):
        if not dataclasses.is_dataclass(value) or not hasattr(value, part):
            known = _names(config)
            raise UserError(
                f"{where} names {name!r}, which is no option{nearest(name, known)}; expected one "
                f"of {', '.join(known)}"
            )
        value = getattr(value, part)
    check(not dataclasses.is_dataclass(value), f"{where} names {name!r}, a group: expected one")
    return value


def _names(config: Any) -> list[str]:
    names = []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        within = _names(value) if dataclasses.is_dataclass(value) else []
        names += [f"{f.name}.{name}" for name in within] or [f.name]
    return names
