"""Configuration: frozen dataclasses shared by the methods, presets, and the one parser.

Nothing here imports TensorFlow, so that `--help` and mistakes on the command line answer at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from tfface.errors import UserError


def check(condition: bool, message: str) -> None:
    """Raises a UserError with this message unless the condition holds."""
    if not condition:
        raise UserError(message)


@dataclass(frozen=True)
class Data:
    """Where the pictures come from.

    Attributes:
        name: The kind of data set: built-in faces, CelebA or CelebAMask-HQ in their native layouts,
            or a folder per class.
        path: Folder of the data set (not for built-in faces).
        size: Side of the square pictures that the networks see, in pixels.
        batch_size: Pictures in a training batch, over all devices together.
        flip: Flip training pictures left to right at random (built-in faces are never flipped).
    """

    name: Literal["synthetic", "celeba", "celebamask_hq", "folder"] = "synthetic"
    path: str = ""
    size: int = 64
    batch_size: int = 16
    flip: bool = True

    def __post_init__(self):
        check(
            self.size >= 32 and self.size % 32 == 0,
            f"data.size is {self.size}: expected a multiple of 32, at least 32",
        )
        check(self.batch_size >= 1, f"data.batch_size is {self.batch_size}: expected at least 1")
        check(
            bool(self.path) or self.name == "synthetic",
            f"data.path is empty: the data set {self.name!r} needs the folder it is in",
        )


@dataclass(frozen=True)
class Adam:
    """The Adam optimiser and its learning-rate schedule (a function of the training step alone).

    Attributes:
        learning_rate: Initial learning rate.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the denominator.
        l2: Coupled weight decay: l2 * weight is added to each gradient.
        clip_norm: Longest gradient of an optimiser's weights, all together; longer ones are scaled
            down to it. 0: any length.
        schedule: "constant"; "step": times `decay_factor` every `decay_every` steps; "linear": down
            to `end_factor` of it between `decay_start` and the last step, changed every
            `decay_every` steps.
        decay_factor: Factor of the schedule "step".
        decay_every: Steps between two changes of the learning rate.
        decay_start: First step of the decline of the schedule "linear".
        end_factor: Share of the learning rate that is left at the end of the schedule "linear".
    """

    learning_rate: float = 1e-4
    beta_1: float = 0.5
    beta_2: float = 0.999
    epsilon: float = 1e-8
    l2: float = 0.0
    clip_norm: float = 0.0
    schedule: Literal["constant", "step", "linear"] = "constant"
    decay_factor: float = 0.97
    decay_every: int = 1
    decay_start: int = 0
    end_factor: float = 0.0

    def __post_init__(self):
        check(
            self.learning_rate > 0,
            f"adam.learning_rate is {self.learning_rate}: expected a number above 0",
        )
        check(self.clip_norm >= 0, f"adam.clip_norm is {self.clip_norm}: expected 0 or more")
        check(self.decay_every >= 1, f"adam.decay_every is {self.decay_every}: expected at least 1")
        check(
            0 <= self.end_factor <= 1,
            f"adam.end_factor is {self.end_factor}: expected a number from 0 to 1",
        )


@dataclass(frozen=True)
class Train:
    """The training loop.

    Attributes:
        steps: Training steps in all (a resumed run counts those it has done).
        seed: Seed of weights, data order and noise.
        precision: Numbers that the layers compute with; weights stay float32.
        jit: Compile the gradient functions with XLA; "auto": on GPUs only (on CPUs convolutions are
            faster without).
        deterministic: Take only operations whose results are the same to the last bit each time,
            on the same devices; slower.
        replicas: Devices to train on; 0: all GPUs, or the one CPU.
        ema_half_life: Half-life of the averaged generator weights, in thousands of pictures; 0: no
            average. The averaged weights are those that are previewed, used and exported.
        log_every: Steps between two lines of metrics.
        preview_every: Steps between two preview pictures.
        evaluate_every: Steps between two measurements of a small sample, as of `tfface.evaluate`,
            which go to the metrics as `evaluation/...`; 0: none. The first one may have to train
            the classifier or segmenter that judges.
        save_every: Steps between two checkpoints.
        keep: Checkpoints to keep.
    """

    steps: int = 200_000
    seed: int = 0
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    jit: Literal["auto", "on", "off"] = "auto"
    deterministic: bool = False
    replicas: int = 0
    ema_half_life: float = 0.0
    log_every: int = 100
    preview_every: int = 1000
    evaluate_every: int = 0
    save_every: int = 1000
    keep: int = 2

    def __post_init__(self):
        for name in ("steps", "log_every", "preview_every", "save_every", "keep"):
            value = getattr(self, name)
            check(value >= 1, f"train.{name} is {value}: expected at least 1")
        for name in ("replicas", "evaluate_every"):
            value = getattr(self, name)
            check(value >= 0, f"train.{name} is {value}: expected 0 or more")
        check(
            self.ema_half_life >= 0,
            f"train.ema_half_life is {self.ema_half_life}: expected 0 or more",
        )


class MethodConfig:
    """What the configs of all methods have.

    Attributes:
        data: The data set.
        adam: The optimisers.
        train: The training loop.
    """

    data: Data
    adam: Adam
    train: Train

    def datasets(self) -> dict[str, Data]:
        """The data sets that are read, by the names of their options."""
        return {"data": self.data}

    def batch_sizes(self) -> dict[str, int]:
        """Sizes of training batches, by the names of their options; all are split over devices."""
        return {f"{name}.batch_size": data.batch_size for name, data in self.datasets().items()}


def learning_rate(adam: Adam, step: int, steps: int) -> float:
    """The learning rate of a step (counted from 0) in a run of `steps` steps."""
    changes = step // adam.decay_every
    if adam.schedule == "step":
        return adam.learning_rate * adam.decay_factor**changes
    if adam.schedule == "linear":
        held = changes * adam.decay_every
        declined = (held - adam.decay_start) / max(steps - adam.decay_start, 1)
        return adam.learning_rate * (1.0 - (1.0 - adam.end_factor) * min(max(declined, 0.0), 1.0))
    return adam.learning_rate


def to_dict(config: Any) -> dict:
    """A config as plain dicts and lists, as YAML gives them back."""
    plain = dataclasses.asdict(config)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def from_dict(config_class: type, values: dict) -> Any:
    """The inverse of `to_dict`; raises a UserError for a key that the class does not have."""
    parser = _class_parser(config_class)
    return _instantiate(parser, config_class, parser.parse_object(values))


def _class_parser(config_class: type):
    parser = _parser(f"config of {config_class.__name__}", exit_on_error=False)
    parser.add_class_arguments(config_class)
    return parser


def presets(method: str) -> dict[str, Path]:
    """Preset files of a method, by name."""
    folder = Path(__file__).parent / "methods" / method / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def from_preset(
    method: str, config_class: type, preset: str = "demo", options: Mapping[str, Any] | None = None
) -> Any:
    """A method's config from Python, as `train --preset` makes it.

    Args:
        method: The method's name.
        config_class: Its config class.
        preset: One of the bundled configurations.
        options: Values by the names of the options, such as `{"train.steps": 100}`.

    Raises:
        UserError: There is no such preset or option, or a value that does not fit.
    """
    values = {k: str(v) if isinstance(v, Path) else v for k, v in (options or {}).items()}
    parser = _class_parser(config_class)
    bundled = parser.parse_object(yaml.safe_load(_preset_file(method, preset).read_text()))
    return _instantiate(parser, config_class, parser.parse_object(values, bundled))


def _preset_file(method: str, preset: str) -> Path:
    known = presets(method)
    check(
        preset in known,
        f"there is no preset {preset!r} of {method}; expected one of {', '.join(known)}",
    )
    return known[preset]


def nearest(name: str, known: Any) -> str:
    """`; perhaps you mean 'x'?` for the name most like this one, or nothing."""
    begun = [other for other in known if name and other.startswith(name)]
    match = begun if len(begun) == 1 else difflib.get_close_matches(name, list(known), 1)
    return f"; perhaps you mean {match[0]!r}?" if match else ""


@dataclass(frozen=True)
class RunOptions:
    """What the command `train` is told beside the options of the method.

    Attributes:
        run: The run folder; "": a new one.
        change: Whether a run may go on with another optimiser, precision or batch size.
        init: The run whose weights a new run begins with; "": none.
        replay: A file of one step to repeat; "": none, training is wanted.
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
        argv: Arguments, without the program's name; None: those of the process.
        configs: Config class of each method, by the method's name.
        program: What help and messages call the command.

    Returns:
        The method's name, its config, and what is asked of the run.

    Raises:
        SystemExit: After `--help`, `--print_config` (status 0) or a mistake (status 2).
    """
    import sys

    argv = list(sys.argv[1:] if argv is None else argv)
    given = len(argv)
    parser = _parser(program, description="Train a method; see METHOD --help.")
    commands = parser.add_subcommands(dest="method")
    parsers = {}
    for method, config_class in configs.items():
        names = ", ".join(presets(method))
        sub = parsers[method] = _parser(
            description=f"{config_class.__doc__.splitlines()[0]}\n\nWithout --preset or --config "
            f"the preset 'demo' is used. Options given later on the line win."
        )
        sub.add_argument("--config", action="config", help="A YAML file of options.")
        sub.add_argument(
            "--preset",
            type=str,
            default="",
            metavar="NAME",
            help=f"One of the bundled configurations: {names}.",
        )
        sub.add_argument(
            "--run",
            type=str,
            default="",
            help="Run folder; an existing run is continued. Default: a new runs/NNNNN-...",
        )
        sub.add_argument(
            "--change",
            action="store_true",
            help="Continue the run with other values of adam.*, train.precision or a batch size; "
            "the run's history.jsonl keeps them. Lengths and reports may always change.",
        )
        sub.add_argument(
            "--init",
            type=str,
            default="",
            metavar="RUN",
            help="Begin a new run with the weights of another one of the same networks, or of a "
            "shipped model such as sargan/faces64.",
        )
        sub.add_argument(
            "--replay",
            type=str,
            default="",
            metavar="FILE",
            help="Repeat the one step that a training which diverged has written; no other option.",
        )
        sub.add_class_arguments(config_class)
        commands.add_subcommand(method, sub, help=config_class.__doc__.splitlines()[0])
    if argv and argv[0] in configs:
        argv = _presets_to_files(parsers[argv[0]], argv)
    namespace = parser.parse_args(argv)
    method = namespace.method
    try:
        config = _instantiate(parsers[method], configs[method], namespace[method])
    except UserError as error:
        parsers[method].error(str(error))
    names = [f.name for f in dataclasses.fields(RunOptions)]
    asked = RunOptions(**{name: namespace[method][name] for name in names})
    if asked.replay and given > (2 if f"--replay={asked.replay}" in argv else 3):
        parsers[method].error("--replay repeats a step as it was: expected no other option")
    return method, config, asked


def _presets_to_files(parser, argv: list[str]) -> list[str]:
    """Replaces `--preset NAME` by `--config FILE`: one mechanism serves both."""
    words = list(argv)
    given = any(word.split("=")[0] in ("--preset", "--config") for word in words)
    if not given:
        words[1:1] = ["--preset", "demo"]
    out = []
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name != "--preset":
            out.append(word)
            continue
        if not equals:
            value = words.pop(0) if words else ""
        try:
            out += ["--config", str(_preset_file(argv[0], value))]
        except UserError as error:
            parser.error(str(error))
    return out


def _instantiate(parser, config_class: type, namespace) -> Any:
    fields = dataclasses.fields(config_class)
    names, optional = [f.name for f in fields], [f.name for f in fields if f.default is None]
    for key, value in namespace.items():
        empty = value is None and key.split(".")[0] in names and key not in optional
        check(not empty, f"{key} is empty: expected a value")
    objects = parser.instantiate(namespace)
    values = {name: objects[name] for name in names}
    return config_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _parser(prog: str | None = None, description: str = "", exit_on_error: bool = True):
    import jsonargparse

    class Parser(jsonargparse.ArgumentParser):
        """Adds the nearest known option to the message about an unknown one."""

        def error(self, message, ex=None):
            lines = [line.strip() for line in str(message).splitlines() if line.strip()]
            text = " ".join(lines)
            known = [word.lstrip("-") for word in self._option_string_actions]
            for name in re.findall(r"--([\w.]+)|[Kk]ey '([\w.]+)'|'([\w.]+)' is not", text)[:1]:
                name = next(filter(None, name))
                if name not in known:
                    text += nearest(name, known)
            if not exit_on_error:
                raise UserError(text)
            prog = self.prog.replace(" [options]", "")
            self.exit(2, f"see {prog} --help\n{prog}: error: {text}\n")

    options = {} if prog is None else {"prog": prog}
    return Parser(description=description, exit_on_error=True, **options)
