"""A server among strangers: `python benchmarks/soak.py`, or `make soak`.

Good callers over gRPC and REST measure every answer while, in turns, nobody else is there, and
while others send what is wrong, too slow or meant to do harm. Versions come and go all the time.
Prints a table, with the server's memory every tenth of the time, and ends with status 1 if a good
request failed, memory grew after the first minute, or good callers waited more than twice as long
at the 99th percentile because of the others.
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
TURN = 10.0  # seconds, with and without the bad callers
PAUSE = 0.05  # seconds between two bad requests of a caller
GROWTH = 0.1  # of memory after the first minute that is none
HARM = 2.0  # times the 99th percentile


class Tally:
    """What good callers have seen, with and without the bad ones."""

    def __init__(self, disturbed: Event, stop: Event):
        self.times: dict[bool, list[float]] = {False: [], True: []}
        self.failures: list[str] = []
        self.disturbed = disturbed
        self.stop = stop

    def good(self, call: Callable[[], None]) -> None:
        """Calls until the end, and notes how long it takes."""
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
        """In ms."""
        times = sorted(self.times[disturbed])
        return times[int(share * len(times))] if times else 0.0


class Callers:
    """Requests of all kinds to one server."""

    def __init__(self, target: str, rest: int, face: bytes):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self.target, self.rest, self.face = target, rest, face
        self.channel = grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1)])
        self.predict = prediction_service_pb2_grpc.PredictionServiceStub(self.channel).Predict

    def request(self, face: bytes, expression: bytes = b"happy", rows: int = 1):
        """A request of signature `bytes`."""
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = MODEL, "bytes"
        for name, value in (("image_bytes", face), ("expression", expression)):
            request.inputs[name].dtype = 7
            request.inputs[name].tensor_shape.dim.add(size=rows)
            request.inputs[name].string_val.append(value)
        return request

    def post(self, body: bytes, **headers: str) -> bytes:
        """The reply of the REST API."""
        url = f"http://127.0.0.1:{self.rest}/v1/models/{MODEL}:predict"
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as got:
            return got.read()

    def good(self) -> list[Callable[[], None]]:
        """What must always be answered."""
        request = self.request(self.face)
        row = {"image_bytes": {"b64": base64.b64encode(self.face).decode()}, "expression": "happy"}
        body = json.dumps({"signature_name": "bytes", "instances": [row]}).encode()

        def over_grpc() -> None:
            (image,) = self.predict(request, timeout=30).outputs["image_bytes"].string_val
            if not image.startswith(b"\x89PNG"):
                raise ValueError("the answer is no image")

        def over_rest() -> None:
            if len(json.loads(self.post(body))["predictions"]) != 1:
                raise ValueError("the answer has not one row")

        return [over_grpc, over_rest]

    def bad(self) -> list[Callable[[], None]]:
        """What is wrong, slow, or meant to do harm."""
        address = self.target.rpartition(":")[0], int(self.target.rpartition(":")[2])
        lists = gzip.compress(b'{"inputs": [' + b"[]," * 2**22 + b"[]]}", 1)
        claims = [
            self.request(b"no image"),
            self.request(self.face[: len(self.face) // 2]),
            self.request(self.face, b"no such expression"),
            self.request(self.face, rows=2**24),
            self.request(_claimed_jpeg(7000)),
        ]
        turns = itertools.cycle(claims)

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
            lambda: self.predict(next(turns), timeout=10),
            lambda: self.post(b'{"instances": [1, [2]]}'),
            lambda: self.post(lists, **{"Content-Encoding": "gzip"}),
            lambda: silent(address[1], calls),
            lambda: silent(self.rest, half),
            lambda: silent(address[1], os.urandom(999)),
            flood,
        ]


def _claimed_jpeg(side: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, format="JPEG")
    data = bytearray(file.getvalue())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def _headers_only() -> bytes:
    """A connection that begins 50 calls of Predict, and never sends their messages."""
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
    """A server process: its target, its REST port and its process number."""
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
    """All bad callers in their turns; nobody asks what comes of it. A process of its own."""
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
    """Does all of it at the same time."""
    threads = [threading.Thread(target=do) for do in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def change_versions(base_path: Path, tally: Tally, every: float) -> None:
    """Brings a new version and takes the old one away, again and again."""
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
    """MiB that a process holds."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) // 1024


def soak(base_path: Path, face: bytes, minutes: float, versions: float) -> bool:
    """Runs it; whether all is well."""
    processes = multiprocessing.get_context("spawn")
    tally = Tally(processes.Event(), processes.Event())
    held: list[int] = []
    with serving(base_path) as (target, rest, pid):
        events = (tally.disturbed, tally.stop)
        others = processes.Process(target=disturb, args=(target, rest, face, *events))
        others.start()
        work = [functools.partial(tally.good, call) for call in Callers(target, rest, face).good()]
        work.append(lambda: change_versions(base_path, tally, versions))
        work.append(lambda: watch(tally, pid, minutes, held))
        run_threads(work)
        others.join()
    return report(tally, held)


def watch(tally: Tally, pid: int, minutes: float, held: list[int]) -> None:
    """Says when the others are there, and when it is over; notes the memory every tenth."""
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < 60 * minutes:
        (tally.disturbed.set if int(passed / TURN) % 2 else tally.disturbed.clear)()
        if passed >= (len(held) + 1) * 6 * minutes:
            held.append(memory(pid))
            print(f"{passed / 60:.1f} min: {held[-1]} MiB", flush=True)
        time.sleep(0.2)
    tally.stop.set()


def report(tally: Tally, held: list[int]) -> bool:
    """Prints the table; whether all is well. The first tenth of the memory is the first minute."""
    print("\n| good requests | answered | median, ms | 99th percentile, ms |\n|---|---|---|---|")
    for disturbed, name in ((False, "alone"), (True, "among the others")):
        median, worst = (tally.percentile(disturbed, share) for share in (0.5, 0.99))
        print(f"| {name} | {len(tally.times[disturbed])} | {median:.0f} | {worst:.0f} |")
    # The versions that overlap just then make single figures scatter.
    early, late = max(held[:3]), max(held[-3:])
    growth = late / early - 1
    harm = tally.percentile(True, 0.99) / max(tally.percentile(False, 0.99), 1e-9)
    print(
        f"\nfailed: {len(tally.failures)}; memory at first {early} MiB, at last {late} MiB "
        f"({growth:+.0%}); 99th percentile among the others: {harm:.2f} times"
    )
    for failure in sorted(set(tally.failures))[:5]:
        print(failure)
    return not tally.failures and growth <= GROWTH and harm <= HARM


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--versions", type=float, default=20, help="seconds between two changes")
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
