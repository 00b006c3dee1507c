"""The upstream transport against raw sockets: what it sends."""

import asyncio

import httpx
import pytest

from tests.raw_server import (
    Peer,
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
    next_piece,
    opened,
    pieces_of,
)


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
