"""Typed clients of TF Serving's APIs, for the embedded server and for TF Serving alike.

`FaceClient` blocks, `AsyncFaceClient` is for asyncio; both speak gRPC and REST.

Modules: `methods` (what both can do, written once), `driving` (blocking and awaiting), `over_grpc`
and `over_rest` (requests and replies on the wire), `types` (errors, TLS).
"""

from __future__ import annotations

from tfface.client.driving import Awaiting, Blocking
from tfface.client.methods import Methods
from tfface.client.types import ServerError, Tls, VersionStatus

__all__ = ["AsyncFaceClient", "FaceClient", "ServerError", "Tls", "VersionStatus"]


class FaceClient(Methods):
    """Calls a served model, and waits for its answers.

    Arguments as of `Methods`. Calls may come from several threads. Also a context manager.
    """

    _driver = Blocking()

    def __enter__(self) -> FaceClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class AsyncFaceClient(Methods):
    """The same methods for asyncio: `await client.change_expression(...)`.

    Arguments as of `Methods`. All calls come from one event loop. A list that takes several
    requests has four of them on their way at a time; images are read, encoded and decoded in
    threads. A call that is cancelled cancels its requests. Also a context manager (`async with`).
    """

    _driver = Awaiting()

    async def __aenter__(self) -> AsyncFaceClient:
        return self

    async def __aexit__(self, *_) -> None:
        await self.close()
