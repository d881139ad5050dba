"""The REST API against TF Serving's contract: status, metadata, predict, errors."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from rest_calls import PREDICT, answering, asked, b64, call, of, predicted, serving
from tiny_models import SIZE, faces, image, png


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    with answering(tmp_path_factory.mktemp("export")) as answers:
        yield answers


@pytest.fixture(scope="module")
def rest(answers):
    with serving(answers) as server:
        yield server


AVAILABLE = {
    "version": "1",
    "state": "AVAILABLE",
    "status": {"error_code": "OK", "error_message": ""},
}


@pytest.mark.parametrize("path", ["/v1/models/g", "/V1/MODELS/g/Versions/1", "/v1/models/%67?x=1"])
def test_status(rest, path):
    assert asked(rest, path) == (200, {"model_version_status": [AVAILABLE]})


def test_all_models_are_listed(rest):
    listed = {"models": [{"name": "g", "model_version_status": [AVAILABLE]}]}
    assert asked(rest, "/v1/models") == (200, listed)


def tensor(info, dtype, *sizes, unknown=False):
    """Expected JSON of a tensor, with any name in the graph."""
    assert info["name"]
    dims = [{"size": str(size), "name": ""} for size in sizes]
    shape = {"dim": dims, "unknown_rank": unknown}
    return {"name": info["name"], "dtype": dtype, "tensor_shape": shape}


@pytest.mark.parametrize("path", ["/v1/models/g/metadata", "/v1/models/g/versions/1/metadata"])
def test_metadata(rest, path):
    status, document = asked(rest, path)
    assert status == 200
    assert document.keys() == {"model_spec", "metadata"}
    assert document["model_spec"] == {"name": "g", "version": "1", "signature_name": ""}
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert document["metadata"] == {"signature_def": {"signature_def": signatures}}
    assert signatures.keys() >= {"serving_default", "bytes", "__saved_model_init_op"}
    found = signatures["serving_default"]
    inputs, outputs = found["inputs"], found["outputs"]
    assert found == {
        "inputs": {
            "image": tensor(inputs["image"], "DT_FLOAT", -1, SIZE, SIZE, 3),
            "expression": tensor(inputs["expression"], "DT_STRING", -1),
        },
        "outputs": {
            "image": tensor(outputs["image"], "DT_FLOAT", -1, SIZE, SIZE, 3),
            "count": tensor(outputs["count"], "DT_INT32"),
        },
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }


def test_predict_in_columnar_format(rest):
    body = {"inputs": {"image": faces().tolist(), "expression": ["happy", "sad"]}}
    outputs = predicted(rest, body)["outputs"]
    assert outputs["count"] == 2
    assert np.array_equal(np.array(outputs["image"], np.float32), -faces())


def test_predict_in_row_format(rest):
    rows = [{"x": [0.1, 1], "label": "a"}, {"x": [-3, 1e-7], "label": "é"}]
    assert predicted(rest, {"signature_name": "rows", "instances": rows}) == {
        "predictions": [
            {"twice": [0.2, 2.0], "label": "a", "label_bytes": b64(b"a"), "first": 0.1},
            {"twice": [-6.0, 2e-7], "label": "é", "label_bytes": b64("é".encode()), "first": -3.0},
        ]
    }


def test_one_input_and_one_output_need_no_names(rest):
    body = {"signature_name": "float32", "instances": [[1, 2], [3, 4.5]]}
    assert predicted(rest, body) == {"predictions": [[1.0, 2.0], [3.0, 4.5]]}
    body["instances"] = [{"x": [1, 2]}, {"x": [3, 4.5]}]
    assert predicted(rest, body) == {"predictions": [[1.0, 2.0], [3.0, 4.5]]}
    for inputs in (0.5, [], [[1, 2]], [[], []]):
        assert predicted(rest, {"signature_name": "float32", "inputs": inputs}) == {
            "outputs": inputs
        }
    named = {"signature_name": "float32", "inputs": {"x": 0.5}}
    assert predicted(rest, named) == {"outputs": 0.5}


def test_images_are_sent_and_received_as_base64(rest):
    files = [png(image(seed)) for seed in range(2)]
    rows = [{"image_bytes": b64(data), "expression": "sad"} for data in files]
    reply = predicted(rest, {"signature_name": "bytes", "instances": rows})
    for seed, item in enumerate(reply["predictions"]):
        decoded = tf.io.decode_png(base64.b64decode(item["b64"])).numpy()
        assert np.array_equal(decoded, 255 - np.asarray(image(seed)))


@pytest.mark.parametrize(
    "text", ["aGVsbG8h", "aGVs\nbG8h\n", " a G V s b G 8 h ", "aGVsbG8h\r\n"], ids=repr
)
def test_base64_may_contain_line_breaks(rest, text):
    body = {"signature_name": "string", "inputs": [{"b64": text}]}
    assert predicted(rest, body) == {"outputs": ["hello!"]}


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int64", [2**63 - 1, -(2**63), 0]),
        ("uint64", [2**64 - 1]),
        ("int32", [-(2**31), 2**31 - 1]),
        ("uint8", [0, 255]),
        ("bool", [True, False]),
        ("string", ["", "a\0b", "é"]),
        ("float64", [0.1, 1e300, 123456789.123]),
        ("float16", [0.5, -2.0]),
        ("bfloat16", [0.5, -2.0]),
    ],
)
def test_every_dtype_round_trips(rest, dtype, values):
    reply = predicted(rest, {"signature_name": dtype, "inputs": values})
    assert reply == {"outputs": values}
    assert list(map(type, reply["outputs"])) == list(map(type, values))


def test_floats_are_written_with_the_fewest_digits(rest):
    values = [0.1, 1.0, 16777216.0, 3.4028235e38, 1e-45, -0.0, 0.33333334]
    body = {"signature_name": "float32", "inputs": values}
    _, _, text = call(rest, "/v1/models/g:predict", body)
    text = text.replace(b" ", b"").replace(b"e+", b"e")  # newer orjson: e+
    assert text.startswith(b'{"outputs":[0.1,1.0,16777216.0,3.4028235e38,1e-')
    assert text.endswith(b"0.33333334]}")
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 2**32, 1000, np.uint32).view(np.float32)
    drawn = drawn[np.isfinite(drawn)]
    back = predicted(rest, {"signature_name": "float32", "inputs": drawn.tolist()})["outputs"]
    assert np.array_equal(np.array(back, np.float32), drawn)
    assert back == [float(str(value)) for value in drawn]


def test_nan_and_infinity(rest):
    body = b'{"signature_name": "float32", "inputs": [NaN, Infinity, -Infinity, 0.1]}'
    _, _, text = call(rest, "/v1/models/g:predict", body)
    assert text.replace(b" ", b"") == b'{"outputs":[NaN,Infinity,-Infinity,0.1]}'


# (case, path, body, status, part of the error message)
REFUSED = [
    ("unknown model", "/v1/models/nope:predict", {"inputs": 1}, 404,
     "Servable not found for request: Latest(nope)"),
    ("unknown version", "/v1/models/g/versions/99:predict", {"inputs": 1}, 404,
     "Servable not found for request: Specific(g, 99)"),
    ("version 0 is a version", "/v1/models/g/versions/0:predict", {"inputs": 1}, 404,
     "Servable not found for request: Specific(g, 0)"),
    ("unknown label", "/v1/models/g/labels/canary:predict", {"inputs": 1}, 400,
     "Unrecognized servable version label: canary"),
    ("huge version", f"/v1/models/g/versions/{2**64}:predict", {"inputs": 1}, 400,
     f"Failed to convert version: {2**64} to numeric."),
    ("unknown signature", PREDICT, of("nope", inputs=1), 400,
     'Serving signature name: "nope" not found in signature def'),
    ("initialisation", PREDICT, of("__saved_model_init_op", inputs=1), 400,
     "Failed to get input map for signature: __saved_model_init_op"),
    ("signature is no text", PREDICT, of(1, inputs=1), 400,
     "JSON Value: 1 not formatted correctly. 'signature_name' key must be a string value."),
    ("signature is no Unicode", PREDICT, of("\ud800", inputs=1), 400,
     "JSON Value: text is not Unicode"),
    ("empty", PREDICT, b"", 400, "JSON Parse error: The document is empty"),
    ("no JSON", PREDICT, b"inputs = 1", 400,
     "JSON Parse error: Expecting value at offset: 0"),
    ("no UTF-8", PREDICT, b'{"inputs": "\xff"}', 400, "JSON Parse error: 'utf-8' codec"),
    ("too deep", PREDICT, b"[" * 10**6, 400, "JSON Parse error: nested too deeply"),
    ("no object", PREDICT, [1, 2], 400, "JSON Value: [1, 2] Is not object"),
    ("neither key", PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
    ("both keys", PREDICT, {"inputs": 1, "instances": [1]}, 400,
     "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"),
    ("instances is no list", PREDICT, of("float32", instances=1), 400,
     "JSON Value: 1 Excepting 'instances' to be an list/array"),
    ("no instances", PREDICT, of("float32", instances=[]), 400, "No values in 'instances' array"),
    ("plain instances", PREDICT, {"instances": [1]}, 400,
     "instances is a plain list, but expecting list of objects as multiple input tensors "
     "required as per tensorinfo_map"),
    ("plain inputs", PREDICT, {"inputs": [1]}, 400,
     "inputs is a plain value/list, but expecting an object as multiple input tensors required "
     "as per tensorinfo_map"),
    ("list among objects", PREDICT, of("float32", instances=[{"x": 1}, [1]]), 400,
     "Expecting object but got list at item 1 of input list"),
    ("object among lists", PREDICT, of("float32", instances=[1, {"x": 1}]), 400,
     "Expecting value/list but got object at item 1 of input list"),
    ("missing key", PREDICT, {"instances": [{"image": 1}]}, 400,
     "Failed to process element: 0 of 'instances' list. JSON object: keys are image but keys must "
     "be equal to: expression,image"),
    ("missing input", PREDICT, {"inputs": {"image": 1}}, 400,
     "Missing named input: expression in 'inputs' object."),
    ("rows of several lengths", PREDICT, of("float32", instances=[[1, 2], [3]]), 400,
     "input x: Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ("lists and values", PREDICT, of("float32", inputs=[[1], 2]), 400,
     "input x: lists and values are mixed at level: 1"),
    ("more dimensions than arrays have", PREDICT,
     of("float32", inputs=json.loads("[" * 70 + "]" * 70)), 400, "input x: maximum"),
    ("half a character", PREDICT, of("string", inputs="\ud800"), 400, "input x: 'utf-8' codec"),
    ("text for a number", PREDICT, of("float32", inputs=[1, "a"]), 400,
     'input x: JSON Value: "a" Type: String is not of expected type: float'),
    ("true for a number", PREDICT, of("float32", inputs=[1, True]), 400,
     "input x: JSON Value: true Type: True is not of expected type: float"),
    ("null", PREDICT, of("float32", inputs=None), 400, "input x: JSON Value: null Type: Null"),
    ("number for text", PREDICT, of("string", inputs=[1]), 400,
     "input x: JSON Value: 1 Type: Number is not of expected type: string"),
    ("fraction for a whole number", PREDICT, of("int64", inputs=[1.5]), 400,
     "input x: JSON Value: 1.5 Type: Number is not of expected type: int64"),
    ("too large for its type", PREDICT, of("uint8", inputs=[1, 256]), 400,
     "input x: JSON Value: 256 Type: Number is not of expected type: uint8"),
    ("too large for a float", PREDICT, of("float32", inputs=[1e39]), 400,
     "input x: Cannot convert JSON value: 1e+39 to float without loss of precision."),
    ("whole number a float lacks", PREDICT, of("float32", inputs=[2**24 + 1]), 400,
     "input x: Cannot convert JSON value: 16777217 to float without loss of precision."),
    ("no base64", PREDICT, of("string", inputs=[{"b64": "?"}]), 400,
     "input x: Unable to base64 decode"),
    ("an object that is no base64", PREDICT, of("string", inputs=[{"b65": ""}]), 400,
     'input x: JSON Value: {"b65": ""} not formatted correctly for base64 data'),
    ("complex", PREDICT, of("complex64", inputs=1), 501,
     "input x: Conversion of JSON Value: [1] to type: complex64"),
    ("wrong rank", PREDICT, {"inputs": {"image": [1.0], "expression": ["sad"]}}, 400,
     f"as many dimensions as the signature's shape [-1,{SIZE},{SIZE},3] but has shape [1]"),
    ("a long value is cut", PREDICT, of("float32", inputs=["a" * 10**6]), 400, 'aaa... Type: Str'),
    ("rows of an output without a batch", PREDICT,
     {"instances": [{"image": faces(1)[0].tolist(), "expression": "sad"}]}, 400,
     "Tensor name: count has no shape information "),
    ("rows of outputs with several batches", PREDICT, of("uneven", instances=[1, 2]), 400,
     "has inconsistent batch size: "),
    ("output is no text", PREDICT, of("string", inputs=[b64(b"\xff")]), 400,
     "Tensor name: y is not UTF-8 text"),
    ("no examples", "/v1/models/g:classify", {}, 400, "key 'examples' is expected"),
    ("status of an unknown model", "/v1/models/nope", None, 404,
     "Could not find any versions of model nope"),
    ("status of an unknown version", "/v1/models/g/versions/9", None, 404,
     "Could not find version 9 of model g"),
    ("metadata of an unknown model", "/v1/models/nope/metadata", None, 404,
     "Servable not found for request: Latest(nope)"),
    ("no model", "/v1/models/metadata/metadata/metadata", None, 400, "Malformed request: GET"),
    ("no model's name", "/v1/models/versions/1", None, 400, "Missing model name in request."),
    ("no such path", "/v1/foo", None, 400, "Malformed request: GET /v1/foo"),
    ("GET of what is for POST", PREDICT, None, 400, f"Malformed request: GET {PREDICT}"),
    ("POST of what is for GET", "/v1/models/g", b"{}", 400, "Malformed request: POST /v1/models/g"),
    ("no such method", "/v1/models/g:train", b"{}", 400,
     "Malformed request: POST /v1/models/g:train"),
    ("version is no number", "/v1/models/g/versions/a:predict", b"{}", 400, "Malformed request: "),
    ("outside the API", "/index.html", None, 404, "Not found: GET /index.html"),
    ("no metrics", "/monitoring/prometheus/metrics", None, 404, "Not found: GET "),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case[0])
def test_invalid_requests_get_tf_servings_errors(rest, case):
    _, path, body, status, message = case
    got, document = asked(rest, path, body)
    assert document.keys() == {"error"}
    assert (got, message in document["error"]) == (status, True), document["error"][:500]


def test_other_http_methods_are_malformed(rest):
    for method in ("PUT", "DELETE", "OPTIONS"):
        status, document = asked(rest, "/v1/models/g", method=method)
        assert (status, document) == (
            400, {"error": f"Malformed request: {method} /v1/models/g"}
        )  # fmt: skip
