"""Adam updates on the CPU: Keras's, as it is and XLA-compiled, and tfface's in one operation.

`python benchmarks/optimizer_update.py` prints a row for each phase of the methods' demo presets.
The variants alternate in one process, so that their ratios are valid on a busy machine too; times
are the minimum of many calls. The first call traces and, with XLA, compiles.
"""

from __future__ import annotations

import time

from tfface.cli import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfface.config import parse_training  # noqa: E402
from tfface.engine.step import FusedAdam  # noqa: E402
from tfface.methods import METHODS, get_config, get_method  # noqa: E402

ROUNDS = 150
VARIANTS = {
    "Keras": (keras.optimizers.Adam, False),
    "Keras, compiled": (keras.optimizers.Adam, True),
    "one operation": (FusedAdam, False),
}


def update(weights, kind, jit):
    """Returns a function that applies one set of gradients to weights."""
    optimizer = kind(1e-4)
    optimizer.build(weights)
    gradients = [tf.random.stateless_normal(v.shape, (0, i)) for i, v in enumerate(weights)]

    @tf.function(jit_compile=jit, autograph=False)
    def apply(gradients):
        optimizer.apply(gradients, weights)

    return lambda: apply(gradients)


def timed(function):
    """Seconds of a call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main():
    cells = ["method, phase", "arrays", "weights"]
    cells += [f"{name}, ms (first call, s)" for name in VARIANTS]
    print(f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}")
    for name in METHODS:
        _, config, _ = parse_training([name, "--preset", "demo"], {name: get_config(name)})
        method, _ = get_method(name).open(config)
        nets = method.build()
        for phase in method.phases():
            weights = [v for net in phase.updates for v in nets[net].trainable_variables]
            updates = [update(weights, *variant) for variant in VARIANTS.values()]
            first = [timed(function) for function in updates]
            rounds = [[timed(function) for function in updates] for _ in range(ROUNDS)]
            fastest = [1000 * min(times) for times in zip(*rounds, strict=True)]
            count = sum(int(tf.size(v)) for v in weights)
            cells = [f"{name}, {phase.name}", f"{len(weights)}", f"{count:,}"]
            cells += [f"{a:.2f} ({b:.1f})" for a, b in zip(fastest, first, strict=True)]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
