"""Accuracy and cost of block sides and k: `python benchmarks/alignment_accuracy.py RUN`.

Takes a run of domain_alignment on built-in faces (from `python -m tfface.train domain_alignment
--alignment.kind dense`: features that no block side has shaped), puts other alignments in the place
of its own, without training them, and measures on held-out people the error of the warped exemplar
and of the painted face against the truth, and the fastest time of the alignment of 4 images,
forward and backward.
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
        found = evaluate_alignment(_painter(trained), faces, PAIRS, SEED)
        errors = " | ".join(f"{found[name]['error']:.2%}" for name in ("warped", "generated"))
        print(f"| {k} | {block} | {errors} | {_milliseconds(layer, side, config):.1f} |")


def _painter(trained):
    import tensorflow as tf

    @tf.function
    def paint(labels, exemplar):
        made = trained.method.generate(trained.nets, trained.method.encode(labels), exemplar)
        return made["image"], made["warped"]

    return lambda batch: paint(batch["label_map"], batch["exemplar"])


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
