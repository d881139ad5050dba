"""The contract of a method: a single-replica view without strategy, optimiser, files or clock."""

from __future__ import annotations

import abc
import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfface.data.base import Source

Networks = dict[str, keras.Model]
Batch = dict[str, tf.Tensor]


class Task(enum.Enum):
    """What a method does; `tfface.evaluation` measures each task in its own way."""

    EXPRESSION = "an image and an expression to the image with it"
    SEGMENTED_EXPRESSION = "the same, and the image's label map"
    SEGMENTATION = "an image to its label map"
    ATTRIBUTE = "an image, a reference and an attribute to the image with the reference's"
    LABEL_MAP = "a label map and a style to an image"
    EXEMPLAR = "a label map, or lines, and an exemplar to an image"


Losses = tuple[tf.Tensor, Batch]
"""The scalar float32 loss of a phase, a mean over the batch, and its named terms."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """One optimiser update within a training step.

    Attributes:
        name: Its name in metrics.
        updates: Names of the networks whose weights it changes.
        loss: A pure function of weights and batch.
        every: It runs in every such step.
        rate: Its learning rate relative to the method's (two time scales, Heusel et al. 2017).
        rates: Learning rates of single networks relative to the phase's. Networks of one rate share
            an optimiser.
        start: The first step, counted from 0, in which it may run.
        stop: The step from which on it no longer runs; None: it runs to the end.
    """

    name: str
    updates: tuple[str, ...]
    loss: Callable[[Networks, Batch], Losses]
    every: int = 1
    rate: float = 1.0
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    start: int = 0
    stop: int | None = None

    def groups(self) -> dict[str, tuple[tuple[str, ...], float]]:
        """The optimisers: name to the networks that each updates, and its learning rate."""
        by_rate: dict[float, list[str]] = {}
        for name in self.updates:
            by_rate.setdefault(self.rates.get(name, 1.0), []).append(name)
        return {
            self.name if factor == 1.0 else f"{self.name}@{factor:g}": (
                tuple(names),
                self.rate * factor,
            )
            for factor, names in by_rate.items()
        }

    def due(self, number: int) -> bool:
        """Whether it runs in the step `number`, counted from 0."""
        begun = number >= self.start and (self.stop is None or number < self.stop)
        return begun and (number + 1) % self.every == 0


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of an exported model.

    Attributes:
        function: Takes the named tensors, returns a dict of named tensors.
        inputs: Name to `tf.TensorSpec`, whose first dimension is the batch (None).
        example: One request, of one image: warms a server up, and checks an export.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: dict[str, tf.TensorSpec]
    example: dict[str, Any]


class Method(abc.ABC):
    """A published method.

    All randomness of a training step is drawn in `batches`, for the whole batch, from (seed, step).
    The losses of `phases` are therefore pure functions of weights and batch, and give the same on
    any number of devices.

    Attributes:
        config: The method's config, with the names of its labels filled in.
        title: What it is and does, in reports.
        curves: Names of the metrics that reports plot, such as "generator/fake"; those that a
            config does not have are left out.
        task: What it does.
        takes: What its results are made of: "image", images [B,S,S,3] in [-1,1] that are changed;
            "label_map" or "lines", codes int32 [B,S,S] that new images are made from.
        averaged: Names of the networks that get averaged weights, and that an export needs.
        labelled: A second data set from which `batches` takes label maps, if there is one.
    """

    title: str
    curves: tuple[str, ...]
    averaged: tuple[str, ...]
    task: Task
    takes = "image"
    labelled: Source | None = None

    def __init_subclass__(cls):
        super().__init_subclass__()
        for name in ("title", "curves", "task"):
            if not hasattr(cls, name):
                raise TypeError(f"method {cls.__name__} has no {name!r}")

    def __init__(self, config: Any):
        self.config = config

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its expressions or attributes, if it has any."""
        return ()

    @classmethod
    @abc.abstractmethod
    def open(cls, config: Any) -> tuple[Method, Source]:
        """Opens the data set; returns the method, with its labels resolved, and the data."""

    @abc.abstractmethod
    def build(self) -> Networks:
        """Newly initialised networks, for the current Keras precision policy and random seed."""

    @abc.abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The updates of a training step, in order."""

    @abc.abstractmethod
    def batches(
        self,
        source: Source,
        split: str,
        batch_size: int,
        *,
        seed: int | None = None,
        start: int = 0,
    ) -> tf.data.Dataset:
        """All that losses and `preview` need of a batch; arguments as of `Source.batches`."""

    @abc.abstractmethod
    def evaluation_source(self) -> Source:
        """The data set, opened with all that an evaluation reads of it."""

    def loss(self, phase: str, nets: Networks, batch: Batch) -> Losses:
        """The loss of a phase, by its name."""
        return {p.name: p.loss for p in self.phases()}[phase](nets, batch)

    @abc.abstractmethod
    def preview(self, nets: Networks, batch: Batch) -> dict[str, tf.Tensor]:
        """Columns of the preview image: caption to images [B,S,S,3] in [-1,1]."""

    @abc.abstractmethod
    def signatures(self, nets: Networks) -> dict[str, Signature]:
        """Functions of the exported model; `serving_default` is one of them."""
