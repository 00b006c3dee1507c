"""Cancel and delete: against a run at every point of its life, and against its end."""

import asyncio
from typing import Any

import pytest

from respool.store.backend import Append, RequestCancel
from tests.proxy.agent import Held, Wire, answer, answering, completed, delta, opening, saying, silent
from tests.proxy.client import deltas, dial, error_of, events_of, text_of, whole
from tests.proxy.scene import BACKGROUND, id_from, scene
from tests.proxy.storage import CHOSEN, GIVEN_ID, KEY, Turnstile

# --- cancel


async def test_a_cancel_ends_the_run_and_closes_the_agents_connection() -> None:
    held = Held()
    async with scene(held) as s, s.stream(background=True) as stream:
        response_id = await id_from(stream)
        await stream.until("response.output_text.delta")
        response = await s.cancel(response_id)
        assert response.status_code == 200
        value = response.json()
        assert (value["id"], value["status"], value["error"]) == (response_id, "cancelled", None)
        assert value.get("completed_at") is None
        assert text_of(value) == "Hel"
        await held.left.wait()
        last = (await stream.rest())[-1]
        assert last.name == "response.failed"
        assert last.data["response"] == value


async def test_a_cancelled_response_stays_readable_and_replayable() -> None:
    async with scene(Held()) as s:
        response_id = await s.created()
        value = (await s.cancel(response_id)).json()
        assert await s.get(response_id) == value
        assert whole(await s.events(response_id)) == value
        listed = (await s.client.get(f"/responses/{response_id}/input_items")).json()
        assert len(listed["data"]) == 1


async def test_a_second_cancel_says_the_same() -> None:
    async with scene(Held()) as s:
        response_id = await s.created()
        first = await s.cancel(response_id)
        second = await s.cancel(response_id)
        assert (second.status_code, second.json()) == (200, first.json())
        assert [event.name for event in await s.events(response_id)].count("response.failed") == 1


async def test_many_cancels_at_once_are_one() -> None:
    async with scene(Held()) as s:
        response_id = await s.created()
        answers = await asyncio.gather(*(s.cancel(response_id) for _ in range(8)))
        assert {one.status_code for one in answers} == {200}
        assert len({one.text for one in answers}) == 1
        assert whole(await s.events(response_id))["status"] == "cancelled"


@pytest.mark.parametrize("asked", [{"background": True}, BACKGROUND])
async def test_a_run_can_be_cancelled_before_the_agent_has_answered(asked: dict[str, Any]) -> None:
    async with scene(silent, accept_grace_ms=600_000) as s:
        posting = asyncio.create_task(s.create(CHOSEN, **asked))
        while (cancelled := await s.cancel(GIVEN_ID)).status_code == 404:
            pass
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        response = await posting
        assert response.status_code == 200
        value = whole(events_of(response.content)) if asked.get("stream") else response.json()
        assert value == cancelled.json() == await s.get(GIVEN_ID)


async def test_a_run_can_be_cancelled_between_the_agents_answer_and_its_first_event() -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        begun.set()
        await wire.gone()
        left.set()

    async with scene(script, accept_grace_ms=600_000) as s, s.stream(CHOSEN, background=True) as stream:
        await begun.wait()
        assert (await s.cancel(GIVEN_ID)).json()["status"] == "cancelled"
        assert whole(await stream.rest())["status"] == "cancelled"
        await left.wait()


async def test_every_follower_gets_the_end_of_a_cancelled_run() -> None:
    async with scene(Held()) as s:
        response_id = await s.created()
        async with s.replay(response_id) as one, s.replay(response_id, starting_after="2") as other:
            await one.until("response.output_text.delta")
            await other.until("response.output_text.delta")
            await s.cancel(response_id)
            assert (await one.rest())[-1] == (await other.rest())[-1]


@pytest.mark.parametrize("setting", ["keep", "clear"])
async def test_a_cancelled_response_keeps_its_output_unless_so_set(setting: str) -> None:
    async with scene(Held(), cancelled_output=setting) as s:
        async with s.stream(background=True) as stream:
            response_id = await id_from(stream)
            await stream.until("response.output_text.delta")
        value = (await s.cancel(response_id)).json()
        assert [item["status"] for item in value["output"]] == (["incomplete"] if setting == "keep" else [])
        assert deltas(await s.events(response_id)) == ["Hel"]


async def test_an_end_that_comes_after_the_cancel_was_committed_is_a_cancel() -> None:
    held, store = Held(), Turnstile()
    async with scene(held, store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        await stream.until("response.output_text.delta")
        store.close_gate()
        cancelling = asyncio.create_task(s.cancel(GIVEN_ID))
        await store.comes(RequestCancel)
        held.going_on.set()
        await store.queued()
        store.gate.set()
        assert (await cancelling).json()["status"] == "cancelled"
        last = (await stream.rest())[-1]
        assert (last.name, last.data["response"]["status"]) == ("response.failed", "cancelled")
        assert whole(await s.events(GIVEN_ID)) == await s.get(GIVEN_ID)


async def test_a_cancel_that_comes_after_the_end_was_committed_is_too_late() -> None:
    held, store = Held(said=-1), Turnstile()
    async with scene(held, store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        await stream.until("response.output_item.done")
        store.close_gate()
        held.going_on.set()
        await store.comes(Append)
        cancelling = asyncio.create_task(s.cancel(GIVEN_ID))
        await store.queued()
        store.gate.set()
        response = await cancelling
        assert response.status_code == 400
        assert error_of(response)["message"] == "Cannot cancel a completed response."
        assert (await stream.rest())[-1].name == "response.completed"
        assert (await s.get(GIVEN_ID))["status"] == "completed"


async def test_a_cancel_while_the_agent_still_writes_behind_its_end_is_too_late() -> None:
    closing_now, done = asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*answer("Hello"))
        await closing_now.wait()
        await wire.chunk(b": remembering\n\n")
        await wire.end()
        done.set()

    async with scene(script) as s:
        response_id = whole(events_of((await s.create(**BACKGROUND)).content))["id"]
        assert error_of(await s.cancel(response_id))["message"] == "Cannot cancel a completed response."
        closing_now.set()
        await done.wait()
        assert (await s.get(response_id))["status"] == "completed"


async def test_the_body_of_a_cancel_is_ignored() -> None:
    async with scene(Held()) as s:
        response_id = await s.created()
        response = await s.client.post(f"/responses/{response_id}/cancel", content=b"not json")
        assert response.json()["status"] == "cancelled"


async def test_a_cancel_that_cannot_be_written_is_a_503_and_the_run_goes_on() -> None:
    held, store = Held(), Turnstile()
    async with scene(held, store=store.log) as s, s.stream(CHOSEN, background=True) as stream:
        await stream.until("response.output_text.delta")
        store.broken.add(KEY)
        response = await s.cancel(GIVEN_ID)
        assert (response.status_code, error_of(response)["code"]) == (503, "storage_error")
        store.broken.clear()
        held.going_on.set()
        assert (await stream.rest())[-1].name == "response.completed"


async def test_a_create_that_was_cancelled_can_be_continued() -> None:
    async with scene(Held(), saying(*answer("x"))) as s:
        response_id = await s.created()
        await s.cancel(response_id)
        assert (await s.create(previous_response_id=response_id)).status_code == 200


async def test_a_cancelled_run_does_not_wait_for_an_agent_that_refuses() -> None:
    refusing = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await refusing.wait()
        await wire.answer("500 Internal Server Error", b"")

    async with scene(script, answering("500 Internal Server Error", b""), accept_grace_ms=1) as s:
        response_id = (await s.create(background=True)).json()["id"]
        assert (await s.cancel(response_id)).json()["status"] == "cancelled"
        refusing.set()
        assert (await s.get(response_id))["status"] == "cancelled"


# --- delete


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"background": True}, BACKGROUND])
async def test_what_has_ended_can_be_deleted_once(asked: dict[str, Any]) -> None:
    async with scene(saying(*answer("Hello"))) as s:
        await s.create(CHOSEN, **asked)
        while (deleted := await s.delete(GIVEN_ID)).status_code == 400:
            pass
        assert (deleted.status_code, deleted.json()) == (200, {"id": GIVEN_ID, "object": "response", "deleted": True})
        again = await s.delete(GIVEN_ID)
        assert (again.status_code, error_of(again)["message"]) == (404, f"Response with id '{GIVEN_ID}' not found.")
        assert len(s.agent.asked) == 1


async def test_a_response_deleted_while_the_agent_still_writes_behind_its_end_stays_deleted() -> None:
    closing_now, read_out = asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*answer("Hello"))
        await closing_now.wait()
        await wire.say(delta("late"))
        await wire.end()
        await wire.gone()
        read_out.set()

    async with scene(script) as s:
        response_id = whole(events_of((await s.create(**BACKGROUND)).content))["id"]
        assert (await s.delete(response_id)).status_code == 200
        closing_now.set()
        await read_out.wait()
        assert (await s.client.get(f"/responses/{response_id}")).status_code == 404


async def test_deleting_cuts_a_replay_that_is_running() -> None:
    big = [delta("x" * 60_000) for _ in range(200)]
    async with scene(saying(*opening(), *big, completed(""))) as s:
        await s.create(CHOSEN, **BACKGROUND)
        async with dial(s.served.url, receive_buffer=4096) as raw:
            await raw.send(f"GET /responses/{GIVEN_ID}?stream=true HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert (await raw.head()).startswith(b"HTTP/1.1 200")
            assert (await s.delete(GIVEN_ID)).status_code == 200
            body = await raw.rest()
        assert body
        assert b"response.completed" not in body
        assert not body.endswith(b"0\r\n\r\n")
