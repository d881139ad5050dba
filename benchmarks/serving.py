"""Overhead of serving: `python benchmarks/serving.py`.

Exports untrained SARGANs of the `demo` size for 128 and 256 px (speed does not depend on weights),
serves them with `python -m tfface.serve`, and compares calls of the server with calls of the same
SavedModels in this process. Latency: alternating calls, so that both see the same machine load.
Throughput: alternating rounds; the in-process result is the best of all numbers of threads.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CALLS = 300
SECONDS = 4.0
CALLERS = (1, 8, 32)


def export(size: int, folder: Path) -> Path:
    """Exports an untrained SARGAN for images of `size`; returns the folder of its versions."""
    from tfface.config import parse_training
    from tfface.exporting.saved_model import export_run
    from tfface.methods import get_config, get_method
    from tfface.methods.trained import Trained

    words = ["sargan", "--preset", "demo", "--data.size", str(size)]
    _, config, _ = parse_training(words, {"sargan": get_config("sargan")})
    method, _ = get_method("sargan").open(config)
    trained = Trained("sargan", method, method.build(), 0, folder)
    return export_run(trained, folder / f"sargan{size}").parent


@contextlib.contextmanager
def serving(folders: dict[str, Path], flags: list[str]):
    """Starts a server process for the models; yields its HOST:PORT."""
    config = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}'
        for name, path in folders.items()
    )
    file = next(iter(folders.values())).parent / "models.config"
    file.write_text(f"model_config_list {{ {config} }}")
    words = ["--port=0", f"--model_config_file={file}", *flags]
    process = subprocess.Popen(
        [sys.executable, "-m", "tfface.serve", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield re.search(r"ready at (\S+)", process.stdout.readline())[1]
    finally:
        process.terminate()
        process.wait()


def requests(size: int) -> dict[str, dict]:
    """Inputs with one image for the signatures `bytes` and `serving_default`."""
    import numpy as np
    import tensorflow as tf

    from tfface.config import Data
    from tfface.data import open_source

    image = next(iter(open_source(Data(size=size)).batches("test", 1)))["image"].numpy()
    file = tf.io.encode_jpeg(tf.cast((image[0] + 1) * 127.5, tf.uint8), quality=95).numpy()
    expression = np.array([b"happy"], object)
    return {
        "bytes": {"image_bytes": np.array([file], object), "expression": expression},
        "serving_default": {"image": image, "expression": expression},
    }


class Calls:
    """Calls of a signature with the same inputs, in this process and on the server."""

    def __init__(self, folder: Path, target: str, name: str, signature: str, inputs: dict):
        import grpc
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        from tfface.server import tensors
        from tfface.server.saved_model import SavedModel

        model = SavedModel(next(folder.glob("[0-9]*")))
        loaded = model.signatures[signature]
        outputs = list(loaded.outputs)
        self.in_process = lambda: model.run(loaded, inputs, outputs)
        request = predict_pb2.PredictRequest(model_spec={"name": name, "signature_name": signature})
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tensors.to_proto(value))
        channel = grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1)])
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.served = lambda: stub.Predict(request, timeout=60)


def latency(calls: Calls) -> dict[str, tuple[float, float]]:
    """Median and 99th percentile in ms, of alternating calls in process and on the server."""
    times: dict[str, list[float]] = {"in_process": [], "served": []}
    for number in range(CALLS + 20):
        for kind, measured in times.items():
            begin = time.perf_counter()
            getattr(calls, kind)()
            if number >= 20:
                measured.append(1e3 * (time.perf_counter() - begin))
    return {
        kind: (statistics.median(measured), statistics.quantiles(measured, n=100)[-1])
        for kind, measured in times.items()
    }


def throughput(call, callers: int, seconds: float = SECONDS) -> tuple[float, float, float]:
    """Calls per second of `callers` threads, with median and 99th percentile in ms."""
    times: list[list[float]] = [[] for _ in range(callers)]
    end = time.perf_counter() + seconds

    def work(measured: list[float]) -> None:
        while (begin := time.perf_counter()) < end:
            call()
            measured.append(1e3 * (time.perf_counter() - begin))

    threads = [threading.Thread(target=work, args=(measured,)) for measured in times]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - begin
    merged = sorted(itertools.chain(*times))
    return len(merged) / passed, statistics.median(merged), merged[int(0.99 * len(merged))]


def compare(folders: dict[str, Path], target: str) -> None:
    """Prints both tables."""
    print("| one image | in process, ms | served, ms | added | 99th percentiles |")
    print("|---|---|---|---|---|")
    cases = [("sargan128", 128, "bytes"), ("sargan256", 256, "serving_default")]
    for name, size, signature in cases:
        calls = Calls(folders[name], target, name, signature, requests(size)[signature])
        (inside, inside_99), (served, served_99) = latency(calls).values()
        print(
            f"| {size} px, `{signature}` | {inside:.2f} | {served:.2f} | {served - inside:+.2f} "
            f"| {inside_99:.2f}, {served_99:.2f} |"
        )
    calls = Calls(folders["sargan128"], target, "sargan128", "bytes", requests(128)["bytes"])
    best = 0.0
    results: dict[int, list[tuple[float, float, float]]] = {n: [] for n in CALLERS}
    for _ in range(3):
        for callers in (1, 2, 4, 8):
            best = max(best, throughput(calls.in_process, callers)[0])
        for callers in CALLERS:
            results[callers].append(throughput(calls.served, callers))
    print("\n| callers, 128 px `bytes` | calls/s | share of in process | median, 99th ms |")
    print("|---|---|---|---|")
    print(f"| in process, best of 1 to 8 threads | {best:.0f} | | |")
    for callers, rounds in results.items():
        rate, median, worst = max(rounds)
        print(f"| {callers} | {rate:.0f} | {rate / best:.0%} | {median:.1f}, {worst:.1f} |")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--flags", default="", help="server flags, such as --enable_batching")
    arguments = parser.parse_args()
    from tfface.cli import import_tensorflow

    import_tensorflow()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {f"sargan{size}": export(size, Path(scratch)) for size in (128, 256)}
        with serving(folders, arguments.flags.split()) as target:
            compare(folders, target)


if __name__ == "__main__":
    main()
