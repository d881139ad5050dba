"""Identity similarity with a user-supplied SavedModel or ONNX network."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tensorflow as tf

from tfface.errors import UserError
from tfface.evaluation.identity import Embedding

SIZE = 8


class Means(tf.Module):
    """An embedding: the mean colour of the images minus an offset."""

    def __init__(self, spec, offset=0.0, channels=(1, 2)):
        self.weights = tf.Variable(np.eye(3, dtype=np.float32))
        self.embed = tf.function(
            lambda images: {
                "vector": tf.reduce_mean(tf.cast(images, tf.float32), channels) @ self.weights
                - offset
            },
            input_signature=[tf.TensorSpec(spec[0], spec[1], name="images")],
        )


def save(folder, shape, dtype=tf.float32, channels=(1, 2), signature="serving_default", offset=0.0):
    module = Means((shape, dtype), offset, channels)
    tf.saved_model.save(module, str(folder), {signature: module.embed})
    return folder


def of_colours(*colours):
    """Images float32 [N,12,12,3] of one colour each."""
    return np.broadcast_to(np.float32(colours)[:, None, None], (len(colours), 12, 12, 3))


RED, GREEN, BOTH = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 0.0)


def test_similarity_is_the_cosine_of_the_vectors(tmp_path):
    embedding = Embedding(save(tmp_path / "m", [None, SIZE, SIZE, 3]))
    found = embedding.similarity(of_colours(RED, RED, RED), of_colours(RED, GREEN, BOTH))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [1.0, 0.0, 0.5**0.5], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embedding(of_colours(BOTH)), axis=1), 1.0)


@pytest.mark.parametrize(
    ("values", "expected"), [(None, -1.0), ("-1,1", -1.0), ("0,1", 0.0), ("0,255", 0.0)]
)
def test_input_values_are_scaled_to_the_given_range(tmp_path, values, expected):
    """With an offset of 0.5 the direction of the vector depends on the input range."""
    embedding = Embedding(save(tmp_path / "m", [None, SIZE, SIZE, 3], offset=0.5), values=values)
    found = embedding(of_colours((-1.0, 1.0, 1.0)))[0]
    top = 255.0 if values == "0,255" else 1.0
    vector = np.array([expected - 0.5, top - 0.5, top - 0.5])
    np.testing.assert_allclose(found, vector / np.linalg.norm(vector), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "dtype", "channels"),
    [
        ([None, SIZE, SIZE, 3], tf.uint8, (1, 2)),
        ([None, 3, SIZE, SIZE], tf.float32, (2, 3)),
        ([2, SIZE, SIZE, 3], tf.float32, (1, 2)),
    ],
)
def test_type_layout_and_batch_size_are_read_from_the_input(tmp_path, shape, dtype, channels):
    embedding = Embedding(save(tmp_path / "m", shape, dtype, channels))
    images = of_colours(*[RED, GREEN, (-1.0, -1.0, 1.0)])
    found = embedding(images)
    assert found.shape == (3, 3)
    stored = (images[:, 0, 0] + 1) * 127.5 if dtype is tf.uint8 else images[:, 0, 0]
    expected = np.rint(stored) if dtype is tf.uint8 else stored
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_size_is_required_if_the_input_leaves_it_open(tmp_path):
    folder = save(tmp_path / "m", [None, None, None, 3])
    with pytest.raises(UserError, match=r"\[None, None, None, 3\], without a fixed size"):
        Embedding(folder)
    assert Embedding(folder, size=SIZE)(of_colours(RED)).shape == (1, 3)
    with pytest.raises(UserError, match="size 9: its input is"):
        Embedding(save(tmp_path / "n", [None, SIZE, SIZE, 3]), size=9)


class Callable(tf.Module):
    """A module that can be called and has no signatures."""

    @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)])
    def __call__(self, images):
        return tf.reduce_mean(images, (1, 2))


def test_signature_can_be_named_and_a_callable_is_used_without_one(tmp_path):
    folder = save(tmp_path / "m", [None, SIZE, SIZE, 3], signature="embed")
    with pytest.raises(UserError, match=r"no signature 'serving_default': .*'embed'"):
        Embedding(folder)
    assert Embedding(folder, signature="embed")(of_colours(RED)).shape == (1, 3)
    module = Callable()
    tf.saved_model.save(module, str(tmp_path / "c"), {})
    found = Embedding(tmp_path / "c").similarity(of_colours(RED), of_colours(BOTH))
    np.testing.assert_allclose(found, 0.5**0.5, atol=1e-6)


def test_invalid_models_and_options_are_reported(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        Embedding(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: not a SavedModel"):
        Embedding(tmp_path / "empty")
    bytes_only = save(tmp_path / "u", [None, SIZE, SIZE, 3], tf.uint8)
    with pytest.raises(UserError, match="range '0,1': .*uint8.*'0,255'"):
        Embedding(bytes_only, values="0,1")
    with pytest.raises(UserError, match="range '0,2': expected one of '-1,1'"):
        Embedding(bytes_only, values="0,2")
    with pytest.raises(UserError, match=r"expected images \[N,H,W,3\] or \[N,3,H,W\]"):
        Embedding(save(tmp_path / "g", [None, 2, SIZE, SIZE, 3], channels=(1, 2, 3)))


def test_onnx_file_requires_onnxruntime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "face.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"pip install 'tfface\[onnx\]'"):
        Embedding(tmp_path / "face.onnx")
    with pytest.raises(UserError, match="only SavedModels have signatures"):
        Embedding(tmp_path / "face.onnx", signature="x")


def test_onnx_network_is_evaluated(tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [make.make_node("GlobalAveragePool", ["images"], ["vector"])],
        "means",
        [make.make_tensor_value_info("images", kind, ["N", 3, SIZE, SIZE])],
        [make.make_tensor_value_info("vector", kind, ["N", 3, 1, 1])],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "face.onnx")
    embedding = Embedding(tmp_path / "face.onnx")
    found = embedding.similarity(of_colours(RED, RED), of_colours(GREEN, BOTH))
    np.testing.assert_allclose(found, [0.0, 0.5**0.5], atol=1e-6)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match="bad.onnx: not an ONNX model"):
        Embedding(tmp_path / "bad.onnx")
