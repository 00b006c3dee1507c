"""A raw client that keeps every byte of an answer that reached it, also when the connection then broke."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import httptools


class Recorder(asyncio.Protocol):
    """One request on a connection of its own, and its answer as far as it came.

    `whole` says that the answer ended by its own framing, `over` that nothing more will come.
    """

    def __init__(self) -> None:
        self.http_status = 0
        self.body = bytearray()
        self.whole = False
        self.over = False
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._changed = asyncio.Event()

    async def until(self, events: int) -> None:
        """Return once so many whole events have come, or nothing more will."""
        while not self.over and self.body.count(b"\n\n") < events:
            await self._change()

    async def end(self) -> None:
        """Return once nothing more will come."""
        while not self.over:
            await self._change()

    def json(self) -> Any:
        """The whole body as JSON."""
        return json.loads(self.body)

    def cut(self) -> None:
        """Break the connection at once."""
        if self._transport is not None:
            self._transport.abort()
        self.over = True

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    # What asyncio and the parser call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self.over:
            self._parser.feed_data(data)
            self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self._changed.set()

    def on_headers_complete(self) -> None:
        self.http_status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = self.over = True
        if self._transport is not None:
            self._transport.close()


async def send(
    url: str,
    method: str,
    target: str,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Recorder:
    """A request, of whose answer nothing need have come. Raises OSError where there is nobody."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    transport, recorder = await loop.create_connection(Recorder, parts.hostname or "", parts.port or 80)
    content = b"" if body is None else json.dumps(body).encode()
    fields = {"host": parts.netloc, "content-length": str(len(content)), **(headers or {})}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    transport.write("\r\n".join(lines).encode() + content)
    return recorder
