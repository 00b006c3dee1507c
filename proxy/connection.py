"""One client connection: it reads for Hypercorn's HTTP/1.1, writes what that says, and keeps the deadlines.

Hypercorn's own connection is left out for what it cannot be told: no HTTP/2 (its flow control does not hold back a
writer), deadlines for a client that sends its request slowly, to notice that a client left behind a pipelined request,
and to end without destroying the answer on its way.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import h11
from hypercorn.asyncio.worker_context import EventWrapper, WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

from respool.proxy import sockets
from respool.proxy.asking import request_id_of
from respool.proxy.inbox import Tasks
from respool.proxy.protocol import errors
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.jsons import dumps
from respool.proxy.reply import error_headers
from respool.proxy.strict import make_strict
from respool.proxy.turns import Turns

LOOK_SECONDS = 1.0
"""How often a client that cannot be heard is looked for."""

PROGRESS_BYTES = 4096
"""As much of a body must come in the time that a whole head may take."""

_READ_BYTES = 64 * 1024
_SMALL_BYTES = 16 * 1024
_LAST_CHUNK = b"0\r\n\r\n"
_LINGER_SECONDS = 2.0

# So often within the time of silence it is looked whether a client has taken something.
_LOOKS = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take, times in seconds.

    `request`: for the head of a request, and then for every 4 KiB of its body. `between`: from one request to the next.
    `silence`: to take nothing of what they are sent, or to answer no probe of the kernel. `connections`: at once, 0 for
    what the limit of open files allows.
    """

    request: float = 15
    between: float = 75
    silence: float = 30
    connections: int = 0
    header_bytes: int = 64 * 1024


class _Readable(EventWrapper):
    """Hypercorn's "read on" event, which while it waits looks whether the client is still there.

    A second request behind a running one stops the read loop; without the look a disconnect is never noticed.
    """

    def __init__(self, has_left: Callable[[], bool]) -> None:
        super().__init__()
        self._has_left = has_left

    async def wait(self) -> None:
        while not self._event.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._event.wait()
            if not self._event.is_set() and self._has_left():
                raise ConnectionResetError


class _Http11(H11Protocol):
    """HTTP/1.1 and nothing else."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        make_strict(cast(h11.Connection, self.connection))

    async def _check_protocol(self, event: h11.Request) -> None:
        """No upgrade to HTTP/2: its requests are answered as HTTP/1.1."""

    async def _create_stream(self, request: h11.Request) -> None:
        """No WebSocket either, whose refusal would keep the connection, and the method in the case that it came in."""
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        event = Request(
            stream_id=STREAM_ID,
            headers=request.headers.raw_items(),
            http_version=request.http_version.decode("ascii"),
            method=request.method.decode("ascii"),
            raw_path=request.target,
            state=self.connection_state,
        )
        await self.stream.handle(event)
        self.keep_alive_requests += 1
        await self.context.mark_request()


class Connection:
    """One client connection. `run` serves it to its end; `state` is what its requests find in their scope.

    A request begins when `turns` says so: many that come at once are no pause for what is live.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        state: dict[str, Any],
        limits: Limits,
        turns: Turns,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = reader
        self._writer = writer
        self._transport = writer.transport
        self._sock = writer.get_extra_info("socket")
        self._limits = limits
        self._turns = turns
        self._protocol: _Http11
        self._end_by: float | None = None
        self._between = False
        # Of the time in which the client was waited for, and what came of it; see `_due`.
        self._began = 0.0
        self._waited = 0.0
        self._got = 0
        self._reading: asyncio.Timeout | None = None
        # What goes with the next part of the answer; whether the last chunk has gone with the one before it.
        self._held: list[bytes] = []
        self._is_complete = False
        # Of what was sent, and how much of it was taken; see `_look`.
        self._sent = self._taken = self._idle_looks = 0
        self._looking: asyncio.TimerHandle | None = None
        self._state: Any = {
            **state,
            "abort": self._transport.abort,
            "send_chunk": self._send_chunk,
            "offer_chunk": self._offer_chunk,
            "has_left": self._has_left,
        }

    async def run(self, app: AppWrapper, config: Config, context: WorkerContext) -> None:
        """Serve one request after the other."""
        try:
            client = parse_socket_addr(self._sock.family, self._sock.getpeername())
            server = parse_socket_addr(self._sock.family, self._sock.getsockname())
            async with Tasks(self._loop) as tasks:
                state = ConnectionState(self._state)
                self._protocol = _Http11(app, config, context, tasks, state, False, client, server, self._on_event)
                self._protocol.can_read = _Readable(self._has_left)
                await self._read()
            # It holds this: without the circles all of it goes at once, and not some day with a pause for everybody.
            del self._protocol
        except OSError:
            pass
        finally:
            self._writer.close()
            with suppress(OSError, RuntimeError):
                await self._writer.wait_closed()
            if self._looking is not None:
                self._looking.cancel()
            # What is in it holds this.
            self._state.clear()

    def end_if_idle(self) -> None:
        """Close the connection now if no request is under way on it."""
        if self._reading is not None and self._protocol.connection.their_state is h11.IDLE:
            self._between = True
            self._reading.reschedule(self._loop.time())

    # What comes.

    async def _read(self) -> None:
        with suppress(OSError):
            while (data := await self._more()) != b"":
                if data is None:
                    # While it was waited for the answer may have begun.
                    if self._seconds() is not None:
                        await self._give_up()
                elif not self._is_ending:
                    if self._protocol.connection.their_state is h11.IDLE:
                        await self._turns.take()
                    await self._protocol.handle(RawData(data))
        await self._protocol.handle(Closed())

    async def _more(self) -> bytes | None:
        """The next bytes, none at the end; None when the client has used up its time. Raises OSError."""
        self._began = self._loop.time()
        if self._end_by is not None and self._began >= self._end_by:
            return b""
        try:
            async with asyncio.timeout_at(self._due()) as self._reading:
                data = await self._reader.read(_READ_BYTES)
        except TimeoutError:
            # The kernel's own verdict on a client that has vanished has the same name.
            if self._reading is None or not self._reading.expired():
                raise
            return None
        finally:
            self._reading = None
        self._waited += self._loop.time() - self._began
        self._count(len(data))
        return data

    def _due(self) -> float | None:
        """Until when the client must have said more; None when it is not its turn."""
        seconds = self._seconds()
        if seconds is None:
            return self._end_by
        return self._began + seconds - self._waited

    def _seconds(self) -> float | None:
        theirs, ours = self._protocol.connection.their_state, self._protocol.connection.our_state
        if self._is_ending:
            return None
        if theirs is h11.IDLE:
            return self._limits.between if self._between else self._limits.request
        # Once the answer has begun it is the agent that bears with a slow upload.
        return self._limits.request if theirs is h11.SEND_BODY and ours is h11.SEND_RESPONSE else None

    def _count(self, size: int) -> None:
        """Begin anew with the first byte of a request, and whenever enough of a body has come."""
        self._got += size
        if self._between or (self._got >= PROGRESS_BYTES and self._protocol.connection.their_state is h11.SEND_BODY):
            self._between = False
            self._waited, self._got = 0.0, 0

    async def _give_up(self) -> None:
        """Tell a client whose request did not come in time, if there is one to be told."""
        connection = self._protocol.connection
        if connection.their_state is h11.SEND_BODY or connection.trailing_data[0]:
            await self._write(_refusal(errors.too_slow(sent=connection.their_state is h11.SEND_BODY)))
        self._end()
        await self._protocol.handle(Closed())

    # What goes.

    async def _on_event(self, event: Event) -> None:
        match event:
            case RawData(data=data):
                if self._is_complete:
                    self._is_complete = False
                elif self._protocol.connection.our_state is h11.SEND_BODY and len(data) <= _SMALL_BYTES:
                    self._hold(data)
                else:
                    await self._write(data)
            case Closed():
                self._end()
            case Updated(idle=is_idle):
                self._waited, self._got, self._began = 0.0, 0, self._loop.time()
                self._between = is_idle and not self._protocol.connection.trailing_data[0]
                if self._reading is not None:
                    self._reading.reschedule(self._due())

    async def _send_chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body.

        Past Hypercorn and h11, which keep no state about chunks and take longer over one than everything else does.
        """
        await self._write(_chunk(data))

    def _offer_chunk(self, data: bytes, *, is_last: bool) -> bool:
        """The same if nothing of what was sent before still has to leave this process; else False, and nothing.

        With the last one goes what ends the body.
        """
        if self._is_ending or self._transport.is_closing() or self._transport.get_write_buffer_size():
            return False
        self._is_complete = is_last
        self._send(_chunk(data) + _LAST_CHUNK if is_last else _chunk(data))
        return True

    def _hold(self, data: bytes) -> None:
        """Send with what follows in this turn of the loop: each write wakes the client, and costs as much as many."""
        if not self._held:
            self._loop.call_soon(self._release)
        self._held.append(data)

    def _release(self) -> None:
        # The connection may have been cut meanwhile.
        with suppress(OSError, RuntimeError):
            self._send(b"")

    def _send(self, data: bytes) -> None:
        if self._held:
            data = b"".join((*self._held, data))
            self._held.clear()
        if not data or self._is_ending:
            return
        self._sent += len(data)
        if self._looking is None:
            self._taken, self._idle_looks = self._sent - len(data), 0
            self._look_later()
        self._transport.write(data)

    async def _write(self, data: bytes) -> None:
        try:
            self._send(data)
            await self._writer.drain()
        except (OSError, RuntimeError):
            await self._protocol.handle(Closed())

    def _end(self) -> None:
        """Say no more. What the client is still sending is taken for a while: unread, it would destroy the answer."""
        if self._is_ending:
            return
        self._release()
        self._end_by = self._loop.time() + _LINGER_SECONDS
        with suppress(OSError, RuntimeError):
            self._writer.write_eof()
        connection = self._protocol.connection
        if connection.their_state not in (h11.SEND_BODY, h11.ERROR) and not connection.trailing_data[0]:
            self._writer.close()
        elif self._reading is not None:
            self._reading.reschedule(self._end_by)

    @property
    def _is_ending(self) -> bool:
        return self._end_by is not None

    # What is known of the client.

    def _has_left(self) -> bool:
        return self._reader.exception() is not None or self._reader.at_eof() or sockets.has_left(self._sock)

    def _look_later(self) -> None:
        self._looking = self._loop.call_later(self._limits.silence / _LOOKS, self._look)

    def _look(self) -> None:
        """Cut off a client that has taken no byte for so long; look on while it has not taken all."""
        untaken = self._transport.get_write_buffer_size() + sockets.untaken_bytes(self._sock)
        taken = self._sent - untaken
        self._idle_looks = 0 if taken > self._taken else self._idle_looks + 1
        self._taken = taken
        if not untaken:
            self._looking = None
        elif self._idle_looks >= _LOOKS:
            self._transport.abort()
        else:
            self._look_later()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _refusal(error: WireError) -> bytes:
    """A whole answer, for a request of which nobody but this connection knows."""
    request_id = request_id_of(())
    body = dumps(error.body(request_id))
    lines = [b"HTTP/1.1 %d %b" % (error.http_status, HTTPStatus(error.http_status).phrase.encode())]
    lines += [b"%b: %b" % header for header in error_headers(error, request_id)]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"connection: close", b"", body])
