"""Request metrics over gRPC and REST, read with a strict parser of Prometheus's format."""

from __future__ import annotations

import json
import re
import threading
import types
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
from tiny_models import Stubs, failure, good, request, save, spec, status_request

from tfface.server.app import Server
from tfface.server.config import METRICS_PATH
from tfface.server.monitoring import Monitor

Code = grpc.StatusCode
COUNT = ":tensorflow:serving:request_count"
LATENCY = ":tensorflow:serving:request_latency"
RUNTIME = ":tensorflow:serving:runtime_latency"

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
VALUE = r'"((?:[^"\\\n]|\\[\\"n])*)"'
LABEL = re.compile(rf"([a-zA-Z_][a-zA-Z0-9_]*)={VALUE}(,|$)")
SAMPLE = re.compile(rf"({NAME})\{{(.*)\}} (\S+)")
SUFFIXES = {"counter": ("",), "histogram": ("_bucket", "_sum", "_count")}


def labels_of(text):
    labels, end = {}, 0
    while end < len(text):
        match = LABEL.match(text, end)
        assert match, text
        assert match[1] not in labels
        value = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), match[2])
        labels[match[1]], end = value, match.end()
    return labels


def parse(text):
    """{(name, labels): value} of a metrics page; fails if it violates the format."""
    assert text.endswith("\n")
    samples, types, current = {}, {}, None
    for line in text[:-1].split("\n"):
        header = re.fullmatch(rf"# TYPE ({NAME}) (counter|histogram)", line)
        if header:
            current = header[1]
            assert current not in types
            types[current] = header[2]
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        assert match[1] in [current + suffix for suffix in SUFFIXES[types[current]]]
        key = match[1], frozenset(labels_of(match[2]).items())
        assert key not in samples
        samples[key] = float(match[3])
    for name, kind in types.items():
        if kind == "histogram":
            check_histograms(name, samples)
    return samples


def check_histograms(name, samples):
    buckets = {}
    for (sample, labels), value in samples.items():
        if sample == f"{name}_bucket":
            rest = dict(labels)
            bound = float(rest.pop("le"))
            buckets.setdefault(frozenset(rest.items()), []).append((bound, value))
    for labels, found in buckets.items():
        assert found == sorted(found)
        assert [count for _, count in found] == sorted(count for _, count in found)
        assert found[-1] == (float("inf"), samples[f"{name}_count", labels])
        assert samples[f"{name}_sum", labels] >= 0


def value(samples, name, **labels):
    return samples.get((name, frozenset(labels.items())))


def test_latencies_fall_into_tf_servings_buckets():
    monitor = Monitor({"g": None})
    for microseconds in (1, 10, 10.1, 1e12):
        monitor.request("Predict", "GRPC", "g", Code.OK, microseconds / 1e6)
    samples = parse(monitor.text())
    labels = {"model_name": "g", "API": "Predict", "entrypoint": "GRPC"}
    bounds = [dict(key[1])["le"] for key in samples if key[0] == f"{LATENCY}_bucket"]
    assert bounds == [*(f"{10 * 1.8**power:g}" for power in range(33)), "+Inf"]
    counts = [value(samples, f"{LATENCY}_bucket", **labels, le=bound) for bound in bounds]
    assert counts[:2] == [2, 3]
    assert counts[-2:] == [3, 4]
    assert value(samples, f"{LATENCY}_sum", **labels) == pytest.approx(1e12 + 21.1)


def test_failures_are_counted_without_latency():
    monitor = Monitor({"g": None})
    monitor.request("Predict", "GRPC", "g", Code.INVALID_ARGUMENT, 1)
    samples = parse(monitor.text())
    assert samples == {(COUNT, frozenset({("model_name", "g"), ("status", "INVALID_ARGUMENT")})): 1}


def test_unknown_models_share_one_line():
    monitor = Monitor({"g": None})
    for number in range(100):
        monitor.request("predict", "REST", f"made up {number}", Code.NOT_FOUND, 1)
    samples = parse(monitor.text())
    assert samples == {(COUNT, frozenset({("model_name", ""), ("status", "NOT_FOUND")})): 100}


def test_any_model_name_round_trips():
    name = 'a"b\\c\nd,e="f"}'
    monitor = Monitor({name: None})
    monitor.request("Predict", "GRPC", name, Code.OK, 1)
    assert value(parse(monitor.text()), COUNT, model_name=name, status="OK") == 1


def test_counts_are_thread_safe():
    monitor = Monitor({"g": None})

    def work():
        for _ in range(1000):
            monitor.request("Predict", "GRPC", "g", Code.OK, 0)
            monitor.text()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(parse(monitor.text()), COUNT, model_name="g", status="OK") == 4000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    save(path)
    with Server(path.parent, model_name="g", rest_port=0, metrics_path=METRICS_PATH) as server:
        yield server


@pytest.fixture(scope="module")
def rest(server):
    return types.SimpleNamespace(port=server.rest_port)


@pytest.fixture(scope="module")
def stubs(server):
    return Stubs(server)


def url(rest, path):
    return f"http://127.0.0.1:{rest.port}{path}"


def scraped(rest):
    with urllib.request.urlopen(url(rest, METRICS_PATH), timeout=20) as reply:
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return parse(reply.read().decode())


def increase(before, after, name, **labels):
    return value(after, name, **labels) - (value(before, name, **labels) or 0)


def test_requests_over_grpc_and_rest_are_counted(rest, stubs):
    before = scraped(rest)
    for _ in range(3):
        stubs.predict(good())
    failure(stubs.predict, request("types", x=np.zeros(2)))
    failure(stubs.predict, request(model_spec=spec("nope")))
    failure(stubs.channel.unary_unary("/tensorflow.serving.PredictionService/Predict"), b"\xff")
    stubs.model.GetModelStatus(status_request())
    body = {"signature_name": "bytes", "inputs": {"image_bytes": [], "expression": []}}
    data = json.dumps(body).encode()
    urllib.request.urlopen(url(rest, "/v1/models/g:predict"), data, timeout=20).close()
    urllib.request.urlopen(url(rest, "/v1/models/g"), timeout=20).close()
    for path in ("/v1/models/g/versions/9:predict", "/v1/models/none:predict"):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(url(rest, path), data, timeout=20)
    after = scraped(rest)
    for model, status, expected in [
        ("g", "OK", 4), ("g", "INVALID_ARGUMENT", 1), ("g", "NOT_FOUND", 1), ("", "NOT_FOUND", 2),
        ("", "INTERNAL", 1),
    ]:  # fmt: skip
        assert increase(before, after, COUNT, model_name=model, status=status) == expected
    for api, entrypoint, expected in [("Predict", "GRPC", 3), ("predict", "REST", 1)]:
        labels = {"model_name": "g", "API": api, "entrypoint": entrypoint}
        assert increase(before, after, f"{LATENCY}_count", **labels) == expected
        assert increase(before, after, f"{LATENCY}_sum", **labels) > 0
    runtime = {"model_name": "g", "API": "Predict", "runtime": "TF1"}
    assert increase(before, after, f"{RUNTIME}_count", **runtime) == 4
    assert {name for name, _ in after} == {
        COUNT, *(n + s for n in (LATENCY, RUNTIME) for s in SUFFIXES["histogram"])
    }  # fmt: skip
