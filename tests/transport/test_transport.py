"""The upstream transport against raw sockets: what it sends, what it hands on, and what it makes of every fault."""

import asyncio
import contextlib
import gzip
import select
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from respool.proxy.transport import Transport
from tests.raw_server import (
    CERTIFICATE,
    Peer,
    Script,
    answering,
    let_the_loop_look,
    on_both_loops,
    raw_server,
    resetting,
    staying,
    tls_server,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Upload(httpx.AsyncByteStream):
    """A request body that comes piece by piece; counts what was taken of it and knows whether it was let go."""

    def __init__(self, *pieces: bytes, gate: asyncio.Event | None = None, error: Exception | None = None) -> None:
        self.taken = 0
        self.released = False
        self._pieces = pieces
        self._gate = gate
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for piece in self._pieces:
                self.taken += 1
                yield piece
                if self._gate:
                    await self._gate.wait()
            if self._error:
                raise self._error
        finally:
            await let_the_loop_look()
            self.released = True


@contextlib.asynccontextmanager
async def opened(url: str, method: str = "GET", **options: object) -> AsyncIterator[httpx.Response]:
    """A response from `url`, closed at the end; `timeout` and `target` become extensions, the rest is the request's."""
    extensions = {name: options.pop(name) for name in ("timeout", "target") if name in options}
    async with Transport() as transport:
        request = httpx.Request(method, url, extensions=extensions, **options)  # type: ignore[arg-type]
        response = await transport.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()


def stream_of(response: httpx.Response) -> httpx.AsyncByteStream:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return response.stream


async def pieces_of(response: httpx.Response) -> list[bytes]:
    return [piece async for piece in stream_of(response)]


async def next_piece(response: httpx.Response) -> bytes:
    return await anext(aiter(stream_of(response)))


async def body_and_error(response: httpx.Response) -> tuple[bytes, type[Exception] | None]:
    """What was delivered before the end, and how that failed."""
    body = b""
    try:
        async for piece in stream_of(response):
            body += piece
    except httpx.TransportError as error:
        return body, type(error)
    return body, None


async def get(script: Script, method: str = "GET") -> tuple[httpx.Response, bytes]:
    async with raw_server(script) as url, opened(url, method) as response:
        return response, b"".join(await pieces_of(response))


# --- what is sent


@on_both_loops
async def test_the_request_goes_out_byte_for_byte_as_it_was_given() -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(OK + b"Content-Length: 0\r\n\r\n")

    headers = [(b"hOsT", b"agent"), (b"X-Twice", b"1"), (b"x-other", b"\xe9"), (b"X-Twice", b"2")]
    async with raw_server(script) as url, opened(url, headers=headers, target=b"/a%2Fb/../c?x=%20&y=[]"):
        pass
    assert heads == [
        b"GET /a%2Fb/../c?x=%20&y=[] HTTP/1.1\r\nhOsT: agent\r\nX-Twice: 1\r\nx-other: \xe9\r\nX-Twice: 2\r\n\r\n"
    ]


@on_both_loops
async def test_without_a_target_the_raw_path_of_the_url_is_asked_for() -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(OK + b"Content-Length: 0\r\n\r\n")

    async with raw_server(script) as url, opened(url + "/a%2Fb?x=%20"):
        pass
    assert heads[0].startswith(b"GET /a%2Fb?x=%20 HTTP/1.1\r\n")


CHUNKS = {"transfer-encoding": "chunked"}


@pytest.mark.parametrize(
    ("headers", "stream", "wire"),
    [
        ({"content-length": "6"}, httpx.ByteStream(b"abcdef"), b"abcdef"),
        (CHUNKS, httpx.ByteStream(b"abcdef"), b"6\r\nabcdef\r\n0\r\n\r\n"),
        ({"content-length": "6"}, Upload(b"ab", b"", b"cdef"), b"abcdef"),
        (CHUNKS, Upload(b"ab", b"", b"cdef"), b"2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n"),
        (CHUNKS, Upload(), b"0\r\n\r\n"),
        ({"content-length": "3000000"}, httpx.ByteStream(b"abc" * 1_000_000), b"abc" * 1_000_000),
        ({"content-length": "3000000"}, Upload(b"abc" * 1_000_000), b"abc" * 1_000_000),
    ],
    ids=["bytes", "bytes chunked", "stream", "stream chunked", "empty stream", "many bytes", "one large piece"],
)
@on_both_loops
async def test_the_body_is_framed_as_the_headers_say(
    headers: dict[str, str], stream: httpx.AsyncByteStream, wire: bytes
) -> None:
    bodies: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        bodies.append(await peer.receive(len(wire)))
        await peer.send(OK + b"Content-Length: 0\r\n\r\n")
        assert await peer.rest() == b""

    async with raw_server(script) as url, opened(url, "POST", headers=headers, stream=stream) as response:
        assert await pieces_of(response) == []
    assert bodies == [wire]


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        ({"x": "a\r\nInjected: b"}, b"/"),
        ({"x": "a\nInjected: b"}, b"/"),
        ({"x": "a\0"}, b"/"),
        ({}, b"/ HTTP/1.1\r\nInjected: b"),
        ({}, b"/a b"),
        ({"content-length": "1", "transfer-encoding": "chunked"}, b"/"),
        ({"content-length": "-1"}, b"/"),
        ({"transfer-encoding": "gzip"}, b"/"),
    ],
)
@on_both_loops
async def test_a_request_that_could_be_read_in_two_ways_is_not_sent(headers: dict[str, str], target: bytes) -> None:
    async def script(peer: Peer) -> None:
        pytest.fail("the upstream was called")

    async with raw_server(script) as url:
        with pytest.raises(httpx.LocalProtocolError):
            async with opened(url, headers=headers, target=target):
                pass


@pytest.mark.parametrize("pieces", [(b"abc",), (b"abcd", b"ef")], ids=["shorter", "longer"])
@on_both_loops
async def test_an_upload_that_contradicts_its_content_length_is_cut_off(pieces: tuple[bytes, ...]) -> None:
    bodies: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        bodies.append(await peer.rest())

    async with raw_server(script) as url:
        with pytest.raises(httpx.LocalProtocolError):
            async with opened(url, "POST", headers={"content-length": "4"}, stream=Upload(*pieces)):
                pass
    assert len(bodies[0]) <= 4


@on_both_loops
async def test_an_error_of_the_uploads_source_reaches_the_caller_and_cuts_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        assert await peer.rest() == b"2\r\nab\r\n"

    upload = Upload(b"ab", error=ZeroDivisionError())
    async with raw_server(script) as url:
        with pytest.raises(ZeroDivisionError):
            async with opened(url, "POST", headers=CHUNKS, stream=upload):
                pass


@on_both_loops
async def test_an_upstream_that_does_not_read_slows_the_upload_down() -> None:
    upload = Upload(*[b"x" * 65536] * 1000)
    headers = {"content-length": str(65536 * 1000)}

    async def script(peer: Peer) -> None:
        await peer.head()
        before = -1
        while before != upload.taken:
            before = upload.taken
            for _ in range(20):
                await let_the_loop_look()
        assert upload.taken < 500
        await peer.receive(65536 * 1000)
        await peer.send(OK + b"Content-Length: 0\r\n\r\n")

    async with raw_server(script) as url, opened(url, "POST", headers=headers, stream=upload) as response:
        assert response.status_code == 200
    assert upload.taken == 1000


@on_both_loops
async def test_an_early_answer_is_returned_while_the_upload_goes_on() -> None:
    gate = asyncio.Event()
    upload = Upload(b"ab", b"cd", gate=gate)

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(CHUNKED + b"1\r\nA\r\n")
        assert await peer.receive(19) == b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"
        await peer.send(b"1\r\nB\r\n0\r\n\r\n")

    async with raw_server(script) as url, opened(url, "POST", headers=CHUNKS, stream=upload) as response:
        assert await next_piece(response) == b"A"
        assert not upload.released
        gate.set()
        assert await pieces_of(response) == [b"B"]


@on_both_loops
async def test_closing_the_response_ends_the_upload() -> None:
    upload = Upload(b"ab", b"cd", gate=asyncio.Event())
    async with raw_server(staying(CHUNKED)) as url, opened(url, "POST", headers=CHUNKS, stream=upload) as response:
        await response.aclose()
        assert upload.released


@on_both_loops
async def test_an_answer_followed_by_a_reset_in_mid_upload_is_the_answer() -> None:
    gate = asyncio.Event()
    upload = Upload(*[b"x" * 1000] * 1000, gate=gate)

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        peer.reset()
        # The upload writes before the loop looks at the socket again: the write fails with the answer unread.
        gate.set()

    async with raw_server(script) as url, opened(url, "POST", headers=CHUNKS, stream=upload) as response:
        assert (response.status_code, await pieces_of(response)) == (413, [b"no"])
    assert upload.released


@on_both_loops
async def test_an_answer_to_an_upload_that_nobody_reads_is_the_answer() -> None:
    upload = Upload(*[b"x" * 65536] * 1000)

    async def script(peer: Peer) -> None:
        await peer.head()
        await let_the_loop_look()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")

    async with raw_server(script) as url, opened(url, "POST", headers=CHUNKS, stream=upload) as response:
        assert (response.status_code, await pieces_of(response)) == (413, [b"no"])
    assert upload.released


# --- what is handed on


@on_both_loops
async def test_headers_keep_bytes_order_and_duplicates() -> None:
    wire = OK + b"sEt-Cookie: a\r\nX-Empty:\r\nSet-Cookie:  b \t\r\nX-Raw: \xe9\xff\r\nContent-Length: 0\r\n\r\n"
    response, _ = await get(answering(wire))
    assert response.headers.raw == [
        (b"sEt-Cookie", b"a"),
        (b"X-Empty", b""),
        (b"Set-Cookie", b"b"),
        (b"X-Raw", b"\xe9\xff"),
        (b"Content-Length", b"0"),
    ]


@pytest.mark.parametrize(
    ("wire", "reason", "version"),
    [
        (b"HTTP/1.1 299 As You Like\r\nContent-Length: 0\r\n\r\n", b"As You Like", b"HTTP/1.1"),
        (b"HTTP/1.0 299\r\nContent-Length: 0\r\n\r\n", b"", b"HTTP/1.0"),
    ],
)
@on_both_loops
async def test_status_reason_and_version_are_the_upstreams(wire: bytes, reason: bytes, version: bytes) -> None:
    response, _ = await get(answering(wire))
    assert response.status_code == 299
    assert response.extensions["reason_phrase"] == reason
    assert response.extensions["http_version"] == version


@pytest.mark.parametrize(
    ("method", "wire", "body", "framed"),
    [
        ("GET", OK + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
        ("GET", OK + b"Content-Length: 0\r\n\r\n", b"", True),
        ("GET", CHUNKED + b"5\r\nhello\r\n1;ext=1\r\n!\r\n0\r\nTrailer: x\r\n\r\n", b"hello!", True),
        ("GET", OK + b"\r\nhello", b"hello", False),
        ("GET", OK + b"\r\n", b"", False),
        ("GET", b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello", False),
        ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
        ("HEAD", OK + b"Content-Length: 5\r\n\r\n", b"", True),
        ("HEAD", CHUNKED, b"", True),
        ("HEAD", OK + b"\r\n", b"", True),
        ("HEAD", OK + b"Content-Length: 5\r\n\r\nhello", b"", True),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", True),
    ],
)
@on_both_loops
async def test_a_body_ends_where_its_framing_says(method: str, wire: bytes, body: bytes, framed: bool) -> None:
    response, content = await get(answering(wire), method)
    assert (content, response.extensions["framed"]) == (body, framed)


@on_both_loops
async def test_a_framed_answer_is_whole_without_a_close_and_the_connection_is_closed() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK + b"Content-Length: 2\r\n\r\nab")
        assert await peer.rest() == b""

    async with raw_server(script) as url, opened(url) as response:
        assert await pieces_of(response) == [b"ab"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@on_both_loops
async def test_what_follows_a_whole_answer_is_ignored(method: str) -> None:
    second = OK + b"Content-Length: 5\r\n\r\nwrong"
    for extra in (second, b"garbage", second * 10000):
        _, content = await get(answering(OK + b"Content-Length: 0\r\n\r\n" + extra), method)
        assert content == b""


@on_both_loops
async def test_a_compressed_body_is_not_touched() -> None:
    packed = gzip.compress(b"hello" * 100)
    wire = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    response, content = await get(answering(wire))
    assert (content, response.headers["content-encoding"]) == (packed, "gzip")


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 5 + b"HTTP/1.1 199 Odd\r\n\r\n",
    ],
)
@pytest.mark.parametrize("together", [True, False])
@on_both_loops
async def test_interim_answers_are_skipped(interim: bytes, together: bool) -> None:
    final = OK + b"X: y\r\nContent-Length: 2\r\n\r\nab"
    response, content = await get(answering(interim + final) if together else answering(interim, final))
    assert (response.status_code, content) == (200, b"ab")
    assert response.headers.raw == [(b"X", b"y"), (b"Content-Length", b"2")]
    assert response.extensions["reason_phrase"] == b"OK"


WHOLE = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    + OK
    + b"A:\r\nB: c d \r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"5\r\nhello\r\n0a;x=y\r\n\r\n\r\n0\r\n\r\n0\r\n0\r\nT: u\r\n\r\n"
)


def assert_whole(response: httpx.Response, content: bytes) -> None:
    assert content == b"hello\r\n\r\n0\r\n\r\n0"
    assert response.headers.raw == [(b"A", b""), (b"B", b"c d"), (b"Transfer-Encoding", b"chunked")]
    assert response.extensions["reason_phrase"] == b"OK"


@on_both_loops
async def test_an_answer_may_be_split_anywhere() -> None:
    for cut in range(1, len(WHOLE)):
        assert_whole(*await get(answering(WHOLE[:cut], WHOLE[cut:])))


@on_both_loops
async def test_an_answer_may_come_byte_by_byte() -> None:
    assert_whole(*await get(answering(*[WHOLE[at : at + 1] for at in range(len(WHOLE))])))


@on_both_loops
async def test_an_answer_that_is_cut_off_anywhere_is_never_taken_for_whole() -> None:
    for cut in range(len(WHOLE)):
        async with raw_server(answering(WHOLE[:cut])) as url:
            try:
                async with opened(url) as response:
                    body, error = await body_and_error(response)
            except httpx.RemoteProtocolError:
                assert cut < WHOLE.index(b"5\r\nhello")
            else:
                assert error is httpx.RemoteProtocolError
                assert b"hello\r\n\r\n0\r\n\r\n0".startswith(body)


@on_both_loops
async def test_what_arrives_together_is_one_piece() -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(text), text) for text in [b"a", b"bc", b"def"] * 20)
    async with raw_server(answering(CHUNKED, chunks, b"0\r\n\r\n")) as url, opened(url) as response:
        assert await pieces_of(response) == [b"abcdef" * 20]


@on_both_loops
async def test_what_arrives_while_the_reader_is_away_is_one_piece() -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await answering(CHUNKED, b"1\r\na\r\n", b"1\r\nb\r\n", b"1\r\nc\r\n")(peer)
        arrived.set()
        await peer.send(b"0\r\n\r\n")

    async with raw_server(script) as url, opened(url) as response:
        await arrived.wait()
        assert await pieces_of(response) == [b"abc"]


@on_both_loops
async def test_a_slow_reader_stops_the_upstream_and_misses_nothing() -> None:
    body = bytes(range(256)) * 250_000
    stuck = asyncio.Event()
    sent: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK + b"Content-Length: %d\r\n\r\n" % len(body))
        sent.append(await peer.send_until_stuck(body))
        stuck.set()
        await peer.send(body[sent[0] :])

    async with raw_server(script) as url, Transport(high_water=100_000) as transport:
        response = await transport.handle_async_request(httpx.Request("GET", url))
        await stuck.wait()
        assert sent[0] < len(body) / 2
        pieces = await pieces_of(response)
        assert b"".join(pieces) == body
        # The mark, and at most one read more.
        assert max(map(len, pieces)) <= 100_000 + 256 * 1024
        await response.aclose()


# --- faults


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        OK + b"Content-Le",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nabc",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"X: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        OK + b"X : a\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    ],
)
@on_both_loops
async def test_a_head_that_is_malformed_or_cut_off_is_a_protocol_error(wire: bytes) -> None:
    async with raw_server(answering(wire)) as url:
        with pytest.raises(httpx.RemoteProtocolError):
            async with opened(url):
                pass


MALFORMED = [b"zz\r\nhello\r\n", b"-5\r\nhello\r\n", b"0x5\r\nhello\r\n", b"\r\nhello\r\n", b"2\r\nhello\r\n"]


@pytest.mark.parametrize(
    ("script", "delivered", "error"),
    [
        (answering(OK + b"Content-Length: 9\r\n\r\nhello"), b"hello", httpx.RemoteProtocolError),
        (answering(CHUNKED + b"9\r\nhello"), b"hello", httpx.RemoteProtocolError),
        (answering(CHUNKED + b"5\r\nhello\r\n"), b"hello", httpx.RemoteProtocolError),
        (answering(CHUNKED + b"5\r\nhello\r\n0\r\n"), b"hello", httpx.RemoteProtocolError),
        (answering(CHUNKED + b"5\r\nhello\r\n", b"ffffffffffffffffff\r\n"), b"hello", httpx.RemoteProtocolError),
        (resetting(OK + b"Content-Length: 9\r\n\r\nhello"), b"hello", httpx.ReadError),
        (resetting(CHUNKED + b"5\r\nhello\r\n"), b"hello", httpx.ReadError),
        (resetting(OK + b"\r\nhello"), b"hello", httpx.ReadError),
        (resetting(OK + b"\r\n", b"hel", b"lo"), b"hello", httpx.ReadError),
    ],
)
@on_both_loops
async def test_what_came_is_delivered_and_then_the_fault_is_raised(
    script: Script, delivered: bytes, error: type[Exception]
) -> None:
    async with raw_server(script) as url, opened(url) as response:
        assert await body_and_error(response) == (delivered, error)
        assert await body_and_error(response) == (b"", error)


@pytest.mark.parametrize("chunk", MALFORMED)
@pytest.mark.parametrize("together", [True, False])
@on_both_loops
async def test_a_malformed_chunk_fails_at_once_behind_the_good_ones(chunk: bytes, together: bool) -> None:
    good = CHUNKED + b"5\r\nhello\r\n"
    script = staying(good + chunk) if together else staying(good, chunk)
    async with raw_server(script) as url, opened(url) as response:
        body, error = await body_and_error(response)
    assert (body[:5], error) == (b"hello", httpx.RemoteProtocolError)


@on_both_loops
async def test_a_reset_before_the_head_is_a_read_error() -> None:
    for script in (resetting(), resetting(OK)):
        async with raw_server(script) as url:
            with pytest.raises(httpx.ReadError):
                async with opened(url):
                    pass


@on_both_loops
async def test_a_fault_that_waits_behind_unread_bytes_comes_after_them() -> None:
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        await resetting(CHUNKED, b"1\r\na\r\n", b"1\r\nb\r\n")(peer)
        await let_the_loop_look()
        over.set()

    async with raw_server(script) as url, opened(url) as response:
        await over.wait()
        assert await body_and_error(response) == (b"ab", httpx.ReadError)


@on_both_loops
async def test_a_large_head_is_taken_and_one_beyond_the_limit_is_not() -> None:
    fits = OK + b"X: %b\r\n" % (b"x" * 200_000) + b"Y: z\r\n" * 3000 + b"Content-Length: 0\r\n\r\n"
    response, _ = await get(answering(fits))
    assert len(response.headers["x"]) == 200_000
    one, many = b"X: %b\r\n" % (b"x" * 270_000), b"X: yz\r\n" * 40_000
    for large in (OK + one, OK + many, b"HTTP/1.1 200 " + b"x" * 270_000 + b"\r\n"):
        for end in (b"Content-Length: 2\r\n\r\nab", b""):
            async with raw_server(staying(large + end)) as url:
                with pytest.raises(httpx.RemoteProtocolError):
                    async with opened(url):
                        pass


@pytest.mark.parametrize(
    "endless", [b"5;" + b"x" * 600_000, b"0\r\nT: " + b"x" * 600_000, b"0\r\n" + b"T: u\r\n" * 99_999]
)
@on_both_loops
async def test_chunk_extensions_and_trailers_have_the_limit_of_a_head(endless: bytes) -> None:
    async with raw_server(staying(CHUNKED + b"5\r\nhello\r\n", endless)) as url, opened(url) as response:
        assert await body_and_error(response) == (b"hello", httpx.RemoteProtocolError)


# --- no connection


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@on_both_loops
async def test_no_connection_is_a_connect_error() -> None:
    for url in (f"http://127.0.0.1:{closed_port()}", "http://nowhere.invalid", f"http://{'a' * 64}.invalid"):
        with pytest.raises(httpx.ConnectError):
            async with opened(url):
                pass


@on_both_loops
async def test_tls_that_is_refused_is_a_connect_error() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Plain\r\n\r\n")
        await peer.rest()

    async with raw_server(script) as url:
        with pytest.raises(httpx.ConnectError):
            async with opened(url.replace("http:", "https:")):
                pass


@on_both_loops
async def test_tls_that_is_not_answered_is_a_connect_timeout() -> None:
    async def script(peer: Peer) -> None:
        await peer.rest()

    async with raw_server(script) as url:
        with pytest.raises(httpx.ConnectTimeout):
            async with opened(url.replace("http:", "https:"), timeout={"connect": 0.05}):
                pass


@on_both_loops
async def test_other_schemes_are_refused() -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        async with opened("ftp://127.0.0.1/"):
            pass


# --- TLS


def trusting() -> Transport:
    return Transport(ssl_context=ssl.create_default_context(cadata=CERTIFICATE))


async def answer_over_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
    await writer.drain()


@on_both_loops
async def test_an_answer_comes_over_tls(tmp_path: Path) -> None:
    async with tls_server(answer_over_tls, tmp_path) as url, trusting() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", url))
        assert await pieces_of(response) == [b"hello"]
        await response.aclose()


@on_both_loops
async def test_a_close_in_mid_body_over_tls_is_a_protocol_error(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + b"5\r\nhello\r\n")

    async with tls_server(script, tmp_path) as url, trusting() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", url))
        assert await body_and_error(response) == (b"hello", httpx.RemoteProtocolError)
        await response.aclose()


@on_both_loops
async def test_closing_in_mid_body_over_tls_is_seen_by_the_upstream(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + b"5\r\nhello\r\n")
        with contextlib.suppress(OSError):
            assert await reader.read() == b""

    async with tls_server(script, tmp_path) as url, trusting() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", url))
        assert await next_piece(response) == b"hello"
        await response.aclose()


@on_both_loops
async def test_bytes_that_wait_in_the_tls_layer_are_not_silence(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 150000\r\n\r\n" + b"x" * 150_000)
        await writer.drain()
        with contextlib.suppress(OSError):
            await reader.read()

    context = ssl.create_default_context(cadata=CERTIFICATE)
    async with tls_server(script, tmp_path) as url, Transport(ssl_context=context, high_water=1000) as transport:
        request = httpx.Request("GET", url, extensions={"timeout": {"read": 0.2}})
        response = await transport.handle_async_request(request)
        await asyncio.sleep(0.5)
        assert await body_and_error(response) == (b"x" * 150_000, None)
        await response.aclose()


@on_both_loops
async def test_a_certificate_that_is_not_trusted_is_a_connect_error(tmp_path: Path) -> None:
    async with tls_server(answer_over_tls, tmp_path) as url:
        with pytest.raises(httpx.ConnectError):
            async with opened(url):
                pass


# --- silence


@pytest.mark.parametrize("timeout", [{"read": 0.05}, {"read": None, "headers": 0.05}])
@on_both_loops
async def test_silence_before_the_head_is_a_read_timeout(timeout: dict[str, float | None]) -> None:
    async with raw_server(staying()) as url:
        with pytest.raises(httpx.ReadTimeout):
            async with opened(url, timeout=timeout):
                pass


@on_both_loops
async def test_silence_in_the_body_is_a_read_timeout_behind_what_came() -> None:
    script = staying(CHUNKED + b"5\r\nhello\r\n")
    async with raw_server(script) as url, opened(url, timeout={"read": 0.05, "headers": None}) as response:
        assert await body_and_error(response) == (b"hello", httpx.ReadTimeout)


@pytest.mark.parametrize("timeout", [{"read": 0.05, "headers": None}, {"read": 0.05, "headers": 30}])
@on_both_loops
async def test_the_head_may_take_longer_than_the_silence_in_the_body(timeout: dict[str, float | None]) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await asyncio.sleep(0.15)
        await peer.send(OK + b"Content-Length: 0\r\n\r\n")

    async with raw_server(script) as url, opened(url, timeout=timeout) as response:
        assert response.status_code == 200


@on_both_loops
async def test_a_body_may_take_longer_than_the_longest_silence() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(CHUNKED)
        for _ in range(6):
            await asyncio.sleep(0.1)
            await peer.send(b"1\r\nx\r\n")
        await peer.send(b"0\r\n\r\n")

    async with raw_server(script) as url, opened(url, timeout={"read": 0.4}) as response:
        assert b"".join(await pieces_of(response)) == b"xxxxxx"


@on_both_loops
async def test_a_slow_reader_is_not_a_silent_upstream() -> None:
    body = b"x" * 20_000_000

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async with raw_server(script) as url, opened(url, timeout={"read": 0.2}) as response:
        await asyncio.sleep(0.5)
        assert await body_and_error(response) == (body, None)


@on_both_loops
async def test_a_slow_upload_is_not_a_silent_upstream() -> None:
    gate = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, gate.set)

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.receive(19)
        await peer.send(OK + b"Content-Length: 0\r\n\r\n")

    upload, timeout = Upload(b"ab", b"cd", gate=gate), {"read": 0.2}
    async with raw_server(script) as url, opened(url, "POST", headers=CHUNKS, stream=upload, timeout=timeout) as got:
        assert got.status_code == 200


@on_both_loops
async def test_an_upstream_that_takes_nothing_is_a_write_timeout() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await over.wait()

    over = asyncio.Event()
    upload = Upload(*[b"x" * 65536] * 1000)
    async with raw_server(script) as url:
        with pytest.raises(httpx.WriteTimeout):
            async with opened(url, "POST", headers=CHUNKS, stream=upload, timeout={"write": 0.05}):
                pass
        assert upload.released
        over.set()


@on_both_loops
async def test_a_loop_that_was_held_up_does_not_take_waiting_bytes_for_silence() -> None:
    loop = asyncio.get_running_loop()

    async def script(peer: Peer) -> None:
        def send_and_hold_up() -> None:
            loop.remove_reader(far)
            peer.sock.send(b"5\r\nhello\r\n0\r\n\r\n")
            select.select([], [], [], 0.5)

        await peer.head()
        await peer.send(CHUNKED)
        near, far = socket.socketpair()
        with near, far:
            # As the callback of a socket: then uvloop looks at its timers before it looks at the next socket.
            loop.add_reader(far, send_and_hold_up)
            near.send(b"x")
            await peer.rest()

    async with raw_server(script) as url, opened(url, timeout={"read": 0.3}) as response:
        assert await body_and_error(response) == (b"hello", None)


# --- cancelling and closing


@on_both_loops
async def test_a_reader_that_is_cancelled_twice_loses_nothing() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(CHUNKED)
        await go.wait()
        await peer.send(b"1\r\na\r\n0\r\n\r\n")

    async with raw_server(script) as url, opened(url) as response:
        for _ in range(2):
            reading = asyncio.ensure_future(next_piece(response))
            await let_the_loop_look()
            reading.cancel()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        go.set()
        assert await pieces_of(response) == [b"a"]


@on_both_loops
async def test_the_next_reader_is_woken_although_the_last_one_is_still_being_cancelled() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(CHUNKED)
        await go.wait()
        await peer.send(b"1\r\na\r\n0\r\n\r\n")

    async with raw_server(script) as url, opened(url) as response:
        reading = asyncio.ensure_future(next_piece(response))
        await let_the_loop_look()
        reading.cancel()
        go.set()
        assert await pieces_of(response) == [b"a"]
        assert reading.cancelled()


@on_both_loops
async def test_a_piece_that_arrives_with_the_cancel_stays_for_the_next_reader() -> None:
    readers: list[asyncio.Future[bytes]] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(CHUNKED)
        await reading.wait()
        await peer.send(b"1\r\na\r\n")
        await let_the_loop_look()
        readers[0].cancel()
        await peer.send(b"1\r\nb\r\n0\r\n\r\n")

    reading = asyncio.Event()
    async with raw_server(script) as url, opened(url) as response:
        readers.append(asyncio.ensure_future(next_piece(response)))
        reading.set()
        done = await asyncio.gather(readers[0], return_exceptions=True)
        taken = done[0] if isinstance(done[0], bytes) else b""
        assert taken + b"".join(await pieces_of(response)) == b"ab"


@on_both_loops
async def test_two_readers_at_once_are_our_own_mistake() -> None:
    async with raw_server(staying(CHUNKED)) as url, opened(url) as response:
        reading = asyncio.ensure_future(next_piece(response))
        await let_the_loop_look()
        with pytest.raises(RuntimeError):
            await next_piece(response)
        reading.cancel()
        await asyncio.wait({reading})


@on_both_loops
async def test_a_caller_that_is_cancelled_before_the_head_closes_the_connection() -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        arrived.set()
        await peer.rest()

    upload = Upload(b"ab", gate=asyncio.Event())
    request_headers = CHUNKS
    async with raw_server(script) as url, Transport() as transport:
        request = httpx.Request("POST", url, headers=request_headers, stream=upload)
        calling = asyncio.ensure_future(transport.handle_async_request(request))
        await arrived.wait()
        calling.cancel()
        await let_the_loop_look()
        calling.cancel()
        await asyncio.wait({calling})
        assert calling.cancelled()
    assert upload.released


@on_both_loops
async def test_closing_in_mid_body_is_seen_by_the_upstream_at_once() -> None:
    async with raw_server(staying(CHUNKED + b"1\r\na\r\n")) as url, Transport() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", url))
        assert await next_piece(response) == b"a"
        await response.aclose()
        # Leaving waits for the script, and the script for the end of the connection; the transport is still open.


@on_both_loops
async def test_closing_twice_at_once_and_in_a_cancelled_task_is_safe() -> None:
    async with raw_server(staying(CHUNKED)) as url, opened(url) as response:
        stream = stream_of(response)
        closing = asyncio.ensure_future(stream.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(stream.aclose(), stream.aclose())
        await asyncio.wait({closing})
        await stream.aclose()


@on_both_loops
async def test_a_response_that_was_closed_early_never_looks_whole() -> None:
    whole, part = staying(OK + b"Content-Length: 2\r\n\r\nab"), staying(CHUNKED + b"1\r\na\r\n")
    for script in (whole, part):
        async with raw_server(script) as url, opened(url) as response:
            await stream_of(response).aclose()
            assert await body_and_error(response) == (b"", httpx.ReadError)


@on_both_loops
async def test_a_response_that_was_read_before_it_was_closed_stays_whole() -> None:
    async with raw_server(answering(OK + b"Content-Length: 2\r\n\r\nab")) as url, opened(url) as response:
        assert await pieces_of(response) == [b"ab"]
        await stream_of(response).aclose()
        assert await body_and_error(response) == (b"", None)


@on_both_loops
async def test_closing_the_transport_ends_what_is_open_and_refuses_what_comes() -> None:
    async with raw_server(staying(CHUNKED)) as url:
        transport = Transport()
        responses = [await transport.handle_async_request(httpx.Request("GET", url)) for _ in range(3)]
        reading = asyncio.ensure_future(next_piece(responses[0]))
        await let_the_loop_look()
        await transport.aclose()
        with pytest.raises(httpx.ReadError):
            await reading
        with pytest.raises(httpx.ConnectError):
            await transport.handle_async_request(httpx.Request("GET", url))
