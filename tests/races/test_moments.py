"""Races at chosen moments: who comes first to the storage decides, and everybody is told the same."""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable
from typing import Any

import pytest

from respool.store.backend import Append, Create, RequestCancel
from tests.checker import Objects, Stream, Transcript, faults, read_store
from tests.proxy.agent import (
    HELLO,
    SPEAKING,
    Held,
    Wire,
    answer,
    beginning,
    closing,
    completed,
    delta,
    frame,
    opening,
    saying,
    silent,
)
from tests.proxy.client import deltas, dial, error_of, posting, text_of, whole
from tests.proxy.scene import BACKGROUND, Scene, scene
from tests.proxy.storage import CHOSEN, GIVEN_ID, KEY, Turnstile
from tests.raw_server import let_the_loop_look
from tests.serving import until

MODES: list[dict[str, Any]] = [{}, {"stream": True}, {"background": True}, BACKGROUND]
RAW_CHOSEN = f"x-agent-response-id: {GIVEN_ID}"


class Speaker:
    """A script: speaks as far as its first delta, and then says what `say` is given; None ends it."""

    def __init__(self) -> None:
        self.say: asyncio.Queue[str | None] = asyncio.Queue()
        self.left = asyncio.Event()

    async def __call__(self, wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening(), delta("a"))
        leaving = asyncio.create_task(self._leave(wire))
        while (text := await self.say.get()) is not None:
            await wire.say(delta(text))
        await leaving

    async def _leave(self, wire: Wire) -> None:
        await wire.gone()
        self.left.set()
        self.say.put_nowait(None)


async def checked(s: Scene, *transcripts: Transcript) -> dict[str, Any]:
    """The final object, with the log and these transcripts found to agree."""
    log = await read_store(s.served.store)
    assert faults(log[KEY], transcripts) == []
    return await s.get(GIVEN_ID)


# --- cancel


async def test_of_two_cancels_at_one_moment_both_are_told_the_one_end() -> None:
    store = Turnstile()
    async with scene(Held(), store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        await stream.until("response.output_text.delta")
        store.close_gate()
        cancels = [asyncio.create_task(s.cancel(GIVEN_ID))]
        await store.comes(RequestCancel)
        cancels.append(asyncio.create_task(s.cancel(GIVEN_ID)))
        await store.queued()
        store.gate.set()
        values = [(await one).json() for one in cancels]
        assert values[0] == values[1]
        assert (await checked(s, Objects("cancels", values)))["status"] == "cancelled"


async def test_an_event_that_was_there_before_the_cancel_is_kept_and_seen() -> None:
    speaker, store = Speaker(), Turnstile()
    async with scene(speaker, store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        await stream.until("response.output_text.delta")
        store.close_gate()
        await speaker.say.put("b")
        await store.comes(Append)
        cancelling = asyncio.create_task(s.cancel(GIVEN_ID))
        await store.queued()
        store.gate.set()
        value = (await cancelling).json()
        assert (value["status"], text_of(value)) == ("cancelled", "ab")
        assert deltas(await stream.rest()) == ["b"]
        await checked(s, Objects("cancel", [value]))


async def test_an_event_that_comes_behind_the_cancel_is_seen_by_nobody() -> None:
    speaker, store = Speaker(), Turnstile()
    async with scene(speaker, store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        begun = await stream.until("response.output_text.delta")
        await store.log.request_cancel(KEY)  # committed, and the run has not heard of it
        await speaker.say.put("b")
        events = [*begun, *await stream.rest()]
        assert deltas(events) == ["a"]
        assert whole(events)["status"] == "cancelled"
        body = b"".join(event.frame for event in events)
        assert text_of(await checked(s, Stream("client", -1, body, whole=True))) == "a"
        await speaker.left.wait()


@pytest.mark.parametrize("committed_first", [True, False])
@pytest.mark.parametrize("asked", [{"background": True}, BACKGROUND])
async def test_a_cancel_at_the_moment_of_the_first_event(asked: dict[str, Any], committed_first: bool) -> None:
    speaking, store = asyncio.Event(), Turnstile()

    async def script(wire: Wire) -> None:
        await wire.request()
        await speaking.wait()
        await wire.begin()
        await wire.chunk(b"".join(map(frame, HELLO[:SPEAKING])))
        await wire.gone()

    async with scene(script, store=store.log, accept_grace_ms=600_000) as s:
        posting_ = asyncio.create_task(s.create(CHOSEN, **asked))
        await until(lambda: s.agent.asked)
        if committed_first:
            await store.log.request_cancel(KEY)
            speaking.set()
        else:
            store.close_gate()
            speaking.set()
            await store.comes(Append)
            cancelling = asyncio.create_task(s.cancel(GIVEN_ID))
            await store.queued()
            store.gate.set()
            assert (await cancelling).json()["status"] == "cancelled"
        response = await posting_
        assert response.status_code == 200
        final = await checked(s, *([Stream("POST", -1, response.content, whole=True)] if asked.get("stream") else []))
        assert (final["status"], text_of(final)) == ("cancelled", "" if committed_first else "Hel")


# --- delete


async def test_a_delete_at_the_moment_of_a_cancel_is_refused_and_one_after_it_is_not() -> None:
    store = Turnstile()
    async with scene(Held(), store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        await stream.until("response.output_text.delta")
        store.close_gate()
        cancelling = asyncio.create_task(s.cancel(GIVEN_ID))
        await store.comes(RequestCancel)
        deleting = asyncio.create_task(s.delete(GIVEN_ID))
        await store.queued()
        store.gate.set()
        assert error_of(await deleting)["message"] == "Cannot delete an in-flight response."
        assert (await cancelling).json()["status"] == "cancelled"
        assert (await s.delete(GIVEN_ID)).status_code == 200
        assert (await s.cancel(GIVEN_ID)).status_code == 404
        assert (await s.delete(GIVEN_ID)).status_code == 404


async def test_a_cancel_behind_the_end_and_a_delete_finds_nothing() -> None:
    held, store = Held(said=-1), Turnstile()
    async with scene(held, store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        await stream.until("response.output_item.done")
        store.close_gate()
        held.going_on.set()
        await store.comes(Append)
        deleting = asyncio.create_task(s.delete(GIVEN_ID))
        await store.queued(1)
        cancelling = asyncio.create_task(s.cancel(GIVEN_ID))
        await store.queued(2)
        store.gate.set()
        assert (await deleting).status_code == 200
        assert (await cancelling).status_code == 404
        assert await read_store(s.served.store) == {}


async def test_of_two_deletes_at_one_moment_one_finds_nothing() -> None:
    store = Turnstile()
    async with scene(saying(*answer("x")), store=store.log) as s:
        await s.create(CHOSEN)
        store.close_gate()
        deletes = [asyncio.create_task(s.delete(GIVEN_ID)) for _ in range(2)]
        await store.queued(1)
        store.gate.set()
        assert sorted([(await one).status_code for one in deletes]) == [200, 404]


# --- two POSTs


@pytest.mark.parametrize("second", MODES)
@pytest.mark.parametrize("first", MODES)
async def test_of_two_posts_with_one_id_at_one_moment_one_runs(first: dict[str, Any], second: dict[str, Any]) -> None:
    store = Turnstile()
    async with scene(saying(*answer("Hello")), store=store.log) as s:
        store.close_gate()
        posts = [asyncio.create_task(s.create(CHOSEN, **first))]
        await store.comes(Create)
        posts.append(asyncio.create_task(s.create(CHOSEN, **second)))
        await store.queued()
        store.gate.set()
        answers = await asyncio.gather(*posts)
        assert [one.status_code for one in answers] == [200, 409]
        assert len(s.agent.asked) == 1
        await until(lambda: not s.served.app.runs._tasks)
        assert text_of(await checked(s)) == "Hello"


# --- clients that leave


@pytest.mark.parametrize("asked", MODES)
async def test_a_client_that_leaves_before_the_whole_request_is_there_has_asked_for_nothing(
    asked: dict[str, Any],
) -> None:
    request = posting("/responses", {"input": "hi", **asked}, RAW_CHOSEN)
    body = request.index(b"\r\n\r\n") + 4
    async with scene(silent) as s:
        for length in (1, 4, 20, body - 4, body - 1, body, body + 1, len(request) - 1):
            for how in ("finish", "reset"):
                async with dial(s.served.url) as raw:
                    await raw.send(request[:length])
                    getattr(raw, how)()
        await until(lambda: not s.served.server._connections or len(s.served.server._connections) == 1)
        assert await read_store(s.served.store) == {}
        assert s.agent.asked == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["finish", "reset"])
async def test_a_foreground_client_that_leaves_while_its_record_is_written_cancels_its_run(
    stream: bool, how: str
) -> None:
    store, left = Turnstile(), asyncio.Event()

    async def script(wire: Wire) -> None:
        with contextlib.suppress(EOFError):
            await wire.request()
        await wire.gone()
        left.set()

    async with scene(script, store=store.log) as s:
        store.close_gate()
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"input": "hi", "stream": stream}, RAW_CHOSEN))
            await store.comes(Create)
            getattr(raw, how)()
        store.gate.set()
        await left.wait()
        await until(lambda: not s.served.app.runs._tasks)
        assert (await checked(s))["status"] == "cancelled"


async def test_a_client_that_leaves_while_its_create_is_refused_is_no_fault_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Turnstile()
    async with scene(saying(*answer("Hello")), store=store.log) as s:
        await s.create(CHOSEN)
        known = set(s.served.server._connections)
        store.close_gate()
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"input": "hi"}, RAW_CHOSEN))
            await store.comes(Create)
            (connection,) = [one for task, one in s.served.server._connections.items() if task not in known]
            raw.finish()
            await until(connection._reader.at_eof)
            await let_the_loop_look()
            store.gate.set()
            await raw.rest()
        await until(lambda: known.issuperset(s.served.server._connections))
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("before", [True, False])
async def test_a_foreground_client_that_leaves_at_the_moment_of_the_end(stream: bool, before: bool) -> None:
    store, held = Turnstile(), Held(said=-1)
    async with scene(held, store=store.log) as s:
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"input": "hi", "stream": stream}, RAW_CHOSEN))
            await held.reached.wait()
            await until(lambda: (run := s.served.app.runs.get(KEY)) is not None and run.began.is_set())
            if before:
                raw.finish()
                await held.left.wait()
            else:
                store.close_gate()
                held.going_on.set()
                await store.comes(Append)
                raw.finish()
                store.gate.set()
        await until(lambda: not s.served.app.runs._tasks)
        assert (await checked(s))["status"] == ("cancelled" if before else "completed")


@pytest.mark.parametrize("stop", [False, True], ids=["the client leaves", "the server stops"])
async def test_what_is_heard_while_the_agents_last_events_wait_for_the_storage_does_not_lose_them(stop: bool) -> None:
    store, turns = Turnstile(), [asyncio.Event() for _ in range(2)]

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening(), delta("a"))
        await turns[0].wait()
        await wire.say(delta("b"))
        await turns[1].wait()
        await wire.chunk(b"".join(map(frame, [delta("c"), *closing("abc"), completed("abc")])))
        await wire.end()

    async with scene(script, store=store.log, grace_seconds=0) as s, dial(s.served.url) as raw:
        await raw.send(posting("/responses", {"input": "hi", "stream": True}, RAW_CHOSEN))
        told = b""
        while b'"delta": "a"' not in told:
            told += await raw.some()
        run = s.served.app.runs.get(KEY)
        assert run is not None
        store.close_gate()
        turns[0].set()
        await store.comes(Append)
        turns[1].set()
        await until(lambda: run.ear._listening is None)
        if stop:
            stopping = asyncio.create_task(s.served.app.drain())
        else:
            raw.finish()
        await until(lambda: run.ear._words)
        store.gate.set()
        await until(lambda: not s.served.app.runs._tasks)
        if stop:
            await stopping
        final = await checked(s)
        assert (final["status"], text_of(final)) == ("completed", "abc")


# --- the agent's connection


async def floods(wire: Wire) -> None:
    """Writes on whether or not anybody is there."""
    await beginning(wire)
    while True:
        await wire.say(delta("more " * 200))
        await asyncio.sleep(0)


async def never_answers(wire: Wire) -> None:
    await wire.request()


async def takes_no_request(wire: Wire) -> None:
    """Accepts the connection and reads nothing of the request, which does not fit into the socket."""
    await wire.request_head()


@pytest.mark.parametrize("agent", [beginning, floods, never_answers, takes_no_request])
async def test_the_agents_connection_is_closed_within_a_second_of_the_cancel(agent: Any) -> None:
    """A second is what is promised; it is some milliseconds, on a machine with other load beside it some hundred."""
    closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    reached = asyncio.Event()

    async def script(wire: Wire) -> None:
        speaking: Awaitable[None] = asyncio.ensure_future(agent(wire))
        if agent is not floods:
            await speaking
        reached.set()
        await asyncio.gather(speaking, _until_closed(wire), return_exceptions=True)
        closed.set_result(time.monotonic())

    large = "x" * 8_000_000 if agent is takes_no_request else "hi"
    async with scene(script, accept_grace_ms=1) as s:
        created = await s.create(CHOSEN, input=large, background=True)
        assert created.status_code == 200
        await reached.wait()
        began = time.monotonic()
        assert (await s.cancel(GIVEN_ID)).json()["status"] == "cancelled"
        took = await closed - began
        print(f"{agent.__name__}: closed {1000 * took:.0f} ms after the cancel")
        assert took < 1.0
        assert (await checked(s))["status"] == "cancelled"


async def _until_closed(wire: Wire) -> None:
    """Until the kernel knows that the peer has closed: what it has sent before stays unread."""
    await until(lambda: _is_closed(wire))


def _is_closed(wire: Wire) -> bool:
    # The first byte of TCP_INFO is the state; 1 is ESTABLISHED.
    (state,) = struct.unpack("B", wire.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))
    return bool(state != 1)
