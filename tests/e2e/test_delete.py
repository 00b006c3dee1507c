"""Delete: not in flight, and then for good, also for who is reading."""

import openai
import pytest

from tests.agents.launcher import Agent
from tests.e2e import wire
from tests.e2e.caller import MODEL, Caller, completed
from tests.serving import Served

pytestmark = pytest.mark.agent


async def test_a_response_in_flight_cannot_be_deleted(agent: Agent, caller: Caller, key: str) -> None:
    agent.release(key)
    answered = await caller.create(f"gate 3 {key}", background=True)
    with pytest.raises(openai.BadRequestError, match=r"Cannot delete an in-flight response\."):
        await caller.delete(answered.id)
    agent.release_all(key)
    assert (await completed(caller, answered.id)).output_text == "tok0 tok1 tok2 "


async def test_what_was_deleted_is_nowhere(caller: Caller) -> None:
    events = await (await caller.stream("burst 3", background=True)).rest()
    id_ = events[0].response.id
    await caller.delete(id_)
    for verb in (caller.retrieve, caller.resume, caller.cancel, caller.delete, caller.input_items):
        with pytest.raises(openai.NotFoundError):
            await verb(id_)
    with pytest.raises(openai.NotFoundError) as refused:
        await caller.create("burst 3", previous_response_id=id_)
    assert refused.value.param == "previous_response_id"


async def test_a_cancelled_response_can_be_deleted(agent: Agent, caller: Caller, key: str) -> None:
    agent.release(key)
    answered = await caller.create(f"gate 3 {key}", background=True)
    await caller.cancel(answered.id)
    await caller.delete(answered.id)
    with pytest.raises(openai.NotFoundError):
        await caller.retrieve(answered.id)


@pytest.mark.parametrize("agent", ["core"], indirect=True)
async def test_a_replay_that_is_running_when_its_response_is_deleted_is_cut(served: Served) -> None:
    body = {"model": MODEL, "input": "big 500", "background": True, "stream": True}
    async with wire.asking(served.url, "POST", "/responses", body) as answer:
        received = await answer.rest()
    id_ = wire.events_of(received)[0]["response"]["id"]
    slow = wire.asking(served.url, "GET", f"/responses/{id_}?stream=true", receive_buffer=65536)
    async with slow as reading:
        beginning = await reading.events(4)
        assert await wire.ask(served.url, "DELETE", f"/responses/{id_}") == (
            200,
            {"id": id_, "object": "response", "deleted": True},
        )
        with pytest.raises(wire.Torn):
            await reading.rest()
    assert received.startswith(beginning)
