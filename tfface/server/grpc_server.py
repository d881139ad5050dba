"""The gRPC API: ports, limits, and calls that are read and written by an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from urllib.parse import unquote

import grpc
from grpc_reflection.v1alpha import reflection

from tfface.errors import UserError
from tfface.server import services
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
    # Otherwise two servers can share a port without knowing it, each getting some of the calls.
    "grpc.so_reuseport": 0,
    # Of a connection; a client's library keeps further calls back until there is room.
    "grpc.max_concurrent_streams": 256,
    # Clients connect again by themselves and notice nothing.
    "grpc.max_connection_idle_ms": 300 * _SECOND,
    # The only end there is for a call whose reply the caller does not take.
    "grpc.max_connection_age_ms": 600 * _SECOND,
    "grpc.max_connection_age_grace_ms": 120 * _SECOND,
    "grpc.server_handshake_timeout_ms": 20 * _SECOND,
}
_HEALTH_NAMES = ("", "ModelService", "PredictionService")
_QUESTIONS = 2  # threads


class GrpcServer:
    """The gRPC API.

    Messages are read by the event loop and only then go to threads, so that a call whose message
    does not come holds up nobody; and it is given up after a time.

    To be used in the event loop only.

    Args:
        answers: What answers.
        options: The server's.

    Attributes:
        port: The port; known after `start`; 0: there is only a socket.
        addresses: All addresses, as HOST:PORT and unix:PATH; known after `start`.
    """

    def __init__(self, answers: Handlers, options: Options):
        self.port = options.port
        self.addresses: list[str] = []
        self._options = options
        self._peers = Peers(options.max_open_per_peer)
        self._accepted = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        threads = options.threads or 4 * (os.cpu_count() or 1)
        # What is asked about models does not wait behind what is asked of them, nor behind loading.
        self._workers = {
            services.RUN: Workers(threads, "requests"),
            services.ASK: Workers(_QUESTIONS, "questions"),
            services.LOAD: Workers(1, "reloads"),
        }
        arguments = {**_CHANNEL_ARGUMENTS, **options.channel_arguments}
        self._server = grpc.aio.server(options=list(arguments.items()))
        rpcs = services.services(answers, options.tensor_content)
        for service, methods in rpcs.items():
            handlers = {
                name: grpc.stream_unary_rpc_method_handler(self._handler(rpc))
                for name, rpc in methods.items()
            }
            handler = grpc.method_handlers_generic_handler(service, handlers)
            self._server.add_generic_rpc_handlers((handler,))

    async def start(self) -> None:
        """Opens the ports.

        Raises:
            UserError: An address cannot be had.
        """
        await self._add_health_and_reflection()
        self._listen()
        await self._server.start()

    async def stop(self, grace: float) -> bool:
        """Takes no more requests, answers those that have been read whole within `grace` seconds.

        Returns:
            Whether none is running any more.
        """
        self._stopping = True
        ending = asyncio.ensure_future(self._server.stop(grace))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        await self._server.stop(None)  # What is left: half messages, and streams of health.
        await ending
        return all([workers.close() for workers in self._workers.values()])

    def _handler(self, rpc: services.Rpc):
        workers = self._workers[rpc.kind]

        async def handle(_, context: grpc.aio.ServicerContext) -> bytes:
            await self._admit(context)
            data = await self._message(context)
            self._accept(context)
            code, reply = await _answer(rpc, data, context.time_remaining(), workers)
            if code is not grpc.StatusCode.OK:
                await context.abort(code, reply)
            workers.hold(len(reply))
            context.add_done_callback(lambda _: workers.give(len(reply)))
            return reply

        return handle

    async def _admit(self, context: grpc.aio.ServicerContext) -> None:
        """Lets a call in, unless its peer has too many."""
        peer = _host(context.peer())
        if not self._peers.enter(peer):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"more than {self._options.max_open_per_peer} calls from {peer} at a time",
            )
        context.add_done_callback(lambda _: self._peers.leave(peer))

    def _accept(self, context: grpc.aio.ServicerContext) -> None:
        """Counts a call as one to be answered, until its reply has been sent."""
        self._accepted += 1
        self._idle.clear()
        context.add_done_callback(self._sent)

    def _sent(self, _) -> None:
        self._accepted -= 1
        if not self._accepted:
            self._idle.set()

    async def _message(self, context: grpc.aio.ServicerContext) -> bytes:
        """The request, which has to come in time."""
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
            await context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"the request has not arrived within {seconds:g} seconds",
            )
        finally:
            timer.cancel()
        if data is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INTERNAL, "the call has no request")
        if self._stopping:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
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
                if options.port:  # somebody else would get the calls to localhost
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

    async def _add_health_and_reflection(self) -> None:
        names = [services.PREDICTION, services.MODEL, reflection.SERVICE_NAME]
        if self._options.health:
            from grpc_health.v1 import health, health_pb2, health_pb2_grpc

            servicer = health.aio.HealthServicer()
            for name in _HEALTH_NAMES:
                await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
            health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
            names.append(health.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)


async def _answer(
    rpc: services.Rpc, data: bytes, seconds: float | None, workers: Workers
) -> tuple[grpc.StatusCode, bytes | str]:
    """The reply, or status and text of an error."""
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        return await workers.run(functools.partial(rpc.answer, data, deadline), len(data))
    except ServingError as error:
        if rpc.record is not None:
            rpc.record("", error.code, 0.0)
        return error.code, error.message


def _host(peer: str) -> str:
    """The address in what gRPC calls a peer: ipv4:HOST:PORT, ipv6:[HOST]:PORT (quoted), unix:."""
    kind, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0] if kind in ("ipv4", "ipv6") else kind
