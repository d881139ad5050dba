"""What the checks of the contract share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import tfface.data
from tfface.config import parse_training
from tfface.data.synthetic import ATTRIBUTES, SyntheticFaces, render
from tfface.export import export_run
from tfface.layers import precision
from tfface.methods import get_config, get_method
from tfface.methods.base import Method, Networks
from tfface.methods.trained import Trained
from tfface.server.saved_model import SavedModel

RTOL, ATOL = 1e-4, 1e-5
POOL = 48


class FewFaces(SyntheticFaces):
    """The built-in faces, but only a few of them, drawn once: tests need no more.

    Batches are a pure function of (split, seed, number, where), as those of every source.
    """

    def batches(self, split, batch_size, *, seed=None, start=0, where=None):
        """Endless batches out of `POOL` faces."""
        faces = {k: tf.constant(v) for k, v in self._pool(split, where).items()}

        def pick(number):
            if seed is None:
                rows = (number * batch_size + tf.range(batch_size, dtype=tf.int64)) % POOL
            else:
                key = tf.stack([tf.constant(seed, tf.int64), number])
                rows = tf.random.stateless_uniform([batch_size], key, 0, POOL, tf.int32)
            return {name: tf.gather(values, rows) for name, values in faces.items()}

        return tf.data.Dataset.range(start, 2**40).map(pick)

    def exemplars(self, split, batch_size, *, seed=None, start=0, paired=1.0):
        """Endless batches: each face with the next one of the pool, whether a pair or not."""
        fields = ("image", "label_map")

        def add(number, batch):
            others = {"exemplar": "image", "exemplar_label_map": "label_map"}
            others = {name: tf.roll(batch[field], 1, 0) for name, field in others.items()}
            key = tf.stack([tf.constant(0 if seed is None else seed, tf.int64), number])
            coins = tf.random.stateless_uniform([batch_size], key)
            pair = tf.cast(coins < paired, tf.float32)
            return {**{k: batch[k] for k in fields}, **others, "paired": pair}

        return self.batches(split, batch_size, seed=seed, start=start).enumerate(start).map(add)

    @functools.cache  # noqa: B019  (sources of tests live as long as the tests)
    def _pool(self, split: str, where: tuple[str, bool] | None) -> dict[str, np.ndarray]:
        fields = ("image", "expression", "attributes", *self.fields)
        drawn = render(self.factors(split, 0, POOL, where), self.data.size, fields)
        pool = {name: drawn[name] for name in ("image", "expression", *self.fields)}
        if self.attributes:
            columns = [ATTRIBUTES.index(name) for name in self.attributes]
            pool["attributes"] = tf.gather(drawn["attributes"], columns, axis=1)
        return {name: value.numpy() for name, value in pool.items()}


def tiny_method(name: str, **train: Any) -> tuple[Method, FewFaces]:
    """A method with its `tiny` preset on a few built-in faces, which all its sources then are.

    Args:
        name: The method's name.
        **train: Options of `tfface.config.Train` that differ from the preset's.
    """
    _, config, _ = parse_training([name, "--preset", "tiny"], {name: get_config(name)})
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, **train))
    before = tfface.data.SOURCES["synthetic"]
    tfface.data.SOURCES["synthetic"] = "tfface.testing:FewFaces"
    try:
        return get_method(name).open(config)
    finally:
        tfface.data.SOURCES["synthetic"] = before


class Case:
    """What the checks of one method share. A check changes none of it.

    Args:
        name: The method's name.
        folder: An empty folder for files.
    """

    def __init__(self, name: str, folder: Path):
        self.name, self.folder = name, folder
        self.method, self.source = tiny_method(name, jit="off")
        self.config = self.method.config

    def build(self, policy: str | None = None) -> Networks:
        """New networks, always the same ones."""
        tf.keras.utils.set_random_seed(1)
        with precision(policy):
            return self.method.build()

    def batches(self, start: int = 0, seed: int | None = 0, split: str = "train"):
        """The method's batches."""
        size = self.config.data.batch_size
        return self.method.batches(self.source, split, size, seed=seed, start=start)

    @functools.cached_property
    def nets(self) -> Networks:
        """Networks whose weights are large enough that outputs depend on inputs visibly."""
        nets = self.build()
        for net in nets.values():
            for variable in net.trainable_variables:
                if len(variable.shape) > 1:
                    variable.assign(variable * 1.5)
        return nets

    @functools.cached_property
    def batch(self) -> dict[str, tf.Tensor]:
        """One training batch."""
        return next(iter(self.batches()))

    @functools.cached_property
    def trained(self) -> Trained:
        """The networks as a run."""
        return Trained(self.name, self.method, self.nets, 0, self.folder)

    @functools.cached_property
    def exported(self) -> Path:
        """Their export: the folder of a version."""
        return export_run(self.trained, self.folder / "export")

    @functools.cached_property
    def served(self) -> SavedModel:
        """The export in the runtime of TF Serving."""
        return SavedModel(self.exported)


CHECKS: dict[str, Callable[[Case], None]] = {}


def contract_check(function: Callable[[Case], None]) -> Callable[[Case], None]:
    """Adds a check to the contract."""
    CHECKS[function.__name__] = function
    return function


def require(condition: Any, message: str) -> None:
    """Raises an AssertionError with this message unless the condition holds."""
    if not condition:
        raise AssertionError(message)
