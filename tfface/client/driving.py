"""Runs the shared client methods either blocking or in an event loop.

All client methods are written as coroutines. In the blocking client nothing they await ever
suspends, so they run from start to end without an event loop, or inside a running one.
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
_AT_ONCE = 4  # concurrent requests of a list


async def settled(value: Any) -> Any:
    """Returns the value, awaited if it is awaitable."""
    return await value if inspect.isawaitable(value) else value


class Blocking:
    """Blocks the calling thread."""

    blocking = True

    async def pause(self, seconds: float) -> None:
        """Sleeps."""
        time.sleep(seconds)

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Runs a function that may take milliseconds."""
        return function(*arguments)

    async def in_order(
        self, function: Callable[[Item], Coroutine[Any, Any, list[T]]], items: Iterator[Item]
    ) -> list[T]:
        """Calls a function for each item; returns the concatenated results."""
        results: list[T] = []
        for item in items:
            results += await function(item)
        return results


class Awaiting:
    """Does not block the event loop."""

    blocking = False

    async def pause(self, seconds: float) -> None:
        """Sleeps."""
        await asyncio.sleep(seconds)

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Runs a function that may take milliseconds in a thread."""
        return await asyncio.to_thread(function, *arguments)

    async def in_order(
        self, function: Callable[[Item], Coroutine[Any, Any, list[T]]], items: Iterator[Item]
    ) -> list[T]:
        """Calls a function for each item, a few concurrently; returns the concatenated results."""
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
        finally:  # after an error or cancellation, the remaining tasks are not needed
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


class shared(Generic[P, T]):
    """Decorator of a method of both clients, written as a coroutine function.

    In `FaceClient` it becomes a plain method with the same result, in `AsyncFaceClient` it stays
    the coroutine function; type checkers see the right one.
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
    raise RuntimeError("a method of the blocking client awaited an event loop")
