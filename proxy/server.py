"""The accept loop: sockets that we bind, bounded buffers, as many connections as there may be, an orderly stop."""

import asyncio
import logging
import socket
from typing import Any

from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import AppWrapper
from hypercorn.utils import wrap_app

from respool.proxy.connection import Connection, Limits
from respool.proxy.settings import Settings
from respool.proxy.sockets import connections_allowed, watch_over
from respool.proxy.turns import Turns

log = logging.getLogger(__name__)

# What one connection may hold: kernel (which doubles it) and transport. A reader that reads nothing costs this much.
_SEND_BUFFER_BYTES = 64 * 1024
_HIGH_WATER = 64 * 1024
_LOW_WATER = 16 * 1024
_BACKLOG = 1024

# Beyond the limit so many more are told in words that there are too many, and probes of health still get their answer.
_SPARE = 32


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


def limits_of(settings: Settings) -> Limits:
    """What the settings allow to clients."""
    return Limits(
        request=settings.request_timeout_seconds,
        between=settings.connection_idle_seconds,
        silence=settings.write_timeout_seconds,
        connections=settings.max_connections,
    )


class Server:
    """Serves an ASGI application on listening sockets.

    `state` of a socket is what its requests find in their scope; there they find also `abort()`, which breaks the
    connection, `send_chunk(data)`, which may be used for the body of an answer that is sent in chunks,
    `offer_chunk(data, is_last=)`, which does the same without waiting or returns False, and ends the body with the last
    one, `take_turn()`, to be awaited before each large part of an answer, `has_left()` of the client, `watch(tell)`,
    which drops what comes of the body and calls when the client leaves, until `watch(None)`, and "crowded" if there are
    more connections than there may be.
    """

    def __init__(self, app: Any, limits: Limits | None = None) -> None:
        self._app: AppWrapper = wrap_app(app, 0, "asgi")
        self._limits = limits or Limits()
        self._most = self._limits.connections or connections_allowed()
        self._config = Config()
        self._config.include_date_header = False
        self._config.include_server_header = False
        self._config.h11_max_incomplete_size = self._limits.header_bytes
        self._config.h11_pass_raw_headers = True
        self._context = WorkerContext(None)
        self._requests = Turns()
        self._parts = Turns()
        self._servers: list[asyncio.Server] = []
        self._connections: dict[asyncio.Task[None], Connection] = {}

    async def listen(self, listener: socket.socket, state: dict[str, Any] | None = None) -> None:
        """Serve a socket from now on."""
        shared = {**(state or {}), "take_turn": self._parts.take}
        watch_over(listener, self._limits.silence)

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._accept(reader, writer, shared)

        self._servers.append(await asyncio.start_server(accept, sock=listener, backlog=_BACKLOG))

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, shared: dict[str, Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        transport = writer.transport
        if len(self._connections) >= self._most + _SPARE:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)
        state = {**shared, "crowded": True} if len(self._connections) >= self._most else shared
        connection = self._connections[task] = Connection(reader, writer, state, self._limits, self._requests)
        try:
            await connection.run(self._app, self._config, self._context)
        except asyncio.CancelledError:
            transport.abort()
        except Exception:
            log.exception("connection_failed")
            transport.abort()
        finally:
            del self._connections[task]

    async def close(self, timeout_seconds: float) -> None:
        """Accept nothing more, let answers under way finish for a while, then cut what is left."""
        for server in self._servers:
            server.close()
        await self._context.terminated.set()
        for connection in self._connections.values():
            connection.end_if_idle()
        if self._connections:
            await asyncio.wait(set(self._connections), timeout=timeout_seconds)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
