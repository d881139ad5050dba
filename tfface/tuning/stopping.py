"""Signals that ask a study to stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from tfface.engine.stopping import SIGNALS


class StopSignal(KeyboardInterrupt):
    """A signal that asks to stop.

    As a KeyboardInterrupt it passes through Keras Tuner, which takes any Exception for the failure
    of a trial.

    Args:
        number: The signal.

    Attributes:
        status: The exit status, 128 and the signal.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Raises a StopSignal where a signal meets the main thread.

    Signals that are ignored stay so: SIGHUP under nohup, SIGINT in the background of a script.
    """

    def stop(number, frame):
        raise StopSignal(number)

    before = {n: signal.getsignal(n) for n in SIGNALS}
    handled = [n for n, handler in before.items() if handler != signal.SIG_IGN]
    try:
        for number in handled:
            signal.signal(number, stop)
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
