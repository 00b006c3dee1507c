"""The upstream transport when its caller is cancelled or closes."""

import asyncio
import socket

import httpx
import pytest

from respool.proxy.transport import Transport
from tests.raw_server import (
    Peer,
    answering,
    let_the_loop_look,
    on_both_loops,
    raw_server,
    staying,
)
from tests.transport.asking import (
    CHUNKED,
    CHUNKS,
    OK,
    Upload,
    body_and_error,
    next_piece,
    opened,
    pieces_of,
    stream_of,
)

_ESTABLISHED = b"\x01"
"""The first byte of TCP_INFO."""


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


@on_both_loops
async def test_an_upstream_that_takes_nothing_learns_at_once_that_its_caller_has_gone() -> None:
    reached, closed = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        reached.set()
        while peer.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == _ESTABLISHED:
            await let_the_loop_look()
        closed.set()

    async with raw_server(script) as url, asyncio.timeout(20):
        request = httpx.Request("POST", url, content=b"x" * 8_000_000)
        request.stream = httpx.ByteStream(b"x" * 8_000_000)
        transport = Transport()
        calling = asyncio.create_task(transport.handle_async_request(request))
        await reached.wait()
        calling.cancel()
        await closed.wait()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await transport.aclose()
