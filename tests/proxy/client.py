"""The client's side: streams read event by event, raw connections, and what every good stream looks like."""

import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from tests.raw_server import Peer

Json = dict[str, Any]

KEEP_ALIVE = b": keep-alive\n\n"
TERMINAL = {"response.completed", "response.failed", "response.incomplete"}
_FRAME = re.compile(rb"event: ([^\n]+)\ndata: (\{[^\n\r]*\})\n\n")


class Event(NamedTuple):
    """One frame: its name, its data, and its bytes."""

    name: str
    data: Json
    frame: bytes


class Stream:
    """An SSE answer while it is read. Every method raises httpx.TransportError where the answer is torn."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._pieces = response.aiter_raw()
        self._held = b""

    async def block(self) -> bytes | None:
        """The next frame or comment, None at the end."""
        while b"\n\n" not in self._held:
            piece = await anext(self._pieces, None)
            if piece is None:
                assert not self._held, "the answer ended inside a frame"
                return None
            self._held += piece
        block, _, self._held = self._held.partition(b"\n\n")
        return block + b"\n\n"

    async def next(self) -> Event | None:
        """The next event, None at the end."""
        while (block := await self.block()) == KEEP_ALIVE:
            pass
        return None if block is None else event_of(block)

    async def until(self, name: str) -> list[Event]:
        """The events up to the next one of that name."""
        events: list[Event] = []
        while event := await self.next():
            events.append(event)
            if event.name == name:
                return events
        raise AssertionError(f"the answer ended without {name}")

    async def rest(self) -> list[Event]:
        """The events up to the end."""
        events: list[Event] = []
        while event := await self.next():
            events.append(event)
        return events


def event_of(block: bytes) -> Event:
    """One frame; anything but exactly our form fails the test."""
    match = _FRAME.fullmatch(block)
    assert match is not None, block
    data = json.loads(match[2])
    assert data["type"] == match[1].decode()
    return Event(match[1].decode(), data, block)


def events_of(body: bytes) -> list[Event]:
    """The events of a whole body."""
    assert body == b"" or body.endswith(b"\n\n")
    return [event_of(block + b"\n\n") for block in body.split(b"\n\n")[:-1]]


def whole(events: Sequence[Event]) -> Json:
    """The final object of a stream that begins with created, is numbered from 0 by 1 and has one end, as its last."""
    names = [event.name for event in events]
    assert names[0] == "response.created"
    assert [event.data["sequence_number"] for event in events] == list(range(len(events)))
    assert [name for name in names if name in TERMINAL] == names[-1:]
    assert len({event.data["response"]["id"] for event in events if "response" in event.data}) == 1
    final: Json = events[-1].data["response"]
    return final


def text_of(response: Json) -> str:
    """The text of an object's messages."""
    return "".join(part["text"] for item in response["output"] for part in item.get("content", []))


def deltas(events: Sequence[Event]) -> list[str]:
    return [event.data["delta"] for event in events if event.name == "response.output_text.delta"]


@contextlib.asynccontextmanager
async def dial(url: str, *, receive_buffer: int | None = None, source: str | None = None) -> AsyncIterator[Peer]:
    """A raw connection to respool; `receive_buffer` in bytes makes a client that can be made to take little.

    `source` is the address that it comes from.
    """
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    with socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            sock.bind((source, 0))
        sock.connect((parts.hostname, parts.port))
        sock.setblocking(False)
        yield Peer(sock)


def posting(path: str, body: Json, *headers: str) -> bytes:
    """The bytes of a POST."""
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: respool", f"content-length: {len(data)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + data


def error_of(response: httpx.Response) -> Json:
    """The error of an answer in the shape of the API; the request ids in it agree."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error", "additionalInfo"}
    assert body["additionalInfo"] == {"request_id": response.headers["x-request-id"]}
    error: Json = body["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    return error
