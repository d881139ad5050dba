"""The event loop that reads requests, and the worker threads that run them."""

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
_MAX_BYTES = 2**30  # of all waiting and running requests, and of unread replies
_EACH = 2**16  # upper bound on the memory of a request besides its message


class EventLoop:
    """An event loop in its own thread, for all network input and output.

    Attributes:
        loop: The loop.
    """

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_handle_exception)
        self._thread = threading.Thread(target=self.loop.run_forever, name="front", daemon=True)
        self._thread.start()

    def run(self, coroutine):
        """Runs a coroutine in the loop, called from another thread; returns its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def close(self) -> None:
        """Ends the loop, in which nothing may be running any more."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


def _handle_exception(loop: asyncio.AbstractEventLoop, context: dict) -> None:
    # All gRPC event loops of a process wake up for each other's calls, and some raise this error.
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)


class Workers:
    """Threads that run requests for an event loop, with a limit on the memory of requests.

    Args:
        threads: Number of requests that run at the same time; further ones wait.
        name: Name prefix of the threads.
    """

    def __init__(self, threads: int, name: str):
        self._pool = futures.ThreadPoolExecutor(threads, name)
        self._lock = threading.Lock()
        self._bytes = 0
        self._running = 0

    def reserve(self, size: int) -> None:
        """Reserves memory for a request, in bytes; `release` must follow.

        Raises:
            ServingError: UNAVAILABLE: the limit is exceeded.
        """
        with self._lock:
            if self._bytes + size > _MAX_BYTES:
                raise ServingError(
                    grpc.StatusCode.UNAVAILABLE,
                    f"too many requests: requests and unread replies take more than {_MAX_BYTES} "
                    "bytes; try again later",
                )
            self._bytes += size

    def release(self, size: int) -> None:
        """Releases memory counted by `reserve` or `add`."""
        with self._lock:
            self._bytes -= size

    def add(self, size: int) -> None:
        """Counts the memory of a reply, in bytes; unlike `reserve`, never fails."""
        with self._lock:
            self._bytes += size

    async def run(self, call: Callable[[], _T], size: int = 0) -> _T:
        """Runs a call in a worker thread, unless it is cancelled while it waits.

        Args:
            call: The call.
            size: Bytes of the request that have not been reserved yet.

        Returns:
            The result of the call.

        Raises:
            ServingError: UNAVAILABLE: the memory limit is exceeded, or the server is stopping.
        """
        size += _EACH
        self.reserve(size)
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
        """Starts no more calls; returns whether none is running."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        return not self._running


class Peers:
    """Limits the number of open calls or connections of each peer.

    Args:
        limit: Maximum number per peer; 0: unlimited.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._open: Counter[str] = Counter()

    def enter(self, peer: str) -> bool:
        """Whether a peer may open one more; if so it is counted, and `leave` must follow."""
        if self._limit and self._open[peer] >= self._limit:
            return False
        self._open[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """Counts one as closed."""
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]
