"""Figures of a trained method, computed in this process."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from tfface.engine.load import Trained
from tfface.errors import UserError
from tfface.metrics import classifier, segmenter

SEED = 1
"""Of the people that are measured and shown."""

_AT_ONCE = 32  # Pictures that go through the networks together.


class Local:
    """Answers as a `tfface.client.FaceClient` of the exported run would, without a server.

    Args:
        trained: A loaded run.
    """

    def __init__(self, trained: Trained):
        self._functions = {
            name: tf.function(signature.function, autograph=False).get_concrete_function(
                **{key: tf.TensorSpec(s.shape, s.dtype) for key, s in signature.inputs.items()}
            )
            for name, signature in trained.method.signatures(trained.nets).items()
            if not name.endswith("bytes")
        }

    def predict(
        self, inputs: dict[str, Any], signature: str = "serving_default"
    ) -> dict[str, np.ndarray]:
        """The outputs of a signature on arrays by input name; 32 examples at a time."""
        run, parts = self._functions[signature], []
        for start in range(0, len(next(iter(inputs.values()))), _AT_ONCE):
            some = {k: tf.constant(v[start : start + _AT_ONCE]) for k, v in inputs.items()}
            parts.append({name: value.numpy() for name, value in run(**some).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def parts_of(method: str) -> ModuleType:
    """What is measured and shown of a method: its module `demo`."""
    return importlib.import_module(f"tfface.methods.{method}.demo")


def yardstick_of(trained: Trained, cache: Path | None, steps: int | None = None) -> Any:
    """The classifier or segmenter of real renders that judges a method; None if it needs none.

    Args:
        trained: A run.
        cache: Folder in which it is kept, and found the next time.
        steps: Its training steps; None: enough.
    """
    config, kind = trained.method.config, parts_of(trained.name).YARDSTICK
    if kind == "segmenter":
        steps = steps or segmenter.STEPS
        return segmenter.train_segmenter(config.data.size, steps=steps, cache=cache)
    if kind == "classifier":
        attributes, steps = getattr(config, "attributes", ()), steps or classifier.STEPS
        return classifier.train_classifier(config.data.size, attributes, steps=steps, cache=cache)
    return None


def measure(
    trained: Trained,
    *,
    count: int | None = None,
    seed: int = SEED,
    small: bool = False,
    cache: Path | None = None,
) -> dict[str, Any]:
    """A method's figures on held-out people; the same arguments give the same figures.

    Args:
        trained: A loaded run on built-in faces.
        count: How many people, or pairs of people; None: as many as the method's figures need.
        seed: Which people.
        small: A small sample, in seconds, unless `count` says otherwise.
        cache: Folder in which the classifier or segmenter that judges is kept; None: it is trained
            anew.

    Returns:
        Nested dicts, as of the `evaluate` of the method's module `demo`.

    Raises:
        UserError: `count` is below 1, or the run is of another data set.
    """
    parts = parts_of(trained.name)
    if count is not None and count < 1:
        raise UserError(f"count is {count}: expected at least 1")
    if trained.method.config.data.name != "synthetic":
        raise UserError(f"{trained.path} is a run on other data than built-in faces")
    count = count or parts.COUNTS[bool(small)]
    return parts.evaluate(trained, Local(trained), yardstick_of(trained, cache), count, seed)


def flat(figures: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of nested figures by their names, joined by slashes, such as `edited/accuracy`."""
    found: dict[str, float] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            found[f"{prefix}{key}"] = float(value)
    return found
