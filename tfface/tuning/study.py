"""Study files: search space, objective and search algorithm. Does not import TensorFlow."""

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
"""Paths of data sets, which may change when a study is continued."""


@dataclass(frozen=True)
class Objective:
    """The objective.

    Attributes:
        measure: Name of a metric of `tfface.evaluation`, such as "edited/accuracy".
        direction: Whether to minimise ("min") or maximise ("max") it.
    """

    measure: str
    direction: Literal["min", "max"]

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is strictly better than `b`."""
        return a > b if self.direction == "max" else a < b


@dataclass(frozen=True)
class EarlyStop:
    """The median rule: stops a trial that is worse than the median of the others at this step.

    Attributes:
        every: Steps between two evaluations of a trial; 0: no early stopping.
        least: Minimum number of other trials evaluated at the step.
    """

    every: int = 0
    least: int = 4


@dataclass(frozen=True)
class Study:
    """A study, as defined by its file.

    Attributes:
        objective: The objective.
        parameters: Search space: dotted options of the method's config with a range `{low: 0.1,
            high: 10, log: true}` or a list `{values: [1, 2, 4]}`.
        steps: Training steps of a trial.
        preset: Preset of the method that is the base config of the trials.
        config: Option file (as for `train --config`) to use instead of a preset.
        trial_options: Dotted options that apply to trials but not to the best configuration, such
            as a shorter schedule.
        oracle: Search algorithm. "bayesian" starts with a third of the trials at random;
            "hyperband" trains many trials for a ninth of the steps, the best third of them for a
            third of the steps, and the best of these for all steps; a full round has 23 trials.
        trials: Maximum number of trials.
        seed: Seed of the proposals, and of the selection of evaluated people.
        also: Other metrics to show in the report, such as one that may degrade when the objective
            improves.
        images: Number of people or pairs to evaluate.
        early_stop: Early stopping of trials.
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
            f"early_stop.every is {every}: expected 0 with the oracle hyperband, which stops "
            f"trials early by itself",
        )
        check(
            self.steps >= 4 or self.oracle != "hyperband",
            f"steps is {self.steps}: expected at least 4 with the oracle hyperband, which trains "
            f"for a ninth, a third and all of the steps",
        )
        check(
            not (self.preset and self.config), "preset and config are both given: expected only one"
        )
        check(bool(self.parameters), "parameters is empty: expected at least one option")

    def measures(self) -> tuple[str, ...]:
        """Names of the objective and of the other metrics."""
        return (self.objective.measure, *self.also)


@dataclass(frozen=True)
class Parameter:
    """An option in the search space.

    Attributes:
        name: Dotted name of the option.
        values: Allowed values; if empty, any number from `low` to `high`.
        low: Minimum.
        high: Maximum.
        log: Whether to sample on a logarithmic scale.
    """

    name: str
    values: tuple[Value, ...] = ()
    low: int | float = 0
    high: int | float = 0
    log: bool = False

    def corners(self) -> tuple[Value, ...]:
        """All values of a list, or both ends of a range."""
        return self.values or (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether the search space contains the value."""
        return value in self.values if self.values else self.low <= value <= self.high

    def exact(self, value: Any) -> Value:
        """The exact value for one proposed by Keras Tuner.

        Keras Tuner rounds numbers to single precision between processes, converts booleans to
        integers and may exceed the maximum by one.
        """
        if isinstance(value, str):
            return value
        if self.values:
            return min(self.values, key=lambda known: abs(known - value))
        if isinstance(self.low, float):
            value = float(f"{value:.5g}")
        return min(max(value, self.low), self.high)

    def count(self) -> int | float:
        """Number of values; infinity for a range of real numbers."""
        if self.values:
            return len(self.values)
        return math.inf if isinstance(self.low, float) else self.high - self.low + 1

    def place(self, value: Any) -> float:
        """Position on an axis: the number, its logarithm to base 10, or the index in `values`."""
        if self.values:
            return float(self.values.index(value))
        return math.log10(value) if self.log else float(value)


@dataclass(frozen=True)
class Plan:
    """A validated study of a method.

    Attributes:
        method: Name of the method.
        study: The study.
        base: Base config of the trials.
        parameters: The search space.
    """

    method: str
    study: Study
    base: Any
    parameters: tuple[Parameter, ...]

    def config(self, values: Mapping[str, Value]) -> Any:
        """The config of a trial; raises a UserError for an invalid combination of values."""
        trial = {"train.steps": self.study.steps, **self.study.trial_options}
        return replace(replace(self.base, values), trial)

    def whole(self, trial: Mapping[str, Any]) -> Any:
        """A trial's config for full training, with the base's steps, paths and trial options.

        Args:
            trial: Options of the trial's run folder.
        """
        config = from_dict(type(self.base), dict(trial))
        names = ["train.steps", *self.study.trial_options]
        names += [f"{name}.path" for name in config.datasets()]
        return replace(config, {name: _get(self.base, name) for name in names})

    def combinations(self) -> int | float:
        """Number of distinct trials; infinity with a range of real numbers."""
        return math.prod(p.count() for p in self.parameters)

    def combination(self, number: int) -> dict[str, Value]:
        """The values of combination `number`, counted from 0."""
        values = {}
        for p in self.parameters:
            number, index = divmod(number, p.count())
            values[p.name] = p.values[index] if p.values else p.low + index
        return values

    def start(self) -> dict[str, Value] | None:
        """The values of the base config; None if they are outside the search space."""
        values = {p.name: _get(self.base, p.name) for p in self.parameters}
        return values if all(p.holds(values[p.name]) for p in self.parameters) else None


def read_plan(path: str | Path, method: str, config_class: type, trials: int | None = None) -> Plan:
    """Reads and validates a study.

    Args:
        path: The study file.
        method: Name of the method.
        config_class: Config class of the method.
        trials: Number of trials, instead of that in the file.

    Raises:
        UserError: A mistake; names the file, the key and what was expected.
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
    """Reads a YAML mapping; raises a UserError, which does not name the file."""
    try:
        values = yaml.load(path.read_text(), loader)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"not YAML: {' '.join(str(error).split())}") from error
    check(isinstance(values, dict), "expected a mapping of keys to values")
    return values


def _check_keys(values: dict, kind: type, where: str = "") -> None:
    """Raises a UserError for unknown or missing keys, also in groups."""
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
    """The base config of the trials."""
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


def _parameter(name: str, spec: Any, base: Any) -> Parameter:
    where = f"parameters.{name}"
    default = _get(base, name, "parameters")
    check(name != "train.steps", f"{where}: cannot be tuned; the key steps sets it")
    form = "expected {low: ..., high: ..., log: true or false} or {values: [...]}"
    check(isinstance(spec, dict), f"{where} is {spec!r}: {form}")
    for key in spec:
        known = ("low", "high", "log", "values")
        check(key in known, f"{where} has {key!r}{nearest(str(key), known)}; {form}")
    if "values" in spec:
        check(len(spec) == 1, f"{where} has values and {', '.join(set(spec) - {'values'})}: {form}")
        return Parameter(name, _values(where, spec["values"], default))
    check({"low", "high"} <= set(spec), f"{where} has only {', '.join(spec) or 'nothing'}: {form}")
    low, high, log = spec["low"], spec["high"], spec.get("log", False)
    check(
        _is_number(default),
        f"{where} has low and high, but is {default!r} in the base config; expected values",
    )
    for key in ("low", "high"):
        check(
            _is_number(spec[key]),
            f"{where}.{key} is {spec[key]!r}: expected a number, in YAML such as 0.5 or 1.0e-4",
        )
        check(
            isinstance(default, float) or isinstance(spec[key], int),
            f"{where}.{key} is {spec[key]!r}: expected a whole number",
        )
    check(isinstance(log, bool), f"{where}.log is {log!r}: expected true or false")
    check(low < high, f"{where} is from {low} to {high}: expected low below high")
    check(low > 0 or not log, f"{where}.low is {low}: expected above 0 with log")
    return Parameter(name, (), type(default)(low), type(default)(high), log)


def _values(where: str, values: Any, default: Any) -> tuple[Value, ...]:
    check(
        isinstance(values, list) and len(values) >= 2,
        f"{where}.values is {values!r}: expected a list of two or more",
    )
    for value in values:
        check(
            isinstance(value, Value),
            f"{where}.values has {value!r}: expected numbers, strings, or true and false",
        )
        check(
            _is_number(value) or not _is_number(default),
            f"{where}.values has {value!r}: expected numbers, in YAML such as 0.5 or 1.0e-4",
        )
    if isinstance(default, float):
        values = [float(value) for value in values]
    check(len({type(v) for v in values}) == 1, f"{where}.values has {values}: expected one type")
    check(len(set(values)) == len(values), f"{where}.values has duplicates: {values}")
    return tuple(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _checked(plan: Plan) -> Plan:
    """Validates a plan by building configs at the ends of all ranges, and of all pairs of them.

    Returns:
        The plan, with parsed trial options.
    """
    trial_options = plan.study.trial_options
    for name in map(str, trial_options):
        _get(plan.base, name, "trial_options")
        repeated = name in ("train.steps", *(p.name for p in plan.parameters))
        check(not repeated, f"trial_options.{name} is already set by another key")
    corners = {p.name: p.corners() for p in plan.parameters}
    first = {name: values[0] for name, values in corners.items()}
    for number in range(max(map(len, corners.values()))):
        values = {name: ends[number % len(ends)] for name, ends in corners.items()}
        options = {"train.steps": plan.study.steps, **trial_options, **values}
        parsed = replace(plan.base, options)
    study = dataclasses.replace(
        plan.study, trial_options={name: _get(parsed, name) for name in trial_options}
    )
    plan = dataclasses.replace(plan, study=study)
    for values in _pairs(first, corners):
        plan.config(values)
    return plan


def _pairs(first: dict, corners: dict) -> Iterator[dict]:
    """Every pair of options at all of their corners, with the others at their first corner."""
    for pair in itertools.combinations(corners, min(2, len(corners))):
        for values in itertools.product(*(corners[name] for name in pair)):
            yield {**first, **dict(zip(pair, values, strict=True))}


def _get(config: Any, name: str, where: str = "") -> Any:
    """The value of a dotted option; raises a UserError for an unknown option."""
    value = config
    for part in name.split("."):
        if not dataclasses.is_dataclass(value) or not hasattr(value, part):
            known = _names(config)
            raise UserError(
                f"{where} has an unknown option {name!r}{nearest(name, known)}; expected one of "
                f"{', '.join(known)}"
            )
        value = getattr(value, part)
    check(
        not dataclasses.is_dataclass(value),
        f"{where} has the option group {name!r}: expected a single option",
    )
    return value


def _names(config: Any) -> list[str]:
    names = []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        within = _names(value) if dataclasses.is_dataclass(value) else []
        names += [f"{f.name}.{name}" for name in within] or [f.name]
    return names
