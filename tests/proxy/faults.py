"""What agents and networks do wrong, as scripts; and a client of each kind, which checks that all views agree.

Every fault stands for a line of the table in test_agent_faults.py.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.proxy.agent import Json, Wire, delta, frame
from tests.proxy.client import Event, error_of, events_of, whole
from tests.proxy.endings import (
    Ending,
    close_in_a_chunk,
    close_without_the_last_chunk,
    end_in_an_event,
    reset,
    reset_in_an_event,
    send_a_malformed_chunk,
    stall,
)
from tests.proxy.scene import BACKGROUND, Scene

WAYS: Mapping[str, Json] = {
    "json": {},
    "sse": {"stream": True},
    "background json": {"background": True},
    "background sse": BACKGROUND,
}
"""How a client may ask for a stored response."""

NEVER = 600_000
"""A grace in ms that no test outlasts."""

LIMIT = 100_000
"""The largest event in tests of the limit, in bytes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, the `code` (and words) of the failure, and the Settings that make it happen soon.

    `status` is that of the answer to a client that has been told nothing yet.
    """

    name: str
    does: Ending
    code: str
    status: int = 500
    words: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


# --- after the head of the answer


async def send_endless_trailers(wire: Wire) -> None:
    await wire.send(b"0\r\nT: " + b"x" * 600_000)
    await wire.gone()


async def send_a_short_chunk(wire: Wire) -> None:
    """One whose length is less than what it holds."""
    await wire.send(b"2\r\nevent: response.out\r\n")
    await wire.gone()


async def send_too_large_an_event(wire: Wire) -> None:
    empty = len(frame(delta(""))) - len(b"event: response.output_text.delta\ndata: \n\n")
    await wire.say(delta("x" * (LIMIT + 1 - empty)))
    await wire.gone()


async def send_no_line_end(wire: Wire) -> None:
    await wire.chunk(b"data: ")
    with contextlib.suppress(ConnectionError):
        while True:
            await wire.chunk(b"x" * 65536)


def sending(data: bytes) -> Ending:
    """These bytes, and a clean end."""

    async def ending(wire: Wire) -> None:
        await wire.chunk(data)
        await wire.end()

    return ending


BROKE = "upstream_disconnected"
IN_THE_STREAM = [
    Fault("a reset", reset, BROKE),
    Fault("a reset in mid-event", reset_in_an_event, BROKE),
    Fault("an EOF in mid-chunk", close_in_a_chunk, BROKE),
    Fault("an EOF between chunks", close_without_the_last_chunk, BROKE),
    Fault("a malformed chunk", send_a_malformed_chunk, BROKE),
    Fault("a chunk longer than it says", send_a_short_chunk, BROKE),
    Fault("trailers without an end", send_endless_trailers, BROKE),
    Fault("silence", stall, "upstream_timeout", options={"idle_timeout_seconds": 0.2}),
    Fault("an end in mid-event", end_in_an_event, "server_error"),
    Fault("one byte beyond the limit", send_too_large_an_event, "event_too_large", options={"max_event_bytes": LIMIT}),
    Fault("a line without an end", send_no_line_end, "event_too_large", options={"max_event_bytes": LIMIT}),
    Fault("an event that is no JSON", sending(b"event: response.odd\ndata: {\n\n"), "server_error"),
    Fault("an error event", sending(b'event: error\ndata: {"code":"c","message":"m"}\n\n'), "c", words="m"),
    Fault("an error without a name", sending(b'data: {"error":{"code":"c","message":"m"}}\n\n'), "c", words="m"),
    Fault("a page of a 500", sending(b"<html>\n<h1>Internal Server Error</h1>"), "server_error"),
    Fault("an error as bare JSON", sending(b'{"error":{"code":"c","message":"m"}}'), "server_error"),
]  # fmt: skip
"""After the agent's 2xx, and whatever it has said by then."""


# --- instead of an answer


def answering_bytes(data: bytes, then: Callable[[Wire], Awaitable[None] | None]) -> Ending:
    """These bytes for an answer."""

    async def ending(wire: Wire) -> None:
        await wire.send(data)
        done = then(wire)
        if done is not None:
            await done

    return ending


def close(wire: Wire) -> None:
    """Closing is what the end of every script does."""


async def stay(wire: Wire) -> None:
    await wire.gone()


OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
DISCONNECTED: Any = {"code": BROKE, "status": 502}
NO_ANSWER = [
    Fault("silence", stall, "upstream_timeout", 504, options={"header_timeout_seconds": 0.2}),
    Fault("a close behind the request", answering_bytes(b"", close), **DISCONNECTED),
    Fault("a reset behind the request", reset, **DISCONNECTED),
    Fault("a close in the head", answering_bytes(OK, close), **DISCONNECTED),
    Fault("a close behind a 100", answering_bytes(b"HTTP/1.1 100 Continue\r\n\r\n", close), **DISCONNECTED),
    Fault("a 101", answering_bytes(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", stay), **DISCONNECTED),
    Fault("no HTTP", answering_bytes(b"hello\r\n\r\n", stay), **DISCONNECTED),
    Fault("HTTP/2", answering_bytes(b"HTTP/2.0 200 OK\r\n\r\n", stay), **DISCONNECTED),
    Fault(
        "two lengths",
        answering_bytes(OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\n", stay),
        **DISCONNECTED,
    ),
    Fault(
        "a length and chunks",
        answering_bytes(OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", stay),
        **DISCONNECTED,
    ),
    Fault("an unknown transfer coding", answering_bytes(OK + b"transfer-encoding: x\r\n\r\n", stay), **DISCONNECTED),
    Fault("a folded header", answering_bytes(OK + b"a: b\r\n c: d\r\n\r\n", stay), **DISCONNECTED),
    Fault("a header with a zero byte", answering_bytes(OK + b"a: \0\r\n\r\n", stay), **DISCONNECTED),
    Fault("a header of 300 KB", answering_bytes(OK + b"a: " + b"b" * 300_000, stay), **DISCONNECTED),
    Fault("100,000 headers", answering_bytes(OK + b"a: b\r\n" * 100_000, stay), **DISCONNECTED),
]
"""The request has been read, and no good head comes back."""


# --- what the clients see


class Outcome(NamedTuple):
    """The events and the final object of a response that ended, the same in every view."""

    events: list[Event]
    final: Json


def id_for(way: str) -> str:
    """A response id for each way, so that all of them can be asked at once."""
    return "caresp_" + way.replace(" ", "").ljust(50, "0")


async def refused(s: Scene, asked: Json, response_id: str) -> tuple[int, Json]:
    """Status and error of a create that leaves nothing behind; a stream that had begun says it in its only frame."""
    response = await s.create({"x-agent-response-id": response_id}, **asked)
    assert (await s.client.get(f"/responses/{response_id}")).status_code == 404
    if response.status_code == 200:
        [only] = events_of(response.content)
        assert (only.name, only.data["sequence_number"]) == ("error", 0)
        return 200, only.data
    if response.status_code >= 500:
        assert response.headers["x-platform-error-source"] == "upstream"
    return response.status_code, error_of(response)


async def ended(s: Scene, asked: Json, response_id: str, going_on: asyncio.Event | None = None) -> Outcome:
    """Ask, and see the response to its end: what the live client got, the replay and the object agree.

    `going_on` is set once the client has its id. Needs `replay="any"`.
    """
    headers = {"x-agent-response-id": response_id}
    seen = None
    if asked.get("stream"):
        async with s.stream(headers, **asked) as stream:
            assert stream.response.status_code == 200
            first = await stream.next()
            if going_on is not None:
                going_on.set()
            assert first is not None
            seen = [first, *await stream.rest()]
    else:
        response = await s.create(headers, **asked)
        assert response.status_code == 200, response.text
        assert response.json()["id"] == response_id
        if going_on is not None:
            going_on.set()
    events = await s.events(response_id)
    final = whole(events)
    assert seen is None or seen == events
    assert await s.get(response_id) == final
    if not asked.get("stream") and not asked.get("background"):
        assert response.json() == final
    assert final["status"] in ("completed", "failed")
    return Outcome(events, final)
