"""The upstream transport and silence, on either side."""

import asyncio
import select
import socket

import httpx
import pytest

from tests.raw_server import (
    Peer,
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
    opened,
    pieces_of,
)


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
