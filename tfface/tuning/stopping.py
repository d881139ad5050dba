"""Handling of signals that stop a study."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from tfface.engine.stopping import SIGNALS


class StopSignal(KeyboardInterrupt):
    """Raised by a signal.

    It is a KeyboardInterrupt because Keras Tuner treats any Exception as a failed trial.

    Args:
        number: Number of the signal.

    Attributes:
        status: Exit status, 128 plus the signal number.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Raises a StopSignal in the main thread when a signal arrives within the block.

    Ignored signals stay ignored: SIGHUP under nohup, SIGINT for background jobs of a script.
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
