"""The upstream transport without a connection, and over TLS."""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from respool.proxy.transport import Transport
from tests.raw_server import (
    CERTIFICATE,
    Peer,
    on_both_loops,
    raw_server,
    tls_server,
)
from tests.transport.asking import (
    CHUNKED,
    OK,
    body_and_error,
    next_piece,
    opened,
    pieces_of,
)

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
