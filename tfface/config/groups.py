"""Option groups shared by several methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tfface.errors import UserError


def check(condition: bool, message: str) -> None:
    """Raises a UserError with the message unless the condition holds."""
    if not condition:
        raise UserError(message)


def check_least(options: Any, least: int, *names: str, group: str = "") -> None:
    """Raises a UserError unless each of the options has a minimum value.

    Args:
        options: Object with the options as attributes.
        least: Minimum value.
        *names: Names of the options.
        group: Prefix of the names in messages, such as "weights.".
    """
    expected = "0 or more" if least == 0 else f"at least {least}"
    for name in names:
        value = getattr(options, name)
        check(value >= least, f"{group}{name} is {_shown(value)}: expected {expected}")


def check_above_zero(options: Any, *names: str, group: str = "") -> None:
    """Raises a UserError unless each option is above 0; arguments as for `check_least`."""
    for name in names:
        value = getattr(options, name)
        check(value > 0, f"{group}{name} is {_shown(value)}: expected above 0")


def _shown(value: float) -> str:
    """Formats a number as typed by a user: -1, not -1.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


Crop = Literal["celeba", "celeba_hq", "elegant", "rafd", "synthetic"]
"""Names of the crops in `tfface.data.alignment.CROPS`."""


@dataclass(frozen=True)
class Data:
    """The data set.

    Attributes:
        name: Kind of data set: built-in faces; CelebA, CelebAMask-HQ, RaFD, KDEF, CFEE or AffectNet
            in their native layouts; or a folder per class.
        path: Folder of the data set (not for built-in faces).
        size: Side of the square images that the networks process, in pixels.
        batch_size: Images in a training batch, in total over all devices.
        flip: Randomly flip training images horizontally (never built-in faces).
        balance: Show all expression classes equally often in training, also those with fewer images
            (not for built-in faces, whose classes are equally frequent).
        allow_missing: Use the part of a data set that is there, if its lists name images that are
            missing.
        crop: Crop that the images were aligned to, which `edit --align` uses; "own": that of the
            data set (unknown for class folders, KDEF, CFEE and AffectNet).
    """

    name: Literal[
        "synthetic", "celeba", "celebamask_hq", "folder", "rafd", "kdef", "cfee", "affectnet"
    ] = "synthetic"
    path: str = ""
    size: int = 64
    batch_size: int = 16
    flip: bool = True
    balance: bool = False
    allow_missing: bool = False
    crop: Literal["own", Crop] = "own"

    def __post_init__(self):
        check(
            self.size >= 32 and self.size % 32 == 0,
            f"data.size is {self.size}: expected a multiple of 32, at least 32",
        )
        check(self.batch_size >= 1, f"data.batch_size is {self.batch_size}: expected at least 1")
        check(
            bool(self.path) or self.name == "synthetic",
            f"data.path is empty: expected the folder of the data set {self.name!r}",
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
        clip_norm: Maximum global norm of the gradients of an optimiser; larger gradients are scaled
            down to it. 0: no clipping.
        schedule: "constant"; "step": multiplied by `decay_factor` every `decay_every` steps;
            "linear": decreases to the fraction `end_factor` between `decay_start` and the last
            step, in intervals of `decay_every` steps.
        decay_factor: Factor of the schedule "step".
        decay_every: Steps between two changes of the learning rate.
        decay_start: Step at which the schedule "linear" starts to decrease.
        end_factor: Fraction of the learning rate at the end of the schedule "linear".
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
        steps: Total number of training steps, including those before a resume.
        seed: Seed of weights, data order and noise.
        precision: Data type for computation; weights stay float32. "auto": mixed_bfloat16 where the
            device is faster in it, by a convolution that is timed in both at every start, otherwise
            float32; the log says which.
        jit: Compile the gradient functions with XLA; "auto": on GPUs only (on CPUs convolutions are
            faster without it).
        deterministic: Use only deterministic operations: bit-identical results on the same
            devices, but slower.
        replicas: Number of devices; 0: all GPUs, or the CPU. With several machines (`TF_CONFIG`)
            every worker uses all its GPUs.
        accumulate: Number of equal parts into which each device splits its share of a batch, to
            need less memory; the gradients of the parts are added, so results stay the same.
        steps_per_call: Training steps in one call of the compiled function, without returning to
            Python in between: faster on accelerators if steps are short. Logs and checkpoints stay
            at their steps.
        ema_half_life: Half-life of the averaged generator weights, in thousands of images; 0: no
            averaging. Averaged weights are used for previews, editing and export.
        log_every: Steps between two lines of metrics.
        preview_every: Steps between two preview images.
        evaluate_every: Steps between two evaluations on a small sample, with the metrics of
            `tfface.evaluate`, logged as `evaluation/...`; 0: none. The first evaluation may have
            to train the evaluation classifier or segmenter.
        save_every: Steps between two checkpoints.
        keep: Number of checkpoints to keep.
        profile: Number of steps to record with TensorFlow's profiler, after the first ten, for the
            tab "Profile" of TensorBoard; 0: none.
    """

    steps: int = 200_000
    seed: int = 0
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16", "auto"] = "float32"
    jit: Literal["auto", "on", "off"] = "auto"
    deterministic: bool = False
    replicas: int = 0
    accumulate: int = 1
    steps_per_call: int = 1
    ema_half_life: float = 0.0
    log_every: int = 100
    preview_every: int = 1000
    evaluate_every: int = 0
    save_every: int = 1000
    keep: int = 2
    profile: int = 0

    def __post_init__(self):
        least_1 = ("steps", "log_every", "preview_every", "save_every", "keep")
        check_least(self, 1, *least_1, "accumulate", "steps_per_call", group="train.")
        least_0 = ("replicas", "evaluate_every", "profile", "ema_half_life")
        check_least(self, 0, *least_0, group="train.")


@dataclass(frozen=True)
class DiscriminatorOptions:
    """A discriminator of expressions.

    Attributes:
        width: Channels of the first convolution; every further one doubles them. For "projected"
            those of each head, which doubles them at most twice.
        layers: Number of convolutions, each of which halves the resolution; not for "projected".
        kind: "stargan": strided convolutions; "projected": heads on frozen features of ImageNet,
            for small sets of photographs (Projected GAN; ours here). It needs the package of
            `pip install 'tfface[features]'` and `adversarial` "multitask".
        rate: Learning rate relative to that of the generator, but for the steps that only train the
            classifier.
    """

    width: int = 64
    layers: int = 6
    kind: Literal["stargan", "projected"] = "stargan"
    rate: float = 1.0

    def check(self, size: int, adversarial: str, group: str) -> None:
        """Raises a UserError for unsuitable values.

        Args:
            size: Side of the images.
            adversarial: Kind of the adversarial loss.
            group: See `check_least`.
        """
        check_least(self, 1, "width", "layers", group=group)
        check_above_zero(self, "rate", group=group)
        if self.kind == "projected":
            check(
                adversarial == "multitask",
                f"{group}kind is 'projected', which has no realness map, but adversarial is "
                f"{adversarial!r}: expected 'multitask'",
            )
            return
        check(
            size % 2**self.layers == 0,
            f"{group}layers is {self.layers}: an image of {size} pixels cannot be halved "
            f"{self.layers} times",
        )


@dataclass(frozen=True)
class ClassifierOptions:
    """How a discriminator learns the expressions of real faces; all 0 in the paper, for short runs.

    Attributes:
        steps: Initial steps that train its expression classifier only; together with the other
            losses it would learn expressions much later.
        batch_size: Images in a batch of these steps.
        noise: Standard deviation of noise added to images before their expression is classified;
            it hides edits that only a network could see.
        attack: Length of the adversarial step (`tfface.losses.expressions.fast_gradient`) applied
            to real images before their expression is classified, so that the classifier learns
            visible features instead of ones that fool a network. It grows with the steps.
    """

    steps: int = 0
    batch_size: int = 32
    noise: float = 0.0
    attack: float = 0.0

    def __post_init__(self):
        check_least(self, 0, "steps", "noise", "attack", group="classifier.")
        check_least(self, 1, "batch_size", group="classifier.")

    def batch_sizes(self) -> dict[str, int]:
        """See `MethodConfig.batch_sizes`: that of the initial steps, if there are any."""
        return {"classifier.batch_size": self.batch_size} if self.steps else {}


class MethodConfig:
    """Base class of the methods' configs.

    Attributes:
        data: The data set.
        adam: The optimisers.
        train: The training loop.
    """

    data: Data
    adam: Adam
    train: Train

    def datasets(self) -> dict[str, Data]:
        """Data sets by the names of their option groups."""
        return {"data": self.data}

    def batch_sizes(self) -> dict[str, int]:
        """Sizes of training batches by option name; all batches are split over devices."""
        return {f"{name}.batch_size": data.batch_size for name, data in self.datasets().items()}


def learning_rate(adam: Adam, step: int, steps: int) -> float:
    """The learning rate of a step (counted from 0) in a run of `steps` steps."""
    changes = step // adam.decay_every
    if adam.schedule == "step":
        return adam.learning_rate * adam.decay_factor**changes
    if adam.schedule == "linear":
        last_change = changes * adam.decay_every
        progress = (last_change - adam.decay_start) / max(steps - adam.decay_start, 1)
        return adam.learning_rate * (1.0 - (1.0 - adam.end_factor) * min(max(progress, 0.0), 1.0))
    return adam.learning_rate
