"""The upstream transport against raw sockets: what it hands on."""

import asyncio
import gzip

import httpx
import pytest

from respool.proxy.transport import Transport
from tests.raw_server import (
    Peer,
    answering,
    on_both_loops,
    raw_server,
)
from tests.transport.asking import (
    CHUNKED,
    OK,
    body_and_error,
    get,
    opened,
    pieces_of,
)


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
