"""Cost of dense and block alignment: `python benchmarks/alignment.py`.

Time and peak memory for one image, forward and forward with backward, with keys and values of 256
channels each, float32, on the CPU. Each row runs in a fresh process; memory is the growth of the
peak resident set since before the first call, so it includes everything the operation allocates.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

CHANNELS = 256
# (feature side, form, block side, retrieved blocks)
_FORMS = (("dense", 0, 0), ("sinkhorn", 4, 4), ("closed_form", 4, 4))
ROWS = [
    *((side, *form) for side in (32, 64, 128) for form in _FORMS),
    (128, "closed_form", 8, 4),
    (256, "sinkhorn", 8, 4),
    (256, "closed_form", 4, 4),
    (256, "closed_form", 8, 4),
]
SINKHORN_ITERATIONS = 10  # as in RABIT's code
REPEATS, SECONDS = 3, 3.0  # minimum number of calls and duration; the fastest call is reported


def _peak() -> float:
    """Peak resident set of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(side: int, form: str, block: int, k: int, backward: bool) -> dict[str, float]:
    """Seconds of the fastest call, and growth of the peak memory in MiB."""
    from tfface.cli import import_tensorflow

    import_tensorflow()

    import tensorflow as tf

    from tfface.layers import BlockAlignment, DenseAlignment

    if form == "dense":
        layer = DenseAlignment()
    else:
        layer = BlockAlignment(block, k, solver=form, iterations=SINKHORN_ITERATIONS)
    shape = (1, side, side, CHANNELS)
    *inputs, upstream = (tf.random.stateless_normal(shape, (0, i)) for i in range(4))

    @tf.function
    def run(query, key, value):
        if not backward:
            return layer(query, key, value)["aligned"]
        with tf.GradientTape() as tape:
            tape.watch([query, key, value])
            aligned = layer(query, key, value)["aligned"]
        return tape.gradient(aligned, [query, key, value], upstream)

    compiled = run.get_concrete_function(*inputs)
    before, times = _peak(), []
    while len(times) < REPEATS or sum(times) < SECONDS:
        begin = time.perf_counter()
        compiled(*inputs)  # on a CPU, returns when the computation is finished
        times.append(time.perf_counter() - begin)
    return {"seconds": min(times), "mebibytes": _peak() - before}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    one = parser.parse_args().one
    if one:
        side, form, block, k, backward = one
        print(json.dumps(measure(int(side), form, int(block), int(k), backward == "1")))
        return
    print("| side | form | block | k | forward s | MiB | with backward s | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for row in ROWS:
        results = []
        for backward in (0, 1):
            words = [sys.executable, __file__, "--one", *map(str, row), str(backward)]
            output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            results.append(json.loads(output.strip().splitlines()[-1]))
        cells = [f"{r['seconds']:.3f} | {r['mebibytes']:.0f}" for r in results]
        side, form, block, k = row
        print(f"| {side} | {form} | {block or '-'} | {k or 'all'} | {' | '.join(cells)} |")
    print(f"\nDense at side 256 would need {3 * 256**4 * 4 / 2**30:.0f} GiB: not run.")


if __name__ == "__main__":
    main()
