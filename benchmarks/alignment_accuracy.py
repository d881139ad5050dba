"""Accuracy and cost by block side and k: `python benchmarks/alignment_accuracy.py RUN`.

Loads a run of domain_alignment on built-in faces, trained with `python -m tfface.train
domain_alignment --alignment.kind dense` so that its features favor no block side. Replaces its
alignment by others without further training. Measures, on held-out people, the error of the warped
exemplar and of the generated face against the ground truth, and the fastest time of the alignment
of 4 images, forward and backward.
"""

from __future__ import annotations

import argparse
import time

PAIRS, SEED, REPEATS = 128, 1, 10
SIDES, KS = (2, 4, 8), (1, 2, 4, 8, 16)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="folder of a run of domain_alignment")
    run = parser.parse_args().run

    from tfface.cli import import_tensorflow

    import_tensorflow()

    import tfface
    from tfface.data import open_source
    from tfface.evaluation.exemplars import evaluate_alignment
    from tfface.layers import BlockAlignment, DenseAlignment

    trained = tfface.load(run)
    method, config = trained.method, trained.method.config
    side, faces = config.data.size // 2, open_source(config.data, fields=("label_map",))
    rows = [("all", "-", DenseAlignment(config.alignment.temperature))]
    for block in SIDES:
        for k in KS:
            if side % block == 0 and k <= (side // block) ** 2:
                layer = BlockAlignment(
                    block, k, config.alignment.epsilon, config.alignment.temperature
                )
                rows.append((k, block, layer))
    print("| k | block side | error, warped | error, generated | ms |")
    print("|---|---|---|---|---|")
    for k, block, layer in rows:
        method.align = layer
        results = evaluate_alignment(_generator(trained), faces, PAIRS, SEED)
        errors = " | ".join(f"{results[name]['error']:.2%}" for name in ("warped", "generated"))
        print(f"| {k} | {block} | {errors} | {_milliseconds(layer, side, config):.1f} |")


def _generator(trained):
    import tensorflow as tf

    @tf.function
    def generate(labels, exemplar):
        outputs = trained.method.generate(trained.nets, trained.method.encode(labels), exemplar)
        return outputs["image"], outputs["warped"]

    return lambda batch: generate(batch["label_map"], batch["exemplar"])


def _milliseconds(layer, side: int, config) -> float:
    import tensorflow as tf

    channels = (config.channels, config.channels, 3 + 6 * config.width)
    inputs = [
        tf.random.stateless_normal((4, side, side, c), (0, i)) for i, c in enumerate(channels)
    ]

    @tf.function
    def run(query, key, value):
        with tf.GradientTape() as tape:
            tape.watch([query, key, value])
            loss = tf.reduce_sum(tf.square(layer(query, key, value)["aligned"]))
        return tape.gradient(loss, [query, key, value])

    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        tf.nest.map_structure(lambda x: x.numpy(), run(*inputs))
        times.append(time.perf_counter() - begin)
    return 1000 * min(times)


if __name__ == "__main__":
    main()
