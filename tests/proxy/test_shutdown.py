"""The end of the process: what is running gets its grace, and then its one end."""

import asyncio
from typing import Any

import pytest

from respool.store.backend import Create
from tests.proxy.agent import Held, Wire, answer, saying, silent
from tests.proxy.client import error_of, events_of, text_of, whole
from tests.proxy.scene import BACKGROUND, id_from, scene
from tests.proxy.storage import Turnstile
from tests.serving import until

HELLO = saying(*answer("Hel", "lo"))
GIVEN_ID = "caresp_" + "z" * 50
CHOSEN = {"x-agent-response-id": GIVEN_ID}
SHUTDOWN = {
    "code": "server_shutdown",
    "message": "The server was shut down before the response was complete.",
}


@pytest.mark.parametrize("asked", [{"stream": True}, BACKGROUND])
async def test_a_run_that_does_not_end_in_the_grace_has_failed_and_its_followers_are_told(
    asked: dict[str, Any],
) -> None:
    held = Held()
    async with scene(held, grace_seconds=0) as s, s.stream(CHOSEN, **asked) as stream:
        await stream.until("response.output_text.delta")
        await s.served.app.drain()
        await held.left.wait()
        (last,) = await stream.rest()
        assert last.name == "response.failed"
        assert last.data["response"]["error"] == SHUTDOWN
        assert text_of(last.data["response"]) == "Hel"
        assert await s.get(GIVEN_ID) == last.data["response"]


@pytest.mark.parametrize("asked", [{}, {"background": True}, {"store": False}])
async def test_a_client_that_waits_for_json_gets_the_failed_response(asked: dict[str, Any]) -> None:
    held = Held()
    async with scene(held, grace_seconds=0) as s:
        posting = asyncio.create_task(s.create(CHOSEN, **asked))
        await held.reached.wait()
        if asked.get("background"):
            await posting
        await s.served.app.drain()
        value = await s.get(GIVEN_ID) if asked.get("background") else (await posting).json()
        assert (value["status"], value["error"]) == ("failed", SHUTDOWN)


@pytest.mark.parametrize("asked", [{}, {"stream": True}, BACKGROUND])
async def test_a_run_whose_agent_has_not_answered_fails_too(asked: dict[str, Any]) -> None:
    async with scene(silent, grace_seconds=0, accept_grace_ms=600_000) as s:
        posting = asyncio.create_task(s.create(CHOSEN, **asked))
        await until(lambda: s.agent.asked)
        await s.served.app.drain()
        response = await posting
        assert response.status_code == 200
        value = whole(events_of(response.content)) if asked.get("stream") else response.json()
        assert (value["status"], value["error"]) == ("failed", SHUTDOWN)
        assert await s.get(GIVEN_ID) == value


async def test_a_run_that_ends_within_the_grace_is_not_touched() -> None:
    ending = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*answer("Hello")[:5])
        await ending.wait()
        await wire.say(*answer("Hello")[5:])
        await wire.end()

    async with scene(script, grace_seconds=600) as s, s.stream(CHOSEN, background=True) as stream:
        await id_from(stream)
        draining = asyncio.create_task(s.served.app.drain())
        await until(lambda: s.served.app.runs.draining)
        ending.set()
        await draining
        assert (await stream.rest())[-1].name == "response.completed"


async def test_a_run_can_be_cancelled_in_the_grace() -> None:
    async with scene(Held(), grace_seconds=600) as s, s.stream(CHOSEN, background=True) as stream:
        await stream.until("response.output_text.delta")
        draining = asyncio.create_task(s.served.app.drain())
        await until(lambda: s.served.app.runs.draining)
        assert (await s.cancel(GIVEN_ID)).json()["status"] == "cancelled"
        await draining
        assert (await stream.rest())[-1].data["response"]["status"] == "cancelled"


async def test_an_agent_that_still_writes_behind_its_end_does_not_hold_up_the_process_nor_fail_the_record() -> None:
    left = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*answer("Hello"))
        await wire.gone()
        left.set()

    async with scene(script, grace_seconds=0, drain_seconds=600) as s:
        final = whole(events_of((await s.create(**BACKGROUND)).content))
        await s.served.app.drain()
        await left.wait()
        assert await s.get(final["id"]) == final
        assert final["status"] == "completed"


async def test_a_stopping_server_takes_no_creates_but_cancels_reads_and_passes_through() -> None:
    async with scene(silent, grace_seconds=0) as s:
        await s.served.app.drain()
        refused = await s.create(stream=True)
        assert (refused.status_code, error_of(refused)["code"]) == (503, "service_unavailable")
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404
        assert s.agent.asked == []


@pytest.mark.parametrize("asked", [{}, {"stream": True}, BACKGROUND])
async def test_a_create_that_is_being_written_when_the_stop_comes_has_its_grace_too(asked: dict[str, Any]) -> None:
    store = Turnstile()
    async with scene(HELLO, store=store.log, grace_seconds=600) as s:
        store.close_gate()
        posting = asyncio.create_task(s.create(CHOSEN, **asked))
        await store.comes(Create)
        draining = asyncio.create_task(s.served.app.drain())
        await until(lambda: s.served.app.runs.draining)
        store.gate.set()
        await draining
        value = await s.get(GIVEN_ID)
        assert value["status"] == "completed"
        response = await posting
        assert (whole(events_of(response.content)) if asked.get("stream") else response.json()) == value


async def test_a_create_that_is_still_looked_at_when_the_stop_comes_is_refused() -> None:
    store = Turnstile()
    async with scene(HELLO, store=store.log) as s:
        first = (await s.create()).json()["id"]
        store.head_gate.clear()
        looked = store.heads
        posting = asyncio.create_task(s.create(CHOSEN, previous_response_id=first))
        await until(lambda: store.heads > looked)
        await s.served.app.drain()
        store.head_gate.set()
        refused = await posting
        assert (refused.status_code, error_of(refused)["code"]) == (503, "service_unavailable")
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404
        assert len(s.agent.asked) == 1


async def test_many_runs_end_together() -> None:
    async with scene(Held(), grace_seconds=0) as s:
        ids = [await s.created() for _ in range(20)]
        await s.served.app.drain()
        for response_id in ids:
            assert (await s.get(response_id))["error"] == SHUTDOWN
