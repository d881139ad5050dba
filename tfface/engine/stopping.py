"""Handling of signals that stop a training."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from typing import Any

logger = logging.getLogger("tfface")

# Ctrl-C; `kill` and batch systems; a closed terminal; Slurm's warning before the end of a job
# (`--signal=USR1@60`).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class StopSignals:
    """Records a signal within the block, so that the current step can be finished.

    A second signal ends the process immediately, even during a long computation; at a Python prompt
    or in a notebook it raises KeyboardInterrupt instead. Signals that were ignored before, such as
    SIGHUP under `nohup`, stay ignored.

    Attributes:
        received: Number of the first signal; None before.
    """

    def __init__(self):
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self  # Only the main thread can handle signals.
        self._terminals = [fd for fd in (0, 1, 2) if os.isatty(fd)]
        for number in SIGNALS:
            ignored = signal.getsignal(number) is signal.SIG_IGN
            # Handle SIGINT anyway: shells start background jobs with SIGINT ignored.
            if not ignored or number == signal.SIGINT:
                self._before[number] = signal.signal(number, self._handle)
        if not _interactive():
            self._watch()
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before and not _interactive():
            signal.set_wakeup_fd(self._wakeup)
            self._sender.close()  # Ends the thread.

    def _watch(self) -> None:
        """Starts a thread for the second signal: Python's handlers wait for the main thread."""
        receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)

        def wait():
            seen = 0
            with receiver:
                while byte := receiver.recv(1):
                    seen += byte[0] in self._before
                    if seen == 2:
                        os._exit(128 + byte[0])

        threading.Thread(target=wait, daemon=True).start()

    def _handle(self, number: int, frame) -> None:
        if number == signal.SIGHUP:
            self._leave_terminals()
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        logger.info("stopping after this step (signal again to stop immediately)")

    def _leave_terminals(self) -> None:
        """Redirects closed terminals to /dev/null, because writing to them is an error."""
        with open(os.devnull, "r+b") as null:
            for fd in self._terminals:
                if not os.isatty(fd):
                    os.dup2(null.fileno(), fd)


def _interactive() -> bool:
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules
