"""The bundled configurations of the methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tfface.config.groups import check
from tfface.config.values import Texts, build, nearest, read_options
from tfface.errors import UserError

_METHODS = Path(__file__).parents[1] / "methods"


def presets(method: str) -> dict[str, Path]:
    """Preset files of a method, by name."""
    return {path.stem: path for path in sorted((_METHODS / method / "presets").glob("*.yaml"))}


def preset_file(method: str, preset: str) -> Path:
    """The file of a preset; raises a UserError if it does not exist."""
    known = presets(method)
    check(
        preset in known,
        f"{method} has no preset {preset!r}{nearest(preset, known)}; "
        f"expected one of {', '.join(known)}",
    )
    return known[preset]


def read_file(path: str | Path) -> dict:
    """Options of a YAML file, scalars as strings; raises a UserError that names the file."""
    try:
        values = yaml.load(Path(path).read_text(), Texts)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    check(isinstance(values, dict), f"{path}: expected a mapping of options to values")
    return values


def from_preset(
    method: str, config_class: type, preset: str = "demo", options: Mapping[str, Any] | None = None
) -> Any:
    """A method's config from a preset, as for `train --preset`.

    Args:
        method: Name of the method.
        config_class: Config class of the method.
        preset: One of the bundled configurations.
        options: Values that override the preset, by option name: `{"train.steps": 100}`.

    Raises:
        UserError: An unknown preset or option, or an invalid value.
    """
    bundled = read_options(config_class, read_file(preset_file(method, preset)))
    return build(config_class, read_options(config_class, options or {}, bundled))
