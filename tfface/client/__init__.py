"""Typed clients of TF Serving's APIs, for the embedded server and for TF Serving itself.

`FaceClient` is blocking, `AsyncFaceClient` is for asyncio; both support gRPC and REST.

Modules: `methods` (the shared implementation), `driving` (blocking or asyncio), `over_grpc` and
`over_rest` (transports), `packing` (encoding and batching of images), `types` (errors, TLS).
"""

from __future__ import annotations

from tfface.client.driving import Awaiting, Blocking
from tfface.client.methods import Methods
from tfface.client.types import About, Blocks, ServerError, Tls, VersionStatus

__all__ = [
    "About",
    "AsyncFaceClient",
    "Blocks",
    "FaceClient",
    "ServerError",
    "Tls",
    "VersionStatus",
]


class FaceClient(Methods):
    """Blocking client of a served model.

    For the arguments see `Methods`. Thread-safe. Also a context manager.
    """

    _driver = Blocking()

    def __enter__(self) -> FaceClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class AsyncFaceClient(Methods):
    """Client for asyncio with the same methods: `await client.change_expression(...)`.

    For the arguments see `Methods`. All calls must come from one event loop. If a list needs
    several requests, four of them run concurrently; images are read, encoded and decoded in
    threads. Cancelling a call cancels its requests. Also a context manager (`async with`).
    """

    _driver = Awaiting()

    async def __aenter__(self) -> AsyncFaceClient:
        return self

    async def __aexit__(self, *_) -> None:
        await self.close()
