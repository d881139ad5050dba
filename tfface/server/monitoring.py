"""Request counts and latencies, with the names and format of TF Serving's Prometheus metrics."""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
from collections.abc import Iterable, Iterator

import grpc

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = ":tensorflow:serving:"
# Upper bounds in microseconds: 10 us to about 25 minutes.
_BOUNDS = tuple(10 * 1.8**power for power in range(33))


class Monitor:
    """Request counts and latencies of a server; thread-safe.

    As in TF Serving, only Predict, Classify and Regress are counted, and latencies are recorded for
    successful requests only. Requests for models that are not served are counted together under
    `model_name=""`, so that made-up names cannot fill the memory.

    Args:
        models: The served models; `models[name]` raises KeyError for any other name.
    """

    def __init__(self, models):
        self._models = models
        self._lock = threading.Lock()
        self._count = _Counter("request_count", ("model_name", "status"))
        self._latency = _Histogram("request_latency", ("model_name", "API", "entrypoint"))
        self._runtime = _Histogram("runtime_latency", ("model_name", "API", "runtime"))

    def request(
        self, api: str, entrypoint: str, model: str, code: grpc.StatusCode, seconds: float
    ) -> None:
        """Records a finished request.

        Args:
            api: The RPC's name, spelled as in TF Serving: Predict over gRPC, predict over REST.
            entrypoint: GRPC or REST.
            model: The model's name in the request.
            code: The resulting status.
            seconds: Time from its arrival to its reply.
        """
        try:
            self._models[model]
        except KeyError:
            model = ""
        with self._lock:
            self._count.add((model, code.name))
            if code is grpc.StatusCode.OK:
                self._latency.add((model, api, entrypoint), seconds * 1e6)

    @contextlib.contextmanager
    def running(self, api: str, model: str) -> Iterator[None]:
        """Records the duration of a with block, which runs a served model, as runtime latency."""
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        with self._lock:
            self._runtime.add((model, api, "TF1"), seconds * 1e6)

    def text(self) -> str:
        """All metrics in Prometheus's text format."""
        with self._lock:
            lines = [*self._count.lines(), *self._latency.lines(), *self._runtime.lines()]
        return "\n".join(lines) + "\n"


class _Counter:
    def __init__(self, name: str, labels: tuple[str, ...]):
        self._name = _PREFIX + name
        self._labels = labels
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, values: tuple[str, ...]) -> None:
        self._counts[values] = self._counts.get(values, 0) + 1

    def lines(self) -> Iterator[str]:
        yield f"# TYPE {self._name} counter"
        for values, count in self._counts.items():
            yield f"{self._name}{{{_labels(self._labels, values)}}} {count}"


class _Histogram:
    def __init__(self, name: str, labels: tuple[str, ...]):
        self._name = _PREFIX + name
        self._labels = labels
        # By label values: the number of observations in each bucket; the last one is unbounded.
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def add(self, values: tuple[str, ...], observed: float) -> None:
        if values not in self._counts:
            self._counts[values] = [0] * (len(_BOUNDS) + 1)
            self._sums[values] = 0.0
        self._counts[values][bisect.bisect_left(_BOUNDS, observed)] += 1
        self._sums[values] += observed

    def lines(self) -> Iterator[str]:
        yield f"# TYPE {self._name} histogram"
        for values, counts in self._counts.items():
            labels = _labels(self._labels, values)
            total = 0
            for bound, count in zip([*(f"{b:g}" for b in _BOUNDS), "+Inf"], counts, strict=True):
                total += count
                yield f'{self._name}_bucket{{{labels},le="{bound}"}} {total}'
            yield f"{self._name}_sum{{{labels}}} {self._sums[values]}"
            yield f"{self._name}_count{{{labels}}} {total}"


def _labels(names: Iterable[str], values: Iterable[str]) -> str:
    pairs = zip(names, values, strict=True)
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
