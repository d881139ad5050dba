"""A REST server with a model of many data types, and calls like those of curl."""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.error
import urllib.request

import tensorflow as tf
from tiny_models import TinyModel

from tfface.server.app import Server
from tfface.server.config import Options
from tfface.server.handlers import Handlers
from tfface.server.rest_server import RestServer
from tfface.server.workers import EventLoop

ECHOES = (tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.int32, tf.int64, tf.uint8, tf.uint64,
          tf.bool, tf.string, tf.complex64)  # fmt: skip


class Model(TinyModel):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, "x"),
            tf.TensorSpec([None], tf.string, "label"),
        ]
    )
    def rows(self, x, label):
        return {"twice": 2 * x, "label": label, "label_bytes": label, "first": x[:, 0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def uneven(self, x):
        return {"a": x, "b": x[:1]}


def echo(dtype):
    return tf.function(lambda x: {"y": tf.identity(x)}, [tf.TensorSpec(None, dtype, "x")])


@contextlib.contextmanager
def answering(base_path):
    """Handlers for a model named g, which is saved to a folder first."""
    model = Model()
    names = ("serving_default", "bytes", "slow", "rows", "uneven")
    signatures = {name: getattr(model, name) for name in names}
    model.echoes = {dtype.name: echo(dtype) for dtype in ECHOES}
    tf.saved_model.save(model, str(base_path / "1"), signatures | model.echoes)
    with Server(base_path, model_name="g") as server:
        yield Handlers(server.models)


@contextlib.contextmanager
def serving(answers, **options):
    """A running RestServer."""
    front = EventLoop()
    server = front.run(started(answers, **options))
    try:
        yield server
    finally:
        front.run(server.stop(10))
        front.close()


async def started(answers, **options):
    server = RestServer(answers, Options(**{"rest_port": 0, "rest_threads": 4} | options))
    server.start()
    return server


def call(rest, path, body=None, headers=(), method=None):
    """Status, headers and body of a reply; a body that is not bytes is sent as JSON."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    url = f"http://127.0.0.1:{rest.port}{path}"
    request = urllib.request.Request(url, body, dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def asked(rest, path, body=None, **options):
    """Status and JSON of a reply."""
    status, headers, text = call(rest, path, body, **options)
    assert headers["Content-Type"] == "application/json"
    return status, json.loads(text)


PREDICT = "/v1/models/g:predict"


def of(signature, **body):
    return {"signature_name": signature} | body


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def predicted(rest, body, **options):
    """The JSON reply to a successful prediction."""
    status, document = asked(rest, PREDICT, body, **options)
    assert status == 200, document
    return document
