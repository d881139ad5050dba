"""TF Serving's test models, y = a x + b, with predict, classify and regress signatures.

Names, types and shapes of the signatures are as in its sources: `x` has the shape [-1, 1], and its
tests send a tensor of shape [1].
"""

from __future__ import annotations

import tensorflow as tf

tf1 = tf.compat.v1


def save_graph(path, a=0.5, b=2.0):
    """Saves the model like TF 1, with the method names of classify and regress signatures."""
    with tf.Graph().as_default(), tf1.Session() as session:
        slope, offset = tf1.get_variable("a", initializer=a), tf1.get_variable("b", initializer=b)
        examples = tf1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf1.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = tf.identity(parsed["x"], name="x")
        y = tf.add(slope * x, offset, name="y")
        defs, constants = tf1.saved_model.signature_def_utils, tf1.saved_model.signature_constants
        inputs = {"inputs": tf1.saved_model.build_tensor_info(examples)}
        output = tf1.saved_model.build_tensor_info(y)
        signatures = {
            "serving_default": defs.predict_signature_def({"x": x}, {"y": y}),
            "regress_x_to_y": defs.build_signature_def(
                inputs, {"outputs": output}, constants.REGRESS_METHOD_NAME
            ),
            "classify_x_to_y": defs.build_signature_def(
                inputs, {"scores": output}, constants.CLASSIFY_METHOD_NAME
            ),
        }
        session.run(tf1.global_variables_initializer())
        builder = tf1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


class HalfPlusTwo(tf.Module):
    """The model as in TF 2, where all signatures have the method name of predict."""

    def __init__(self):
        super().__init__()
        self.a, self.b = tf.Variable(0.5), tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, "x")])
    def predict(self, x):
        return {"y": self.a * x + self.b}

    def _of_examples(self, inputs):
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        return self.a * x + self.b

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(self, inputs):
        return {"outputs": self._of_examples(inputs)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(self, inputs):
        return {"scores": self._of_examples(inputs)}


def save_tf2(path):
    """Saves the same signatures with `tf.saved_model.save`."""
    model = HalfPlusTwo()
    signatures = {
        "serving_default": model.predict,
        "regress_x_to_y": model.regress,
        "classify_x_to_y": model.classify,
    }
    tf.saved_model.save(model, str(path), signatures)
