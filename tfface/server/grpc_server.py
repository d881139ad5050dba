"""The gRPC API: ports, limits, and reading and writing of calls in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from urllib.parse import unquote

import grpc

from tfface.errors import UserError
from tfface.server import health, reflection, services
from tfface.server.calls import abort, when_done
from tfface.server.checks import check_address, has_loopback_v6
from tfface.server.config import Options
from tfface.server.handlers import Handlers
from tfface.server.status import ServingError
from tfface.server.tls import credentials
from tfface.server.workers import Peers, Workers

LARGEST_MESSAGE = 2**26  # bytes, after decompression
_SECOND = 1000
_CHANNEL_ARGUMENTS = {
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": LARGEST_MESSAGE,
    # Otherwise two servers could share a port unnoticed, each receiving some of the calls.
    "grpc.so_reuseport": 0,
    # Per connection; the client library queues further calls.
    "grpc.max_concurrent_streams": 256,
    # Clients reconnect transparently.
    "grpc.max_connection_idle_ms": 300 * _SECOND,
    # Nothing else ends a call whose reply the client does not read.
    "grpc.max_connection_age_ms": 600 * _SECOND,
    "grpc.max_connection_age_grace_ms": 120 * _SECOND,
    "grpc.server_handshake_timeout_ms": 20 * _SECOND,
}
_HEALTH_NAMES = ("", "ModelService", "PredictionService")
_QUERY_THREADS = 2


class GrpcServer:
    """The gRPC API.

    The event loop reads a message completely before it passes the call to a worker thread, so that
    slow senders block no thread; a message that does not arrive in time ends the call.

    To be used in the event loop only.

    Args:
        handlers: Request handlers.
        options: Server settings.

    Attributes:
        port: The port, valid after `start`; 0 if the server listens only on a socket.
        addresses: All addresses, as HOST:PORT and unix:PATH; valid after `start`.
    """

    def __init__(self, handlers: Handlers, options: Options):
        self.port = options.port
        self.addresses: list[str] = []
        self._options = options
        self._peers = Peers(options.max_open_per_peer)
        self._accepted = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        threads = options.threads or 4 * (os.cpu_count() or 1)
        # Status and metadata requests must not wait for inference requests or for loading.
        self._workers = {
            services.RUN: Workers(threads, "requests"),
            services.QUERY: Workers(_QUERY_THREADS, "queries"),
            services.LOAD: Workers(1, "reloads"),
        }
        arguments = {**_CHANNEL_ARGUMENTS, **options.channel_arguments}
        self._server = grpc.aio.server(options=list(arguments.items()))
        rpcs = services.services(handlers, options.tensor_content)
        for service, rpcs_of_service in rpcs.items():
            methods = {
                name: grpc.stream_unary_rpc_method_handler(self._handler(rpc))
                for name, rpc in rpcs_of_service.items()
            }
            handler = grpc.method_handlers_generic_handler(service, methods)
            self._server.add_generic_rpc_handlers((handler,))

    async def start(self) -> None:
        """Opens the ports.

        Raises:
            UserError: An address cannot be listened on.
        """
        self._add_health_and_reflection()
        self._listen()
        await self._server.start()

    async def stop(self, grace: float) -> bool:
        """Refuses new requests; those that have been read have `grace` seconds to finish.

        Returns:
            Whether all requests have finished.
        """
        self._stopping = True
        ending = asyncio.ensure_future(self._server.stop(grace))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        await self._server.stop(None)  # ends incomplete messages and health-check streams
        await ending
        return all([workers.close() for workers in self._workers.values()])

    def _handler(self, rpc: services.Rpc):
        workers = self._workers[rpc.kind]

        async def handle(_, context: grpc.aio.ServicerContext) -> bytes:
            await self._admit(context)
            data = await self._message(context)
            self._accept()
            code, reply = await _answer(rpc, data, context.time_remaining(), workers)
            if code is not grpc.StatusCode.OK:
                await abort(context, code, reply)
            workers.add(len(reply))
            when_done(lambda _: workers.release(len(reply)))
            return reply

        return handle

    async def _admit(self, context: grpc.aio.ServicerContext) -> None:
        """Admits a call, unless its peer has too many open."""
        peer = _host(context.peer())
        if not self._peers.enter(peer):
            await abort(
                context,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"more than {self._options.max_open_per_peer} open calls from {peer}",
            )
        when_done(lambda _: self._peers.leave(peer))

    def _accept(self) -> None:
        """Counts a call as running until its reply has been sent."""
        self._accepted += 1
        self._idle.clear()
        when_done(self._sent)

    def _sent(self, _) -> None:
        self._accepted -= 1
        if not self._accepted:
            self._idle.set()

    async def _message(self, context: grpc.aio.ServicerContext) -> bytes:
        """Reads the request; aborts the call if it does not arrive in time."""
        late = False

        def give_up(task: asyncio.Task) -> None:
            nonlocal late
            late = True
            task.cancel()

        seconds = self._options.receive_timeout
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, give_up, asyncio.current_task())
        try:
            data = await context.read()
        except asyncio.CancelledError:
            if not late:
                raise
            await abort(
                context,
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"the request did not arrive within {seconds:g} seconds",
            )
        finally:
            timer.cancel()
        if data is grpc.aio.EOF:
            await abort(context, grpc.StatusCode.INTERNAL, "the call has no request")
        if self._stopping:
            await abort(context, grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        return data

    def _listen(self) -> None:
        options = self._options
        if options.socket_path:
            self._bind(f"unix:{options.socket_path}")
            if self.port == 0:
                return
        if options.host is not None:
            self._bind_host(options.host)
            return
        self._bind_host("127.0.0.1")
        if has_loopback_v6():
            try:
                self._bind_host("::1")
            except UserError:
                if options.port:  # another program would receive calls to localhost
                    raise

    def _bind_host(self, host: str) -> None:
        check_address(host, self.port)
        name = f"[{host}]" if ":" in host else host
        self.port = self._bind(f"{name}:{self.port}", name)

    def _bind(self, address: str, name: str | None = None) -> int:
        tls = self._options.tls
        try:
            if tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials(tls))
        except RuntimeError as error:
            raise UserError(f"cannot listen on {address}") from error
        self.addresses.append(f"{name}:{port}" if name else address)
        return port

    def _add_health_and_reflection(self) -> None:
        files = list(services.FILES)
        if self._options.health:
            self._server.add_generic_rpc_handlers((health.handler(_HEALTH_NAMES),))
            files.append(health.FILE)
        self._server.add_generic_rpc_handlers((reflection.handler(files),))


async def _answer(
    rpc: services.Rpc, data: bytes, seconds: float | None, workers: Workers
) -> tuple[grpc.StatusCode, bytes | str]:
    """The status, and the reply or the error message."""
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        return await workers.run(functools.partial(rpc.answer, data, deadline), len(data))
    except ServingError as error:
        if rpc.record is not None:
            rpc.record("", error.code, 0.0)
        return error.code, error.message


def _host(peer: str) -> str:
    """The host of a gRPC peer string: ipv4:HOST:PORT, ipv6:[HOST]:PORT (quoted) or unix:."""
    kind, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0] if kind in ("ipv4", "ipv6") else kind
