"""The table of what agents do wrong: each fault, however far the agent had come and however the client asked.

One end each time, `completed` only where nothing is missing, everything that had arrived delivered and kept, the same
in every view, and the agent called once.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.proxy.agent import Json, Wire, answer, answering, delta, frame, opening, saying
from tests.proxy.client import deltas, error_of, text_of
from tests.proxy.endings import Ending, end
from tests.proxy.faults import (
    IN_THE_STREAM,
    NEVER,
    NO_ANSWER,
    OK,
    WAYS,
    Fault,
    Outcome,
    answering_bytes,
    close,
    ended,
    id_for,
    refused,
)
from tests.proxy.scene import Scene, scene
from tests.raw_server import Peer, let_the_loop_look, raw_server

SO_FAR = {
    "created": opening()[:1],
    "speaking": [*opening(), delta("Hel"), delta("lo")],
    "all but the end": answer("Hel", "lo")[:-1],
}

background = pytest.mark.parametrize("way", ["background json", "background sse"])
in_the_stream = pytest.mark.parametrize("fault", IN_THE_STREAM, ids=str)
no_answer = pytest.mark.parametrize("fault", NO_ANSWER, ids=str)


def after(events: list[Json], then: Ending, gate: asyncio.Event | None = None) -> Any:
    """A script: the head and these events in one piece, and once they can have been read, `then`."""

    async def script(wire: Wire) -> None:
        await wire.request()
        if gate is not None:
            await gate.wait()
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in map(frame, events))
        await wire.send(OK + b"transfer-encoding: chunked\r\n\r\n" + chunks)
        await let_the_loop_look()
        await then(wire)

    return script


def instead(does: Ending, gate: asyncio.Event | None = None) -> Any:
    """A script: the request is read, and then the fault."""

    async def script(wire: Wire) -> None:
        await wire.request()
        if gate is not None:
            await gate.wait()
        await does(wire)

    return script


@asynccontextmanager
async def staged(
    script: Any, fault: Fault | None = None, asks: int = len(WAYS), **options: Any
) -> AsyncIterator[Scene]:
    """The scene of one line of the table; at its end the agent has been asked once for each response."""
    given = {"replay": "any", "accept_grace_ms": NEVER, **(fault.options if fault else {}), **options}
    async with scene(script, **given) as s:
        yield s
        assert len(s.agent.asked) == asks


async def all_ended(s: Scene) -> dict[str, Outcome]:
    """What came of a response in each of the ways, all at once."""
    outcomes = await asyncio.gather(*(ended(s, asked, id_for(way)) for way, asked in WAYS.items()))
    return dict(zip(WAYS, outcomes, strict=True))


async def all_refused(s: Scene) -> dict[str, tuple[int, Json]]:
    """The same for creates that leave nothing."""
    answers = await asyncio.gather(*(refused(s, asked, id_for(way)) for way, asked in WAYS.items()))
    return dict(zip(WAYS, answers, strict=True))


def assert_failed(fault: Fault, final: Json) -> None:
    assert (final["status"], final["error"]["code"]) == ("failed", fault.code)
    assert fault.words in (None, final["error"]["message"])
    assert final.get("completed_at") is None


# --- after the agent's 2xx


@pytest.mark.parametrize("so_far", SO_FAR)
@in_the_stream
async def test_a_fault_in_the_stream_is_a_failure_that_keeps_what_had_arrived(fault: Fault, so_far: str) -> None:
    said = SO_FAR[so_far]
    texts = [event["delta"] for event in said if "delta" in event]
    async with staged(after(said, fault.does), fault) as s:
        for way, (events, final) in (await all_ended(s)).items():
            assert_failed(fault, final)
            assert (way, deltas(events)) == (way, texts)
            assert (way, text_of(final)) == (way, "".join(texts))


@in_the_stream
async def test_a_fault_before_the_first_event_is_the_answer_and_leaves_nothing(fault: Fault) -> None:
    async with staged(after([], fault.does), fault) as s:
        for way, (status, error) in (await all_refused(s)).items():
            assert (way, status, error["code"]) == (way, 200 if "sse" in way else 500, fault.code)
            assert fault.words in (None, error["message"])


@background
@in_the_stream
async def test_a_fault_in_the_stream_after_the_grace_is_a_stored_failure(fault: Fault, way: str) -> None:
    gate = asyncio.Event()
    async with staged(after([], fault.does, gate), fault, asks=1, accept_grace_ms=1) as s:
        _, final = await ended(s, WAYS[way], id_for(way), gate)
    assert_failed(fault, final)
    assert final["output"] == []


@pytest.mark.parametrize(
    ("so_far", "status", "text"),
    [
        ([], "completed", ""),
        (SO_FAR["created"], "completed", ""),
        (SO_FAR["speaking"], "failed", "Hello"),
        (SO_FAR["all but the end"], "completed", "Hello"),
    ],
)
async def test_a_clean_end_without_a_terminal_event_is_complete_if_nothing_is_open(
    so_far: list[Json], status: str, text: str
) -> None:
    async with staged(after(so_far, end)) as s:
        for way, (_, final) in (await all_ended(s)).items():
            assert (way, final["status"], text_of(final)) == (way, status, text)


# --- no answer


@no_answer
async def test_an_agent_that_gives_no_answer_is_an_error_and_leaves_nothing(fault: Fault) -> None:
    async with staged(instead(fault.does), fault) as s:
        for way, (status, error) in (await all_refused(s)).items():
            assert (way, status, error["code"]) == (way, fault.status, fault.code)


@background
@no_answer
async def test_an_agent_that_gives_no_answer_after_the_grace_is_a_stored_failure(fault: Fault, way: str) -> None:
    gate = asyncio.Event()
    async with staged(instead(fault.does, gate), fault, asks=1, accept_grace_ms=1) as s:
        _, final = await ended(s, WAYS[way], id_for(way), gate)
    assert_failed(fault, final)
    assert final["output"] == []


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_the_answer_and_is_not_followed(status: str) -> None:
    script = answering(status, b"elsewhere", "location: /responses", kind="text/plain")
    async with staged(script) as s:
        for way, asked in WAYS.items():
            response = await s.create({"x-agent-response-id": id_for(way)}, **asked)
            assert (way, response.status_code, response.content) == (way, int(status[:3]), b"elsewhere")
            assert response.headers["location"] == "/responses"
            assert (await s.client.get(f"/responses/{id_for(way)}")).status_code == 404


async def test_an_agent_that_breaks_off_its_refusal_is_an_error() -> None:
    torn = answering_bytes(b"HTTP/1.1 500 Oh\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nhalf", close)
    async with staged(instead(torn)) as s:
        for way, (status, error) in (await all_refused(s)).items():
            assert (way, status, error["code"]) == (way, 500, "upstream_disconnected")


# --- no connection


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def no_tls(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 400 Plain\r\n\r\n")
    await peer.rest()


async def no_handshake(peer: Peer) -> None:
    await peer.rest()


@asynccontextmanager
async def unreachable(kind: str) -> AsyncIterator[str]:
    """The URL of an agent with which no connection can be made."""
    match kind:
        case "refused":
            yield closed_port()
        case "no such name":
            yield "http://nowhere.invalid"
        case _:
            async with raw_server(no_tls if kind == "TLS refused" else no_handshake) as url:
                yield url.replace("http:", "https:")


@pytest.mark.parametrize("kind", ["refused", "no such name", "TLS refused", "TLS not answered"])
async def test_an_agent_that_cannot_be_reached_is_a_502_that_may_be_repeated(kind: str) -> None:
    options: Json = {"connect_timeout_seconds": 0.2 if kind == "TLS not answered" else 10, "accept_grace_ms": NEVER}
    async with unreachable(kind) as url, scene(saying(), upstream=url, **options) as s:
        for way, asked in WAYS.items():
            response = await s.create({"x-agent-response-id": id_for(way)}, **asked)
            code = error_of(response)["code"]
            assert (way, response.status_code, code) == (way, 502, "upstream_unreachable")
            assert "x-should-retry" not in response.headers
            assert (await s.client.get(f"/responses/{id_for(way)}")).status_code == 404


@background
@pytest.mark.parametrize("refuses", [True, False])
async def test_an_agent_that_turns_out_unreachable_after_the_grace_is_a_stored_failure(refuses: bool, way: str) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await gate.wait()
        await (no_tls if refuses else no_handshake)(peer)

    options: Json = {"replay": "any", "accept_grace_ms": 1, "connect_timeout_seconds": 10 if refuses else 0.2}
    async with raw_server(script) as url, scene(saying(), upstream=url.replace("http:", "https:"), **options) as s:
        _, final = await ended(s, WAYS[way], id_for(way), gate)
    assert (final["status"], final["error"]["code"]) == ("failed", "upstream_unreachable")


# --- odd, and yet whole


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints\r\nlink: </x>"])
async def test_interim_answers_are_not_the_answer(interim: bytes) -> None:
    async def script(wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 %b\r\n\r\n" % interim)
        await wire.request()
        await wire.send(b"HTTP/1.1 %b\r\n\r\n" % interim)
        await let_the_loop_look()
        await wire.begin()
        await wire.say(*answer("Hel", "lo"))
        await wire.end()

    async with staged(script) as s:
        for way, (_, final) in (await all_ended(s)).items():
            assert (way, final["status"], text_of(final)) == (way, "completed", "Hello")


async def test_an_agent_that_sends_byte_by_byte_is_understood() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        body = b"".join(map(frame, answer("Hel", "lo")))
        for byte in OK + b"content-length: %d\r\n\r\n" % len(body) + body:
            await wire.send(bytes((byte,)))
            await let_the_loop_look()

    async with staged(script) as s:
        for way, (events, final) in (await all_ended(s)).items():
            assert (way, final["status"], deltas(events)) == (way, "completed", ["Hel", "lo"])


@pytest.mark.parametrize("size", [10, 8 * 2**20])
async def test_an_agent_that_answers_and_hangs_up_without_reading_the_request_is_heard(size: int) -> None:
    """What it leaves unread makes the kernel reset the connection behind its answer."""
    asked = []

    async def script(wire: Wire) -> None:
        asked.append(await wire.request_head())
        body = b"".join(map(frame, answer("Hello")))
        await wire.send(OK + b"content-length: %d\r\n\r\n" % len(body) + body)

    async with scene(script, replay="any", accept_grace_ms=NEVER) as s:
        for way in WAYS:
            _, final = await ended(s, {**WAYS[way], "instructions": "x" * size}, id_for(way))
            assert (way, final["status"], text_of(final)) == (way, "completed", "Hello")
    assert len(asked) == len(WAYS)


async def test_an_agent_that_writes_on_after_a_cancel_finds_its_connection_gone() -> None:
    noticed = asyncio.Event()

    async def never_looks(wire: Wire) -> None:
        try:
            while True:
                await wire.say(delta("and on "))
        except ConnectionError:
            noticed.set()

    async with scene(after(opening(), never_looks)) as s:
        async with s.stream(**WAYS["background sse"]) as stream:
            events = await stream.until("response.output_text.delta")
            response_id = events[0].data["response"]["id"]
            assert (await s.cancel(response_id)).json()["status"] == "cancelled"
            events += await stream.rest()
        await noticed.wait()
        assert events[-1].data["response"]["status"] == "cancelled"
        assert await s.events(response_id) == events
        assert text_of(await s.get(response_id)) == "".join(deltas(events))
