"""Checks tfface on the GPUs of this machine: `make gpu-check`, about ten minutes, one report.

Without a GPU it runs what a CPU can, on logical devices, and lists what it could not. Every part of
a check is a process of its own: its peak memory is its own, and a failure stops nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfface.cli import Parser, command, import_tensorflow
from tfface.config import from_preset, presets, replace
from tfface.engine.run import write_text
from tfface.errors import UserError
from tfface.methods import METHODS, get_config
from tfface.version import __version__

ROOT = Path(__file__).parents[1]
NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
EQUAL, NEAR = 1e-5, 0.1  # Of weights, absolute; of losses in mixed precision, relative.
BATCH, STEPS = 6, 10  # Images where equality is checked; steps that are timed.
LIMIT_S = 1200


@dataclass(frozen=True)
class Result:
    """One line of the report: what was checked, what was found, and whether it is as it should."""

    what: str
    found: str
    passed: bool


class CheckError(Exception):
    """A process of a check failed; the message is its last line."""


# In the parent process.


def child(job: dict[str, Any], environment: dict[str, str] | None = None) -> Any:
    """Runs a function of this file in a process of its own; returns what it returns."""
    words = [sys.executable, __file__, "--child", json.dumps(job)]
    with _process(words, environment or {}) as process:
        return _answer(process)


def _process(words: list[str], environment: dict[str, str]) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, cwd=ROOT, env={**os.environ, **environment}, **pipes)


def _answer(process: subprocess.Popen) -> Any:
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise CheckError(f"not finished after {LIMIT_S} s") from None
    if process.returncode:
        lines = [line for line in err.splitlines() if line.strip()]
        raise CheckError(lines[-1][:300] if lines else f"exit status {process.returncode}")
    return json.loads(out.splitlines()[-1])


def tests(what: str, file: str) -> Result:
    """A test file, without TF32."""
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", file]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, **NO_TF32}, capture_output=True, text=True
    )
    return Result(what, done.stdout.strip().splitlines()[-1], done.returncode == 0)


def equality(what: str, job: dict[str, Any], environment: dict[str, str]) -> list[Result]:
    """Two ways of training that must give the same weights."""
    return [
        Result(
            f"{what}: {name}",
            f"weights {apart:.1e} apart after they moved by {moved:.1e}",
            apart < min(EQUAL, moved / 20),
        )
        for name, (apart, moved) in child({"run": "compare", **job}, environment).items()
    ]


def precision(name: str, policy: str) -> Result:
    """Losses in mixed precision beside those in float32."""
    pairs = child({"run": "losses", "method": name, "policy": policy}).values()
    finite = all(np.isfinite(pair).all() for pair in pairs)
    worst = max(abs(a - b) / max(abs(b), 0.1) for a, b in pairs) if finite else float("nan")
    return Result(f"{policy}: {name}", f"losses differ by at most {worst:.1%}", worst < NEAR)


def workers() -> list[Result]:
    """Two and three processes on this machine, beside one; they use the CPU."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        files = {count: Path(folder) / f"{count}.npz" for count in (1, 2, 3)}
        for count, file in files.items():
            _train_in_workers(count, file)
        weights = {count: dict(np.load(file)) for count, file in files.items()}
    for count in (2, 3):
        for name in METHODS:
            own = [key for key in weights[1] if key.startswith(f"{name}/")]
            apart = max(np.abs(weights[count][key] - weights[1][key]).max() for key in own)
            what = f"{count} workers equal one: {name}"
            results.append(Result(what, f"weights {apart:.1e} apart", apart < EQUAL))
    return results


def _train_in_workers(count: int, file: Path) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    words = [sys.executable, __file__, "--child", json.dumps({"run": "work", "file": str(file)})]
    processes = []
    for index in range(count):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {"TF_CONFIG": json.dumps(task), "CUDA_VISIBLE_DEVICES": ""}
        processes.append(_process(words, environment))
    try:
        for process in processes:
            _answer(process)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def speed(name: str, preset: str) -> Result:
    """Step rate and peak memory of a preset; its batch in as many parts as the memory needs."""
    what, parts = f"{name}, {preset}", 1
    while True:
        try:
            found = child({"run": "measure", "method": name, "preset": preset, "parts": parts})
        except CheckError as error:
            if re.search("OOM|ResourceExhausted|out of memory", str(error)) and parts < 8:
                parts *= 2
                continue
            return Result(what, str(error), False)
        split = f", train.accumulate {parts}" if parts > 1 else ""
        line = f"{found['rate']:.2f} steps/s, {found['gb']:.1f} GB, batch {found['batch']}{split}"
        return Result(what, line, True)


# In child processes.


def _trainer(name: str, workers=None, **train: Any):
    """A trainer of the preset `tiny` with SGD, and the first step in which all networks learn."""
    import keras

    from tfface.engine.run import Run
    from tfface.engine.trainer import Trainer
    from tfface.engine.workers import ALONE
    from tfface.testing.case import tiny_method

    method, source = tiny_method(name, **train)
    method.config = replace(method.config, dict.fromkeys(method.config.batch_sizes(), BATCH))
    run = Run("unused")  # `step` and `batches` write nothing.
    workers = workers or ALONE
    trainer = Trainer(method, source, run, lambda _: keras.optimizers.SGD(0.05), workers=workers)
    return trainer, max(phase.start for phase in method.phases())


def _trained(name: str, workers=None, **train: Any) -> tuple[dict[str, np.ndarray], ...]:
    """Weights before and after two steps, and the values of the first by name."""
    trainer, stage = _trainer(name, workers, **train)
    before, data = trainer.checkpoints.state(), trainer.batches(stage)
    first, _ = (trainer.step(stage + i, next(data)) for i in range(2))
    return before, trainer.checkpoints.state(), dict(zip(first[0], first[1].numpy(), strict=True))


def compare(
    methods: list[str], first: dict, second: dict, graphs: bool, cpus: int = 1
) -> dict[str, list[float]]:
    """Compares two ways of training methods.

    Args:
        methods: Names of the methods.
        first: Options of `train` of one way.
        second: Those of the other.
        graphs: Build graphs, which takes longer than a few steps without them.
        cpus: Number of logical CPU devices.

    Returns:
        By method, how far apart the weights are after two steps, and how far they have moved.
    """
    import tensorflow as tf

    from tfface.testing.training import eagerly

    logical = [tf.config.LogicalDeviceConfiguration()] * cpus
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
    found = {}
    with contextlib.nullcontext() if graphs else eagerly():
        for name in methods:
            before, one, _ = _trained(name, **first)
            _, other, _ = _trained(name, **second)
            weights = [key for key in one if key.startswith("nets/")]
            apart = max(np.abs(one[key] - other[key]).max() for key in weights)
            moved = max(np.abs(one[key] - before[key]).max() for key in weights)
            found[name] = [float(apart), float(moved)]
    return found


def losses(method: str, policy: str) -> dict[str, list[float]]:
    """Loss terms of the first step in a precision and in float32."""
    import tensorflow as tf

    from tfface.testing.training import eagerly

    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    with contextlib.nullcontext() if on_gpu else eagerly():
        pair = [_trained(method, precision=p)[2] for p in (policy, "float32")]
    names = [name for name in pair[0] if not name.endswith("gradient_norm")]
    return {name: [float(values[name]) for values in pair] for name in names}


def work(file: str) -> None:
    """Trains all methods as one of the workers in `TF_CONFIG`; the chief writes the weights."""
    from tfface.engine.workers import from_environment
    from tfface.testing.training import eagerly

    workers, states = from_environment().join(), {}
    with eagerly():
        for name in METHODS:
            # Without averages: workers broadcast every variable that they create.
            _, state, _ = _trained(name, workers, ema_half_life=0.0)
            states |= {f"{name}/{key}": v for key, v in state.items() if key.startswith("nets/")}
    if workers.chief:
        np.savez(file, **states)
    workers.part()


def measure(
    method: str, preset: str, parts: int, batch_size: int = 0, steps: int = STEPS
) -> dict[str, float]:
    """Steps per second and peak memory of a preset, on built-in faces.

    Args:
        method: Name of the method.
        preset: Name of the preset.
        parts: Its `train.accumulate`.
        batch_size: Its batch size; 0: that of the preset.
        steps: Steps that are timed.
    """
    from tfface.engine.progress import peak_memory
    from tfface.engine.run import Run
    from tfface.engine.trainer import Trainer
    from tfface.methods import get_method

    config = from_preset(method, get_config(method), preset, {"train.accumulate": parts})
    options: dict[str, Any] = {}
    for group in config.datasets():
        options |= {f"{group}.name": "synthetic", f"{group}.path": ""}
    if batch_size:
        options |= dict.fromkeys(config.batch_sizes(), batch_size)
    if hasattr(config, "perceptual"):
        options["perceptual"] = "random"  # As large as VGG19, whose weights are a file.
    opened, source = get_method(method).open(replace(config, options))
    trainer = Trainer(opened, source, Run("unused"))
    stage = max(phase.start for phase in opened.phases())
    batch = next(trainer.batches(stage))
    for number in range(stage, stage + max(phase.every for phase in opened.phases())):
        trainer.step(number, batch)[1].numpy()
    begin = time.perf_counter()
    for number in range(stage, stage + steps):
        _, values = trainer.step(number, batch)
    values.numpy()
    rate = steps / (time.perf_counter() - begin)
    return {"rate": rate, "gb": peak_memory() / 1e9, "batch": opened.config.data.batch_size}


def devices() -> list[str]:
    """Names of the GPUs."""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(device) for device in found]
    return [detail.get("device_name", "GPU") for detail in details]


CHILDREN = {f.__name__: f for f in (compare, losses, work, measure, devices)}


def checks(gpus: int) -> dict[str, Callable[[], list[Result]] | str]:
    """The checks by name; in place of one that is not possible here, what it needs."""
    names = list(METHODS)
    graphs = gpus > 0  # Building graphs for a few steps takes a CPU longer than the steps.
    one, two = {"replicas": 1, "jit": "off"}, {"replicas": 2, "jit": "off"}
    parts = {"replicas": 1, "accumulate": 3, "jit": "off"}
    xla = {"replicas": 1, "jit": "on"}

    def equal(what, methods, first, second, graphs=graphs, cpus=1):
        job = {"first": first, "second": second, "graphs": graphs, "cpus": cpus}
        return lambda: equality(what, {"methods": methods, **job}, NO_TF32)

    found: dict[str, Callable[[], list[Result]] | str] = {
        "reference values": lambda: [tests("golden", "tests/methods/test_golden.py")],
        "contract": lambda: [tests("contract", "tests/methods/test_contract.py")],
        "XLA": equal("XLA", names if gpus else names[3:4], one, xla, graphs=True),
        "mixed precision": lambda: [
            precision(name, policy)
            for name in names
            for policy in ("mixed_bfloat16", "mixed_float16")
        ],
        "two devices": equal("two devices equal one", names, one, two, cpus=1 if gpus > 1 else 2),
        "parts of a batch": equal("three parts equal a batch", names, one, parts),
        "workers": workers,
    }
    found |= {
        f"speed and memory of {name}, {preset}": lambda name=name, preset=preset: [
            speed(name, preset)
        ]
        for name in names
        for preset in presets(name)
        if preset != "tiny"
    }
    if not gpus:
        needs = "needs a GPU"
        found |= {name: needs for name in found if name.startswith("speed")}
        found |= {"contract": f"{needs}; `make test` runs it on the CPU"}
    return found


def report(results: dict[str, list[Result] | str], gpus: list[str]) -> str:
    """The report in Markdown."""
    lines = [
        "# Check of tfface on this machine\n",
        f"tfface {__version__}, Python {platform.python_version()}, {platform.platform()}; "
        f"{len(gpus)} GPU(s){': ' if gpus else ''}{', '.join(gpus)}.",
        f"Equal: weights within {EQUAL:g} after two steps of SGD. Mixed precision: losses within "
        f"{NEAR:.0%} of float32. TF32 is off except for speed and memory.\n",
        "| check | found | |",
        "|---|---|---|",
    ]
    missing = []
    for name, result in results.items():
        if isinstance(result, str):
            missing.append(f"- {name}: {result}")
            continue
        lines += [
            f"| {r.what} | {r.found} | {'passed' if r.passed else 'FAILED'} |" for r in result
        ]
    if missing:
        lines += ["\nNot checked:\n", *missing]
    return "\n".join(lines) + "\n"


@command
def main(argv: list[str] | None = None) -> int:
    """Runs the checks and writes the report; returns 1 if a check failed."""
    parser = Parser(prog="gpu_check", description=__doc__)
    parser.add_argument("--out", default=str(ROOT / "build" / "gpu-check.md"), help="the report")
    parser.add_argument("--only", nargs="+", default=[], metavar="CHECK", help="names of checks")
    parser.add_argument("--child", help="a function of this file and its arguments, as JSON")
    args = parser.parse_args(argv)
    if args.child:
        job = json.loads(args.child)
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import_tensorflow()
        print(json.dumps(CHILDREN[job.pop("run")](**job)))
        return 0
    gpus = child({"run": "devices"})
    known = checks(len(gpus))
    if unknown := [name for name in args.only if name not in known]:
        raise UserError(f"no check {unknown[0]!r}: expected one of {', '.join(known)}")
    results: dict[str, list[Result] | str] = {}
    for name in args.only or known:
        results[name] = check = known[name]
        if not isinstance(check, str):
            print(f"{name} ...", flush=True)
            try:
                results[name] = check()
            except CheckError as error:
                results[name] = [Result(name, str(error), False)]
        out = Path(args.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, report(results, gpus))  # After each check, as it may be interrupted.
    print(f"{out.read_text()}\nwritten to {out}")
    return int(any(not r.passed for rs in results.values() if isinstance(rs, list) for r in rs))


if __name__ == "__main__":
    sys.exit(main())
