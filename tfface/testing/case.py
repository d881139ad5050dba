"""Fixtures shared by the checks of the contract."""

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
from tfface.exporting.saved_model import export_run
from tfface.layers import precision
from tfface.methods import get_config, get_method
from tfface.methods.base import Method, Networks
from tfface.methods.trained import Trained
from tfface.server.saved_model import SavedModel

RTOL, ATOL = 1e-4, 1e-5
POOL = 48
_pools: dict[tuple, dict[str, np.ndarray]] = {}


class FewFaces(SyntheticFaces):
    """A small pool of built-in faces, rendered once in a process, for fast tests.

    As for every source, batches are a pure function of (split, seed, number, where).
    """

    def batches(self, split, batch_size, *, seed=None, start=0, where=None):
        """Endless batches drawn from `POOL` faces."""
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
        """Endless batches of faces, each with the next face of the batch as exemplar."""
        fields = ("image", "label_map")

        def add(number, batch):
            others = {"exemplar": "image", "exemplar_label_map": "label_map"}
            others = {name: tf.roll(batch[field], 1, 0) for name, field in others.items()}
            key = tf.stack([tf.constant(0 if seed is None else seed, tf.int64), number])
            coins = tf.random.stateless_uniform([batch_size], key)
            pair = tf.cast(coins < paired, tf.float32)
            return {**{k: batch[k] for k in fields}, **others, "paired": pair}

        return self.batches(split, batch_size, seed=seed, start=start).enumerate(start).map(add)

    def _pool(self, split: str, where: tuple[str, bool] | None) -> dict[str, np.ndarray]:
        names = ("image", "expression", *self.fields)
        key = (split, where, self.data.size, self.classes, self._own_mouth, names)
        if key not in _pools:
            factors = self.factors(split, 0, POOL, where)
            drawn = render(factors, self.data.size, (*names, "attributes"))
            _pools[key] = {name: value.numpy() for name, value in drawn.items()}
        pool = {name: _pools[key][name] for name in names}
        if self.attributes:
            columns = [ATTRIBUTES.index(name) for name in self.attributes]
            pool["attributes"] = _pools[key]["attributes"][:, columns]
        return pool


def tiny_method(name: str, **train: Any) -> tuple[Method, FewFaces]:
    """A method with its `tiny` preset, and a `FewFaces` source.

    Args:
        name: Name of the method.
        **train: Options of `tfface.config.Train` that override the preset.
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
    """Fixtures for the checks of a method, which must not modify them.

    Args:
        name: Name of the method.
        folder: An empty folder; created if missing.
    """

    def __init__(self, name: str, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.folder = name, folder
        self.method, self.source = tiny_method(name, jit="off")
        self.config = self.method.config

    def build(self, policy: str | None = None) -> Networks:
        """New networks, always with the same weights."""
        tf.keras.utils.set_random_seed(1)
        with precision(policy):
            return self.method.build()

    def batches(self, start: int = 0, seed: int | None = 0, split: str = "train"):
        """Batches of the method."""
        size = self.config.data.batch_size
        return self.method.batches(self.source, split, size, seed=seed, start=start)

    @functools.cached_property
    def nets(self) -> Networks:
        """Networks with enlarged weights, so that outputs clearly depend on inputs."""
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
        """The version folder of their export."""
        return export_run(self.trained, self.folder / "export")

    @functools.cached_property
    def served(self) -> SavedModel:
        """The export, loaded by the server's SavedModel runtime."""
        return SavedModel(self.exported)


CHECKS: dict[str, Callable[[Case], None]] = {}


def contract_check(function: Callable[[Case], None]) -> Callable[[Case], None]:
    """Adds a check to the contract."""
    CHECKS[function.__name__] = function
    return function


def require(condition: Any, message: str) -> None:
    """Raises an AssertionError with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)
