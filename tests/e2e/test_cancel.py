"""Cancel: the answer, the open stream, what is kept, and what the agent notices."""

import openai
import pytest

from tests.agents.launcher import Agent
from tests.e2e import wire
from tests.e2e.caller import MODEL, Caller, deltas_of
from tests.e2e.stopping import LOGS_ITS_STOP, stopped
from tests.e2e.valve import Valve
from tests.serving import Served

pytestmark = pytest.mark.agent

SAID = "tok0 tok1 tok2 "
LAST_SAID = 6


@pytest.fixture
def upstream(between: Valve) -> str:
    """A valve, which sees how respool ends its connection."""
    return between.url


async def test_a_cancelled_stream_ends_at_once_and_keeps_what_was_said(
    agent: Agent, between: Valve, caller: Caller, key: str
) -> None:
    agent.release(key, 3)
    stream = await caller.stream(f"gate 99 {key}", background=True)
    seen = await stream.until(LAST_SAID)
    cancelled = await caller.cancel(seen[0].response.id)
    assert (cancelled.status, cancelled.background, cancelled.error) == ("cancelled", True, None)
    assert cancelled.output_text == SAID
    rest = await stream.rest()
    assert [event.type for event in rest] == ["response.failed"]
    assert rest[0].response == cancelled
    assert [event.sequence_number for event in seen + rest] == list(range(LAST_SAID + 2))
    assert await caller.retrieve(cancelled.id) == cancelled
    replayed = await (await caller.resume(cancelled.id)).rest()
    assert replayed == seen + rest
    suffix = await (await caller.resume(cancelled.id, starting_after=LAST_SAID)).rest()
    assert suffix == rest
    assert await between.ending() == "hung up"


async def test_a_cancelled_background_response_keeps_what_was_said(
    agent: Agent, between: Valve, caller: Caller, key: str
) -> None:
    agent.release(key, 3)
    polled = await caller.create(f"gate 99 {key}", background=True)
    while polled.output_text != SAID:
        polled = await caller.retrieve(polled.id)
    cancelled = await caller.cancel(polled.id)
    assert (cancelled.status, cancelled.output_text) == ("cancelled", SAID)
    assert await caller.retrieve(polled.id) == cancelled
    assert await between.ending() == "hung up"


@LOGS_ITS_STOP
async def test_an_agent_whose_run_is_cancelled_stops_at_its_next_event(agent: Agent, caller: Caller, key: str) -> None:
    asked = f"gate 99 {key}"
    agent.release(key)
    answered = await caller.create(asked, background=True)
    await caller.cancel(answered.id)
    await stopped(agent, asked, key)


async def test_cancelling_twice_is_the_same(agent: Agent, caller: Caller, key: str) -> None:
    agent.release(key)
    answered = await caller.create(f"gate 99 {key}", background=True)
    once = await caller.cancel(answered.id)
    assert once.status == "cancelled"
    assert await caller.cancel(answered.id) == once


@pytest.mark.parametrize("agent", ["langgraph"], indirect=True)
async def test_a_run_of_which_nothing_has_been_heard_can_be_cancelled(agent: Agent, caller: Caller, key: str) -> None:
    asked = f"gate 99 {key}"
    answered = await caller.create(asked, background=True)
    cancelled = await caller.cancel(answered.id)
    assert (cancelled.status, cancelled.output) == ("cancelled", [])
    await stopped(agent, asked, key)


async def test_a_cancel_that_comes_too_late_is_refused(caller: Caller) -> None:
    events = await (await caller.stream("burst 3", background=True)).rest()
    with pytest.raises(openai.BadRequestError, match=r"Cannot cancel a completed response\."):
        await caller.cancel(events[0].response.id)
    assert (await caller.retrieve(events[0].response.id)).status == "completed"


async def test_a_foreground_response_cannot_be_cancelled(caller: Caller) -> None:
    answered = await caller.create("burst 3")
    with pytest.raises(openai.BadRequestError, match=r"Cannot cancel a synchronous response\."):
        await caller.cancel(answered.id)


async def test_a_foreground_response_in_flight_is_nobodys_but_its_clients(
    agent: Agent, caller: Caller, key: str
) -> None:
    asked = f"gate 3 {key}"
    agent.release(key)
    stream = await caller.stream(asked)
    seen = await stream.until(4)
    for verb in (caller.cancel, caller.retrieve, caller.delete):
        with pytest.raises(openai.NotFoundError):
            await verb(seen[0].response.id)
    agent.release_all(key)
    assert deltas_of(seen + await stream.rest()) == SAID


@pytest.mark.parametrize("agent", ["core"], indirect=True)
async def test_what_cannot_be_found_cannot_be_cancelled(caller: Caller) -> None:
    with pytest.raises(openai.NotFoundError):
        await caller.cancel("caresp_" + "0" * 50)


@pytest.mark.parametrize("agent", ["core"], indirect=True)
async def test_every_reader_of_a_cancelled_response_gets_the_same_one_end(
    agent: Agent, served: Served, key: str
) -> None:
    agent.release(key, 3)
    body = {"model": MODEL, "input": f"gate 99 {key}", "background": True, "stream": True}
    async with wire.asking(served.url, "POST", "/responses", body) as first:
        received = await first.events(LAST_SAID + 1)
        id_ = wire.events_of(received)[0]["response"]["id"]
        async with wire.asking(served.url, "GET", f"/responses/{id_}?stream=true&starting_after=3") as second:
            assert await second.events(3) in received
            status, cancelled = await wire.ask(served.url, "POST", f"/responses/{id_}/cancel")
            end = await first.rest()
            assert await second.rest() == end
    assert status == 200
    [last] = wire.events_of(end)
    assert (last["type"], last["response"]) == ("response.failed", cancelled)
    assert await wire.replay(served.url, id_) == received + end
