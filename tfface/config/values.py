"""Options by their dotted names: which there are, and what values they take."""

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
    """Reads YAML whose scalars stay as they are written: an option's type says what they mean.

    So `[yes, no]` are two names, and `1e-4` is a number.
    """


Texts.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.split(":")[-1] in ("null", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


def nearest(name: str, known: Iterable[str]) -> str:
    """`; perhaps you mean 'x'?` for the name most like this one, or nothing.

    Of a dotted name its last part is enough: 'top_k' is answered with 'alignment.top_k', and
    'weights.rec' and 'lambda_rec' with 'weights.reconstruction'.
    """
    known = list(known)
    group, dot, end = name.rpartition(".")
    within = [other.rpartition(".")[2] for other in known if dot and other.startswith(f"{group}.")]
    match = _most_alike(end, within)
    match = f"{group}.{match}" if match else _most_alike(name, known)
    return f"; perhaps you mean {match!r}?" if match else ""


def _most_alike(name: str, known: list[str]) -> str:
    """The name most like this one; "" if none is like it."""
    same = [other for other in known if other.endswith(f".{name}")]
    begun = [other for other in known if name and other.startswith(name)]
    if len(begun) == 1 and not same:
        return begun[0]
    ranked = [(_likeness(name, other), -len(other), other) for other in known]
    alike = [r for r in ranked if r[0][:2] != (False, 0) or r[0][2] >= 0.6]
    return max(alike)[-1] if alike else ""


def _likeness(name: str, other: str) -> tuple[bool, int, float]:
    """Whether one is a part of the other; how many words are the same; and the share of letters."""
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
    """Types of all options by dotted name; those of a group come after the group itself."""
    found: dict[str, Any] = {}
    for name, kind in _hints(config_class).items():
        found[name] = kind
        if group := group_class(kind):
            found |= {f"{name}.{inner}": k for inner, k in option_types(group).items()}
    return found


def group_class(kind: Any) -> type | None:
    """The dataclass that a type is, or is besides None."""
    kinds = [k for k in _alternatives(kind) if k is not type(None)]
    return kinds[0] if len(kinds) == 1 and dataclasses.is_dataclass(kinds[0]) else None


def option_names(config_class: type) -> list[str]:
    """Dotted names of all options, without groups."""
    return [name for name, kind in option_types(config_class).items() if not group_class(kind)]


def _hints(config_class: type) -> dict[str, Any]:
    hints = typing.get_type_hints(config_class)
    return {f.name: hints[f.name] for f in dataclasses.fields(config_class)}


def _alternatives(kind: Any) -> tuple:
    union = typing.get_origin(kind) in (Union, types.UnionType)
    return typing.get_args(kind) if union else (kind,)


def to_dict(config: Any) -> dict:
    """A config as plain dicts and lists, as YAML gives them back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))


def from_dict(config_class: type, values: Mapping[str, Any]) -> Any:
    """The inverse of `to_dict`; names may be dotted too.

    Raises:
        UserError: An option that there is not, or a value that does not fit.
    """
    return build(config_class, read_options(config_class, values))


def replace(config: Any, options: Mapping[str, Any]) -> Any:
    """A config with other values of some options, such as `{"weights.change": 2.0}`.

    Raises:
        UserError: An option that there is not, or a value that does not fit.
    """
    return build(type(config), read_options(type(config), options), config)


def read_options(
    config_class: type, values: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Values by dotted names, read and checked by the types of the options.

    Args:
        config_class: Has the options.
        values: By dotted names, or in dicts for groups. Text is read as the option's type.
        before: Values, as returned, that these come on top of.
    """
    found = dict(before or {})
    for name, value in _dotted(config_class, values):
        group = name.rpartition(".")[0]
        found.pop(group, None)  # No longer None.
        for other in [o for o in found if o.startswith(f"{name}.")]:
            del found[other]
        found[name] = read_value(name, option_types(config_class)[name], value)
    return found


def _dotted(config_class: type, values: Mapping[str, Any], within: str = ""):
    kinds = option_types(config_class)
    for key, value in values.items():
        name = within + str(key)
        if name not in kinds:
            known = option_names(config_class)
            raise UserError(f"there is no option {name!r}{nearest(name, known)}")
        group = group_class(kinds[name])
        if group and isinstance(value, group):
            value = vars(value)
        if group and isinstance(value, str):
            value = _yaml(value)
        if group and isinstance(value, Mapping):
            yield from _dotted(config_class, value, f"{name}.")
        elif group and (value is not None or type(None) not in _alternatives(kinds[name])):
            first = next(iter(option_types(group)))
            told = "empty" if value is None else repr(value)
            raise UserError(f"{name} is {told}: expected its options, such as {name}.{first}")
        else:
            yield name, value


def read_value(name: str, kind: Any, value: Any) -> Any:
    """A value, or text, as the type of its option.

    Raises:
        UserError: It does not fit.
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
    """A list, also of text such as `[happy, sad]`, `happy,sad` or `happy`."""
    if isinstance(value, str):
        bracketed = value.lstrip().startswith("[")
        value = _yaml(value) if bracketed else [v.strip() for v in value.split(",") if v.strip()]
    if not isinstance(value, list | tuple):
        raise UserError(f"{name} is {value!r}: expected a list, such as a,b or [a, b]")
    return list(value)


def _yaml(text: str) -> Any:
    """What a text is in YAML; the text itself if it is none."""
    try:
        return yaml.load(text, Texts)
    except yaml.YAMLError:
        return text


def _chosen(name: str, choices: tuple[str, ...], value: Any) -> str:
    words = [str(value)]
    if isinstance(value, bool):  # YAML's reading of `on` and `off`.
        words += _TRUE if value else _FALSE
    for word in words:
        if word in choices:
            return word
    listed = ", ".join(choices)
    raise UserError(f"{name} is {value!r}{nearest(str(value), choices)}; expected one of {listed}")


def build(config_class: type, values: Mapping[str, Any], base: Any = None) -> Any:
    """A config of values by dotted names, as of `read_options`.

    Args:
        config_class: Its class.
        values: The values.
        base: A config of the class that has the others; None: they are the defaults.
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
    for head, some in groups.items():
        default = fields[head].default
        now = getattr(base, head) if base is not None else default
        now = None if now is dataclasses.MISSING else now
        changes[head] = build(group_class(kinds[head]), some, now)
    return config_class(**changes) if base is None else dataclasses.replace(base, **changes)
