"""Parallel trials on one machine: Keras Tuner's chief and workers, in one process each."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from tfface.errors import UserError
from tfface.tuning.report import summary, write_report
from tfface.tuning.stopping import SIGNALS, StopSignal
from tfface.tuning.study import Plan
from tfface.tuning.trials import RUNNING, describe, read_trials

_SECONDS = 120  # Time for a process to finish its step and save.
_INTERVAL = 0.5
# Exit statuses of a process that was stopped by a signal, before or after installing handlers.
_STOPPED = {status: number for number in SIGNALS for status in (-number, 128 + number)}


def run_workers(plan: Plan, out: Path, words: list[str], count: int) -> None:
    """Runs a study in a chief and several workers, which log to `chief.log`, `worker1.log`, ...

    Args:
        plan: The study.
        out: Folder of the study.
        words: Command line of `tfface.tune` for each process.
        count: Number of workers.

    Raises:
        UserError: A process failed; the others were stopped, and the study can be continued.
        StopSignal: A signal stopped this process or one of the others; all trials are saved.
    """
    names = [f"worker{number + 1}" for number in range(count)]
    reported = {trial.id for trial in read_trials(out) if trial.status != RUNNING}
    processes = {}
    try:
        port = _free_port()
        processes["chief"] = _start("chief", port, words, out, count)
        # The chief checks the metrics first; meanwhile workers would back off ever longer.
        while not _listens(port):
            _check(processes, out)
            time.sleep(_INTERVAL)
        for name in names:
            processes[name] = _start(name, port, words, out, count)
        _watch(plan, out, processes, reported)
    finally:
        for process in processes.values():
            process.stdin.close()  # Makes the process stop.
        for process in processes.values():
            try:
                process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        write_report(plan, out)
    print(summary(plan, out), flush=True)


def _watch(
    plan: Plan, out: Path, processes: dict[str, subprocess.Popen], reported: set[str]
) -> None:
    """Prints the results of trials until the chief or all workers have ended."""
    ended = False
    while not ended:
        chief, *workers = _check(processes, out)
        ended = chief == 0 or all(code == 0 for code in workers)
        for trial in read_trials(out):
            if trial.status != RUNNING and trial.id not in reported:
                reported.add(trial.id)
                print(describe(trial, plan.study.objective), flush=True)
        time.sleep(_INTERVAL)


def _check(processes: dict[str, subprocess.Popen], out: Path) -> list[int | None]:
    """Exit statuses of the processes; None for running ones.

    Raises:
        UserError: A process failed.
        StopSignal: A process was stopped by a signal.
    """
    codes = {name: process.poll() for name, process in processes.items()}
    for name, code in codes.items():
        if code in _STOPPED:
            raise StopSignal(_STOPPED[code])
        if code:
            lines = (out / f"{name}.log").read_text().strip().splitlines() or ["no output"]
            last = lines[-1].removeprefix("tfface.tune: error: ")
            how = f"status {code}" if code > 0 else f"signal {-code}"
            raise UserError(f"{name} ended with {how}: {last}. The same command continues {out}")
    return list(codes.values())


def _start(name: str, port: int, words: list[str], out: Path, count: int) -> subprocess.Popen:
    threads = str(max((os.cpu_count() or 1) // count, 1))
    shared = {"TF_NUM_INTRAOP_THREADS": threads, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    tuner = {
        "PYTHONUNBUFFERED": "1",  # So that the log is complete if the process is killed.
        "KERASTUNER_TUNER_ID": name,
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
    }
    with open(out / f"{name}.log", "a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tfface.tune", *words, "--attached"],
            env={**shared, **os.environ, **tuner},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the parent only, which stops the others.
        )


def stop_with_parent() -> None:
    """Stops this process, as with SIGTERM, when its parent closes its stdin or ends."""

    def wait():
        os.read(0, 1)  # Nothing is ever written: returns at the end of the input.
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), _INTERVAL):
        return True
    return False
