"""Exports every method and writes down what the exports give: `record.py FOLDER`.

The first half of `make reference`, in tfface's own environment; `compare.py` is the second.

FOLDER, which must be new, gets the exports as METHOD/export/1 and `recorded.npz`: inputs and
outputs of the exports, and inputs, weights and outputs of the layers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tfface.cli import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import tfface  # noqa: E402
from tfface.layers import InstanceNormalization, SpectralConv2D  # noqa: E402
from tfface.testing import Case  # noqa: E402
from tfface.testing.exports import _requests  # noqa: E402


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    recorded = {"made_with": np.array(f"TensorFlow {tf.__version__}, NumPy {np.__version__}")}
    for name in tfface.list_methods():
        (folder / name).mkdir()
        case = Case(name, folder / name)
        recorded |= {f"exports/{name}/{key}": value for key, value in answers(case)}
        if name == "domain_alignment":
            recorded |= {f"layers/{key}": value for key, value in spectral(case.nets)}
        print(f"exported {name}", file=sys.stderr)
    recorded |= {f"layers/{key}": value for key, value in instance()}
    # Strings become numpy's, which end at zeros; neither a label nor a PNG ends with one.
    plain = {k: v.astype(bytes) if v.dtype == object else v for k, v in recorded.items()}
    np.savez(folder / "recorded.npz", **plain)


def answers(case: Case):
    """Random requests of each signature, and the answers through each loader.

    The two are recorded apart: domain_alignment's differ by 1.4e-5 in one and the same TensorFlow.
    """
    loaded = tf.saved_model.load(str(case.exported))
    for name in case.method.signatures(case.nets):
        signature = case.served.signatures[name]
        for count in (1, 3):
            request = _requests(case, name, count)
            tensors = {
                k: tf.constant(v.tolist() if v.dtype == object else v) for k, v in request.items()
            }
            kinds = {
                "inputs": request,
                "load": {k: v.numpy() for k, v in loaded.signatures[name](**tensors).items()},
                "session": case.served.run(signature, request, list(signature.outputs)),
            }
            for kind, values in kinds.items():
                for key, value in values.items():
                    yield f"{name}/{count}/{kind}/{key}", value


def instance():
    """Instance normalisation of feature maps whose mean is not zero, with and without weights."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(2, 3, (3, 16, 12, 8)).astype(np.float32)
    for affine in (True, False):
        layer = InstanceNormalization(affine=affine)
        layer.build(inputs.shape)
        layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
        place = f"instance/{'affine' if affine else 'plain'}"
        yield f"{place}/inputs", inputs
        yield f"{place}/outputs", layer(inputs).numpy()
        yield f"{place}/epsilon", np.array(layer.epsilon)
        for weight in layer.weights:
            yield f"{place}/{weight.name}", weight.numpy()


def spectral(nets):
    """Every convolution with spectral normalisation, with the network's own weights."""
    rng = np.random.default_rng(0)
    for net_name, net in nets.items():
        for layer in net.layers:
            if not isinstance(layer, SpectralConv2D):
                continue
            inputs = rng.normal(size=(2, 8, 8, layer.kernel.shape[2])).astype(np.float32)
            place = f"spectral/{net_name}.{layer.name}"
            yield f"{place}/inputs", inputs
            yield f"{place}/outputs", layer(inputs).numpy()
            yield f"{place}/strides", np.array(layer.strides)
            yield f"{place}/padding", np.array(layer.padding)
            for weight in layer.weights:
                yield f"{place}/{weight.name}", weight.numpy()


if __name__ == "__main__":
    main()
