"""The HTTP server of the REST API: ports, connection limits and timeouts."""

from __future__ import annotations

import asyncio
import functools
import http.client
import logging
import os
import resource
import socket
from typing import Any

from tornado import httputil
from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError

from tfface.errors import UserError
from tfface.server import rest_replies
from tfface.server.checks import check_address, has_loopback_v6
from tfface.server.config import Options
from tfface.server.handlers import Handlers
from tfface.server.rest import LARGEST_BODY, Reply, Request, RestApi, TooLarge, http_status
from tfface.server.status import ServingError
from tfface.server.workers import Peers, Workers

_IDLE_SECONDS = 120.0  # between two requests, and for the headers of a request
_MAX_CONNECTIONS = 4000
_UNLIMITED = 2**62
_QUERY_THREADS = 2  # threads


class RestServer:
    """The REST API.

    The event loop reads and writes connections; worker threads handle the requests. An idle
    connection is closed after two minutes, or earlier if there are too many connections and it has
    been idle the longest. A connection whose body does not arrive, or whose reply is not read, is
    closed after `Options.receive_timeout`.

    To be used in the event loop only.

    Args:
        handlers: Request handlers.
        options: Server settings.

    Attributes:
        port: The port, valid after `start`.
        addresses: All addresses listened on, as HOST:PORT; valid after `start`.
        api: Handles complete requests.
        workers: Threads for inference requests (POST).
        queries: Threads for status and metadata requests (GET).
        timeout: Seconds for a body to arrive, and for a reply to be read.
        stopping: Whether new requests are refused.
        answering: Requests whose reply has begun but has not been sent completely.
    """

    def __init__(self, handlers: Handlers, options: Options):
        self.port = options.rest_port
        self.addresses: list[str] = []
        self.timeout = options.receive_timeout
        self.api = RestApi(handlers, options.rest_timeout, options.metrics_path, options.rest_cors)
        self.workers = Workers(options.rest_threads or 4 * (os.cpu_count() or 1), "rest")
        # Status and metadata requests must not wait for inference requests.
        self.queries = Workers(_QUERY_THREADS, "rest-queries")
        self.stopping = False
        self.answering: set[_Call] = set()
        self._host = options.host
        self._http = _Http(
            self,
            Peers(options.max_open_per_peer),
            max_body_size=_UNLIMITED,  # `_Call` limits it, and replies with an error
            idle_connection_timeout=_IDLE_SECONDS,
            body_timeout=self.timeout,
        )

    def start(self) -> None:
        """Opens the port.

        Raises:
            UserError: The address cannot be listened on.
        """
        logging.getLogger("tornado.general").setLevel(logging.ERROR)  # no warnings about clients
        self._http.add_sockets(self._listen())

    async def stop(self, grace: float) -> bool:
        """Refuses new requests; running ones have `grace` seconds to finish.

        Returns:
            Whether all requests have finished.
        """
        self.stopping = True
        self._http.stop()
        deadline = asyncio.get_running_loop().time() + grace
        while self.answering and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        await self._http.close_all_connections()
        return all([self.workers.close(), self.queries.close()])

    def _listen(self) -> list[socket.socket]:
        if self._host is not None:
            return [self._bind(self._host)]
        fixed = self.port != 0
        sockets = [self._bind("127.0.0.1")]
        if not has_loopback_v6():
            return sockets
        try:
            sockets.append(self._bind("::1"))
        except UserError:
            if fixed:  # another program would receive calls to localhost
                sockets[0].close()
                raise
        return sockets

    def _bind(self, host: str) -> socket.socket:
        check_address(host, self.port)
        family, *_, address = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)[0]
        bound = socket.create_server(address, family=family, backlog=1024)
        bound.setblocking(False)
        self.port = bound.getsockname()[1]
        self.addresses.append(f"{f'[{host}]' if ':' in host else host}:{self.port}")
        return bound


class _Http(HTTPServer):
    """Tornado's server, with limits on the connections per peer and in total."""

    def initialize(self, server: RestServer, peers: Peers, **settings: Any) -> None:
        super().initialize(lambda _: None, **settings)
        self._server = server
        self._peers = peers
        self._waiting: dict[HTTP1ServerConnection, None] = {}  # idle longest first
        self._open: dict[HTTP1ServerConnection, str] = {}
        self._max_open = min(_MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    def handle_stream(self, stream: IOStream, address: tuple) -> None:
        if not self._peers.enter(address[0]):
            stream.close()
            return
        if len(self._open) >= self._max_open and self._waiting:
            next(iter(self._waiting)).stream.close()
        super().handle_stream(stream, address)

    def start_request(
        self, server_conn: HTTP1ServerConnection, request_conn: HTTP1Connection
    ) -> _Call:
        self._open[server_conn] = server_conn.context.address[0]
        self._waiting[server_conn] = None
        return _Call(self._server, request_conn, lambda: self._waiting.pop(server_conn, None))

    def on_close(self, server_conn: HTTP1ServerConnection) -> None:
        super().on_close(server_conn)
        self._waiting.pop(server_conn, None)
        self._peers.leave(self._open.pop(server_conn))


class _Call(httputil.HTTPMessageDelegate):
    """Receives a request and sends its reply."""

    def __init__(self, server: RestServer, connection: HTTP1Connection, begin) -> None:
        self._server = server
        self._connection = connection
        self._begin = begin
        self._body = bytearray()
        self._whole = False
        self._task: asyncio.Task | None = None

    def headers_received(
        self, start_line: httputil.RequestStartLine, headers: httputil.HTTPHeaders
    ) -> None:
        self._begin()
        self._method = start_line.method
        self._path = start_line.path.partition("?")[0]
        self._encoding = headers.get("Content-Encoding", "").lower()
        length = headers.get("Content-Length", "")
        if self._server.stopping:
            self._refuse(503, "the server is stopping")
        elif length.isdecimal() and int(length) > LARGEST_BODY:
            self._refuse(413, str(TooLarge()))

    def data_received(self, chunk: bytes) -> None:
        if self._task is not None:
            return
        if len(self._body) + len(chunk) > LARGEST_BODY:
            self._refuse(413, str(TooLarge()))
            return
        try:
            self._server.workers.reserve(len(chunk))
        except ServingError as error:
            self._refuse(http_status(error.code), error.message)
        else:
            self._body += chunk

    def finish(self) -> None:
        self._whole = True
        if self._task is None:
            self._begin_reply(self._answer())
        else:
            self._connection.finish()

    def on_connection_close(self) -> None:
        if self._task is None:
            self._forget()
        else:
            self._task.cancel()

    def _refuse(self, status: int, text: str) -> None:
        """Replies at once, but goes on reading: closing the connection now could lose the reply."""
        self._begin_reply(self._send(Reply(status, rest_replies.error(text))))

    def _begin_reply(self, reply) -> None:
        self._task = asyncio.ensure_future(reply)
        self._server.answering.add(self)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task) -> None:
        self._server.answering.discard(self)
        self._forget()
        if not task.cancelled() and task.exception() is not None:
            self._connection.close()

    def _forget(self) -> None:
        self._server.workers.release(len(self._body))
        self._body = bytearray()

    async def _answer(self) -> None:
        request = Request(self._method, self._path, self._encoding, bytes(self._body))
        workers = self._server.queries if request.method == "GET" else self._server.workers
        try:
            reply = await workers.run(functools.partial(self._server.api.answer, request))
        except ServingError as error:
            reply = Reply(http_status(error.code), rest_replies.error(error.message))
        await self._send(reply)

    async def _send(self, reply: Reply) -> None:
        """Sends a reply; closes the connection if the client does not read it in time."""
        connection, body = self._connection, reply.body
        reason = http.client.responses.get(reply.status, "Unknown")
        headers = httputil.HTTPHeaders(self._server.api.headers)
        headers["Content-Type"] = reply.content_type
        headers["Content-Length"] = str(len(body))
        line = httputil.ResponseStartLine("HTTP/1.1", reply.status, reason)
        sent = connection.write_headers(line, headers, b"" if self._method == "HEAD" else body)
        if self._whole:
            connection.finish()
        self._server.workers.add(len(body))
        try:
            await asyncio.wait_for(sent, self._server.timeout)
        except (TimeoutError, StreamClosedError):
            connection.close()
        finally:
            self._server.workers.release(len(body))
