"""`Idempotency-Key`: a POST that is repeated is one response and one call of the agent."""

import asyncio
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from respool.proxy import admission
from respool.store.base import Claim, Key
from respool.store.open import open_store
from respool.store.status import Status
from tests.proxy.agent import Held, Wire, answer, answering, lifecycle, saying
from tests.proxy.client import dial, error_of, events_of, posting, text_of, whole
from tests.proxy.scene import BACKGROUND, Scene, scene
from tests.proxy.storage import CHOSEN, GIVEN_ID, KEY, Turnstile
from tests.serving import until
from tests.store.probe import end, head

HELLO = saying(*answer("Hel", "lo"))
KEYED = {"idempotency-key": "one"}
MODES: list[dict[str, Any]] = [{}, {"stream": True}, {"background": True}, BACKGROUND]


def told(body: bytes, asked: dict[str, Any]) -> Any:
    """The object that an answer led to."""
    return whole(events_of(body)) if asked.get("stream") else json.loads(body)


async def ended(s: Scene, response_id: str) -> dict[str, Any]:
    while (value := (await s.client.get(f"/responses/{response_id}")).json()).get("status") in (None, "in_progress"):
        pass
    result: dict[str, Any] = value
    return result


# --- one response


@pytest.mark.parametrize("asked", MODES)
async def test_a_repeated_create_is_answered_with_the_first_response(asked: dict[str, Any]) -> None:
    async with scene(HELLO) as s:
        first = await s.create(KEYED, **asked)
        final = await ended(s, told(first.content, asked)["id"])
        again = await s.create(KEYED, **asked)
        assert again.status_code == 200
        assert again.headers["content-type"] == first.headers["content-type"]
        assert told(again.content, asked) == final
        if asked != {"background": True}:
            assert again.content == first.content
        assert len(s.agent.asked) == 1


@pytest.mark.parametrize("asked", MODES)
async def test_fifty_at_once_are_one_call_of_the_agent_and_all_are_told_the_same(asked: dict[str, Any]) -> None:
    held = Held()
    async with scene(held, accept_grace_ms=600_000) as s:
        posts = [asyncio.create_task(s.create(KEYED, **asked)) for _ in range(50)]
        await held.reached.wait()
        if asked == {"background": True}:
            await asyncio.gather(*posts)
        held.going_on.set()
        answers = await asyncio.gather(*posts)
        assert {one.status_code for one in answers} == {200}
        values = [told(one.content, asked) for one in answers]
        assert len({value["id"] for value in values}) == 1
        if asked != {"background": True}:
            assert {one.content for one in answers} == {answers[0].content}
            assert text_of(values[0]) == "Hello"
        assert len(s.agent.asked) == 1


@pytest.mark.parametrize("asked", [{"stream": True}, BACKGROUND])
async def test_a_repetition_of_a_live_stream_gets_it_from_the_beginning(asked: dict[str, Any]) -> None:
    held = Held()
    async with scene(held) as s, s.stream(KEYED, **asked) as first:
        begun = await first.until("response.output_text.delta")
        async with s.stream(KEYED, **asked) as second:
            assert await second.until("response.output_text.delta") == begun
            held.going_on.set()
            assert await second.rest() == await first.rest()
        assert len(s.agent.asked) == 1


async def test_a_repetition_with_a_last_event_id_goes_on_behind_it() -> None:
    async with scene(HELLO) as s:
        events = events_of((await s.create(KEYED, **BACKGROUND)).content)
        last = len(events) - 1
        for seen, numbers in ((3, range(4, last + 1)), (last - 1, [last])):
            again = await s.create({**KEYED, "last-event-id": str(seen)}, **BACKGROUND)
            assert [int(line[4:]) for line in again.text.splitlines() if line.startswith("id: ")] == list(numbers)
        over = await s.create({**KEYED, "last-event-id": str(last)}, **BACKGROUND)
        assert (over.status_code, over.content) == (204, b"")
        assert error_of(await s.create({**KEYED, "last-event-id": "abc"}, **BACKGROUND))["param"] == "Last-Event-ID"
        assert len(s.agent.asked) == 1


@pytest.mark.parametrize("asked", MODES)
async def test_a_repetition_finds_the_first_response_after_a_restart(tmp_path: Path, asked: dict[str, Any]) -> None:
    address = f"sqlite:///{tmp_path / 'x.db'}"
    async with scene(HELLO, store=await open_store(address)) as s:
        final = await ended(s, told((await s.create(KEYED, **asked)).content, asked)["id"])
    async with scene(HELLO, store=await open_store(address)) as s:
        again = await s.create(KEYED, **asked)
        assert told(again.content, asked) == final
        assert error_of(await s.create(KEYED, **asked, user="another"))["code"] == "idempotency_key_reused"
        assert s.agent.asked == []


async def test_a_repetition_finds_an_orphan_as_it_ended() -> None:
    store, body = Turnstile(), b'{"input":"hi"}'
    orphan = replace(head(KEY), envelope=b'{"id":"%b"}' % GIVEN_ID.encode(), created_at=int(time.time()))
    await store.log.create(orphan, body, Claim("one", hashlib.sha256(body).digest()))
    async with scene(HELLO, store=store.log) as s:
        again = await s.client.post("/responses", content=body, headers=KEYED)
        assert (again.status_code, again.json()["error"]["code"]) == (200, "owner_lost")
        assert s.agent.asked == []


@pytest.mark.parametrize("said", ["failed", "incomplete"])
async def test_a_response_that_failed_is_repeated_as_it_is(said: str) -> None:
    async with scene(saying(lifecycle("created"), lifecycle(said))) as s:
        first = await s.create(KEYED)
        assert (await s.create(KEYED)).json() == first.json()
        assert first.json()["status"] == said
        assert len(s.agent.asked) == 1


async def test_a_repetition_is_answered_though_what_it_continues_is_gone_by_now() -> None:
    async with scene(HELLO) as s:
        previous = (await s.create()).json()["id"]
        first = await s.create(KEYED, previous_response_id=previous)
        await s.delete(previous)
        assert (await s.create(KEYED, previous_response_id=previous)).json() == first.json()
        other = await s.create({"idempotency-key": "two"}, previous_response_id=previous)
        assert (other.status_code, error_of(other)["param"]) == (404, "previous_response_id")


async def test_the_agents_session_is_told_to_the_repetition_too() -> None:
    async with scene(saying(*answer("x"), headers=["x-agent-session-id: s1"])) as s:
        answers = [await s.create(KEYED) for _ in range(2)]
        assert [one.headers["x-agent-session-id"] for one in answers] == ["s1", "s1"]


# --- another request


@pytest.mark.parametrize("asked", MODES)
@pytest.mark.parametrize("live", [True, False])
async def test_another_body_with_the_same_key_is_refused(asked: dict[str, Any], live: bool) -> None:
    held = Held()
    async with scene(held if live else HELLO) as s:
        posting_ = asyncio.create_task(s.create({**KEYED, **CHOSEN}, **asked))
        await (held.reached.wait() if live else posting_)
        for other in ({"user": "u"}, {"input": "hi!"}):
            refused = await s.create(KEYED, **{**asked, **other})
            error = error_of(refused)
            assert (refused.status_code, error["code"]) == (422, "idempotency_key_reused")
            assert (error["param"], refused.headers["x-should-retry"]) == ("Idempotency-Key", "false")
        held.going_on.set()
        await posting_
        assert len(s.agent.asked) == 1


async def test_the_body_is_compared_as_bytes() -> None:
    async with scene(HELLO) as s:
        for body, status in ((b'{"input":"x"}', 200), (b'{"input":"x"}', 200), (b'{"input": "x"}', 422)):
            assert (await s.client.post("/v1/responses", content=body, headers=KEYED)).status_code == status


async def test_a_key_is_its_owners() -> None:
    async with scene(HELLO) as s:
        owners = [{}, {"x-agent-user-id": "ann"}, {"x-agent-user-id": "bob"}, {"x-agent-user-id": ""}]
        ids = [(await s.create({**KEYED, **owner})).json()["id"] for owner in owners * 2]
        assert ids[:4] == ids[4:]
        assert len(set(ids)) == len(s.agent.asked) == 4


async def test_other_keys_and_creates_without_one_are_new() -> None:
    async with scene(HELLO) as s:
        for headers in ({}, {}, KEYED, {"idempotency-key": "One"}, {"idempotency-key": '"one"'}):
            assert (await s.create(headers)).status_code == 200
        assert len(s.agent.asked) == 5


async def test_the_same_chosen_id_conflicts_but_for_a_repetition() -> None:
    async with scene(HELLO) as s:
        headers = {**KEYED, **CHOSEN}
        first = await s.create(headers)
        assert (await s.create(headers)).json() == first.json()
        assert (await s.create({**headers, "idempotency-key": "two"})).status_code == 409
        assert (await s.create({**KEYED, "x-agent-response-id": "caresp_" + "t" * 50})).json()["id"] == GIVEN_ID


@pytest.mark.parametrize("key", ["", "x" * 256, "käse", "a\tb"])
async def test_a_key_out_of_bounds_is_refused(key: str) -> None:
    async with scene(HELLO) as s:
        response = await s.create({b"idempotency-key": key.encode("latin-1")})  # type: ignore[dict-item]
        assert (response.status_code, error_of(response)["param"]) == (400, "Idempotency-Key")
        assert s.agent.asked == []


async def test_the_longest_key_is_taken_and_passed_on() -> None:
    key = "x" * 255
    async with scene(HELLO) as s:
        for _ in range(2):
            assert (await s.create({"idempotency-key": key})).status_code == 200
        [asked] = s.agent.asked
        assert asked.header("idempotency-key") == [key]


@pytest.mark.parametrize("key", ["one", "x" * 256])
async def test_without_store_the_key_is_ignored(key: str) -> None:
    async with scene(HELLO) as s:
        for _ in range(2):
            assert (await s.create({"idempotency-key": key}, store=False)).status_code == 200
        assert len(s.agent.asked) == 2


# --- a key that is free again


async def test_what_the_agent_refused_may_be_tried_again_with_the_same_key() -> None:
    async with scene(answering("429 Too Many Requests", b"{}", "retry-after: 1"), HELLO) as s:
        assert (await s.create(KEYED)).status_code == 429
        assert (await s.create(KEYED)).status_code == 200
        assert len(s.agent.asked) == 2


@pytest.mark.parametrize("asked", MODES)
async def test_all_who_wait_are_told_how_the_agent_refused(asked: dict[str, Any]) -> None:
    refusing = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await refusing.wait()
        await wire.answer("503 Service Unavailable", b'{"busy":1}', "retry-after: 7")

    async with scene(script, accept_grace_ms=600_000) as s:
        posts = [asyncio.create_task(s.create(KEYED, **asked)) for _ in range(10)]
        await until(lambda: any(run.clients == 10 for run in s.served.app.runs._runs.values()))
        refusing.set()
        for one in await asyncio.gather(*posts):
            assert (one.status_code, one.json(), one.headers["retry-after"]) == (503, {"busy": 1}, "7")
        assert len(s.agent.asked) == 1


async def test_a_deleted_response_frees_its_key() -> None:
    async with scene(HELLO) as s:
        first = (await s.create(KEYED)).json()["id"]
        await s.delete(first)
        assert (await s.create(KEYED, user="another")).json()["id"] != first
        assert len(s.agent.asked) == 2


async def test_a_create_that_could_not_be_written_has_not_used_its_key() -> None:
    store = Turnstile()
    store.broken.add(KEY)
    async with scene(HELLO, store=store.log) as s:
        assert (await s.create({**KEYED, **CHOSEN})).status_code == 503
        store.broken.clear()
        assert (await s.create({**KEYED, **CHOSEN})).status_code == 200


async def test_a_key_is_free_after_a_day() -> None:
    store = Turnstile()
    old = head(Key("", "caresp_" + "o" * 50), status=Status.IN_PROGRESS)
    await store.log.create(old, b"", Claim("one", b""))
    await store.log.append(old.key, 1, None, end=end())
    async with scene(HELLO, store=store.log) as s:
        assert (await s.create(KEYED)).status_code == 200


# --- clients that leave


@pytest.mark.parametrize("asked", [{}, {"stream": True}])
async def test_a_foreground_run_with_a_key_is_found_by_the_repetition_when_its_client_has_left(
    asked: dict[str, Any],
) -> None:
    held = Held()
    body = {"model": "m", "input": "hi", **asked}
    async with scene(held) as s:
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", body, "idempotency-key: one"))
            await held.reached.wait()
        await until(lambda: all(not run.clients for run in s.served.app.runs._runs.values()))
        again = asyncio.create_task(s.client.post("/responses", content=json.dumps(body).encode(), headers=KEYED))
        await until(lambda: any(run.clients for run in s.served.app.runs._runs.values()))
        held.going_on.set()
        assert text_of(told((await again).content, asked)) == "Hello"
        assert len(s.agent.asked) == 1


@pytest.mark.parametrize("asked", [{}, {"stream": True}])
async def test_a_foreground_run_with_a_key_goes_on_to_its_end_without_a_client(asked: dict[str, Any]) -> None:
    held = Held()
    async with scene(held) as s:
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"input": "hi", **asked}, *_raw({**KEYED, **CHOSEN})))
            await held.reached.wait()
        held.going_on.set()
        await held.finished.wait()
        assert (await ended(s, GIVEN_ID))["status"] == "completed"


async def test_a_foreground_run_with_a_key_is_cancelled_when_nobody_has_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert admission.RETRY_SECONDS == 60
    monkeypatch.setattr(admission, "RETRY_SECONDS", 0.05)
    held = Held()
    async with scene(held) as s:
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"input": "hi"}, *_raw({**KEYED, **CHOSEN})))
            await held.reached.wait()
        await held.left.wait()
        assert (await ended(s, GIVEN_ID))["status"] == "cancelled"


async def test_who_has_come_back_keeps_the_run_and_the_last_to_leave_may_end_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "RETRY_SECONDS", 0.05)
    held = Held()
    raw_post = posting("/responses", {"input": "hi", "stream": True}, *_raw({**KEYED, **CHOSEN}))
    async with scene(held) as s, dial(s.served.url) as second:
        async with dial(s.served.url) as first:
            await first.send(raw_post)
            await held.reached.wait()
            await second.send(raw_post)
            assert (await second.head()).startswith(b"HTTP/1.1 200")
        run = s.served.app.runs.get(Key("", GIVEN_ID))
        assert run is not None
        await until(lambda: run.clients == 1)
        await asyncio.sleep(0.1)  # longer than the patience: what is asserted is that nothing happens
        assert not held.left.is_set()
        second.finish()
        await held.left.wait()
        assert (await ended(s, GIVEN_ID))["status"] == "cancelled"


async def test_a_foreground_run_without_a_key_is_cancelled_at_once() -> None:
    held = Held()
    async with scene(held) as s:
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"input": "hi"}, *_raw(CHOSEN)))
            await held.reached.wait()
        await held.left.wait()
        assert (await ended(s, GIVEN_ID))["status"] == "cancelled"


def _raw(headers: dict[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in headers.items()]
