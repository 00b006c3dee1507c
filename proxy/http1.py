"""What goes over one HTTP/1.1 connection to the agent, and what the bytes that come back mean. No I/O.

The head and the framing of a request, and the parser of one answer (llhttp). Source: RFC 9112.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import httpx
from httptools import HttpParserError, HttpResponseParser

Header = tuple[bytes, bytes]

ONE_WRITE_BYTES = 256 * 1024
"""A body in memory up to this goes out together with the head."""


def request_head(request: httpx.Request) -> bytes:
    """Request line and headers, as they are given. Raises httpx.LocalProtocolError for what would be read otherwise."""
    target: bytes = request.extensions.get("target", request.url.raw_path)
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), target)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    # A line break inside of a value would be a header, or a second request, of somebody else's making.
    breaks = len(lines) + 1
    if head.count(b"\r") != breaks or head.count(b"\n") != breaks or b"\0" in head or lines[0].count(b" ") != 2:
        raise httpx.LocalProtocolError("control characters in the request's head")
    return head


class Framing:
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


class RequestBody:
    """The body of a request as it goes over the wire.

    `at_once` is all of it if it is small and in memory, else None; then `pieces` gives it piece by piece.
    """

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, framing: Framing) -> None:
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
class AnswerHead:
    """The head of the final answer. `framed`: the body says itself where it ends."""

    status: int
    reason: bytes
    version: bytes
    headers: Sequence[Header]
    framed: bool


class AnswerParser:
    """What the bytes of one answer mean: its head, the bytes of its body, whether it ended, why it cannot. No I/O.

    Close it when nothing more is fed to it.
    """

    def __init__(self, method: str, max_header_bytes: int) -> None:
        self.head: AnswerHead | None = None
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

    def close(self) -> None:
        """Let go of what holds this object: llhttp's parser does by its methods, a failure by where it was raised."""
        del self._parser
        self.failure = None

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
            self.head = AnswerHead(status, self._reason, b"HTTP/" + version.encode(), self._headers, framed)
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
