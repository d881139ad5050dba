"""Keras's Adam update, op by op and XLA-compiled: `python benchmarks/optimizer_update.py`.

One row for each phase of the methods' demo presets, on the CPU. The two variants alternate in one
process, so that their ratio is valid on a busy machine too; times are the minimum of many calls.
"""

from __future__ import annotations

import time

from tfface.cli import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402

from tfface.config import parse_training  # noqa: E402
from tfface.engine.trainer import adam  # noqa: E402
from tfface.methods import METHODS, get_config, get_method  # noqa: E402

ROUNDS = 150


def update(nets, config, jit):
    """Returns a function that applies one set of gradients to networks."""
    weights = [v for net in nets for v in net.trainable_variables]
    optimizer = adam(config.adam)
    optimizer.build(weights)
    gradients = [tf.random.stateless_normal(v.shape, (0, i)) for i, v in enumerate(weights)]

    @tf.function(jit_compile=jit)
    def apply(gradients):
        optimizer.apply(gradients, weights)

    return lambda: apply(gradients)


def milliseconds(functions):
    """Fastest time of each function, with alternating calls."""
    times = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(ROUNDS):
        for function, measured in zip(functions, times, strict=True):
            begin = time.perf_counter()
            function()
            measured.append(1000 * (time.perf_counter() - begin))
    return [min(measured) for measured in times]


def main():
    print("| method, phase | arrays | weights | op by op (ms) | compiled (ms) | ratio |")
    print("|---|---|---|---|---|---|")
    for name in METHODS:
        _, config, _ = parse_training([name, "--preset", "demo"], {name: get_config(name)})
        method, _ = get_method(name).open(config)
        nets = method.build()
        for phase in method.phases():
            updated = [nets[n] for n in phase.updates]
            weights = [v for net in updated for v in net.trainable_variables]
            plain, compiled = milliseconds([update(updated, config, jit) for jit in (False, True)])
            count = sum(int(tf.size(v)) for v in weights)
            print(
                f"| {name}, {phase.name} | {len(weights)} | {count:,} | {plain:.2f} | "
                f"{compiled:.2f} | {plain / compiled:.1f} |"
            )


if __name__ == "__main__":
    main()
