"""Hypercorn's HTTP/1.1 under our own accept loop: sockets that we bind, bounded buffers, an orderly stop.

Hypercorn's own loop is left out for what it cannot be told: no HTTP/2 (its flow control does not hold back a writer),
water marks on the transport, a way to cut a connection, and to notice that a client left behind a pipelined request.
"""

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any

import h11
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import EventWrapper, WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr, wrap_app

log = logging.getLogger(__name__)

# What one connection may hold: kernel (which doubles it) and transport. A reader that reads nothing costs this much.
_SEND_BUFFER_BYTES = 64 * 1024
_HIGH_WATER = 64 * 1024
_LOW_WATER = 16 * 1024
_BACKLOG = 1024
_LOOK_SECONDS = 1.0


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, or asyncio's own loop does not switch Nagle's algorithm off (40 ms on every answer).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class _Readable(EventWrapper):
    """Hypercorn's "read on" event, which while it waits looks whether the client is still there.

    A second request behind a running one stops the read loop; without the look a disconnect is never noticed.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__()
        self._reader = reader

    async def wait(self) -> None:
        while not self._event.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._event.wait()
            if self._reader.exception() is not None or getattr(self._reader, "_eof", False):
                raise ConnectionResetError


class _Http11(H11Protocol):
    """HTTP/1.1 and nothing else."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """No upgrade to HTTP/2: its requests are answered as HTTP/1.1."""


class _Connection(TCPServer):
    """One client connection."""

    async def run(self) -> None:
        sock = self.writer.get_extra_info("socket")
        try:
            client = parse_socket_addr(sock.family, sock.getpeername())
            server = parse_socket_addr(sock.family, sock.getsockname())
            async with TaskGroup(self.loop) as task_group:
                self._task_group = task_group
                protocol = _Http11(
                    self.app,
                    self.config,
                    self.context,
                    task_group,
                    ConnectionState(self.state),
                    False,
                    client,
                    server,
                    self.protocol_send,
                )
                protocol.can_read = _Readable(self.reader)
                self.protocol = protocol  # type: ignore[assignment]
                await self.idle_task.restart(task_group, self._idle_timeout)
                await self._read_data()
        except OSError:
            pass
        finally:
            await self._close()

    async def send_chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body.

        Past Hypercorn and h11, which keep no state about chunks and take longer over one than everything else does.
        """
        try:
            self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await self.writer.drain()
        except (ConnectionError, RuntimeError):
            await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        try:
            await super()._read_data()
        except ConnectionResetError:
            await self.protocol.handle(Closed())


class Server:
    """Serves an ASGI application on listening sockets.

    `state` of a socket is what its requests find in their scope; there they find also `abort()`, which breaks the
    connection, and `send_chunk(data)`, which may be used for the body of an answer that is sent in chunks.
    """

    def __init__(self, app: Any, *, max_header_bytes: int = 64 * 1024) -> None:
        self._app: AppWrapper = wrap_app(app, 0, "asgi")
        self._config = Config()
        self._config.include_date_header = False
        self._config.include_server_header = False
        self._config.h11_max_incomplete_size = max_header_bytes
        self._config.h11_pass_raw_headers = True
        self._config.keep_alive_timeout = 75
        self._context = WorkerContext(None)
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, listener: socket.socket, state: dict[str, Any] | None = None) -> None:
        """Serve a socket from now on."""
        shared = state or {}

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._accept(reader, writer, shared)

        self._servers.append(await asyncio.start_server(accept, sock=listener, backlog=_BACKLOG))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, shared: dict[str, Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        transport = writer.transport
        transport.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)
        state = {**shared, "abort": transport.abort}
        loop = asyncio.get_running_loop()
        try:
            connection = _Connection(self._app, loop, self._config, self._context, state, reader, writer)
            state["send_chunk"] = connection.send_chunk
            await connection
        except asyncio.CancelledError:
            transport.abort()
        except Exception:
            log.exception("connection_failed")
            transport.abort()

    async def close(self, timeout_seconds: float) -> None:
        """Accept nothing more, let answers under way finish for a while, then cut what is left."""
        for server in self._servers:
            server.close()
        await self._context.terminated.set()
        if self._connections:
            await asyncio.wait(set(self._connections), timeout=timeout_seconds)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
