"""The REST server: bodies, limits, CORS, timeouts, classify, regress and shutdown."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading

import numpy as np
import pytest
from rest_calls import PREDICT, answering, asked, b64, call, of, predicted, serving, started
from tensorflow_serving.apis import classification_pb2, regression_pb2
from tiny_models import spec, wait_for

from tfface.errors import UserError
from tfface.server.handlers import Handlers
from tfface.server.rest import LARGEST_BODY
from tfface.server.rest_requests import MAX_LISTS
from tfface.server.workers import EventLoop


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    with answering(tmp_path_factory.mktemp("export")) as answers:
        yield answers


@pytest.fixture(scope="module")
def rest(answers):
    with serving(answers) as server:
        yield server


GZIP = {"Content-Encoding": "gzip"}


def test_compressed_bodies(rest):
    body = json.dumps(of("float32", inputs=[1, 2])).encode()
    for data in (gzip.compress(body), gzip.compress(body[:9]) + gzip.compress(body[9:])):
        assert predicted(rest, data, headers=GZIP) == {"outputs": [1.0, 2.0]}
    for data in (body, gzip.compress(body)[:-9]):
        status, document = asked(rest, PREDICT, data, headers=GZIP)
        assert (status, "gzip" in document["error"]) == (400, True)


def test_too_large_bodies_are_refused(rest):
    bomb = gzip.compress(b" " * (LARGEST_BODY + 1), 1)
    status, document = asked(rest, PREDICT, bomb, headers=GZIP)
    assert (status, f"more than {2**24 + 16 * len(bomb)} bytes" in document["error"]) == (413, True)
    random = gzip.compress(np.random.default_rng(0).bytes(LARGEST_BODY // 8) * 8 + b" ", 1)
    status, document = asked(rest, PREDICT, random, headers=GZIP)
    assert (status, f"more than {LARGEST_BODY} bytes" in document["error"]) == (413, True)
    lists = gzip.compress(b'{"inputs": [' + b"[]," * MAX_LISTS + b"[]]}", 1)
    status, document = asked(rest, PREDICT, lists, headers=GZIP)
    assert (status, f"more than {MAX_LISTS} lists" in document["error"]) == (400, True)
    connection = http.client.HTTPConnection("127.0.0.1", rest.port)
    connection.putrequest("POST", PREDICT)
    connection.putheader("Content-Length", str(LARGEST_BODY + 1))
    connection.endheaders()  # refused because of its Content-Length
    assert connection.getresponse().status == 413
    connection.close()


def test_body_of_50_mb_is_accepted(rest):
    text = "abcde" * 10**7
    assert predicted(rest, of("string", instances=[text])) == {"predictions": [text]}


def test_concurrent_compressed_requests_are_all_answered(rest):
    body = gzip.compress(json.dumps(of("float32", inputs=[1])).encode())
    replies = []
    clients = [
        threading.Thread(target=lambda: replies.append(predicted(rest, body, headers=GZIP)))
        for _ in range(8)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert replies == [{"outputs": [1.0]}] * 8


def test_cors_headers_are_sent_if_enabled(rest, answers):
    origin = {"Origin": "http://example.org"}
    _, headers, _ = call(rest, "/v1/models/g", headers=origin)
    assert headers["Access-Control-Allow-Origin"] is None
    with serving(answers, rest_cors=True) as server:
        replies = [
            call(server, "/v1/models/g", headers=origin),
            call(server, PREDICT, headers=origin, method="OPTIONS"),
            call(server, "/v1/foo", headers=origin),
        ]
    assert [status for status, _, _ in replies] == [200, 200, 400]
    for _, headers, _ in replies:
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["Access-Control-Allow-Methods"] == "POST, GET"
        assert headers["Access-Control-Allow-Headers"] == "Content-Type"


def test_slow_requests_time_out(answers):
    with serving(answers, rest_timeout=0.2) as server:
        status, document = asked(server, PREDICT, of("slow", inputs=[[1.0] * 8]))
    assert (status, document.keys()) == (504, {"error"})


class StandIn(Handlers):
    """Handlers of a model with signatures for classify and regress; keeps the last request."""

    def __init__(self):
        super().__init__({})
        self.asked = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def classify(self, request, timeout):
        self.asked = request
        assert self.may_answer.wait(20)
        response = classification_pb2.ClassificationResponse()
        for _ in request.input.example_list.examples:
            classes = response.result.classifications.add().classes
            classes.add(label="happy", score=0.1)
            classes.add(label="sad", score=1)
        return response

    def regress(self, request, timeout):
        self.asked = request
        response = regression_pb2.RegressionResponse()
        for value in (0.1, float("nan")):
            response.result.regressions.add(value=value)
        return response


@pytest.fixture
def stand_in():
    answers = StandIn()
    with serving(answers) as server:
        yield answers, server


def test_classify(stand_in):
    answers, server = stand_in
    example = {"a": 1.5, "b": [1, True], "c": ["é", b64(b"\xff")], "d": []}
    body = of("s", examples=[example, {}])
    status, document = asked(server, "/v1/models/m%2Fn/labels/b%20c:Classify", body)
    assert (status, document) == (200, {"results": [[["happy", 0.1], ["sad", 1.0]]] * 2})
    assert answers.asked.model_spec == spec("m/n", label="b c", signature="s")
    sent = answers.asked.input.example_list.examples[0].features.feature
    assert sent["a"].float_list.value == [1.5]
    assert sent["b"].int64_list.value == [1, 1]
    assert sent["c"].bytes_list.value == ["é".encode(), b"\xff"]
    assert "d" in sent


def test_regress_with_a_context(stand_in):
    answers, server = stand_in
    body = {"context": {"a": "x"}, "examples": [{"b": 2}]}
    status, _, text = call(server, "/v1/models/m/versions/3:regress", body)
    assert (status, text.replace(b" ", b"")) == (200, b'{"results":[0.1,NaN]}')
    assert answers.asked.model_spec == spec("m", version=3)
    given = answers.asked.input.example_list_with_context
    assert given.context.features.feature["a"].bytes_list.value == [b"x"]
    assert given.examples[0].features.feature["b"].int64_list.value == [2]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "'examples' value is an empty array"),
        (1, "Expecting 'examples' value to be an list/array"),
        ([1], "Example must be JSON object but got JSON Number"),
        ([{"a": [1, 0.5]}], "Unexpected element type in feature: a expecting type: int64"),
        ([{"a": ["", 1]}], "Unexpected element type in feature: a expecting type: bytes"),
        ([{"a": None}], "Feature: a has element with unexpected JSON type: Null"),
        ([{"a": {"b": 1}}], "Feature: a has element with unexpected JSON type: Object"),
        ([{"a": 2**63}], "JSON Value: 9223372036854775808 Type: Number"),
        ([{"\ud800": 1}], "JSON Value: text is not Unicode"),
    ],
)
def test_invalid_examples_are_refused(stand_in, examples, message):
    status, document = asked(stand_in[1], "/v1/models/m:classify", {"examples": examples})
    assert (status, message in document["error"]) == (400, True), document


def test_stopping_lets_requests_finish():
    answers, front, replies = StandIn(), EventLoop(), []
    server = front.run(started(answers))
    answers.may_answer.clear()
    kept = http.client.HTTPConnection("127.0.0.1", server.port)
    kept.request("GET", "/v1/foo")
    kept.getresponse().read()
    body = {"examples": [{}]}
    client = threading.Thread(
        target=lambda: replies.append(asked(server, "/v1/models/m:classify", body))
    )
    client.start()
    wait_for(lambda: answers.asked is not None)
    stopping = threading.Thread(target=lambda: front.run(server.stop(20)))
    stopping.start()

    def refuses():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", server.port)) != 0

    wait_for(refuses)
    kept.request("GET", "/v1/foo")
    assert kept.getresponse().status == 503
    assert not replies
    answers.may_answer.set()
    client.join()
    stopping.join()
    front.close()
    assert replies[0][0] == 200


def test_addresses(answers, rest):
    assert rest.addresses[0] == f"127.0.0.1:{rest.port}"
    front = EventLoop()
    for host, port in [("127.0.0.1", rest.port), ("192.0.2.1", 0)]:
        with pytest.raises(UserError, match=f"cannot listen on {host}:{port}: "):
            front.run(started(answers, host=host, rest_port=port))
    front.close()
