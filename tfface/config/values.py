"""Options by dotted name, and the parsing and checking of their values."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import operator
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union

import yaml

from tfface.config.groups import check
from tfface.errors import UserError


class Texts(yaml.SafeLoader):
    """A YAML loader that keeps scalars as strings, to be parsed by the type of the option.

    So `[yes, no]` can be two names, and `1e-4` a number.
    """


Texts.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.split(":")[-1] in ("null", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


def nearest(name: str, known: Iterable[str]) -> str:
    """`; perhaps you mean 'x'?` for the most similar name, or "" if none is similar.

    The last part of a dotted name is enough: 'top_k' finds 'alignment.top_k', and 'weights.rec'
    and 'lambda_rec' find 'weights.reconstruction'.
    """
    known = list(known)
    group, dot, end = name.rpartition(".")
    within = [other.rpartition(".")[2] for other in known if dot and other.startswith(f"{group}.")]
    match = _most_similar(end, within)
    match = f"{group}.{match}" if match else _most_similar(name, known)
    return f"; perhaps you mean {match!r}?" if match else ""


def _most_similar(name: str, known: list[str]) -> str:
    """The most similar known name; "" if none is similar."""
    same = [other for other in known if other.endswith(f".{name}")]
    begun = [other for other in known if name and other.startswith(name)]
    if len(begun) == 1 and not same:
        return begun[0]
    ranked = [(_similarity(name, other), -len(other), other) for other in known]
    similar = [r for r in ranked if r[0][:2] != (False, 0) or r[0][2] >= 0.6]
    return max(similar)[-1] if similar else ""


def _similarity(name: str, other: str) -> tuple[bool, int, float]:
    """Whether one name is part of the other, the number of shared words, and of shared letters."""
    group, dot, end = other.rpartition(".")
    letters = max(difflib.SequenceMatcher(None, name, o).ratio() for o in (other, end))
    words = [word for word in re.split(r"\W|_", name) if len(word) > 1]

    def shared(text: str) -> int:
        return sum(any(o.startswith(w) for o in re.split(r"\W|_", text)) for w in words)

    within = shared(end) if dot else 0
    part = other.endswith(f".{name}") or name.startswith(f"{other}.")
    return part, within and within + shared(group), letters


@functools.cache
def option_types(config_class: type) -> dict[str, Any]:
    """Types of all options by dotted name; a group comes before its options."""
    kinds: dict[str, Any] = {}
    for name, kind in _hints(config_class).items():
        kinds[name] = kind
        if group := group_class(kind):
            kinds |= {f"{name}.{inner}": k for inner, k in option_types(group).items()}
    return kinds


def group_class(kind: Any) -> type | None:
    """The dataclass of a type, also of an optional one; None for other types."""
    kinds = [k for k in _alternatives(kind) if k is not type(None)]
    return kinds[0] if len(kinds) == 1 and dataclasses.is_dataclass(kinds[0]) else None


def option_names(config_class: type) -> list[str]:
    """Dotted names of all options, without the groups themselves."""
    return [name for name, kind in option_types(config_class).items() if not group_class(kind)]


def _hints(config_class: type) -> dict[str, Any]:
    hints = typing.get_type_hints(config_class)
    return {f.name: hints[f.name] for f in dataclasses.fields(config_class)}


def _alternatives(kind: Any) -> tuple:
    union = typing.get_origin(kind) in (Union, types.UnionType)
    return typing.get_args(kind) if union else (kind,)


def to_dict(config: Any) -> dict:
    """Converts a config to plain dicts and lists, as YAML would load them."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))


def from_dict(config_class: type, values: Mapping[str, Any]) -> Any:
    """The inverse of `to_dict`; also accepts dotted names.

    Raises:
        UserError: An unknown option or an invalid value.
    """
    return build(config_class, read_options(config_class, values))


def replace(config: Any, options: Mapping[str, Any]) -> Any:
    """A copy of a config with other values of some options, such as `{"weights.change": 2.0}`.

    Raises:
        UserError: An unknown option or an invalid value.
    """
    return build(type(config), read_options(type(config), options), config)


def read_options(
    config_class: type, values: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Parses and checks option values by the types of the options.

    Args:
        config_class: Config class with the options.
        values: Values by dotted name, or in dicts for groups. Strings are parsed.
        before: Values returned by an earlier call, which `values` override.

    Returns:
        Parsed values by dotted name.
    """
    parsed = dict(before or {})
    for name, value in _dotted(config_class, values):
        group = name.rpartition(".")[0]
        parsed.pop(group, None)  # No longer None.
        for other in [o for o in parsed if o.startswith(f"{name}.")]:
            del parsed[other]
        parsed[name] = read_value(name, option_types(config_class)[name], value)
    return parsed


def _dotted(config_class: type, values: Mapping[str, Any], within: str = ""):
    kinds = option_types(config_class)
    for key, value in values.items():
        name = within + str(key)
        if name not in kinds:
            known = option_names(config_class)
            raise UserError(f"unknown option {name!r}{nearest(name, known)}")
        group = group_class(kinds[name])
        if group and isinstance(value, group):
            value = vars(value)
        if group and isinstance(value, str):
            value = _yaml(value)
        if group and isinstance(value, Mapping):
            yield from _dotted(config_class, value, f"{name}.")
        elif group and (value is not None or type(None) not in _alternatives(kinds[name])):
            first = next(iter(option_types(group)))
            shown = "empty" if value is None else repr(value)
            raise UserError(f"{name} is {shown}: expected its options, such as {name}.{first}")
        else:
            yield name, value


def read_value(name: str, kind: Any, value: Any) -> Any:
    """Parses a value, or a string, as the type of its option.

    Raises:
        UserError: An invalid value.
    """
    kinds = _alternatives(kind)
    if value is None or (value == "null" and type(None) in kinds):
        check(type(None) in kinds, f"{name} is empty: expected a value")
        return None
    kind = next(k for k in kinds if k is not type(None))
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return tuple(read_value(name, item, v) for v in _listed(name, value))
    if typing.get_origin(kind) is Literal:
        return _chosen(name, typing.get_args(kind), value)
    if kind in _READERS:
        expected, read = _READERS[kind]
        try:
            return read(value)
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"{name} is {value!r}: expected {expected}") from None
    check(kind is not dict or isinstance(value, dict), f"{name} is {value!r}: expected keys")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return int(value) if isinstance(value, str) else operator.index(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    text = str(value).lower()
    if text not in (*_TRUE, *_FALSE):
        raise ValueError
    return text in _TRUE


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Path):
        raise TypeError
    return str(value)


_READERS: dict[Any, tuple[str, Any]] = {
    int: ("a whole number", _whole),
    float: ("a number", _number),
    bool: ("true or false", _truth),
    str: ("text", _text),
}


def _listed(name: str, value: Any) -> list:
    """A list; also parses strings such as `[happy, sad]`, `happy,sad` or `happy`."""
    if isinstance(value, str):
        bracketed = value.lstrip().startswith("[")
        value = _yaml(value) if bracketed else [v.strip() for v in value.split(",") if v.strip()]
    if not isinstance(value, list | tuple):
        raise UserError(f"{name} is {value!r}: expected a list, such as a,b or [a, b]")
    return list(value)


def _yaml(text: str) -> Any:
    """Parses a string as YAML; returns the string itself if it is not valid YAML."""
    try:
        return yaml.load(text, Texts)
    except yaml.YAMLError:
        return text


def _chosen(name: str, choices: tuple[str, ...], value: Any) -> str:
    words = [str(value)]
    if isinstance(value, bool):  # YAML parses `on` and `off` as booleans.
        words += _TRUE if value else _FALSE
    for word in words:
        if word in choices:
            return word
    listed = ", ".join(choices)
    raise UserError(f"{name} is {value!r}{nearest(str(value), choices)}; expected one of {listed}")


def build(config_class: type, values: Mapping[str, Any], base: Any = None) -> Any:
    """Builds a config from values returned by `read_options`.

    Args:
        config_class: Class of the config.
        values: Values by dotted name.
        base: Config with the remaining values; None uses the defaults.
    """
    changes: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        head, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(head, {})[rest] = value
        else:
            changes[head] = value
    kinds, fields = _hints(config_class), {f.name: f for f in dataclasses.fields(config_class)}
    for head, options in groups.items():
        default = fields[head].default
        current = getattr(base, head) if base is not None else default
        current = None if current is dataclasses.MISSING else current
        changes[head] = build(group_class(kinds[head]), options, current)
    return config_class(**changes) if base is None else dataclasses.replace(base, **changes)
