"""Networks, losses and gradients equal the reference values of the authors' networks."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfface.config import Data, DiscriminatorOptions
from tfface.layers.torch_weights import assign
from tfface.methods.elegant import convert as elegant_names
from tfface.methods.elegant.config import ElegantConfig
from tfface.methods.elegant.method import Elegant
from tfface.methods.sargan import convert as sargan_names
from tfface.methods.sargan.config import SarganConfig
from tfface.methods.sargan.method import Sargan

GOLDEN = Path(__file__).parents[1] / "golden"
ATOL, RTOL_GRADIENT = 1e-4, 1e-2  # Rounding differs between processors: up to 7e-3 was seen.


def nhwc(array):
    return tf.constant(array.transpose(0, 2, 3, 1))


def rebuild(parameters):
    """The weights of the reference networks, by name, regenerated from seeds."""
    return {
        p["name"]: np.random.RandomState(p["seed"]).standard_normal(p["shape"]).astype("float32")
        * np.float32(p["scale"])
        + np.float32(p["offset"])
        for p in parameters
    }


def check_gradients(golden, prefix, network, gradients, parameters, layer_name):
    """Compares norm and random projection of every gradient, in PyTorch's layout."""
    by_path = {v.path: g for v, g in zip(network.trainable_variables, gradients, strict=True)}
    checked = 0
    for name in rebuild(parameters):
        module, _, parameter = name.rpartition(".")
        layer = layer_name(module)
        if layer is None:
            continue
        paths = {
            "weight": ("kernel", "gamma"),
            "bias": ("bias", "beta"),
            "alpha": ("alpha",),
            "beta": ("beta",),
        }[parameter]
        gradient = next(by_path[f"{layer}/{p}"] for p in paths if f"{layer}/{p}" in by_path).numpy()
        gradient = gradient.transpose(3, 2, 0, 1) if gradient.ndim == 4 else gradient.T
        flat = gradient.ravel()
        direction = np.random.RandomState(7).standard_normal(flat.size)
        scale = float(golden[f"{prefix}/{name}/l2"])
        # Single values are small differences of large numbers: the tolerance is relative to the
        # norm.
        atol = RTOL_GRADIENT * max(scale, 1e-6)
        np.testing.assert_allclose(
            np.linalg.norm(flat), scale, rtol=RTOL_GRADIENT, atol=1e-8, err_msg=name
        )
        np.testing.assert_allclose(
            flat @ direction,
            golden[f"{prefix}/{name}/proj"],
            rtol=RTOL_GRADIENT,
            atol=atol,
            err_msg=name,
        )
        np.testing.assert_allclose(
            flat[:16], golden[f"{prefix}/{name}/head"], rtol=RTOL_GRADIENT, atol=atol, err_msg=name
        )
        checked += 1
    assert checked == len(by_path)


@pytest.fixture(scope="module")
def sargan():
    meta = json.loads((GOLDEN / "sargan.json").read_text())
    golden = np.load(GOLDEN / "sargan.npz")
    size = meta["config"]["image_size"]
    method = Sargan(
        SarganConfig(
            classes=tuple("abcdefg"),
            width=16,
            discriminator=DiscriminatorOptions(16, meta["config"]["d_repeat_num"]),
            data=Data(size=size),
        )
    )
    nets = method.build()
    assign(nets["generator"], rebuild(meta["generator"]), sargan_names.generator_layer)
    assign(nets["discriminator"], rebuild(meta["discriminator"]), sargan_names.discriminator_layer)
    batch = {
        "image": nhwc(golden["x"]),
        "alpha": nhwc(golden["alpha"]),
        "expression": tf.constant(golden["label_org"]),
        "target": tf.constant(golden["label_trg"]),
    }
    return meta, golden, method, nets, batch


def test_sargan_outputs_equal_the_reference_values(sargan):
    _, golden, method, nets, batch = sargan
    edited = nets["generator"]([batch["image"], method.one_hot(batch["target"])])
    np.testing.assert_allclose(edited, nhwc(golden["G_out"]), atol=ATOL)
    realness, logits = nets["discriminator"](batch["image"])
    np.testing.assert_allclose(realness, nhwc(golden["D_src"]), atol=ATOL)
    np.testing.assert_allclose(logits, golden["D_cls"], atol=ATOL)


@pytest.mark.parametrize(("phase", "prefix"), [("discriminator", "D"), ("generator", "G")])
def test_sargan_losses_and_gradients_equal_the_reference_values(sargan, phase, prefix):
    meta, golden, method, nets, batch = sargan
    with tf.GradientTape() as tape:
        total, terms = method.loss(phase, nets, batch)
    for name, value in terms.items():
        np.testing.assert_allclose(value, golden[f"{prefix}_loss_{name}"], atol=ATOL, err_msg=name)
    # The total is in the hundreds, as the penalty has weight 10.
    np.testing.assert_allclose(total, golden[f"{prefix}_loss"], atol=10 * ATOL)
    gradients = tape.gradient(total, nets[phase].trainable_variables)
    names = getattr(sargan_names, f"{phase}_layer")
    check_gradients(golden, f"grad{prefix}", nets[phase], gradients, meta[phase], names)


def test_sargan_generator_has_the_published_number_of_parameters():
    nets = Sargan(SarganConfig(classes=tuple("abcdefg"))).build()
    assert nets["generator"].count_params() == 3_014_145


@pytest.fixture(scope="module")
def elegant():
    meta = json.loads((GOLDEN / "elegant.json").read_text())
    golden = np.load(GOLDEN / "elegant.npz")
    method = Elegant(
        ElegantConfig(attributes=tuple("abc"), data=Data(size=meta["config"]["image_size"]))
    )
    nets = method.build()
    for name in ("encoder", "decoder", "disc1", "disc2"):
        assign(nets[name], rebuild(meta[name]), elegant_layer(name))
    batch = {
        "A": nhwc(golden["A"]),
        "B": nhwc(golden["B"]),
        "y_A": tf.constant(golden["y_A"]),
        "y_B": tf.constant(golden["y_B"]),
        "attribute": tf.fill([2], int(golden["attribute_id"])),
    }
    return meta, golden, method, nets, batch


def elegant_layer(network):
    return getattr(
        elegant_names,
        {"disc1": "discriminator", "disc2": "discriminator"}.get(network, network) + "_layer",
    )


def test_elegant_outputs_equal_the_reference_values(elegant):
    _, golden, method, nets, batch = elegant
    code, skips = method.encode(nets, batch["A"])
    np.testing.assert_allclose(code, nhwc(golden["z_A"]), atol=ATOL)
    generated = method.generate(nets, batch)
    for name in ("A1", "C", "D"):
        np.testing.assert_allclose(generated[name], nhwc(golden[name]), atol=ATOL, err_msg=name)
    other, _ = method.encode(nets, batch["B"])
    exchanged = code + method.mask(batch["attribute"], code) * (other - code)
    residual = nets["decoder"]([exchanged, code, *skips])
    np.testing.assert_allclose(residual, nhwc(golden["R_C"]), atol=ATOL)
    half = tf.nn.avg_pool2d(batch["A"], 2, 2, "VALID")
    for name, image in (("disc1", batch["A"]), ("disc2", half)):
        probability = tf.sigmoid(nets[name]([image, batch["y_A"]]))
        np.testing.assert_allclose(probability, golden[f"{name[0].upper()}{name[-1]}_A"], atol=ATOL)


def test_elegant_transfer_equals_the_exchange(elegant):
    _, golden, method, nets, batch = elegant
    swapped = method.transfer(nets, batch["A"], batch["B"], batch["attribute"], tf.ones([2]))
    np.testing.assert_allclose(swapped, nhwc(golden["C"]), atol=ATOL)
    kept = method.transfer(nets, batch["A"], batch["B"], batch["attribute"], tf.zeros([2]))
    np.testing.assert_allclose(kept, nhwc(golden["A1"]), atol=ATOL)


@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_elegant_losses_and_gradients_equal_the_reference_values(elegant, phase):
    meta, golden, method, nets, batch = elegant
    names, prefixes, terms_of = {
        "discriminator": (
            ("disc1", "disc2"),
            ("gradD1", "gradD2"),
            {"disc1": "loss_D1", "disc2": "loss_D2"},
        ),
        "generator": (
            ("encoder", "decoder"),
            ("gradEnc", "gradDec"),
            {"reconstruction": "loss_reconstruction", "adv1": "loss_adv1", "adv2": "loss_adv2"},
        ),
    }[phase]
    with tf.GradientTape() as tape:
        total, terms = method.loss(phase, nets, batch)
    for name, key in terms_of.items():
        np.testing.assert_allclose(terms[name], golden[key], atol=ATOL, err_msg=name)
    np.testing.assert_allclose(total, golden[f"loss_{phase[0].upper()}"], atol=ATOL)
    gradients = tape.gradient(total, [nets[name].trainable_variables for name in names])
    for name, prefix, values in zip(names, prefixes, gradients, strict=True):
        check_gradients(golden, prefix, nets[name], values, meta[name], elegant_layer(name))
