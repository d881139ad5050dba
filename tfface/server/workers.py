"""What stands between the event loop that reads requests and the model that answers them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

import grpc

from tfface.server.status import ServingError

_T = TypeVar("_T")
_MOST_BYTES = 2**30  # of all requests that wait or run, and of replies that are not taken
_EACH = 2**16  # what a request takes beside its message, generously


class EventLoop:
    """An event loop in a thread of its own, for all that is read and written.

    Attributes:
        loop: The loop.
    """

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_tell)
        self._thread = threading.Thread(target=self.loop.run_forever, name="front", daemon=True)
        self._thread.start()

    def run(self, coroutine):
        """The result of a coroutine that runs in the loop; for other threads."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def close(self) -> None:
        """Ends the loop; nothing may be running in it any more."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


def _tell(loop: asyncio.AbstractEventLoop, context: dict) -> None:
    # All loops of a process that use gRPC wake up for each other's calls, and find nothing to do.
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)


class Workers:
    """Threads that run requests for an event loop, and the memory that requests may take.

    Args:
        threads: Requests that run at the same time; the others wait.
        name: Of the threads.
    """

    def __init__(self, threads: int, name: str):
        self._pool = futures.ThreadPoolExecutor(threads, name)
        self._lock = threading.Lock()
        self._bytes = 0
        self._running = 0

    def take(self, size: int) -> None:
        """Accounts for bytes of a request; `give` them back.

        Raises:
            ServingError: UNAVAILABLE: too many requests are here already.
        """
        with self._lock:
            if self._bytes + size > _MOST_BYTES:
                raise ServingError(
                    grpc.StatusCode.UNAVAILABLE,
                    "too many requests: those that are here, and replies that are not taken, have "
                    f"more than {_MOST_BYTES} bytes; try again later",
                )
            self._bytes += size

    def give(self, size: int) -> None:
        """Gives back what `take` or `hold` has taken."""
        with self._lock:
            self._bytes -= size

    def hold(self, size: int) -> None:
        """As `take`, but of a reply, which is never refused: it must not fill the memory unseen."""
        with self._lock:
            self._bytes += size

    async def run(self, call: Callable[[], _T], size: int = 0) -> _T:
        """The result of a call, by one of the threads; one that is cancelled before is not made.

        Args:
            call: The call.
            size: Bytes of the request that are not accounted for yet.

        Raises:
            ServingError: UNAVAILABLE: too many requests are here already.
        """
        size += _EACH
        self.take(size)
        with self._lock:
            self._running += 1
        try:
            future = self._pool.submit(call)
        except RuntimeError:
            self._done(size)
            raise ServingError(grpc.StatusCode.UNAVAILABLE, "the server is stopping") from None
        future.add_done_callback(lambda _: self._done(size))
        return await asyncio.wrap_future(future)

    def _done(self, size: int) -> None:
        with self._lock:
            self._bytes -= size
            self._running -= 1

    def close(self) -> bool:
        """Begins no more calls; whether none is running."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        return not self._running


class Peers:
    """How much each peer has open at a time.

    Args:
        most: So much; 0: any number.
    """

    def __init__(self, most: int):
        self._most = most
        self._open: Counter[str] = Counter()

    def enter(self, peer: str) -> bool:
        """Whether a peer may have one more open; if so, `leave` has to follow."""
        if self._most and self._open[peer] >= self._most:
            return False
        self._open[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """Says that one of those is open no more."""
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]
