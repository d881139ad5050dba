"""Soak test of a server on an untrusted network: `python benchmarks/soak.py`, or `make soak`.

Well-behaved clients over gRPC and REST measure the latency of every request, alternately alone and
while other clients send invalid, slow and malicious requests. Model versions are added and removed
all the time. Prints a table, and the server's memory after every tenth of the time. The exit status
is 1 if a valid request failed, if memory grew by more than 10 %, or if the 99th percentile of the
latency more than doubled because of the other clients.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import gzip
import io
import itertools
import json
import multiprocessing
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

MODEL = "sargan64"
TURN = 10.0  # seconds, with and without the bad clients
PAUSE = 0.05  # seconds between two requests of a client
GROWTH = 0.1  # accepted relative growth of memory
HARM = 2.0  # accepted ratio of the 99th percentiles


class Tally:
    """Latencies and failures of valid requests, with and without bad clients."""

    def __init__(self, disturbed: Event, stop: Event):
        self.times: dict[bool, list[float]] = {False: [], True: []}
        self.failures: list[str] = []
        self.disturbed = disturbed
        self.stop = stop

    def good(self, call: Callable[[], None]) -> None:
        """Calls repeatedly until the end, and records the latencies."""
        while not self.stop.is_set():
            disturbed, begin = self.disturbed.is_set(), time.perf_counter()
            try:
                call()
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}"[:200])
            if disturbed == self.disturbed.is_set():
                self.times[disturbed].append(1e3 * (time.perf_counter() - begin))
            time.sleep(PAUSE)

    def percentile(self, disturbed: bool, share: float) -> float:
        """A percentile of the latency in ms."""
        times = sorted(self.times[disturbed])
        return times[int(share * len(times))] if times else 0.0


class Callers:
    """Valid and bad requests to a server."""

    def __init__(self, target: str, rest: int, face: bytes):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self.target, self.rest, self.face = target, rest, face
        self.channel = grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1)])
        self.predict = prediction_service_pb2_grpc.PredictionServiceStub(self.channel).Predict

    def request(self, face: bytes, expression: bytes = b"happy", rows: int = 1):
        """A Predict request for the signature `bytes`."""
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = MODEL, "bytes"
        for name, value in (("image_bytes", face), ("expression", expression)):
            request.inputs[name].dtype = 7
            request.inputs[name].tensor_shape.dim.add(size=rows)
            request.inputs[name].string_val.append(value)
        return request

    def post(self, body: bytes, **headers: str) -> bytes:
        """Posts to the REST API; returns the reply."""
        url = f"http://127.0.0.1:{self.rest}/v1/models/{MODEL}:predict"
        request = urllib.request.Request(url, body, headers)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.read()

    def good(self) -> list[Callable[[], None]]:
        """Valid requests, which must always succeed."""
        request = self.request(self.face)
        row = {"image_bytes": {"b64": base64.b64encode(self.face).decode()}, "expression": "happy"}
        body = json.dumps({"signature_name": "bytes", "instances": [row]}).encode()

        def over_grpc() -> None:
            (image,) = self.predict(request, timeout=30).outputs["image_bytes"].string_val
            if not image.startswith(b"\x89PNG"):
                raise ValueError("the reply is not an image")

        def over_rest() -> None:
            if len(json.loads(self.post(body))["predictions"]) != 1:
                raise ValueError("the reply does not have one row")

        return [over_grpc, over_rest]

    def bad(self) -> list[Callable[[], None]]:
        """Invalid, slow and malicious requests."""
        address = self.target.rpartition(":")[0], int(self.target.rpartition(":")[2])
        lists = gzip.compress(b'{"inputs": [' + b"[]," * 2**22 + b"[]]}", 1)
        requests = [
            self.request(b"not an image"),
            self.request(self.face[: len(self.face) // 2]),
            self.request(self.face, b"no such expression"),
            self.request(self.face, rows=2**24),
            self.request(_oversized_jpeg(7000)),
        ]
        cycle = itertools.cycle(requests)

        def silent(port: int, data: bytes) -> None:
            with socket.create_connection((address[0], port), timeout=5) as connection:
                connection.sendall(data)
                time.sleep(2)

        def flood() -> None:
            with contextlib.ExitStack() as stack:
                for port in [address[1]] * 20 + [self.rest] * 20:
                    stack.enter_context(socket.create_connection((address[0], port), timeout=5))
                time.sleep(2)

        calls = _headers_only()
        half = b"POST /v1/models/x:predict HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"
        return [
            lambda: self.predict(next(cycle), timeout=10),
            lambda: self.post(b'{"instances": [1, [2]]}'),
            lambda: self.post(lists, **{"Content-Encoding": "gzip"}),
            lambda: silent(address[1], calls),
            lambda: silent(self.rest, half),
            lambda: silent(address[1], os.urandom(999)),
            flood,
        ]


def _oversized_jpeg(side: int) -> bytes:
    """A small JPEG whose header has the size `side` x `side`."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, format="JPEG")
    data = bytearray(file.getvalue())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def _headers_only() -> bytes:
    """The bytes of a connection that begins 50 calls of Predict without their messages."""
    path = b"/tensorflow.serving.PredictionService/Predict"
    pairs = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
             (b"te", b"trailers"), (b"content-type", b"application/grpc")]  # fmt: skip
    fields = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs
    )
    frames = [
        struct.pack(">I", len(fields))[1:] + b"\1\4" + struct.pack(">I", 2 * call + 1) + fields
        for call in range(50)
    ]
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5) + b"".join(frames)


@contextlib.contextmanager
def serving(base_path: Path):
    """Starts a server process; yields its target, REST port and process ID."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        rest = probe.getsockname()[1]
    words = ["--port=0", f"--rest_api_port={rest}", f"--model_base_path={base_path}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tfface.serve", *words, f"--model_name={MODEL}",
         "--enable_batching", "--grpc_max_threads=8"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        target = re.search(r"ready at (\S+:\d+)", process.stdout.readline())[1]
        yield target, rest, process.pid
    finally:
        process.terminate()
        process.wait()


def disturb(target: str, rest: int, face: bytes, disturbed: Event, stop: Event) -> None:
    """Sends the bad requests while `disturbed` is set, ignoring the results; runs in a process."""
    from tfface.cli import import_tensorflow

    import_tensorflow()

    def work(call: Callable[[], None]) -> None:
        while not stop.is_set():
            if disturbed.wait(0.2):
                with contextlib.suppress(Exception):
                    call()
                time.sleep(PAUSE)

    run_threads([functools.partial(work, call) for call in Callers(target, rest, face).bad()])


def run_threads(work: list[Callable[[], None]]) -> None:
    """Runs functions in parallel threads."""
    threads = [threading.Thread(target=do) for do in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def change_versions(base_path: Path, tally: Tally, every: float) -> None:
    """Repeatedly adds a new version and removes the old one."""
    number = 1
    while not tally.stop.wait(every):
        temporary = base_path / ".next"
        shutil.copytree(base_path / str(number), temporary)
        temporary.rename(base_path / str(number + 1))
        if tally.stop.wait(every):
            return
        shutil.rmtree(base_path / str(number))
        number += 1


def memory(pid: int) -> int:
    """Resident memory of a process, in MiB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) // 1024


def soak(base_path: Path, face: bytes, minutes: float, versions: float) -> bool:
    """Runs the test; returns whether it passed."""
    processes = multiprocessing.get_context("spawn")
    tally = Tally(processes.Event(), processes.Event())
    samples: list[int] = []
    with serving(base_path) as (target, rest, pid):
        events = (tally.disturbed, tally.stop)
        others = processes.Process(target=disturb, args=(target, rest, face, *events))
        others.start()
        work = [functools.partial(tally.good, call) for call in Callers(target, rest, face).good()]
        work.append(lambda: change_versions(base_path, tally, versions))
        work.append(lambda: watch(tally, pid, minutes, samples))
        run_threads(work)
        others.join()
    return report(tally, samples)


def watch(tally: Tally, pid: int, minutes: float, samples: list[int]) -> None:
    """Switches the bad clients on and off, samples the memory ten times, and ends the test."""
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < 60 * minutes:
        (tally.disturbed.set if int(passed / TURN) % 2 else tally.disturbed.clear)()
        if passed >= (len(samples) + 1) * 6 * minutes:
            samples.append(memory(pid))
            print(f"{passed / 60:.1f} min: {samples[-1]} MiB", flush=True)
        time.sleep(0.2)
    tally.stop.set()


def report(tally: Tally, samples: list[int]) -> bool:
    """Prints the table; returns whether the test passed."""
    print("\n| valid requests | replies | median, ms | 99th percentile, ms |\n|---|---|---|---|")
    for disturbed, name in ((False, "alone"), (True, "with bad clients")):
        median, worst = (tally.percentile(disturbed, share) for share in (0.5, 0.99))
        print(f"| {name} | {len(tally.times[disturbed])} | {median:.0f} | {worst:.0f} |")
    # Single samples vary, as two versions may be loaded at that moment.
    early, late = max(samples[:3]), max(samples[-3:])
    growth = late / early - 1
    harm = tally.percentile(True, 0.99) / max(tally.percentile(False, 0.99), 1e-9)
    print(
        f"\nfailed: {len(tally.failures)}; memory {early} MiB at the start, {late} MiB at the end "
        f"({growth:+.0%}); 99th percentile with bad clients: {harm:.2f} times"
    )
    for failure in sorted(set(tally.failures))[:5]:
        print(failure)
    return not tally.failures and growth <= GROWTH and harm <= HARM


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="duration; default: 10")
    parser.add_argument(
        "--versions", type=float, default=20, help="seconds between version changes; default: 20"
    )
    arguments = parser.parse_args()
    from tfface.cli import import_tensorflow

    import_tensorflow()
    from serving import export, requests

    with tempfile.TemporaryDirectory() as scratch:
        base_path = export(64, Path(scratch))
        face = requests(64)["bytes"]["image_bytes"][0]
        return 0 if soak(base_path, face, arguments.minutes, arguments.versions) else 1


if __name__ == "__main__":
    sys.exit(main())
