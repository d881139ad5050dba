"""Compares TensorFlow 2.15 and tensorflow-addons with what was recorded: `compare.py FOLDER`.

The second half of `make reference`. It runs in an environment without tfface, on Python 3.9 to
3.11. Prints tables; ends with status 1 if a difference is larger than allowed.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As tfface does.
warnings.filterwarnings("ignore")  # tensorflow-addons announces its end.

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_addons as tfa  # noqa: E402

NUMBERS = 1e-5  # Largest difference of floats.
LEVELS = 1  # Of an image's pixels: a difference in the last bits may round to the next level.
SHARE = 1e-3  # Share of a label map's pixels: where two classes are equally likely.
ITERATIONS = 1000  # Of tensorflow-addons' power method, until it no longer moves.
LOADERS = ("load", "session")


def main() -> int:
    tf.get_logger().setLevel("ERROR")
    folder = Path(sys.argv[1])
    recorded = read(folder / "recorded.npz")
    print(
        f"TensorFlow {tf.__version__}, tensorflow-addons {tfa.__version__}, "
        f"NumPy {np.__version__}, Python {platform.python_version()}; "
        f"recorded with {recorded['made_with']}\n"
    )
    failures = compare_exports(folder, recorded["exports"]) + compare_layers(recorded["layers"])
    print(f"\n{failures or 'No'} differences are larger than allowed.")
    return 1 if failures else 0


def read(path: Path) -> dict:
    """The recorded arrays, by the parts of their names."""
    tree: dict = {}
    with np.load(path) as file:
        for name in file.files:
            *parents, key = name.split("/")
            place = tree
            for parent in parents:
                place = place.setdefault(parent, {})
            value = file[name]
            place[key] = value.astype(object) if value.dtype.kind == "S" else value
    return tree


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def compare_exports(folder: Path, methods: dict) -> int:
    """Prints the largest differences of every output; returns how many are too large."""
    failures = 0
    row("method", "signature", "output", "`tf.saved_model.load`", "v1 `Session`", "allowed")
    row(*["---"] * 6)
    for method, signatures in methods.items():
        path = str(folder / method / "export" / "1")
        runners = {"load": load(path), "session": load_v1(path)}
        for name, counts in signatures.items():
            found: dict = {}
            for case in counts.values():
                for loader in LOADERS:
                    made = runners[loader](name, case["inputs"])
                    for key, expected in case[loader].items():
                        found.setdefault(key, {}).setdefault(loader, []).append(
                            difference(key, made[key], expected)
                        )
            for key, by_loader in sorted(found.items()):
                worst = [np.max(by_loader[loader]) for loader in LOADERS]
                kind, allowed = bound(key)
                failures += sum(not value <= allowed for value in worst)
                row(method, name, key, *[kind.format(value) for value in (*worst, allowed)])
    return failures


def load(path: str):
    """An export through `tf.saved_model.load`, as a function of signature and inputs."""
    model = tf.saved_model.load(path)

    def run(name, inputs):
        tensors = {
            k: tf.constant(v.tolist() if v.dtype == object else v) for k, v in inputs.items()
        }
        return {k: v.numpy() for k, v in model.signatures[name](**tensors).items()}

    run.model = model  # Its variables live as long as it does.
    return run


def load_v1(path: str):
    """An export in a v1 Session, as TF Serving has it, as a function of signature and inputs."""
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def

    def run(name, inputs):
        signature = signatures[name]
        feeds = {signature.inputs[k].name: v for k, v in inputs.items()}
        return session.run({k: v.name for k, v in signature.outputs.items()}, feeds)

    return run


def bound(key: str) -> tuple[str, float]:
    """How an output's difference is written, and what is allowed."""
    if key.startswith("label_map"):
        return "{:.1%} of pixels", SHARE
    return ("{} of 255", LEVELS) if key.endswith("_bytes") else ("{:.1e}", NUMBERS)


def difference(key: str, found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, or, of label maps, the share of pixels that differ."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    if key.endswith("_bytes"):
        pairs = [[tf.io.decode_png(x).numpy().astype(int) for x in y] for y in (found, expected)]
        if [x.shape for x in pairs[0]] != [x.shape for x in pairs[1]]:
            return float("inf")
        found, expected = (np.concatenate([x.ravel() for x in y]) for y in pairs)
    if key.startswith("label_map"):
        return np.mean(found != expected)
    return np.max(np.abs(found - expected))


def compare_layers(layers: dict) -> int:
    """Prints the largest differences of layers; returns how many are too large."""
    print()
    row("layer", "compared with", "largest difference", "allowed")
    row(*["---"] * 4)
    rows = []
    for name, case in layers["instance"].items():
        theirs = f"tfa.layers.InstanceNormalization(epsilon={case['epsilon']})"
        rows.append((f"InstanceNormalization, {name}", theirs, instance(case), NUMBERS))
    spectral_cases = layers["spectral"]
    for iterations, allowed in ((ITERATIONS, NUMBERS), (1, None)):
        ours = f"SpectralConv2D, all {len(spectral_cases)} of domain_alignment"
        theirs = f"tfa.layers.SpectralNormalization(power_iterations={iterations})"
        worst = np.max([spectral(case, iterations) for case in spectral_cases.values()])
        rows.append((ours, theirs, worst, allowed))
    for ours, theirs, worst, allowed in rows:
        limit = "not the same" if allowed is None else f"{allowed:.1e}"
        row(ours, f"`{theirs}`", f"{worst:.1e}", limit)
    return sum(allowed is not None and not worst <= allowed for _, _, worst, allowed in rows)


def instance(case: dict) -> float:
    affine = "gamma" in case
    layer = tfa.layers.InstanceNormalization(
        epsilon=float(case["epsilon"]), center=affine, scale=affine
    )
    layer.build(case["inputs"].shape)
    layer.set_weights([case[key] for key in ("gamma", "beta") if affine])
    return difference("", layer(case["inputs"]).numpy(), case["outputs"])


def spectral(case: dict, iterations: int) -> float:
    height, width, _, filters = case["kernel"].shape
    tf.keras.utils.set_random_seed(0)  # The power method begins anywhere.
    convolution = tf.keras.layers.Conv2D(
        filters,
        (height, width),
        strides=case["strides"].tolist(),
        padding=str(case["padding"]),
        use_bias="bias" in case,
    )
    layer = tfa.layers.SpectralNormalization(convolution, power_iterations=iterations)
    layer.build(case["inputs"].shape)
    convolution.set_weights([case[key] for key in ("kernel", "bias") if key in case])
    # Only a call in training divides the kernel by its norm, in its place.
    return difference("", layer(case["inputs"], training=True).numpy(), case["outputs"])


if __name__ == "__main__":
    sys.exit(main())
