"""The interface of a method: networks, losses, batches and signatures.

It knows no distribution strategy, optimiser, file or clock; those belong to the training engine.
"""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfface.data.base import Source

Networks = dict[str, keras.Model]
Batch = dict[str, tf.Tensor]


class Task(enum.Enum):
    """What a method does; `tfface.evaluation` has its own metrics for each task."""

    EXPRESSION = "image and target expression to edited image"
    SEGMENTED_EXPRESSION = "image and target expression to edited image and label map"
    SEGMENTATION = "image to label map"
    ATTRIBUTE = "image, reference image and attribute to image with the reference's attribute"
    LABEL_MAP = "label map and style to image"
    EXEMPLAR = "label map or line drawing, and exemplar image, to image"


Losses = tuple[tf.Tensor, Batch]
"""The loss of a phase, a float32 scalar averaged over the batch, and its terms by name."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """One optimiser update within a training step.

    Attributes:
        name: Name of the phase in metrics.
        updates: Names of the networks whose weights the phase updates.
        loss: A pure function of weights and batch; the batch includes the results of `forward`.
        forward: A pure function of weights and batch that computes float tensors, such as the
            generated images, of which phases of a step have use in common. The engine calls that of
            the last phase of a step, once, for all phases that have one: their results must be
            equal, and must not depend on weights that an earlier phase of the step updates.
        every: The phase runs once in this many steps.
        rate: Learning rate relative to the method's (two time scales, Heusel et al. 2017).
        rates: Learning rates of single networks relative to the phase's. Networks with the same
            rate share an optimiser.
        start: The first step, counted from 0, in which the phase may run.
        stop: The step from which on the phase no longer runs; None: it runs to the end.
    """

    name: str
    updates: tuple[str, ...]
    loss: Callable[[Networks, Batch], Losses]
    forward: Callable[[Networks, Batch], Batch] | None = None
    every: int = 1
    rate: float = 1.0
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    start: int = 0
    stop: int | None = None

    def __call__(self, nets: Networks, batch: Batch) -> Losses:
        """The loss, with a forward pass of its own."""
        return self.loss(nets, {**batch, **self.forward(nets, batch)} if self.forward else batch)

    def groups(self) -> dict[str, tuple[tuple[str, ...], float]]:
        """The optimisers by name: the networks that each updates, and its relative rate."""
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
        """Whether the phase runs in the step `number`, counted from 0."""
        begun = number >= self.start and (self.stop is None or number < self.stop)
        return begun and (number + 1) % self.every == 0


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of an exported model.

    Attributes:
        function: Accepts the named tensors and returns a dict of named tensors.
        inputs: Name to `tf.TensorSpec`, whose first dimension is the batch (None).
        example: An example request with one image, to warm up a server and to check an export.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: dict[str, tf.TensorSpec]
    example: dict[str, Any]


def traced(*specs: tf.TensorSpec) -> Callable[[Callable], Callable]:
    """Decorates a function that several signatures share: an export builds its graph only once.

    A signature that needs only a part of the outputs should call something smaller: TensorFlow
    removes networks whose output is not used layer by layer, which takes seconds.
    """
    return functools.partial(tf.function, input_signature=specs, autograph=False)


class Method(abc.ABC):
    """A published method.

    All random numbers of a training step are drawn in `batches`, for the whole batch, from
    (seed, step). The losses of `phases` are therefore pure functions of weights and batch, and do
    not depend on the number of devices.

    Attributes:
        config: The method's config, with the names of its labels filled in.
        title: Name and purpose of the method, for reports.
        curves: Names of the metrics that reports plot, such as "generator/fake"; metrics that a
            config does not produce are left out.
        task: What the method does.
        takes: Its input: "image", images [B,S,S,3] in [-1,1] to be edited; "label_map" or "lines",
            class codes int32 [B,S,S] from which new images are generated.
        averaged: Names of the networks that get averaged weights and that an export needs.
        labelled: A second data set from which `batches` reads label maps, if there is one.
        mixes_images: Whether `batches` combines images of a batch with each other, so that a worker
            needs more of them than its share.
    """

    title: str
    curves: tuple[str, ...]
    averaged: tuple[str, ...]
    task: Task
    takes = "image"
    labelled: Source | None = None
    mixes_images = False

    def __init_subclass__(cls):
        super().__init_subclass__()
        for name in ("title", "curves", "task"):
            if not hasattr(cls, name):
                raise TypeError(f"method {cls.__name__} has no {name!r}")

    def __init__(self, config: Any):
        self.config = config

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the expressions or attributes that the method edits, if any."""
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
        """Batches with the inputs of losses and `preview`; arguments as for `Source.batches`."""

    @abc.abstractmethod
    def evaluation_source(self) -> Source:
        """The data set, opened with all fields that an evaluation reads."""

    def loss(self, phase: str, nets: Networks, batch: Batch) -> Losses:
        """The loss of the phase with this name."""
        return {p.name: p for p in self.phases()}[phase](nets, batch)

    @abc.abstractmethod
    def preview(self, nets: Networks, batch: Batch) -> dict[str, tf.Tensor]:
        """Columns of the preview image: caption to images [B,S,S,3] in [-1,1]."""

    @abc.abstractmethod
    def signatures(self, nets: Networks) -> dict[str, Signature]:
        """Functions of the exported model, including `serving_default`."""
