"""LiteRT and ONNX files of every method, run by the runtimes of devices."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tiny_runs import ATTRIBUTES, CLASSES, write_tiny_run

from tfface.errors import UserError
from tfface.export import main
from tfface.exporting import portable
from tfface.methods import METHODS

OPTIONS = {
    # Of 64 px, as tf2onnx 1.17 converts codes of 1x1 pixel wrongly.
    "elegant": {"attributes": list(ATTRIBUTES), "data": {"size": 64, "batch_size": 2}},
    "sargan": {"classes": list(CLASSES)},
    "seg_hierarchical": {"classes": list(CLASSES)},
}
LEFT_OUT = {
    "domain_alignment": {"bytes", "blocks_bytes"},
    "elegant": {"bytes", "several_bytes"},
    "mask_guided": {"serving_default", "bytes", "reference_bytes"},
    "seg_hierarchical": {"bytes", "segment_bytes", "parts_bytes"},
}


@pytest.fixture(scope="module", params=sorted(METHODS))
def run(request, tmp_path_factory):
    """A run with random weights, and its folder."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    return write_tiny_run(folder, request.param, **OPTIONS.get(request.param, {})), folder


def requests(trained):
    """For each function: two rows of random inputs, and the networks' outputs for them."""
    rng = np.random.default_rng(1)
    for name, function in portable.functions(trained)[0].items():
        inputs = {}
        for key, spec in function.inputs.items():
            shape = (2, *np.shape(function.example[key])[1:])
            whole = spec.dtype == tf.int32
            value = rng.integers(0, 2, shape) if whole else rng.uniform(-1, 1, shape)
            inputs[key] = tf.constant(value, spec.dtype)
        expected = function.function(**inputs)
        yield name, {k: v.numpy() for k, v in inputs.items()}, expected


def assert_same(result, expected):
    if expected.dtype == tf.int32:  # Two classes may be equally likely.
        assert np.mean(result == expected.numpy()) > 0.999
    else:
        largest = np.abs(expected).max()  # Random weights make large style codes.
        np.testing.assert_allclose(result, expected, atol=1e-3 * largest)


def test_a_litert_file_computes_what_the_networks_compute(run, tmp_path):
    trained, folder = run
    assert main([str(folder), str(tmp_path / "out"), "--format", "litert"]) == 0
    version = tmp_path / "out" / "1"
    assert {p.name for p in version.iterdir()} == {"model.tflite", "model.json", "model_card.md"}
    interpreter = Interpreter(str(version / "model.tflite"))
    names = set()
    for name, inputs, expected in requests(trained):
        names.add(name)
        for i in range(2):
            row = {key: value[i : i + 1] for key, value in inputs.items()}
            result = interpreter.get_signature_runner(name)(**row)
            assert set(result) == set(expected)
            for key, value in expected.items():
                assert_same(result[key], value[i : i + 1])
    assert set(interpreter.get_signature_list()) == names
    description = json.loads((version / "model.json").read_text())
    assert set(description["signatures"]) == names
    assert set(description["left_out"]) == LEFT_OUT.get(trained.name, {"bytes"})
    assert description["labels"] == list(trained.method.labels)


def test_onnx_files_compute_what_the_networks_compute(run, tmp_path):
    trained, folder = run
    assert main([str(folder), str(tmp_path / "out"), "--format", "onnx"]) == 0
    version = tmp_path / "out" / "1"
    described = json.loads((version / "model.json").read_text())["signatures"]
    for name, inputs, expected in requests(trained):
        session = onnxruntime.InferenceSession(version / described[name]["file"])
        labels = session.get_modelmeta().custom_metadata_map["labels"]
        assert json.loads(labels) == list(trained.method.labels)
        results = dict(
            zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True)
        )
        assert set(results) == set(described[name]["outputs"])
        for key, value in expected.items():
            assert_same(results[f"{key}_out" if key in inputs else key], value)


@pytest.fixture(scope="module")
def sargan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sargan") / "run"
    write_tiny_run(folder, "sargan", **OPTIONS["sargan"])
    return str(folder)


def test_8_bit_weights_are_a_quarter_of_the_size(tmp_path):
    for options in ((), ("--int8",)):
        command = ["sargan/faces64", str(tmp_path / "out"), "--format", "litert", *options]
        assert main(command) == 0
    whole, small = ((tmp_path / "out" / n / "model.tflite").stat().st_size for n in "12")
    assert small < 0.3 * whole
    description = json.loads((tmp_path / "out" / "2" / "model.json").read_text())
    output = description["signatures"]["serving_default"]["outputs"]["image"]
    assert description["weights"] == "int8"
    assert portable.INT8_PSNR < output["psnr"] < 100


def test_8_bit_weights_that_change_images_are_refused(sargan, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(portable, "INT8_PSNR", 200.0)
    assert main([sargan, str(tmp_path / "out"), "--format", "litert", "--int8"]) == 2
    message = capsys.readouterr().err
    assert "200 dB" in message and "without --int8" in message
    assert list((tmp_path / "out").iterdir()) == []


def _fail(session, inputs):
    raise OSError("no kernel")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda _, inputs: {"image_out": np.zeros_like(inputs["image"])}, "image_out of serving"),
        (_fail, "serving_default.onnx was converted, but does not run: no kernel"),
    ],
)
def test_a_file_that_is_wrong_is_not_published(sargan, tmp_path, monkeypatch, capsys, run, words):
    monkeypatch.setattr(portable, "_run_session", run)
    assert main([sargan, str(tmp_path / "out"), "--format", "onnx"]) == 2
    assert words in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("package", "format", "extra"),
    [
        ("ai_edge_litert.interpreter", "litert", "litert"),
        ("tf2onnx", "onnx", "onnx"),
        ("onnxruntime", "onnx", "onnx"),
    ],
)
def test_missing_packages_are_named(sargan, tmp_path, monkeypatch, package, format, extra):
    monkeypatch.setitem(sys.modules, package, None)
    export = portable.export_onnx if format == "onnx" else portable.export_litert
    import tfface

    with pytest.raises(UserError, match=rf"tfface\[{extra}\]"):
        export(tfface.load(sargan), tmp_path / "out")


def test_int8_needs_litert(sargan, tmp_path, capsys):
    assert main([sargan, str(tmp_path), "--format", "onnx", "--int8"]) == 2
    assert "--format litert" in capsys.readouterr().err
