"""The httpx transport of the upstream side: one connection for one request, and how its answer arrives and ends."""

import asyncio
import contextlib
import os
import select
import socket
import ssl
import struct
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

import httpx

from respool.proxy.http1 import AnswerHead, AnswerParser, Framing, RequestBody, request_head

WRITE_SLICE = 64 * 1024

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: on, and 0 seconds."""


class Transport(httpx.AsyncBaseTransport):
    """Sends each request on a connection of its own, which is closed with the response. Keeps no pool.

    Made for an `httpx.Request` that is built below the client: method, target (`extensions["target"]`, else the URL's
    raw path) and headers go out as they are given, and nothing is added. `extensions["timeout"]` holds seconds or None
    for `connect`, `write` (the longest time the upstream takes nothing), `read` (the longest silence) and `headers`
    (the longest silence before the head of the answer; `read` if absent). While a body is being uploaded silence is
    not counted.

    The response keeps the bytes, the order and the duplicates of its headers, and its body is not decoded. Its
    `extensions` hold `http_version`, `reason_phrase` and `framed`: False if only the close of the connection says where
    the body ends, so that nobody can know whether it is whole. Its `stream` gives all that has arrived as one piece;
    what arrived before an error comes before the error. A task that is cancelled while it waits for a piece loses none.

    Raises `httpx.ConnectError` (refused, no such name, TLS refused) and `httpx.ConnectTimeout`: nothing was sent.
    All others mean that the upstream may have seen the request: `ReadTimeout`, `WriteTimeout`, `ReadError` (reset, or
    closed by this side), `RemoteProtocolError` (malformed, cut short, head too large, 101). A request that contradicts
    itself is a `LocalProtocolError`; what the iteration of the request's body raises is passed on.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_header_bytes: int = 256 * 1024,
        high_water: int = 1024 * 1024,
    ) -> None:
        self._ssl_context = ssl_context
        self._max_header_bytes = max_header_bytes
        self._high_water = high_water
        self._open: weakref.WeakSet[Exchange] = weakref.WeakSet()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return the response as soon as its head is there; the caller must close it."""
        head, framing = request_head(request), Framing(request.headers)
        body = RequestBody(request.stream, framing)
        exchange = await self._connect(request)
        try:
            exchange.send(head, body)
            answer = await exchange.head()
        except BaseException:
            await exchange.aclose()
            raise
        extensions = {"http_version": answer.version, "reason_phrase": answer.reason, "framed": answer.framed}
        return httpx.Response(
            answer.status, headers=answer.headers, stream=exchange, extensions=extensions, request=request
        )

    async def aclose(self) -> None:
        """Close all connections that are open; later requests get a `ConnectError`."""
        self._closed = True
        for exchange in list(self._open):
            await exchange.aclose()

    async def _connect(self, request: httpx.Request) -> "Exchange":
        self._check_open()
        timeouts = _timeouts(request)
        reply = AnswerParser(request.method, self._max_header_bytes)
        host, port, tls = self._address(request.url)
        try:
            async with asyncio.timeout(timeouts.connect):
                _, exchange = await asyncio.get_running_loop().create_connection(
                    lambda: Exchange(reply, timeouts, self._high_water), host, port, ssl=tls
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection to {host} port {port} in time") from error
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"no connection to {host} port {port}: {error}") from error
        self._open.add(exchange)
        try:
            self._check_open()
        except httpx.ConnectError:
            await exchange.aclose()
            raise
        return exchange

    def _check_open(self) -> None:
        if self._closed:
            raise httpx.ConnectError("the transport is closed")

    def _address(self, url: httpx.URL) -> tuple[str, int, ssl.SSLContext | None]:
        host = url.raw_host.decode("ascii")
        match url.scheme:
            case "http":
                return host, url.port or 80, None
            case "https":
                return host, url.port or 443, self._tls()
        raise httpx.UnsupportedProtocol(f"neither http nor https: {url.scheme}")

    def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context()
            self._ssl_context.set_alpn_protocols(["http/1.1"])
        return self._ssl_context


@dataclass(frozen=True, slots=True)
class _Timeouts:
    """Seconds; None waits for ever."""

    connect: float | None
    write: float | None
    headers: float | None
    read: float | None


def _timeouts(request: httpx.Request) -> _Timeouts:
    given = request.extensions.get("timeout", {})
    read = given.get("read")
    return _Timeouts(given.get("connect"), given.get("write"), given.get("headers", read), read)


class Exchange(asyncio.Protocol, httpx.AsyncByteStream):
    """One connection with its request and its answer; as a stream, the body of the answer.

    `_over` is set once, when the answer has ended or failed or this side has closed; then nothing more comes in.
    """

    def __init__(self, reply: AnswerParser, timeouts: _Timeouts, high_water: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._reply = reply
        self._timeouts = timeouts
        self._high_water = high_water
        self._transport: asyncio.Transport | None = None
        self._gone = self._loop.create_future()
        self._over = False
        self._failure: BaseException | None = None
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._taker: Callable[[bytes], bool] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # What the caller does.

    def send(self, head: bytes, body: RequestBody) -> None:
        """Send the request; a body that is not at hand goes on in a task of its own."""
        if self._over:
            return
        if body.at_once is not None:
            self._wire.write(head + body.at_once)
        else:
            self._wire.write(head)
            self._upload = self._loop.create_task(self._send_pieces(body.pieces()))
            self._upload.add_done_callback(self._uploaded)
        self._measure_silence(self._timeouts.headers)

    async def head(self) -> AnswerHead:
        """The head of the final answer."""
        while self._reply.head is None:
            if self._failure:
                raise self._failure
            await self._wait()
        return self._reply.head

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._unread:
            if self._failure:
                raise self._failure
            if self._over:
                raise StopAsyncIteration
            await self._wait()
        return self._take()

    async def beyond(self, take: Callable[[bytes], bool]) -> bytes:
        """The next piece that `take` does not take; it is given what arrives while there is nothing else to read.

        It is called on the event loop between other things, so it must not wait.
        """
        self._taker = take
        try:
            return await anext(self)
        finally:
            self._taker = None

    async def aclose(self) -> None:
        """Close the connection at once and wait until it is gone; what was not read is dropped."""
        closed = httpx.ReadError("the connection was closed by this side")
        self._finish(closed)
        if self._unread or self._failure:
            self._take()
            # One that has been raised holds all who awaited this, and they this: only the collector would free them.
            self._failure = closed
        await asyncio.wait({self._gone, self._upload} if self._upload else {self._gone})

    async def _wait(self) -> None:
        if self._waiter and not self._waiter.done():
            raise RuntimeError("two tasks read the same response")
        # A done waiter is left where it is: clearing it after a cancel could take away the next reader's.
        self._waiter = self._loop.create_future()
        await self._waiter

    def _take(self) -> bytes:
        body = b"".join(self._unread)
        self._unread.clear()
        self._unread_bytes = 0
        if self._paused and not self._over:
            self._paused = False
            self._heard = self._loop.time()
            self._wire.resume_reading()
        return body

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are not subclasses.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_SLICE, low=WRITE_SLICE // 4)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._heard = self._loop.time()
        reply = self._reply
        began = reply.head is not None
        if (body := reply.feed(data)) and not self._is_taken(body):
            self._unread.append(body)
            self._unread_bytes += len(body)
        if reply.ended or reply.failure:
            self._finish(reply.failure)
        elif self._unread_bytes > self._high_water and not self._paused:
            self._paused = True
            self._wire.pause_reading()
        if not began and reply.head and not self._over:
            self._measure_silence(self._timeouts.read)
        if self._unread or self._over or not began:
            self._wake()

    def _is_taken(self, body: bytes) -> bool:
        return self._taker is not None and not self._unread and self._taker(body)

    def eof_received(self) -> None:
        if not self._over:
            self._reply.end_of_input()
            self._finish(self._reply.failure)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.eof_received()
        else:
            self._read_what_is_left()
            failure = httpx.ReadError(f"the connection was lost: {exc}")
            failure.__cause__ = exc
            self._finish(failure)
        self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    @property
    def _wire(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def _finish(self, failure: BaseException | None) -> None:
        """End the exchange; only the first call counts."""
        if self._over:
            return
        self._over = True
        self._failure = failure
        self._reply.close()
        if self._timer:
            self._timer.cancel()
        if self._upload:
            self._upload.cancel()
        if self._transport:
            if failure is not None:
                self._drop_what_is_unsent(self._transport)
            self._transport.abort()
        self._wake()

    @staticmethod
    def _drop_what_is_unsent(transport: asyncio.Transport) -> None:
        """An upstream that takes nothing would not learn of the close before it had taken all that the kernel holds."""
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _read_what_is_left(self) -> None:
        """A write that failed closes the connection although the answer may wait in the kernel: fetch it.

        Not under TLS, where the bytes are not ours to read. The socket is open until connection_lost returns.
        """
        if self._over or self._wire.get_extra_info("sslcontext"):
            return
        descriptor = self._wire.get_extra_info("socket").fileno()
        with contextlib.suppress(OSError):
            while not self._over and (data := os.read(descriptor, WRITE_SLICE)):
                self.data_received(data)

    # The upload.

    async def _send_pieces(self, pieces: AsyncGenerator[bytes, None]) -> None:
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                for start in range(0, len(piece), WRITE_SLICE):
                    self._wire.write(memoryview(piece)[start : start + WRITE_SLICE])
                    await self._until_writable()

    async def _until_writable(self) -> None:
        if self._wire.is_closing():
            # Writes to a dead connection succeed and never suspend: the loop must get to tell us, which cancels this.
            await asyncio.wait({self._gone})
        if self._writable is None:
            return
        try:
            async with asyncio.timeout(self._timeouts.write):
                await self._writable
        except TimeoutError as error:
            raise httpx.WriteTimeout("the upstream takes no more of the request") from error

    def _uploaded(self, upload: asyncio.Task[None]) -> None:
        self._heard = self._loop.time()
        if upload.cancelled():
            self._finish(httpx.WriteError("the upload was cancelled"))
        elif error := upload.exception():
            self._finish(error)

    # Silence.

    def _measure_silence(self, limit: float | None) -> None:
        """From now on fail after `limit` seconds without a byte. One timer, which looks back when it fires."""
        if self._timer:
            self._timer.cancel()
        self._heard = self._loop.time()
        if limit is not None:
            self._timer = self._loop.call_at(self._heard + limit, self._check_silence, limit)

    def _check_silence(self, limit: float) -> None:
        now = self._loop.time()
        uploading = self._upload is not None and not self._upload.done()
        if self._paused or uploading or self._has_bytes_waiting():
            self._heard = now
        if now - self._heard < limit:
            self._timer = self._loop.call_at(self._heard + limit, self._check_silence, limit)
        else:
            self._finish(httpx.ReadTimeout(f"no byte from the upstream for {limit:g} seconds"))

    def _has_bytes_waiting(self) -> bool:
        """After a time in which the loop was held up, uvloop fires timers before it reads sockets."""
        poll = select.poll()
        poll.register(self._wire.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))
