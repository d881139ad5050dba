"""Groups of options that several methods share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tfface.errors import UserError


def check(condition: bool, message: str) -> None:
    """Raises a UserError with this message unless the condition holds."""
    if not condition:
        raise UserError(message)


def check_least(options: Any, least: int, *names: str, group: str = "") -> None:
    """Raises a UserError unless each of these options is at least so much.

    Args:
        options: Has the options as attributes.
        least: The least value.
        *names: Names of the options.
        group: What comes before the names in messages, such as "weights.".
    """
    expected = "0 or more" if least == 0 else f"at least {least}"
    for name in names:
        value = getattr(options, name)
        check(value >= least, f"{group}{name} is {_shown(value)}: expected {expected}")


def check_above_zero(options: Any, *names: str, group: str = "") -> None:
    """Raises a UserError unless each of these options is above 0; arguments as `check_least`."""
    for name in names:
        value = getattr(options, name)
        check(value > 0, f"{group}{name} is {_shown(value)}: expected above 0")


def _shown(value: float) -> str:
    """A number as one would type it: -1, not -1.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Data:
    """Where the images come from.

    Attributes:
        name: The kind of data set: built-in faces, CelebA or CelebAMask-HQ in their native layouts,
            or a folder per class.
        path: Folder of the data set (not for built-in faces).
        size: Side of the square images that the networks see, in pixels.
        batch_size: Images in a training batch, over all devices together.
        flip: Flip training images left to right at random (built-in faces are never flipped).
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
        ema_half_life: Half-life of the averaged generator weights, in thousands of images; 0: no
            average. The averaged weights are those that are previewed, used and exported.
        log_every: Steps between two lines of metrics.
        preview_every: Steps between two preview images.
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


@dataclass(frozen=True)
class DiscriminatorOptions:
    """A discriminator of convolutions, each of which halves the image.

    Attributes:
        width: Channels of the first convolution, doubled by each next one.
        layers: Number of convolutions.
    """

    width: int = 64
    layers: int = 6

    def check(self, size: int, group: str) -> None:
        """Raises a UserError unless they fit images of this side; `group` as of `check_least`."""
        check_least(self, 1, "width", "layers", group=group)
        check(
            size % 2**self.layers == 0,
            f"{group}layers is {self.layers}: an image of {size} pixels cannot be halved so often",
        )


@dataclass(frozen=True)
class ClassifierOptions:
    """How a discriminator learns the expressions of real faces. The paper: all 0; for short runs.

    Attributes:
        steps: Steps at the beginning in which it learns the expressions alone; with the other
            losses beside them, it learns them much later.
        batch_size: Images in a batch of these steps.
        noise: Standard deviation of the noise on images whose expression is classified: edits
            that only a network can see do not get through it.
        attack: Length of the step against the discriminator that real images take before their
            expression is classified (`tfface.losses.expressions.fast_gradient`), so that it learns
            what a face has to show and not what fools a network. It grows with the steps.
    """

    steps: int = 0
    batch_size: int = 32
    noise: float = 0.0
    attack: float = 0.0

    def __post_init__(self):
        check_least(self, 0, "steps", "noise", "attack", group="classifier.")
        check_least(self, 1, "batch_size", group="classifier.")

    def batch_sizes(self) -> dict[str, int]:
        """As of `MethodConfig`: that of the first steps, if there are any."""
        return {"classifier.batch_size": self.batch_size} if self.steps else {}


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
