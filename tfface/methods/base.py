"""The contract of a method: a single-replica view without strategy, optimiser, files or clock."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import keras
import tensorflow as tf

from tfface.config import nearest
from tfface.data.base import Source
from tfface.errors import UserError

Networks = dict[str, keras.Model]
Batch = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Phase:
    """One optimiser update within a training step.

    Attributes:
        name: Passed to `Method.loss`.
        updates: Names of the networks whose weights it changes.
        every: It runs in every such step.
        rate: Its learning rate relative to the method's (two time scales, Heusel et al. 2017).
        rates: Learning rates of single networks relative to the phase's. Networks of one rate share
            an optimiser.
        start: The first step, counted from 0, in which it may run.
        stop: The step from which on it no longer runs; None: it runs to the end.
    """

    name: str
    updates: tuple[str, ...]
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
        example: One request, of one picture: warms a server up, and checks an export.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: dict[str, tf.TensorSpec]
    example: dict[str, Any]


# A named function of what the method takes to pictures [B,S,S,3] in [-1,1]; an edit is added to its
# original. What is only looked at is integers: label maps [B,S,S], or uint8 pictures [B,S,S,3].
Edit = tuple[str, Callable[[tf.Tensor], tf.Tensor]]


class Method(abc.ABC):
    """A published method.

    All randomness of a training step is drawn in `batches`, for the whole batch, from (seed, step).
    `loss` is therefore a pure function of weights and batch, and gives the same on any number of
    devices.

    Attributes:
        config: The method's config, with the names of its labels filled in.
        takes: What its `edits` are made of: "image", pictures [B,S,S,3] in [-1,1] that are changed;
            "label_map" or "lines", codes int32 [B,S,S] that new pictures are made from.
        averaged: Names of the networks that get averaged weights, and that an export needs.
        labelled: A second data set from which `batches` takes label maps, if there is one.
    """

    averaged: ClassVar[tuple[str, ...]]
    takes = "image"
    labelled: Source | None = None

    def __init__(self, config: Any):
        self.config = config

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
        """All that `loss` and `preview` need of a batch; arguments as of `Source.batches`."""

    @abc.abstractmethod
    def loss(self, phase: str, nets: Networks, batch: Batch) -> tuple[tf.Tensor, Batch]:
        """The scalar float32 loss of a phase, a mean over the batch, and its named terms."""

    @abc.abstractmethod
    def preview(self, nets: Networks, batch: Batch) -> dict[str, tf.Tensor]:
        """Columns of the preview picture: caption to pictures [B,S,S,3] in [-1,1]."""

    @abc.abstractmethod
    def edits(self, nets: Networks, options: dict[str, Any]) -> list[list[Edit]]:
        """What `tfface.edit` does to a picture, in the rows of its grid.

        Args:
            nets: The networks.
            options: Those given, by their names on the command line; `reference` and `exemplar`
                hold pictures float32 [S,S,3] in [-1,1].

        Raises:
            UserError: An option that the method does not have, a wrong or a missing value.
        """

    @abc.abstractmethod
    def signatures(self, nets: Networks) -> dict[str, Signature]:
        """Functions of the exported model; `serving_default` is one of them."""


def only(options: dict[str, Any], known: tuple[str, ...], method: str) -> None:
    """Raises a UserError for options of `tfface.edit` that a method does not have."""
    for name in options:
        if name not in known:
            raise UserError(
                f"--{name} is no option of {method}; it has {', '.join('--' + k for k in known)}"
            )


def known_label(what: str, name: str, known: tuple[str, ...]) -> int:
    """Index of a label; raises a UserError that lists those there are."""
    if name not in known:
        raise UserError(
            f"there is no {what} {name!r}{nearest(name, known)}; expected one of {', '.join(known)}"
        )
    return known.index(name)
