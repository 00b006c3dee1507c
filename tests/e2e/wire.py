"""A raw HTTP/1.1 client: the exact bytes of an answer, read to where a test says, and a connection that can be cut."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

_END = b"\n\n"


class Torn(Exception):
    """The connection ended before the answer did."""


class Answer:
    """One answer, whose body is taken piece by piece; what came beyond the pieces is lost with the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ahead = bytearray()
        self._whole = False
        self.http_status = 0
        self.headers: dict[str, str] = {}

    async def head(self) -> None:
        """Read the status and the headers."""
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.http_status = int(lines[0].split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}

    async def events(self, count: int) -> bytes:
        """The next `count` events, whole. Raises Torn."""
        return b"".join([await self._event() for _ in range(count)])

    async def half_an_event(self) -> bytes:
        """The first half of the next event's bytes. Raises Torn."""
        event = await self._event()
        return event[: len(event) // 2]

    async def rest(self) -> bytes:
        """Everything up to the proper end of the body. Raises Torn."""
        while not self._whole:
            await self._more()
        return self._take(len(self._ahead))

    def cut(self) -> None:
        """Break the connection at once."""
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _event(self) -> bytes:
        while (end := self._ahead.find(_END)) < 0:
            if self._whole:
                raise Torn("the answer ended instead")
            await self._more()
        return self._take(end + len(_END))

    def _take(self, size: int) -> bytes:
        taken = bytes(self._ahead[:size])
        del self._ahead[:size]
        return taken

    async def _more(self) -> None:
        """Read one chunk of a chunked body, or all of one with a length."""
        try:
            if "content-length" in self.headers:
                self._ahead += await self._reader.readexactly(int(self.headers["content-length"]))
                self._whole = True
                return
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            self._ahead += (await self._reader.readexactly(size + 2))[:-2]
            self._whole = size == 0
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Torn from error


@asynccontextmanager
async def sending(
    url: str, method: str, target: str, body: dict[str, Any] | None = None, *, receive_buffer: int | None = None
) -> AsyncIterator[Answer]:
    """A request of whose answer nothing has been read. `receive_buffer` bounds what the kernel takes unread, bytes."""
    parts = urlsplit(url)
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, (parts.hostname, parts.port))
    reader, writer = await asyncio.open_connection(sock=sock)
    answer = Answer(reader, writer)
    try:
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        yield answer
    finally:
        await answer.close()


@asynccontextmanager
async def asking(
    url: str, method: str, target: str, body: dict[str, Any] | None = None, *, receive_buffer: int | None = None
) -> AsyncIterator[Answer]:
    """An answer of which only the head has been read."""
    async with sending(url, method, target, body, receive_buffer=receive_buffer) as answer:
        await answer.head()
        yield answer


async def ask(url: str, method: str, target: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Status and JSON of a whole answer."""
    async with asking(url, method, target, body) as answer:
        return answer.http_status, json.loads(await answer.rest())


async def replay(url: str, response_id: str, after: int | None = None) -> bytes:
    """The bytes of `?stream=true`, followed to the end."""
    cursor = "" if after is None else f"&starting_after={after}"
    async with asking(url, "GET", f"/responses/{response_id}?stream=true{cursor}") as answer:
        body = await answer.rest()
        assert answer.http_status == 200, body
        return body


def whole_events(received: bytes) -> bytes:
    """What a client keeps of a stream that was cut: an event without its empty line is no event."""
    return received[: received.rfind(_END) + len(_END)] if _END in received else b""


def behind(whole: bytes, cursor: int) -> bytes:
    """The part of a stream behind a cursor."""
    return b"".join(frame + _END for frame in whole.split(_END)[cursor + 1 : -1])


def events_of(received: bytes) -> list[dict[str, Any]]:
    """The data of each whole event, parsed."""
    frames = whole_events(received).split(_END)[:-1]
    data = [line[6:] for frame in frames for line in frame.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in data]


def text_of(events: list[dict[str, Any]]) -> str:
    """The text that the deltas make."""
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
