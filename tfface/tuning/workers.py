"""Several workers on one machine: Keras Tuner's chief and its workers, a process each."""

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
from tfface.tuning.trials import RUNNING, read_trials, tell

_SECONDS = 120  # For a process to finish its step and save.
_INTERVAL = 0.5
# Exit statuses of a process that was asked to stop, as it began or later.
_STOPPED = {status: number for number in SIGNALS for status in (-number, 128 + number)}


def run_workers(plan: Plan, out: Path, words: list[str], count: int) -> None:
    """Runs a study in a chief and several workers, which write `OUT/chief.log`, `worker1.log`, ...

    Args:
        plan: The study.
        out: Its folder.
        words: The command line of `tfface.tune` that each process gets.
        count: How many workers.

    Raises:
        UserError: A process failed; the others have been stopped, and can be continued.
        StopSignal: This process, or one of them, was asked to stop; all have saved their trials.
    """
    names = [f"worker{number + 1}" for number in range(count)]
    told = {trial.id for trial in read_trials(out) if trial.status != RUNNING}
    processes = {}
    try:
        port = _free_port()
        processes["chief"] = _start("chief", port, words, out, count)
        while not _listens(
            port
        ):  # It looks at the measures first. Workers would ask ever seldomer.
            _check(processes, out)
            time.sleep(_INTERVAL)
        for name in names:
            processes[name] = _start(name, port, words, out, count)
        _watch(plan, out, processes, told)
    finally:
        for process in processes.values():
            process.stdin.close()  # They stop then.
        for process in processes.values():
            try:
                process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        write_report(plan, out)
    print(summary(plan, out), flush=True)


def _watch(plan: Plan, out: Path, processes: dict[str, subprocess.Popen], told: set[str]) -> None:
    """Tells what trials come to, until the chief or all workers have ended."""
    ended = False
    while not ended:
        chief, *workers = _check(processes, out)
        ended = chief == 0 or all(code == 0 for code in workers)
        for trial in read_trials(out):
            if trial.status != RUNNING and trial.id not in told:
                told.add(trial.id)
                print(tell(trial, plan.study.objective), flush=True)
        time.sleep(_INTERVAL)


def _check(processes: dict[str, subprocess.Popen], out: Path) -> list[int | None]:
    """Statuses of the processes; None: it runs.

    Raises:
        UserError: One has failed.
        StopSignal: One was asked to stop.
    """
    codes = {name: process.poll() for name, process in processes.items()}
    for name, code in codes.items():
        if code in _STOPPED:
            raise StopSignal(_STOPPED[code])
        if code:
            lines = (out / f"{name}.log").read_text().strip().splitlines() or ["nothing"]
            said = lines[-1].removeprefix("tfface.tune: error: ")
            how = f"status {code}" if code > 0 else f"signal {-code}"
            raise UserError(
                f"{name} ended with {how}; it said: {said}. The same command goes on with {out}"
            )
    return list(codes.values())


def _start(name: str, port: int, words: list[str], out: Path, count: int) -> subprocess.Popen:
    threads = str(max((os.cpu_count() or 1) // count, 1))
    shared = {"TF_NUM_INTRAOP_THREADS": threads, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    tuner = {
        "PYTHONUNBUFFERED": "1",  # The last line of its log is then the last thing it said.
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
            start_new_session=True,  # Ctrl-C is for the parent alone, which tells them once.
        )


def stop_with_parent() -> None:
    """Makes this process stop, as with SIGTERM, when its parent closes its input or is gone."""

    def wait():
        os.read(0, 1)  # Nothing is ever written: it returns at the end of the input.
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), _INTERVAL):
        return True
    return False
