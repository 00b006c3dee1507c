"""The storage when it is slow and when it fails: nothing is seen too early, and everything still ends once."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from respool.store.backend import Append, Create, RequestCancel, Write
from respool.store.base import Filter, Gap, StorageFailed, StoreError
from respool.store.log import Log
from tests.checker import faults, read_store
from tests.proxy.agent import (
    Held,
    Json,
    Wire,
    answer,
    answering,
    closing,
    completed,
    delta,
    lifecycle,
    opening,
    saying,
)
from tests.proxy.client import deltas, error_of, events_of, text_of, whole
from tests.proxy.scene import BACKGROUND, Scene, id_from, scene
from tests.proxy.storage import CHOSEN, GIVEN_ID, KEY, Turnstile
from tests.raw_server import let_the_loop_look
from tests.serving import until

HELLO = saying(*answer("Hel", "lo"))
STORAGE = {
    "code": "storage_error",
    "message": "An internal error occurred while storing the response. Subsequent retrieval is not guaranteed. "
    "Please retry the request.",
}


class Steps:
    """A script: speaks as far as one delta, then one delta whenever `steps` is put to, and ends when told."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening(), delta("a"))
        while text := await self.steps.get():
            await wire.say(delta(text))
        await wire.say(*closing("x"), completed("x"))
        await wire.end()


async def other_requests_are_served(s: Scene) -> None:
    """Everything that could have reached a client by now has."""
    for _ in range(3):
        assert (await s.client.get("/_respool/health")).status_code == 200


# --- durable before visible


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"background": True}, BACKGROUND])
async def test_nothing_is_sent_to_anybody_before_the_record_is_durable(asked: dict[str, Any]) -> None:
    store = Turnstile()
    async with scene(HELLO, store=store.log) as s:
        store.close_gate()
        posting = asyncio.create_task(s.create(CHOSEN, **asked))
        await store.comes(Create)
        await other_requests_are_served(s)
        assert s.agent.asked == []
        assert not posting.done()
        store.gate.set()
        assert (await posting).status_code == 200


async def test_no_event_is_seen_before_it_is_durable() -> None:
    steps, store = Steps(), Turnstile()
    async with scene(steps, store=store.log, keep_alive_seconds=0) as s, s.stream(CHOSEN, background=True) as stream:
        await stream.until("response.output_text.delta")
        async with s.replay(GIVEN_ID) as follower:
            await follower.until("response.output_text.delta")
            store.close_gate()
            await steps.steps.put("b")
            await store.comes(Append)
            reading = [asyncio.create_task(one.next()) for one in (stream, follower)]
            await other_requests_are_served(s)
            assert not any(one.done() for one in reading)
            assert text_of(await s.get(GIVEN_ID)) == "a"
            store.gate.set()
            assert deltas([event for one in reading if (event := await one)]) == ["b", "b"]
            assert text_of(await s.get(GIVEN_ID)) == "ab"
            await steps.steps.put("")


@pytest.mark.parametrize("asked", [{}, {"background": True}])
async def test_no_json_answer_leaves_before_what_it_says_is_durable(asked: dict[str, Any]) -> None:
    store, speaking = Turnstile(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await speaking.wait()
        await wire.begin()
        await wire.say(*answer("x"))
        await wire.end()

    async with scene(script, store=store.log, accept_grace_ms=600_000) as s:
        posting = asyncio.create_task(s.create(**asked))
        await until(lambda: s.agent.asked)
        store.close_gate()
        speaking.set()
        await store.comes(Append)
        await other_requests_are_served(s)
        assert not posting.done()
        store.gate.set()
        assert (await posting).status_code == 200


async def test_while_one_commit_takes_long_everything_that_arrives_goes_into_the_next() -> None:
    steps, store = Steps(), Turnstile()
    async with scene(steps, store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        await stream.until("response.output_text.delta")
        for text in "bcdef":
            await steps.steps.put(text)
        await steps.steps.put("")
        assert deltas(await stream.rest()) == list("bcdef")


async def test_the_agent_is_left_at_once_however_slow_the_storage_is() -> None:
    held, store = Held(), Turnstile()
    async with scene(held, store=store.log) as s:
        async with s.stream(CHOSEN) as stream:
            await stream.until("response.output_text.delta")
            store.close_gate()
        await held.left.wait()
        await store.comes(Append)
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404
        store.gate.set()
        while (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404:
            pass
        assert (await s.get(GIVEN_ID))["status"] == "cancelled"


# --- storage that fails


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"background": True}, BACKGROUND])
async def test_a_create_that_cannot_be_written_is_a_503_and_the_agent_is_not_asked(asked: dict[str, Any]) -> None:
    store = Turnstile()
    store.broken.add(KEY)
    async with scene(HELLO, store=store.log) as s:
        response = await s.create(CHOSEN, **asked)
        assert response.status_code == 503
        error = error_of(response)
        assert (error["code"], error["type"], error["param"]) == ("storage_error", "server_error", None)
        assert response.headers["x-platform-error-source"] == "platform"
        assert "disk full" not in response.text
        assert s.agent.asked == []
        store.broken.clear()
        assert (await s.create(CHOSEN, **asked)).status_code == 200


async def test_storage_that_fails_in_mid_run_ends_it_for_every_follower_with_the_next_number() -> None:
    steps, store = Steps(), Turnstile()
    async with scene(steps, store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        events = await stream.until("response.output_text.delta")
        async with s.replay(GIVEN_ID) as follower:
            await follower.until("response.output_text.delta")
            store.broken.add(KEY)
            await steps.steps.put("lost")
            (end,) = await stream.rest()
            assert await follower.rest() == [end]
        assert end.name == "response.failed"
        assert end.data["sequence_number"] == events[-1].data["sequence_number"] + 1
        assert end.data["response"]["error"] == STORAGE
        assert text_of(end.data["response"]) == "a"
        store.broken.clear()
        while (value := await s.get(GIVEN_ID))["status"] == "in_progress":
            pass
        assert value == end.data["response"]
        assert await s.events(GIVEN_ID) == [*events, end]
        await steps.steps.put("")


async def test_storage_that_fails_at_the_very_end_never_shows_the_end_that_was_not_written() -> None:
    steps, store = Steps(), Turnstile()
    async with scene(steps, store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        events = await stream.until("response.output_text.delta")
        store.broken.add(KEY)
        await steps.steps.put("")
        events += await stream.rest()
        assert whole(events)["error"] == STORAGE
        store.broken.clear()
        while (await s.get(GIVEN_ID))["status"] == "in_progress":
            pass
        assert await s.events(GIVEN_ID) == events


async def test_a_foreground_answer_says_that_its_storage_failed() -> None:
    store, speaking = Turnstile(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening())
        await speaking.wait()
        await wire.say(*answer("x")[4:])
        await wire.end()

    async with scene(script, store=store.log) as s:
        posting = asyncio.create_task(s.create(CHOSEN))
        await store.comes(Append)
        store.broken.add(KEY)
        speaking.set()
        response = await posting
        assert (response.status_code, response.json()["status"]) == (200, "failed")
        assert response.json()["error"] == STORAGE
        store.broken.clear()


class Slow:
    """A script: the head of its answer, and after `speaking` is set a whole good answer."""

    def __init__(self) -> None:
        self.speaking = asyncio.Event()

    async def __call__(self, wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await self.speaking.wait()
        await wire.say(*answer("x"))
        await wire.end()


async def withdrawn(s: Scene, store: Turnstile) -> None:
    """Nothing is left of the response for anybody, and the storage forgets it once it can be written again."""
    path = f"/responses/{GIVEN_ID}"
    for query in ({}, {"stream": "true"}):
        assert (await s.client.get(path, params=query)).status_code == 404
    assert (await s.client.delete(path)).status_code == 404
    assert (await s.cancel(GIVEN_ID)).status_code == 404
    assert (await s.client.get("/_respool/responses", params={"conversation": "c"})).json()["data"] == []
    refused = await s.create(CHOSEN)
    assert (refused.status_code, error_of(refused)["code"]) == (503, "storage_error")
    store.broken.clear()
    while (again := await s.create(CHOSEN)).status_code == 503:
        pass
    assert again.json()["status"] == "completed"
    assert len(s.agent.asked) == 2


@pytest.mark.parametrize("asked", [{}, {"background": True}])
async def test_a_run_whose_first_event_cannot_be_written_is_a_503_and_nothing_of_it_is_kept(
    asked: dict[str, Any],
) -> None:
    slow, store = Slow(), Turnstile()
    async with scene(slow, HELLO, store=store.log, accept_grace_ms=600_000) as s:
        posting = asyncio.create_task(s.create(CHOSEN, conversation="c", **asked))
        await until(lambda: s.agent.asked)
        store.broken.add(KEY)
        slow.speaking.set()
        response = await posting
        assert (response.status_code, error_of(response)["code"]) == (503, "storage_error")
        assert response.headers["x-should-retry"] == "false"
        await withdrawn(s, store)


@pytest.mark.parametrize("asked", [{}, {"background": True}])
async def test_a_stream_whose_first_event_cannot_be_written_is_one_error_and_nothing_of_it_is_kept(
    asked: dict[str, Any],
) -> None:
    slow, store = Slow(), Turnstile()
    async with scene(slow, HELLO, store=store.log, accept_grace_ms=600_000) as s:
        async with s.stream(CHOSEN, conversation="c", **asked) as stream, s.replay(GIVEN_ID) as early:
            store.broken.add(KEY)
            slow.speaking.set()
            (error,) = await stream.rest()
            assert (error.name, error.data["code"], error.data["sequence_number"]) == ("error", "storage_error", 0)
            if asked:
                with pytest.raises(httpx.TransportError):
                    await early.rest()
        await withdrawn(s, store)


async def test_a_withdrawal_that_is_owed_gives_way_to_a_cancel_that_was_committed_first() -> None:
    slow, store = Slow(), Turnstile()
    async with scene(slow, store=store.log, accept_grace_ms=600_000) as s:
        posting = asyncio.create_task(s.create(CHOSEN, **BACKGROUND))
        await until(lambda: s.agent.asked)
        await store.backend.commit([RequestCancel(KEY)])
        store.broken.add(KEY)
        slow.speaking.set()
        assert (await posting).status_code == 200
        store.broken.clear()
        while (answer := await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404:
            pass
        while (await s.get(GIVEN_ID))["status"] == "in_progress":
            pass
        final = whole(await s.events(GIVEN_ID))
        assert final["status"] == "cancelled", answer.text


async def test_a_refusal_of_the_agent_is_handed_on_although_the_record_cannot_be_withdrawn() -> None:
    store, refusing = Turnstile(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await refusing.wait()
        await wire.answer("400 Bad Request", b'{"error":{"code":"c","message":"m"}}')

    async with scene(script, HELLO, store=store.log, accept_grace_ms=600_000) as s:
        posting = asyncio.create_task(s.create(CHOSEN, **BACKGROUND))
        await until(lambda: s.agent.asked)
        store.broken.add(KEY)
        refusing.set()
        response = await posting
        assert (response.status_code, response.json()["error"]["code"]) == (400, "c")
        await withdrawn(s, store)


async def test_after_nothing_but_created_the_end_is_still_the_next_number_and_the_only_event_shown_early() -> None:
    slow, store = Slow(), Turnstile()
    async with scene(slow, store=store.log, accept_grace_ms=1) as s:
        async with s.stream(CHOSEN, background=True) as stream:
            await id_from(stream)
            store.broken.add(KEY)
            slow.speaking.set()
            (end,) = await stream.rest()
        assert (end.name, end.data["sequence_number"]) == ("response.failed", 1)
        assert end.data["response"]["error"] == STORAGE
        # Of what a process that died now would have left, the next one makes an end with the same number.
        (head,) = await store.backend.list(Filter())
        assert head.last_seq == 0
        store.broken.clear()
        while (await s.get(GIVEN_ID))["status"] == "in_progress":
            pass
        assert (await s.events(GIVEN_ID))[1:] == [end]


BARE = [{"type": "response.output_text.delta", "delta": text} for text in "ab"]
WITHOUT_OUTPUT = [*opening(), delta("ab"), *closing("ab"), lifecycle("completed", output=None)]


@pytest.mark.parametrize("events", [WITHOUT_OUTPUT, BARE])
async def test_what_cannot_be_read_back_is_never_said_to_be_complete(events: list[Json]) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(events[0])
        await store.comes(Append)
        await wire.say(*events[1:])
        await wire.end()

    async def broken(*_: object) -> Any:
        raise StorageFailed("input/output error")

    store = Turnstile()
    # The tail keeps the last chunk and no more.
    store.log = Log(store, tail_bytes=0, ended_tail_bytes=0)
    readable = store.backend.read
    async with scene(script, store=store.log) as s:
        setattr(store.backend, "read", broken)  # noqa: B010 - mypy forbids the assignment
        final = (await s.create(CHOSEN)).json()
        setattr(store.backend, "read", readable)  # noqa: B010
        assert await s.get(GIVEN_ID) == final
        assert (final["status"], final["error"]) == ("failed", STORAGE)


async def test_an_agent_that_has_said_its_last_word_is_heard_out_although_it_could_not_be_written() -> None:
    steps, store, saying_more, heard_out = Steps(), Turnstile(), asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening())
        await saying_more.wait()
        await wire.say(*answer("x")[4:])
        await steps.steps.get()
        for _ in range(3):
            await let_the_loop_look()
            await wire.chunk(b": what it must remember\n\n")
        await wire.end()
        heard_out.set()

    async with scene(script, store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        await stream.until("response.content_part.added")
        store.broken.add(KEY)
        saying_more.set()
        (end,) = await stream.rest()
        assert end.data["response"]["error"] == STORAGE
        await steps.steps.put("")
        store.broken.clear()
        await heard_out.wait()


async def test_respool_can_be_told_to_end_while_its_storage_fails() -> None:
    steps, store = Steps(), Turnstile()
    async with scene(steps, store=store.log, grace_seconds=0) as s:
        async with s.stream(CHOSEN, background=True) as stream:
            await stream.until("response.output_text.delta")
            store.broken.add(KEY)
            await steps.steps.put("lost")
            assert (await stream.rest())[-1].data["response"]["error"] == STORAGE
        await s.served.app.drain()
        await steps.steps.put("")


class Stumbling(Turnstile):
    """Refuses the first end that it is given, as it would one that a defect had numbered wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.has_refused = False

    async def commit(self, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        if not self.has_refused and any(isinstance(write, Append) and write.end for write in writes):
            self.has_refused = True
            return [Gap("1 events from 9 on do not continue a log up to 5")] * len(writes)
        return await super().commit(writes)


@pytest.mark.parametrize("asked", [{}, {"stream": True}, BACKGROUND])
async def test_an_end_that_a_defect_has_spoilt_is_replaced_by_one_that_says_so(asked: dict[str, Any]) -> None:
    store = Stumbling()
    async with scene(HELLO, store=store.log) as s:
        response = await s.create(CHOSEN, **asked)
        value = whole(events_of(response.content)) if asked else response.json()
        assert (value["status"], value["error"]["code"]) == ("failed", "server_error")
        assert await s.get(GIVEN_ID) == value
        log = await read_store(s.served.store)
        assert faults(log[KEY], []) == []


async def test_the_failure_of_one_response_does_not_touch_another() -> None:
    steps, store = Steps(), Turnstile()
    async with scene(steps, HELLO, store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        await id_from(stream)
        store.broken.add(KEY)
        await steps.steps.put("lost")
        assert (await stream.rest())[-1].data["response"]["error"] == STORAGE
        other = await s.create()
        assert other.json()["status"] == "completed"
        assert await s.get(other.json()["id"]) == other.json()
        store.broken.clear()
        await steps.steps.put("")


async def test_what_cannot_be_read_is_a_503_that_tells_no_detail() -> None:
    store = Turnstile()

    async def broken(*_: object) -> Any:
        raise StorageFailed("/secret/path: input/output error")

    async with scene(HELLO, store=store.log) as s:
        response_id = whole(events_of((await s.create(**BACKGROUND)).content))["id"]
        for name in ("head", "result", "read", "list", "request"):
            setattr(store.backend, name, broken)
        for path in (f"/responses/{response_id}", f"/responses/{response_id}/input_items", "/_respool/responses"):
            response = await s.client.get(path, params={"conversation": "c"})
            assert (response.status_code, error_of(response)["code"]) == (503, "storage_error")
            assert "secret" not in response.text


async def test_readiness_tells_of_the_storage_and_health_does_not() -> None:
    store = Turnstile()

    async def broken() -> None:
        raise StorageFailed("gone")

    async with scene(answering("500 Internal Server Error", b""), store=store.log) as s:
        assert (await s.client.get("/_respool/ready")).json() == {"status": "ready"}
        store.backend.ping = broken  # type: ignore[method-assign]
        response = await s.client.get("/_respool/ready")
        assert (response.status_code, error_of(response)["code"]) == (503, "storage_error")
        assert (await s.client.get("/_respool/health")).status_code == 200
        assert s.agent.asked == []


async def test_nothing_of_a_create_without_store_comes_to_the_storage() -> None:
    store = Turnstile()
    async with scene(HELLO, store=store.log) as s:
        for asked in ({"store": False}, {"store": False, "stream": True}):
            assert (await s.create(CHOSEN, **asked)).status_code == 200
        assert [write for write in store.asked if getattr(write, "key", None) is not None] == []


async def test_two_creates_without_store_may_have_the_same_id() -> None:
    async with scene(HELLO) as s:
        answers = await asyncio.gather(*(s.create(CHOSEN, store=False) for _ in range(3)))
        assert [one.json()["id"] for one in answers] == [GIVEN_ID] * 3
