"""The httpx transport of the upstream side: one connection for one request, and how its answer arrives and ends."""

import asyncio
import contextlib
import os
import select
import ssl
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

import httpx
from httptools import HttpParserError, HttpResponseParser

Header = tuple[bytes, bytes]

WRITE_SLICE = 64 * 1024
ONE_WRITE_BYTES = 256 * 1024


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
        self._open: weakref.WeakSet[_Exchange] = weakref.WeakSet()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return the response as soon as its head is there; the caller must close it."""
        head, framing = _request_head(request), _Framing(request.headers)
        body = _Body(request.stream, framing)
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

    async def _connect(self, request: httpx.Request) -> "_Exchange":
        self._check_open()
        timeouts = _timeouts(request)
        reply = _Reply(request.method, self._max_header_bytes)
        host, port, tls = self._address(request.url)
        try:
            async with asyncio.timeout(timeouts.connect):
                _, exchange = await asyncio.get_running_loop().create_connection(
                    lambda: _Exchange(reply, timeouts, self._high_water), host, port, ssl=tls
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


def _request_head(request: httpx.Request) -> bytes:
    target: bytes = request.extensions.get("target", request.url.raw_path)
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), target)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    # A line break inside of a value would be a header, or a second request, of somebody else's making.
    breaks = len(lines) + 1
    if head.count(b"\r") != breaks or head.count(b"\n") != breaks or b"\0" in head or lines[0].count(b" ") != 2:
        raise httpx.LocalProtocolError("control characters in the request's head")
    return head


class _Framing:
    """Where the body of a request ends: by its content-length, by chunks, or (with neither) before it begins."""

    def __init__(self, headers: httpx.Headers) -> None:
        codings = headers.get_list("transfer-encoding", split_commas=True)
        lengths = set(headers.get_list("content-length"))
        self._chunked = bool(codings)
        self._left = 0
        if (codings and codings[-1].lower() != "chunked") or len(lengths) + self._chunked > 1:
            raise httpx.LocalProtocolError("the request's headers do not say where its body ends")
        for length in lengths:
            if not (length.isascii() and length.isdigit()):
                raise httpx.LocalProtocolError("the request's content-length is not a number")
            self._left = int(length)

    def frame(self, piece: bytes) -> bytes:
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        self._left -= len(piece)
        if self._left < 0:
            raise httpx.LocalProtocolError("the request's body is longer than its content-length")
        return piece

    def end(self) -> bytes:
        if self._left:
            raise httpx.LocalProtocolError("the request's body is shorter than its content-length")
        return b"0\r\n\r\n" if self._chunked else b""


class _Body:
    """The body of a request as it goes over the wire.

    `at_once` is all of it if it is small and in memory, else None; then `pieces` gives it piece by piece.
    """

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, framing: _Framing) -> None:
        if not isinstance(stream, httpx.AsyncByteStream):
            raise TypeError("the request's stream is not asynchronous")
        self._stream = stream
        self._framing = framing
        self.at_once = self._whole(b"".join(stream)) if isinstance(stream, httpx.ByteStream) else None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        source = aiter(self._stream)
        try:
            async for piece in source:
                yield self._framing.frame(piece)
            yield self._framing.end()
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    def _whole(self, content: bytes) -> bytes | None:
        if len(content) > ONE_WRITE_BYTES:
            return None
        return self._framing.frame(content) + self._framing.end()


@dataclass(frozen=True, slots=True)
class _Head:
    """The head of the final answer. `framed`: the body says itself where it ends."""

    status: int
    reason: bytes
    version: bytes
    headers: Sequence[Header]
    framed: bool


class _Reply:
    """What the bytes of one answer mean: its head, the bytes of its body, whether it ended, why it cannot. No I/O."""

    def __init__(self, method: str, max_header_bytes: int) -> None:
        self.head: _Head | None = None
        self.ended = False
        self.failure: httpx.RemoteProtocolError | None = None
        self._method = method
        self._limit = max_header_bytes
        self._reason = b""
        self._headers: list[Header] = []
        self._header_bytes = 0
        self._bare_bytes = 0
        self._fresh: list[bytes] = []
        # The parser calls the list's own method: a chunk costs no Python frame.
        self.on_body = self._fresh.append
        self._parser = HttpResponseParser(self)
        # Else an interim answer with `connection: close` hides the final one. After the final one nothing is parsed.
        self._parser.set_dangerous_leniencies(lenient_keep_alive=True)

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body that are in `data`, also of those before a failure."""
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not self.ended and self.failure is None:
                self.failure = httpx.RemoteProtocolError(f"malformed answer: {error}")
        body = b"".join(self._fresh)
        self._fresh.clear()
        # llhttp has no limit for heads, chunk extensions and trailers: none may go on for ever.
        self._bare_bytes = 0 if body else self._bare_bytes + len(data)
        if self._bare_bytes > self._limit and not self.ended and self.failure is None:
            self.failure = httpx.RemoteProtocolError("too many bytes of headers")
        return body

    def end_of_input(self) -> None:
        """The upstream will send no more. llhttp is not asked: httptools does not pass on its verdict."""
        if self.head is None:
            self.failure = httpx.RemoteProtocolError("the connection was closed before the answer")
        elif self.head.framed:
            self.failure = httpx.RemoteProtocolError("the connection was closed in the middle of the answer")
        else:
            self.ended = True

    def on_status(self, reason: bytes) -> None:
        self._reason += reason
        self._count(len(reason))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if status < 100 or status == 101 or version not in ("1.0", "1.1"):
            self._refuse(f"unexpected answer: HTTP/{version} {status}")
        if status >= 200:
            bodiless = self._method == "HEAD" or status in (204, 304)
            framed = self._declares_its_end() or bodiless
            self.head = _Head(status, self._reason, b"HTTP/" + version.encode(), self._headers, framed)
        # From here on headers are those of the answer after an interim one, or trailers.
        self._headers, self._reason = [], b""
        if self.head and self._method == "HEAD":
            self.on_message_complete()

    def on_message_complete(self) -> None:
        if self.head:
            self.ended = True
            raise _Ended

    def _declares_its_end(self) -> bool:
        codings = [value.lower() for name, value in self._headers if name.lower() == b"transfer-encoding"]
        # Nothing else was asked for (`te`), and a body that is still encoded cannot be passed on as what it is.
        if codings and codings != [b"chunked"]:
            self._refuse("unknown transfer-encoding")
        return bool(codings) or any(name.lower() == b"content-length" for name, _ in self._headers)

    def _count(self, header_bytes: int) -> None:
        self._header_bytes += header_bytes
        if self._header_bytes > self._limit:
            self._refuse("too many bytes of headers")

    def _refuse(self, reason: str) -> NoReturn:
        self.failure = httpx.RemoteProtocolError(reason)
        raise self.failure


class _Ended(Exception):
    """Stops the parser behind the answer: what follows is nobody's."""


class _Exchange(asyncio.Protocol, httpx.AsyncByteStream):
    """One connection with its request and its answer; as a stream, the body of the answer.

    `_over` is set once, when the answer has ended or failed or this side has closed; then nothing more comes in.
    """

    def __init__(self, reply: _Reply, timeouts: _Timeouts, high_water: int) -> None:
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
        self._upload: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # What the caller does.

    def send(self, head: bytes, body: _Body) -> None:
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

    async def head(self) -> _Head:
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

    async def aclose(self) -> None:
        """Close the connection at once and wait until it is gone; what was not read is dropped."""
        self._finish(httpx.ReadError("the connection was closed by this side"))
        if self._unread:
            self._take()
            self._failure = self._failure or httpx.ReadError("the connection was closed by this side")
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
        if body := reply.feed(data):
            self._unread.append(body)
            self._unread_bytes += len(body)
        if reply.ended or reply.failure:
            self._finish(reply.failure)
        elif self._unread_bytes > self._high_water and not self._paused:
            self._paused = True
            self._wire.pause_reading()
        if not began and reply.head and not self._over:
            self._measure_silence(self._timeouts.read)
        self._wake()

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
        if self._timer:
            self._timer.cancel()
        if self._upload:
            self._upload.cancel()
        if self._transport:
            self._transport.abort()
        self._wake()

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
