"""The eight rows of the create matrix, with real agents and the stock client: the answer, and what a GET says later."""

import openai
import pytest
from openai.types.responses import Response

from tests.agents.launcher import Agent
from tests.e2e import wire
from tests.e2e.caller import Caller, completed, deltas_of
from tests.serving import Served

pytestmark = pytest.mark.agent

TOKENS = "tok0 tok1 tok2 "


def is_whole(response: Response, *, background: bool) -> bool:
    """Whether this is a completed response of ours with all of its text."""
    return (
        (response.status, response.background, response.output_text) == ("completed", background, TOKENS)
        and response.id.startswith("caresp_")
        and response.error is None
    )


async def refusal(caller: Caller, response_id: str) -> str:
    """In which words a replay is refused."""
    with pytest.raises(openai.BadRequestError) as refused:
        await caller.resume(response_id)
    assert refused.value.param == "stream"
    return str(refused.value.body["message"] if isinstance(refused.value.body, dict) else refused.value.body)


async def test_a_foreground_response_comes_whole_and_can_be_read_again(agent: Agent, caller: Caller, key: str) -> None:
    asked = f"gate 3 {key}"
    agent.release_all(key)
    answered = await caller.create(asked)
    assert is_whole(answered, background=False)
    assert await caller.retrieve(answered.id) == answered
    assert await refusal(caller, answered.id) == (
        "This response cannot be streamed because it was not created with background=true."
    )
    assert len(agent.runs(asked)) == 1


async def test_a_foreground_stream_comes_to_its_end_and_can_be_read_again_as_an_object(
    agent: Agent, caller: Caller, key: str
) -> None:
    agent.release_all(key)
    events = await (await caller.stream(f"gate 3 {key}")).rest()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0].response.background is False
    assert events[-1].type == "response.completed"
    assert deltas_of(events) == TOKENS
    final = await caller.retrieve(events[0].response.id)
    assert is_whole(final, background=False)
    assert final == events[-1].response
    assert await refusal(caller, final.id) == (
        "This response cannot be streamed because it was not created with background=true."
    )


async def test_a_background_response_comes_at_once_and_is_polled_to_its_end(
    agent: Agent, caller: Caller, key: str
) -> None:
    asked = f"gate 3 {key}"
    agent.release(key)
    answered = await caller.create(asked, background=True)
    assert (answered.status, answered.background) == ("in_progress", True)
    assert answered.id.startswith("caresp_")
    polled = await caller.retrieve(answered.id)
    assert (polled.id, polled.status, polled.background) == (answered.id, "in_progress", True)
    assert await refusal(caller, answered.id) == (
        "This response cannot be streamed because it was not created with stream=true."
    )
    agent.release_all(key)
    final = await completed(caller, answered.id)
    assert is_whole(final, background=True)
    assert final.created_at == answered.created_at
    assert await refusal(caller, answered.id) == (
        "This response cannot be streamed because it was not created with stream=true or the stream TTL has expired."
    )
    assert len(agent.runs(asked)) == 1


async def test_a_background_stream_is_live_and_can_be_replayed(agent: Agent, caller: Caller, key: str) -> None:
    stream = await caller.stream(f"gate 3 {key}", background=True)
    agent.release(key)
    live = await stream.until(4)
    assert deltas_of(live) == "tok0 "
    polled = await caller.retrieve(live[0].response.id)
    assert (polled.status, polled.background, polled.output_text) == ("in_progress", True, "tok0 ")
    agent.release_all(key)
    events = live + await stream.rest()
    assert all(event.response.background is True for event in (events[0], events[1], events[-1]))
    assert deltas_of(events) == TOKENS
    final = await caller.retrieve(polled.id)
    assert is_whole(final, background=True)
    assert final == events[-1].response
    replayed = await (await caller.resume(polled.id)).rest()
    assert replayed == events


@pytest.mark.parametrize("agent", ["langgraph"], indirect=True)
async def test_a_background_answer_does_not_wait_for_an_agent_that_says_nothing(
    agent: Agent, caller: Caller, key: str
) -> None:
    asked = f"gate 3 {key}"
    answered = await caller.create(asked, background=True)
    assert (answered.status, answered.output) == ("in_progress", [])
    assert "TOKEN" not in agent.words(asked)
    agent.release_all(key)
    assert is_whole(await completed(caller, answered.id), background=True)


async def test_a_response_that_is_not_stored_is_answered_and_gone(agent: Agent, caller: Caller, key: str) -> None:
    agent.release_all(key)
    answered = await caller.create(f"gate 3 {key}", store=False)
    assert is_whole(answered, background=False)
    with pytest.raises(openai.NotFoundError):
        await caller.retrieve(answered.id)


async def test_a_stream_that_is_not_stored_is_live_and_nowhere_to_be_found(
    agent: Agent, caller: Caller, key: str
) -> None:
    stream = await caller.stream(f"gate 3 {key}", store=False)
    agent.release(key)
    live = await stream.until(4)
    id_ = live[0].response.id
    with pytest.raises(openai.NotFoundError):
        await caller.retrieve(id_)
    agent.release_all(key)
    events = live + await stream.rest()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert is_whole(events[-1].response, background=False)
    for read in (caller.retrieve, caller.resume, caller.cancel, caller.delete, caller.input_items):
        with pytest.raises(openai.NotFoundError):
            await read(id_)


@pytest.mark.parametrize("stream", [False, True])
async def test_background_without_a_store_is_refused_before_the_agent_is_called(
    agent: Agent, caller: Caller, key: str, stream: bool
) -> None:
    asked = f"gate 3 {key}"
    with pytest.raises(openai.BadRequestError) as refused:
        await caller.create(asked, background=True, store=False, stream=stream)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "background")
    assert "background=true requires store=true" in str(refused.value)
    assert agent.runs(asked) == []


@pytest.mark.parametrize("agent", ["core", "langgraph"], indirect=True)
@pytest.mark.parametrize("store", [True, False])
async def test_an_agent_that_fails_at_once_is_one_error_frame_with_its_own_words(
    agent: Agent, served: Served, store: bool
) -> None:
    body = {"model": "m", "input": "failfirst", "stream": True, "store": store}
    async with wire.asking(served.url, "POST", "/responses", body) as answer:
        received = await answer.rest()
    assert answer.http_status == 200
    [only] = wire.events_of(received)
    assert (only["type"], only["code"], only["sequence_number"]) == ("error", "server_error", 0)
    assert only["message"].startswith("boom before the first ")
