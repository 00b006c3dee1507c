"""What the tests of the transport share: requests through it, and what comes of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx

from respool.proxy.transport import Transport
from tests.raw_server import Script, let_the_loop_look, raw_server

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


CHUNKS = {"transfer-encoding": "chunked"}
