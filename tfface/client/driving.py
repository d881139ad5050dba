"""The two ways to run what is written once: blocking the thread, or awaiting in an event loop.

All methods of the clients are coroutines. In the blocking client whatever they await is there
already, so they run from start to end without an event loop, and beside one as well.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from tfface.client import AsyncFaceClient, FaceClient

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")
_AT_ONCE = 4  # requests of a list that are on their way at the same time


async def settled(value: Any) -> Any:
    """The value itself, or what it comes to if it must be awaited."""
    return await value if inspect.isawaitable(value) else value


class Blocking:
    """Waits in the calling thread."""

    blocking = True

    async def pause(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Computes something that may take milliseconds."""
        return function(*arguments)

    async def in_order(
        self, function: Callable[[Item], Coroutine[Any, Any, list[T]]], items: Iterator[Item]
    ) -> list[T]:
        """The joined lists that a function makes of the items."""
        results: list[T] = []
        for item in items:
            results += await function(item)
        return results


class Awaiting:
    """Leaves the event loop to others while it waits or computes."""

    blocking = False

    async def pause(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Computes something that may take milliseconds, in a thread."""
        return await asyncio.to_thread(function, *arguments)

    async def in_order(
        self, function: Callable[[Item], Coroutine[Any, Any, list[T]]], items: Iterator[Item]
    ) -> list[T]:
        """The joined lists that a function makes of the items, a few of them at the same time."""
        results: list[T] = []
        running: deque[asyncio.Task[list[T]]] = deque()
        try:
            while (item := await self.work(next, items, None)) is not None:
                if len(running) == _AT_ONCE:
                    results += await running.popleft()
                running.append(asyncio.create_task(function(item)))
            while running:
                results += await running.popleft()
            return results
        finally:  # Of those left, one has failed or the caller has gone: nobody wants them.
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


class shared(Generic[P, T]):
    """A method of both clients, written as a coroutine function.

    Of `FaceClient` it is a plain method with the same result, of `AsyncFaceClient` the coroutine
    function itself; type checkers see either.
    """

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]):
        @functools.wraps(method)
        def blocking(*args, **kwargs):
            return _run(method(*args, **kwargs))

        self._functions: dict[bool, Any] = {True: blocking, False: method}

    @overload
    def __get__(self, client: FaceClient, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, client: AsyncFaceClient, owner: type
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client, owner):
        return self._functions[owner._driver.blocking].__get__(client, owner)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("something that blocks was expected, but it waits for an event loop")
