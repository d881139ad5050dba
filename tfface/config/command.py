"""The command line of `train`: options, option files, help, and run options."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from tfface.config.groups import check
from tfface.config.presets import preset_file, presets, read_file
from tfface.config.values import (
    build,
    group_class,
    nearest,
    option_names,
    option_types,
    read_options,
    to_dict,
)
from tfface.errors import UserError

_RUN = {
    "config": ("FILE", "A YAML file of options."),
    "preset": ("NAME", "One of the bundled configurations: {presets}. (default: demo)"),
    "run": ("RUN", "Run folder; an existing run is continued. (default: a new runs/NNNNN-...)"),
    "change": (
        "",
        "Continue the run with other values of adam.*, train.precision or a batch size, which are "
        "recorded in its history.jsonl. Run length and reporting intervals may always change.",
    ),
    "init": (
        "RUN",
        "Initialise a new run with the weights of another run with the same networks, or of a "
        "shipped model such as sargan/faces64.",
    ),
    "replay": (
        "FILE",
        "Repeat a single step from the file that a diverged training wrote; no other option.",
    ),
    "print_config": ("", "Print all options as a file for --config, and exit."),
    "help": ("", "Show this help, and exit."),
}
"""Options of the command besides those of the method: placeholder of the value, and help."""


@dataclass(frozen=True)
class RunOptions:
    """Options of the command `train` besides those of the method.

    Attributes:
        run: The run folder; "" for a new one.
        change: Whether a run may continue with another optimiser, precision or batch size.
        init: The run whose weights initialise a new run; "" for none.
        replay: File of a single step to repeat; "" to train.
    """

    run: str = ""
    change: bool = False
    init: str = ""
    replay: str = ""


def parse_training(
    argv: list[str] | None, configs: dict[str, type], program: str = "python -m tfface.train"
) -> tuple[str, Any, RunOptions]:
    """Parses the command line of `train`.

    Args:
        argv: Arguments without the program name; None uses those of the process.
        configs: Config classes by method name.
        program: Name of the command in help and messages.

    Returns:
        The method's name, its config, and the run options.

    Raises:
        SystemExit: After `--help` or `--print_config` (status 0), or a mistake (status 2).
    """
    method, *words = list(sys.argv[1:] if argv is None else argv) or [""]
    if method in ("-h", "--help"):
        _finish(_overview(configs, program))
    if method not in configs:
        problem = f"unknown method {method!r}{nearest(method, configs)}" if method else "no method"
        _refuse(program, f"{problem}; expected one of {', '.join(configs)}")
    config_class = configs[method]
    try:
        values, run_options = _read_words(words, method, config_class)
        if "help" in run_options:
            _finish(_help(method, config_class, f"{program} {method}"))
        config = build(config_class, values)
        if "print_config" in run_options:
            _finish(yaml.safe_dump(to_dict(config), sort_keys=False))
        check(
            "replay" not in run_options
            or len(run_options) == 1
            and not set(_names_given(words)) - {"replay"},
            "--replay cannot be combined with other options",
        )
    except UserError as error:
        _refuse(f"{program} {method}", str(error))
    return method, config, RunOptions(**run_options)


def _names_given(words: list[str]) -> list[str]:
    return [word[2:].partition("=")[0] for word in words if word.startswith("--")]


def _read_words(words: list[str], method: str, config_class: type) -> tuple[dict, dict[str, Any]]:
    """Option values, where later ones override earlier ones, and the run options."""
    known = [*option_names(config_class), *_RUN]
    names = _names_given(words)
    for name in names:  # First: a misspelt option often causes the other errors.
        wrong = name not in _RUN and name not in option_types(config_class)
        check(not wrong, f"unknown option --{name}{nearest(name, known)}")
    if not {"preset", "config"} & set(names):
        words = ["--preset=demo", *words]
    values: dict[str, Any] = {}
    run_options: dict[str, Any] = {}
    words = list(words)
    while words:
        word = "--help" if words[0] == "-h" else words[0]
        words.pop(0)
        check(word.startswith("--"), f"{word!r} is not an option: expected --NAME VALUE")
        name, equals, value = word[2:].partition("=")
        if name in _RUN and not _RUN[name][0]:
            check(not equals, f"--{name} does not accept a value")
            run_options[name] = True
            continue
        if not equals:
            check(
                bool(words) and not words[0].startswith("--"),
                f"--{name} needs a value",
            )
            value = words.pop(0)
        if name in ("preset", "config"):
            path = value if name == "config" else preset_file(method, value)
            given = read_file(path)
        elif name in _RUN:
            run_options[name] = value
            continue
        else:
            path, given = "", {name: value}
        try:
            values = read_options(config_class, given, values)
        except UserError as error:
            raise UserError(f"{path}: {error}" if path else str(error)) from None
    return values, run_options


def _finish(text: str) -> NoReturn:
    print(text.rstrip())
    raise SystemExit(0)


def _refuse(command: str, message: str) -> NoReturn:
    print(f"see {command} --help\n{command}: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _overview(configs: dict[str, type], program: str) -> str:
    lines = [f"  {name:18}{_summary(kind)}" for name, kind in configs.items()]
    text = "Train a method. METHOD --help lists its options."
    return "\n".join([f"usage: {program} METHOD [--OPTION VALUE ...]", "", text, "", *lines])


def _help(method: str, config_class: type, program: str) -> str:
    """All options with descriptions, types and defaults."""
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} [--preset NAME] [--config FILE] [--run RUN] [--OPTION VALUE ...]",
        description=f"{_summary(config_class)} Without --preset or --config the preset 'demo' is "
        f"used. Later options override earlier ones. The defaults are the paper's where it gives "
        f"them; a preset overrides them.",
        add_help=False,
    )
    command = parser.add_argument_group("the run")
    for name, (metavar, text) in _RUN.items():
        text = text.format(presets=", ".join(presets(method)))
        flag = {"metavar": metavar} if metavar else {"action": "store_true"}
        command.add_argument(f"--{name}", help=text, **flag)
    _add_options(
        parser, config_class, parser.add_argument_group("options"), _defaults(config_class)
    )
    return parser.format_help()


def _add_options(
    parser: argparse.ArgumentParser, config_class: type, place: Any, base: Any, prefix: str = ""
) -> None:
    described = _descriptions(config_class)
    for field in dataclasses.fields(config_class):
        name, kind = prefix + field.name, option_types(config_class)[field.name]
        text, value = described.get(field.name, ""), base.get(field.name)
        if group := group_class(kind):
            default = _defaults(group) if value is None else vars(value)
            within = parser.add_argument_group(name, text)
            _add_options(parser, group, within, default, f"{name}.")
            continue
        metavar = getattr(kind, "__name__", "VALUE").upper()
        if choices := _choices(kind):
            metavar = f"{{{','.join(choices)}}}"
        elif isinstance(value, tuple):
            metavar, value = "[NAME,...]", f"[{', '.join(value)}]"
        shown = str(value).lower() if isinstance(value, bool) else value
        shown = f"{text} (default: {'empty' if shown == '' else shown})".replace("%", "%%")
        place.add_argument(f"--{name}", metavar=metavar, help=shown)


def _choices(kind: Any) -> tuple[str, ...]:
    words = getattr(kind, "__args__", ())
    return words if all(isinstance(word, str) for word in words) else ()


def _defaults(config_class: type) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(config_class)}


def _summary(config_class: type) -> str:
    return config_class.__doc__.splitlines()[0]


def _descriptions(config_class: type) -> dict[str, str]:
    """Descriptions of the options, from the section `Attributes` of the docstring."""
    _, _, section = config_class.__doc__.partition("Attributes:\n")
    descriptions: dict[str, str] = {}
    for line in section.splitlines():
        if start := re.match(r" {8}(\w+): (.*)", line):
            name, text = start.groups()
            descriptions[name] = text
        elif line.strip():
            descriptions[name] += f" {line.strip()}"
    return descriptions
