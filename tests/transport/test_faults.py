"""The upstream transport against raw sockets: what it makes of every fault of an answer."""

import asyncio

import httpx
import pytest

from tests.raw_server import (
    Peer,
    Script,
    answering,
    let_the_loop_look,
    on_both_loops,
    raw_server,
    resetting,
    staying,
)
from tests.transport.asking import (
    CHUNKED,
    OK,
    body_and_error,
    get,
    opened,
)


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
