"""Ends of `grpc.aio` calls, without reference cycles.

Before grpcio 1.82, `ServicerContext.add_done_callback` and `abort` leave a context that refers to
itself. Its call then stays until Python's cyclic garbage collector runs, and a connection with 256
such calls refuses all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

import grpc


def when_done(callback: Callable[[asyncio.Task], object]) -> None:
    """Calls `callback` when the current call has been answered or cancelled."""
    asyncio.current_task().add_done_callback(callback)


async def abort(
    context: grpc.aio.ServicerContext, code: grpc.StatusCode, message: str = ""
) -> NoReturn:
    """Ends the current call with an error."""
    try:
        await context.abort(code, message)
    except grpc.aio.AbortError as error:  # of which the context keeps a reference
        when_done(lambda _, error=error: error.with_traceback(None))
        raise
