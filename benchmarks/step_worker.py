"""The child processes of `train_step.py`, which take turns: one case in one precision each.

A child prints the weights of its units as a line of JSON, then reads names of units from stdin,
runs each once and prints its seconds. Called as `python step_worker.py CASE_AS_JSON`.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SKIPPED = 8  # Untimed steps before a turn: more than a pipeline keeps ready while the child waits.
Units = dict[str, tuple[float, Callable[[], float]]]
"""By name: weight of the unit in the sum over units, and a function that returns its seconds."""

# Units of a training step in the `paper` cases by method, with their weights in an iteration.
UNITS = {
    "sargan": {"discriminator step": 4.0, "discriminator and generator step": 1.0},
    "elegant": {"discriminator and generator step": 1.0},
    "mask_guided": {"generator, forward and backward": 1.0},
    "seg_hierarchical": {"global generator, forward and backward": 1.0},
}
PEAK = "matrix product"
SIDE = 2048  # Of the matrices of this product.


def serve(units: Units, notes: dict[str, Any]) -> None:
    """Answers on stdout until stdin ends; other output to stdout goes to stderr."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        weights = {name: weight for name, (weight, _) in units.items()}
        print(json.dumps({"units": weights, **notes}), file=answers, flush=True)
        for line in sys.stdin:
            print(units[line.strip()][1](), file=answers, flush=True)


def timed(run: Callable[[], Any]) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def fastest(run: Callable[[], Any], least: float = 0.5) -> float:
    """Seconds of the fastest of the calls that fit into `least` seconds, at least one."""
    times = [timed(run)]
    while sum(times) < least:
        times.append(timed(run))
    return min(times)


def peak_unit(matrix: Callable[[int], Any], product: Callable[[Any, Any], Any]) -> Units:
    """The unit that measures a large matrix product."""
    a, b = matrix(SIDE), matrix(SIDE)
    return {PEAK: (0.0, lambda: fastest(lambda: product(a, b)))}


class Stage:
    """Training steps of a stage, with data, as in `Trainer.train`.

    Args:
        trainer: The trainer.
        start: First step of the stage, from 0.
        stop: First step after it.
        steps: Steps per turn.
    """

    def __init__(self, trainer, start: int, stop: int, steps: int):
        self._trainer, self._start, self._stop = trainer, start, stop
        self._steps = min(steps, stop - start - SKIPPED)
        self._number, self._data = stop, iter(())

    def __call__(self) -> float:
        """Seconds of a step, as the mean of a turn."""
        if self._number + SKIPPED + self._steps > self._stop:
            self._number, self._data = self._start, self._trainer.batches(self._start)
        self._run(SKIPPED)
        return timed(lambda: self._run(self._steps)) / self._steps

    def _run(self, count: int) -> None:
        for batch in itertools.islice(self._data, count):
            _, values = self._trainer.step(self._number, batch)
            self._number += 1
        values.numpy()  # Waits for the last step.


def demo(method: str, precision: str, steps: int) -> tuple[Units, dict[str, Any]]:
    """A stage of a `demo` preset per unit; its weight is the stage's number of steps."""
    from tfface.config import from_preset
    from tfface.engine.run import Run
    from tfface.engine.trainer import Trainer
    from tfface.methods import get_config, get_method

    options = {"train.precision": precision} if precision else {}
    config = from_preset(method, get_config(method), "demo", options)
    opened, source = get_method(method).open(config)
    trainer = Trainer(opened, source, Run("unused"))  # `step` and `batches` write nothing.
    ends = {0, config.train.steps}
    for phase in opened.phases():
        ends |= {phase.start, config.train.steps if phase.stop is None else phase.stop}
    units = {
        f"steps {start} to {stop}": (stop - start, Stage(trainer, start, stop, steps))
        for start, stop in itertools.pairwise(sorted(ends))
    }
    return units, {"precision": config.train.precision}


# What the `paper` presets leave to the data, and sizes for one processor.
PAPER = {
    "sargan": {"classes": ["AFS", "ANS", "DIS", "HAS", "NES", "SAS", "SUS"]},
    "elegant": {"data.batch_size": 4},
    "mask_guided": {"data.batch_size": 2},
    "seg_hierarchical": {
        "classes": ["AFS", "ANS", "DIS", "HAS", "NES", "SAS", "SUS"],
        "data.size": 256,
        "data.batch_size": 2,
        "labelled.size": 256,
    },
}


def paper(method: str, precision: str, exchange: str, writes: bool) -> tuple[Units, dict[str, Any]]:
    """Training steps of a `paper` preset on a fixed batch, inference, and a matrix product.

    Args:
        method: Name of the method.
        precision: Precision policy.
        exchange: File for weights, batch and reference values, which PyTorch reads.
        writes: Whether to write this file.
    """
    import numpy as np
    import tensorflow as tf

    from tfface.config import from_preset
    from tfface.methods import get_config, get_method

    options = {"train.precision": precision, **PAPER[method]}
    config = from_preset(method, get_config(method), "paper", options)
    build = _adversarial if method in ("sargan", "elegant") else _generator
    nets, batch, steps, losses, infer = build(get_method(method)(config))
    if writes:
        arrays = {f"batch:{name}": value.numpy() for name, value in batch.items()}
        for name, net in nets.items():
            arrays |= {f"weights:{name}:{v.path}": v.numpy() for v in net.variables}
        arrays |= {f"value:{name}": loss().numpy() for name, loss in losses.items()}
        np.savez(exchange, **arrays)
    units: Units = {
        unit: (UNITS[method][unit], functools.partial(timed, step)) for unit, step in steps.items()
    }
    for count in (1, 8):
        inputs = {k: tf.concat([v] * -(-count // len(v)), 0)[:count] for k, v in batch.items()}
        function = tf.function(functools.partial(infer, inputs), autograph=False)
        units[f"inference, batch {count}"] = 0.0, functools.partial(fastest, function)
    kind = tf.bfloat16 if precision == "mixed_bfloat16" else tf.float32
    product = tf.function(tf.matmul)
    units |= peak_unit(
        lambda n: tf.cast(tf.random.uniform([n, n]), kind), lambda a, b: product(a, b).numpy()
    )
    return units, {"tensorflow": tf.__version__}


def _adversarial(method):
    """Networks, batch, steps, losses and inference of a method, by name."""
    import numpy as np
    import tensorflow as tf

    from tfface.engine.run import Run
    from tfface.engine.trainer import Trainer

    trainer = Trainer(method, None, Run("unused"))  # `step` writes nothing.
    nets = trainer.nets
    size, count = method.config.data.size, method.config.data.batch_size
    rng, labels = np.random.default_rng(0), len(method.labels)

    def images():
        return tf.constant(rng.uniform(-1, 1, (count, size, size, 3)).astype(np.float32))

    if "generator" in nets:
        expression = tf.range(count) % labels
        batch = {"image": images(), "expression": expression, "target": (expression + 1) % labels}
        batch["alpha"] = tf.reshape(tf.linspace(0.0, 0.9, count), (-1, 1, 1, 1))
        batch["label"] = tf.one_hot(batch["target"], labels)

        def infer(inputs):
            return nets["generator"]([inputs["image"], inputs["label"]], training=False)
    else:
        batch = {"A": images(), "B": images(), "attribute": tf.zeros([count], tf.int32)}
        batch |= {name: tf.one_hot(tf.range(count) % 2, labels) for name in ("y_A", "y_B")}

        def infer(inputs):
            one = tf.ones_like(inputs["attribute"], tf.float32)
            return method.transfer(nets, inputs["A"], inputs["B"], inputs["attribute"], one)

    numbers = sorted({phase.every - 1 for phase in method.phases()})
    steps = {
        unit: lambda number=number: trainer.step(number, batch)[1].numpy()
        for unit, number in zip(UNITS[_name(method)], numbers, strict=True)
    }
    losses = {phase.name: lambda phase=phase: phase(nets, batch)[0] for phase in method.phases()}
    return nets, batch, steps, losses, infer


def _generator(method):
    """The same, of a generator alone with an L1 loss."""
    import keras
    import numpy as np
    import tensorflow as tf

    from tfface.layers import precision

    keras.utils.set_random_seed(0)
    with precision(method.config.train.precision):
        nets = method.build()
    net = nets["generator" if "generator" in nets else "global_generator"]
    count, rng = method.config.data.batch_size, np.random.default_rng(0)
    batch = {
        x.name: tf.constant(rng.uniform(0, 1, (count, *x.shape[1:])).astype(np.float32))
        for x in net.inputs
    }
    names = [*batch]
    batch.setdefault(
        "image", tf.constant(rng.uniform(-1, 1, (count, *net.output_shape[1:])), tf.float32)
    )

    def infer(inputs):
        return net([inputs[name] for name in names], training=False)

    def loss():
        generated = net([batch[name] for name in names], training=True)
        return tf.reduce_mean(tf.abs(generated - batch["image"]))

    weights = [v.value for v in net.trainable_variables]

    @tf.function(autograph=False)
    def gradients():
        with tf.GradientTape() as tape:
            value = loss()
        return tape.gradient(value, weights), value

    (unit,) = UNITS[_name(method)]
    steps = {unit: lambda: gradients()[1].numpy()}
    return {"generator": net}, batch, steps, {"generator": loss}, infer


def _name(method) -> str:
    return type(method).__module__.split(".")[2]


def main() -> None:
    """Serves a case."""
    case = json.loads(sys.argv[1])
    from tfface.cli import import_tensorflow

    import_tensorflow()
    import tfface

    kind, method = case["case"].split("/")
    if kind == "demo":
        units, notes = demo(method, case["precision"], case["steps"])
    else:
        units, notes = paper(method, case["precision"], case["exchange"], case["writes"])
    serve(units, {**notes, "package": str(Path(tfface.__file__).parent)})


if __name__ == "__main__":
    main()
