"""Classify, Regress and MultiInference against TF Serving's contract."""

from __future__ import annotations

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    prediction_log_pb2,
    regression_pb2,
)
from tiny_models import Stubs, failure, save, spec

from tfface.server.app import Server
from tfface.server.config import ModelConfig, Options
from tfface.server.loading import WARM_UP_FILE
from tfface.server.versions import Model

Code = grpc.StatusCode
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def save_examples_model(path):
    """A v1 SavedModel whose signatures share their input, which TF 2 cannot write."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        serialised = tf.compat.v1.placeholder(tf.string, [None], "tf_example")
        features = {
            name: tf.io.FixedLenFeature([], tf.float32, default) for name, default in
            (("x", 0.0), ("y", 10.0))
        }  # fmt: skip
        parsed = tf.io.parse_example(serialised, features)
        x, y = parsed["x"], parsed["y"]
        scores = tf.stack([x, y], 1, name="scores")
        classes = tf.tile([["low", "h\xf6ch"]], [tf.shape(x)[0], 1])
        columns = tf.stack([x, y, x], 1)
        first = scores[:1]
        other = tf.compat.v1.placeholder(tf.string, [None], "other")
        numbers = tf.compat.v1.placeholder(tf.float32, [None, 4], "numbers")
        one = {"inputs": serialised}
        signatures = {
            "serving_default": (one, {"scores": scores, "classes": classes}, CLASSIFY),
            "scores": (one, {"scores": scores}, CLASSIFY),
            "classes": (one, {"classes": classes}, "no/such/method"),  # not checked
            "regress": (one, {"outputs": x + y}, REGRESS),
            "regress_column": (one, {"outputs": (x + y)[:, None]}, REGRESS),
            "other_input": ({"inputs": other}, {"outputs": tf.strings.length(other)}, REGRESS),
            "numbers": ({"inputs": numbers}, {"scores": numbers + 1}, CLASSIFY),
            "two_inputs": ({"inputs": serialised, "z": other}, {"outputs": x}, REGRESS),
            "other_name": ({"x": serialised}, {"outputs": x, "scores": scores}, REGRESS),
            "regress_name": ({"x": serialised}, {"outputs": x}, REGRESS),
            "regress_value": (one, {"value": x}, REGRESS),
            "widths": (one, {"scores": columns, "classes": classes}, CLASSIFY),
            "bad_rank": (one, {"scores": x}, CLASSIFY),
            "bad_type": (one, {"scores": tf.cast(scores, tf.float64)}, CLASSIFY),
            "bad_labels": (one, {"classes": scores}, CLASSIFY),
            "bad_count": (one, {"scores": first}, CLASSIFY),
            "regress_rank": (one, {"outputs": scores}, REGRESS),
            "regress_type": (one, {"outputs": tf.cast(x, tf.int32)}, REGRESS),
            "regress_count": (one, {"outputs": x[:1]}, REGRESS),
        }
        build = tf.compat.v1.saved_model.build_signature_def
        info = tf.compat.v1.saved_model.build_tensor_info
        builder = tf.compat.v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session, ["serve"],
            {name: build({k: info(v) for k, v in inputs.items()},
                         {k: info(v) for k, v in outputs.items()}, method)
             for name, (inputs, outputs, method) in signatures.items()},
        )  # fmt: skip
        builder.save()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("examples")
    save_examples_model(path / "3")
    return path


@pytest.fixture(scope="module")
def stubs(folder):
    with Server(folder, model_name="g") as server:
        yield Stubs(server)


def example(**features):
    return tf.train.Example(features=tf.train.Features(feature={
        name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        for name, value in features.items()
    }))  # fmt: skip


def examples(*given, context=None):
    if context is None:
        return input_pb2.Input(example_list=input_pb2.ExampleList(examples=given))
    return input_pb2.Input(
        example_list_with_context=input_pb2.ExampleListWithContext(examples=given, context=context)
    )


TWO = examples(example(x=1), example(x=2, y=5))


def classification(signature="", given=TWO, **model):
    return classification_pb2.ClassificationRequest(
        model_spec=spec(signature=signature, **model), input=given
    )


def regression(signature="regress", given=TWO):
    return regression_pb2.RegressionRequest(model_spec=spec(signature=signature), input=given)


def several(*tasks, given=TWO):
    result = inference_pb2.MultiInferenceRequest(input=given)
    for name, signature, method in tasks:
        result.tasks.add(model_spec=spec(name, signature=signature), method_name=method)
    return result


def labelled(result):
    return [[(c.label, c.score) for c in row.classes] for row in result.classifications]


def test_classify(stubs):
    reply = stubs.prediction.Classify(classification())
    assert labelled(reply.result) == [
        [("low", 1), ("h\xf6ch", 10)], [("low", 2), ("h\xf6ch", 5)]
    ]  # fmt: skip
    assert reply.model_spec == spec(version=3, signature="serving_default")
    reply = stubs.prediction.Classify(classification("scores", version=3))
    assert labelled(reply.result)[0] == [("", 1), ("", 10)]
    reply = stubs.prediction.Classify(classification("classes"))
    assert labelled(reply.result)[0] == [("low", 0), ("h\xf6ch", 0)]


@pytest.mark.parametrize("signature", ["regress", "regress_column"])
def test_regress(stubs, signature):
    reply = stubs.prediction.Regress(regression(signature))
    assert [r.value for r in reply.result.regressions] == [11, 7]
    assert reply.model_spec == spec(version=3, signature=signature)


def test_context_is_merged_into_each_example(stubs):
    given = examples(example(x=1), example(x=2, y=5), context=example(y=3))
    reply = stubs.prediction.Regress(regression(given=given))
    assert [r.value for r in reply.result.regressions] == [4, 7]


def test_multi_inference(stubs):
    reply = stubs.prediction.MultiInference(several(("g", "regress", REGRESS), ("g", "", CLASSIFY)))
    first, second = reply.results
    assert [r.value for r in first.regression_result.regressions] == [11, 7]
    assert labelled(second.classification_result)[1] == [("low", 2), ("h\xf6ch", 5)]
    assert first.model_spec == spec(version=3, signature="regress")
    assert second.model_spec == spec(version=3, signature="serving_default")


INVALID = Code.INVALID_ARGUMENT
# (method, request, code, message)
REFUSED = [
    ("Classify", classification_pb2.ClassificationRequest(), INVALID, "Missing ModelSpec"),
    ("Regress", regression_pb2.RegressionRequest(), INVALID, "Missing ModelSpec"),
    ("Classify", classification(name="no"), Code.NOT_FOUND,
     "Servable not found for request: Latest(no)"),
    ("Classify", classification("nope"), INVALID, "No signature was found with the name: nope"),
    ("Regress", regression("nope"), INVALID, "No signature was found with the name: nope"),
    ("Classify", classification(given=None), INVALID, "Input is empty."),
    ("Regress", regression(given=examples()), INVALID, "Input is empty."),
    ("Regress", regression(given=examples(context=example(x=1))), INVALID, "Input is empty."),
    ("Classify", classification("numbers"), INVALID,
     "Expects arg[0] to be float but string is provided"),
    ("Classify", classification("two_inputs"), INVALID, "Expected one input Tensor."),
    ("Regress", regression("two_inputs"), INVALID, "Expected one input Tensor."),
    ("Regress", regression(""), INVALID, "Expected one output Tensor."),
    ("Classify", classification("other_name"), INVALID,
     "No classification inputs found in SignatureDef: inputs {"),
    ("Regress", regression("regress_name"), INVALID,
     "No regression inputs found in SignatureDef: inputs {"),
    ("Regress", regression("regress_value"), INVALID,
     "No regression outputs found in SignatureDef: inputs {"),
    ("Classify", classification("regress"), INVALID, "Expected classification signature outputs "
     'to contain at least one of "classes" or "scores". Signature was: inputs {'),
    ("Classify", classification("bad_rank"), INVALID,
     "Expected Tensor shape: [batch_size num_classes] but got [2]"),
    ("Classify", classification("bad_type"), INVALID,
     "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
    ("Classify", classification("bad_labels"), INVALID,
     "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
    ("Classify", classification("bad_count"), INVALID,
     "Expected scores output batch size of 2. Got: 1"),
    ("Classify", classification("widths"), INVALID,
     "Tensors class and score should match in dim_size(1). Got 2 vs. 3"),
    ("Regress", regression("regress_rank"), INVALID, "Expected output Tensor shape to be either "
     "[batch_size] or [batch_size, 1] but got [2,2]"),
    ("Regress", regression("regress_type"), INVALID,
     "Expected output Tensor of DT_FLOAT.  Got: DT_INT32"),
    ("Regress", regression("regress_count"), INVALID,
     "Input batch size did not match output batch size: 2 vs. 1"),
    ("MultiInference", several(), INVALID, "ModelSpec has no name specified."),
    ("MultiInference", several(("g", "", CLASSIFY), ("", "", CLASSIFY)), INVALID,
     "Found ModelSpec with an empty model name."),
    ("MultiInference", several(("g", "", CLASSIFY), ("h", "", CLASSIFY)), INVALID,
     "All ModelSpecs in a MultiInferenceRequest must access the same model name."),
    ("MultiInference", several(("g", "", CLASSIFY), ("g", "serving_default", CLASSIFY)), INVALID,
     "Duplicate evaluation of signature: serving_default"),
    ("MultiInference", several(("g", "nope", CLASSIFY)), INVALID,
     "Requested signature not found in model graph: nope"),
    ("MultiInference", several(("g", "", "tensorflow/serving/predict")), Code.UNIMPLEMENTED,
     "Unsupported signature method_name: tensorflow/serving/predict"),
    ("MultiInference", several(("g", "", CLASSIFY), ("g", "other_input", REGRESS)), INVALID,
     "Expected output Tensor of DT_FLOAT.  Got: DT_INT32"),
    ("MultiInference", several(("g", "", CLASSIFY), given=None), INVALID, "Input is empty."),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[0]}: {case[3][:40]}")
def test_invalid_requests_get_tf_servings_errors(stubs, case):
    method, bad, code, message = case
    found, details = failure(getattr(stubs.prediction, method), bad)
    assert found is code
    assert details.startswith(message) if message.endswith("{") else details == message


def test_models_without_an_example_signature_are_refused(tmp_path):
    save(tmp_path / "1")
    with Server(tmp_path, model_name="g") as server:
        stubs = Stubs(server)
        bad = classification("bytes")
        assert failure(stubs.prediction.Classify, bad)[1] == "Expected one input Tensor."
        text = "Expected one or two output Tensors, found 12"
        assert failure(stubs.prediction.Classify, classification("types"))[1] == text


def test_warm_up_runs_every_kind_of_request(folder, tmp_path):
    def load(**log):
        path = tmp_path / "3" / WARM_UP_FILE
        path.parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(prediction_log_pb2.PredictionLog(**log).SerializeToString())
        model = Model(ModelConfig("g", tmp_path), Options())
        model.update()
        error = model.status()[3][1]
        model.close()
        return error

    save_examples_model(tmp_path / "3")
    assert load(classify_log={"request": classification()}) is None
    assert load(regress_log={"request": regression()}) is None
    assert load(multi_inference_log={"request": several(("g", "", CLASSIFY))}) is None
    assert load(regress_log={"request": regression("nope")}).code is INVALID
    assert load(multi_inference_log={}).code is INVALID
    assert load(session_run_log={}).code is Code.UNIMPLEMENTED
