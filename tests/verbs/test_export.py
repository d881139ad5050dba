"""`tfface.export`, and conversion of the authors' checkpoints."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2
from tiny_runs import write_tiny_run

import tfface
from tfface import convert
from tfface.data.images import load_image, read_mark
from tfface.data.marks import EDITED, Mark
from tfface.errors import UserError
from tfface.export import main
from tfface.exporting.saved_model import export_run
from tfface.layers import torch_weights
from tfface.methods.elegant import convert as elegant_convert
from tfface.methods.sargan import convert as sargan_convert
from tfface.server.saved_model import SavedModel

GOLDEN = Path(__file__).parents[1] / "golden"
LABELS = {
    "sargan": {"classes": ["happy", "sad"]},
    "elegant": {"attributes": ["Eyeglasses", "Smiling"]},
}


def png(seed, width, height):
    import io

    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module", params=["sargan", "elegant"])
def exported(request, tmp_path_factory):
    """A run, loaded, and its first exported version."""
    root = tmp_path_factory.mktemp(request.param)
    trained = write_tiny_run(root / "run", request.param, **LABELS[request.param])
    assert main([str(root / "run"), str(root / "models" / "face")]) == 0
    return trained, root / "models" / "face" / "1"


def test_a_version_has_a_model_card_and_a_warm_up_request_per_signature(exported):
    trained, version = exported
    assert [p.name for p in version.parent.iterdir()] == ["1"]
    card = (version / "assets.extra/model_card.md").read_text()
    signatures = trained.method.signatures(trained.nets)
    for word in (*signatures, *next(iter(LABELS[trained.name].values())), "step 0", "averaged"):
        assert word in card
    records = tf.data.TFRecordDataset(str(version / "assets.extra/tf_serving_warmup_requests"))
    served, names = SavedModel(version), []
    for record in records.as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        name = request.model_spec.signature_name
        inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        assert served.run(served.signatures[name], inputs, list(served.signatures[name].outputs))
        names.append(name)
    assert names == list(signatures)


def test_the_bytes_signature_gives_the_edits_of_the_editor(exported, tmp_path):
    trained, version = exported
    file, reference = png(1, 70, 50), png(2, 40, 60)
    if trained.name == "sargan":
        options = {"expression": ["sad"]}
        request = {"image_bytes": [file], "expression": [b"sad"]}
    else:
        options = {"attribute": ["Smiling"], "reference": [load_image(reference)]}
        options["strength"] = [2.0]
        request = {"source_bytes": [file], "reference_bytes": [reference]}
        request |= {"attribute": [b"Smiling"]}
    inputs = {k: np.array(v, object) for k, v in request.items()}
    if trained.name == "elegant":
        inputs["strength"] = np.array([2.0], np.float32)
    served = SavedModel(version)
    result = served.run(served.signatures["bytes"], inputs, ["image_bytes"])["image_bytes"][0]
    [[[(_, expected)]]] = trained.editor(options).edit([load_image(file)])
    made = load_image(result)
    assert made.size == expected.size == (70, 50)
    difference = np.abs(np.asarray(made, int) - np.asarray(expected, int))
    # The two resizing implementations round differently, which the networks amplify.
    assert np.percentile(difference, 99) <= 6 and difference.mean() < 1
    assert np.abs(np.asarray(made, int) - np.asarray(load_image(file), int)).max() > 8
    (tmp_path / "edited.png").write_bytes(result)
    model = f"{trained.name}/{trained.path.name}"
    assert read_mark(tmp_path / "edited.png") == Mark(EDITED, model, f"step {trained.step}")


def test_a_version_gets_the_next_number(exported, tmp_path):
    trained, _ = exported
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    assert export_run(trained, tmp_path) == tmp_path / "8"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["7", "8", "notes"]


def test_a_failed_export_leaves_no_files(exported, tmp_path, monkeypatch):
    trained = tfface.load(str(exported[0].path))  # A copy to modify.

    def fail(*_):
        raise RuntimeError("differs")

    monkeypatch.setattr("tfface.exporting.saved_model._check", fail)
    with pytest.raises(RuntimeError):
        export_run(trained, tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    # The check detects weights that differ between the file and the networks.
    monkeypatch.setattr("tfface.exporting.saved_model._write_warm_up", _spoil)
    with pytest.raises(RuntimeError, match="the export differs from the networks by"):
        export_run(trained, tmp_path)
    assert not list(tmp_path.iterdir())


def _spoil(trained, path):
    (path / "assets.extra").mkdir()
    for name in trained.method.averaged:
        for variable in trained.nets[name].trainable_variables:
            variable.assign_add(tf.fill(variable.shape, 0.1))


def test_an_export_in_bfloat16_is_nearly_that_in_float32(exported, tmp_path, monkeypatch):
    trained, version = exported
    folder = export_run(trained, tmp_path, "bfloat16")
    full, reduced = SavedModel(version), SavedModel(folder)
    signature = trained.method.signatures(trained.nets)["serving_default"]
    inputs = {key: np.asarray(value) for key, value in signature.example.items()}
    images = [m.run(m.signatures["serving_default"], inputs, ["image"])["image"]
              for m in (full, reduced)]  # fmt: skip
    difference = np.abs(images[0] - images[1])
    assert 0 < difference.mean() < 0.02 and images[1].dtype == np.float32
    card = (folder / "assets.extra" / "model_card.md").read_text()
    assert "computes in bfloat16; PSNR" in card
    assert "computes in float32" in (version / "assets.extra" / "model_card.md").read_text()
    monkeypatch.setattr("tfface.exporting.saved_model.BFLOAT16_PSNR", 150.0)
    with pytest.raises(UserError, match=r"PSNR \d+\.\d dB .* at least 150 dB; export in float32"):
        export_run(trained, tmp_path, "bfloat16")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_files_for_devices_have_no_precision(exported, tmp_path, capsys):
    run = str(exported[0].path)
    arguments = [run, str(tmp_path / "out"), "--format", "onnx", "--precision", "bfloat16"]
    assert main(arguments) == 2
    assert "--precision bfloat16 needs --format savedmodel" in capsys.readouterr().err


def test_unsuitable_paths_are_errors(exported, tmp_path, capsys):
    trained, _ = exported
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is not a folder"):
        export_run(trained, tmp_path / "file")
    with pytest.raises(UserError, match="is not a folder"):
        export_run(trained, tmp_path / "file" / "below")
    assert main([str(tmp_path / "none"), str(tmp_path / "out")]) == 2
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "none: no such run folder" in first and "is not a run folder" in second
    assert not (tmp_path / "out").exists()


# Weights from PyTorch.


def names_of(network):
    """Names of the authors' parameters."""
    method = "sargan" if network in ("generator", "discriminator") else "elegant"
    return [p["name"] for p in json.loads((GOLDEN / f"{method}.json").read_text())[network]]


def to_torch(net, network, layer_name):
    """The network's weights under the authors' names and in PyTorch's layout."""
    by_path = {v.path: v.numpy() for v in net.trainable_variables}
    kinds = {"weight": ("kernel", "gamma"), "bias": ("bias", "beta")}
    state = {}
    for name in names_of(network):
        module, _, parameter = name.rpartition(".")
        if (layer := layer_name(module)) is None:
            state[name] = np.zeros(3, np.float32)  # Created by the authors, never used.
            continue
        paths = [f"{layer}/{kind}" for kind in kinds.get(parameter, (parameter,))]
        value = next(by_path.pop(path) for path in paths if path in by_path)
        state[name] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    assert not by_path
    return state


def randomised(net):
    rng = np.random.default_rng(0)
    for variable in net.trainable_variables:
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))
    return net


def test_convert_writes_the_weights_of_sargan_to_a_run(tmp_path, monkeypatch):
    from tfface.layers.discriminator import Discriminator
    from tfface.methods.sargan.networks import Generator

    theirs = randomised(Generator(64, 3)), randomised(Discriminator(64, 3))
    states = {
        "G": to_torch(theirs[0], "generator", sargan_convert.generator_layer),
        "D": _state(theirs[1]),
    }
    monkeypatch.setattr(torch_weights, "read_checkpoint", states.__getitem__)
    run = str(tmp_path / "run")
    argv = ["G", run, "--classes", "a", "b", "c", "--size", "64", "--discriminator", "D"]
    assert convert.main(["sargan", *argv]) == 0
    check_run(run, {"generator": theirs[0], "discriminator": theirs[1]})


def test_convert_writes_the_weights_of_elegant_to_a_run(tmp_path, monkeypatch):
    from tfface.methods.elegant.networks import Decoder, Discriminator, Encoder

    theirs = {
        "encoder": randomised(Encoder(64)),
        "decoder": randomised(Decoder(64)),
        "disc1": randomised(Discriminator(64, 2)),
        "disc2": randomised(Discriminator(32, 2)),
    }
    layers = {"encoder": elegant_convert.encoder_layer, "decoder": elegant_convert.decoder_layer}
    states = {
        name: to_torch(net, name, layers.get(name, elegant_convert.discriminator_layer))
        for name, net in theirs.items()
    }
    monkeypatch.setattr(torch_weights, "read_checkpoint", states.__getitem__)
    run = str(tmp_path / "run")
    argv = ["encoder", "decoder", run, "--attributes", "A", "B", "--size", "64"]
    assert convert.main(["elegant", *argv, "--discriminators", "disc1", "disc2"]) == 0
    check_run(run, theirs)


def check_run(run, expected):
    trained = tfface.load(run)
    for name, net in expected.items():
        for a, b in zip(trained.nets[name].variables, net.variables, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=f"{name} {a.path}")


def test_assign_rejects_missing_unknown_or_misshapen_parameters():
    from tfface.layers.discriminator import Discriminator

    net = Discriminator(32, 3, 4, 4)
    layer = sargan_convert.discriminator_layer
    net_state = _state(net)
    torch_weights.assign(net, net_state, layer)
    name = next(iter(net_state))
    with pytest.raises(UserError, match="lacks .*down1_conv"):
        torch_weights.assign(net, {k: v for k, v in net_state.items() if k != name}, layer)
    with pytest.raises(UserError, match="'main.99.weight' does not exist in discriminator"):
        torch_weights.assign(net, {**net_state, "main.99.weight": np.zeros(3)}, layer)
    with pytest.raises(UserError, match="'main.0.running_mean' does not exist"):
        torch_weights.assign(net, {**net_state, "main.0.running_mean": np.zeros(3)}, layer)
    wrong = net_state[name][:-1]
    with pytest.raises(UserError, match=f"parameter '{name}': expected shape .* received"):
        torch_weights.assign(net, {**net_state, name: wrong}, layer)


def _state(net):
    """The discriminator's weights under the authors' names, for any number of layers."""
    state = {}
    for variable in net.trainable_variables:
        layer, kind = variable.path.split("/")[-2:]
        number = layer.removeprefix("down").removesuffix("_conv")
        module = {"realness": "conv1", "logits": "conv2"}.get(layer)
        module = module or f"main.{2 * (int(number) - 1)}"
        value = variable.numpy()
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        state[f"{module}.{'weight' if kind == 'kernel' else 'bias'}"] = value
    return state


def test_converting_without_pytorch_is_an_error_that_says_how_to_install_it(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"needs PyTorch: pip install 'tfface\[weights\]'"):
        torch_weights.read_checkpoint("G.ckpt")
    assert convert.main(["sargan", "G.ckpt", str(tmp_path / "r"), "--classes", "a", "b"]) == 2
    assert "needs PyTorch" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
