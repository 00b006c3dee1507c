"""`client.responses.stream(...)`, which refuses any stream that is not well-formed: live, and on a resume."""

import pytest

from tests.agents.launcher import Agent
from tests.e2e.caller import MODEL, Caller, completed, deltas_of

pytestmark = pytest.mark.agent

SAID = "I am mock agent with no intelligence in stream mode. "

SHAPES = {
    "core": ("hello", "tool", "reason", "unicode", "empty"),
    "langgraph": ("hello", "tool", "tool2", "texttool", "static", "idmix", "unicode"),
    "responses": ("hello", "tool", "reason", "unicode"),
}


@pytest.mark.parametrize(
    ("agent", "shape"), [(name, shape) for name, shapes in SHAPES.items() for shape in shapes], indirect=["agent"]
)
async def test_the_helper_takes_what_an_agent_says_live_and_resumed(caller: Caller, shape: str) -> None:
    events, final = await caller.strict(model=MODEL, input=shape, background=True)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.status == "completed"
    assert deltas_of(events) == final.output_text
    whole = await (await caller.resume(final.id)).rest()
    assert [(event.type, event.sequence_number) for event in whole] == [
        (event.type, event.sequence_number) for event in events
    ]
    for after in (0, 2, len(events) - 2):
        resumed, again = await caller.strict(response_id=final.id, starting_after=after)
        assert resumed == events[after + 1 :]
        assert again == final


async def test_the_helper_resumes_a_run_that_goes_on(agent: Agent, caller: Caller, key: str) -> None:
    agent.release(key, 2)
    stream = await caller.stream(f"gate 6 {key}", background=True)
    seen = await stream.until(5)
    await stream.close()
    agent.release_all(key)
    resumed, final = await caller.strict(response_id=seen[0].response.id, starting_after=5)
    assert [event.sequence_number for event in resumed] == list(range(6, 14))
    assert deltas_of(seen + resumed) == final.output_text == "tok0 tok1 tok2 tok3 tok4 tok5 "


async def test_the_helper_reads_a_foreground_stream(caller: Caller) -> None:
    events, final = await caller.strict(model=MODEL, input="burst 3")
    assert deltas_of(events) == final.output_text == "tok0 tok1 tok2 "
    assert (await caller.retrieve(final.id)).output_text == final.output_text


@pytest.mark.parametrize("agent", ["core"], indirect=True)
@pytest.mark.parametrize("shape", ["readme", "sample"])
async def test_a_bare_stream_has_a_beginning_numbers_and_an_end(caller: Caller, shape: str) -> None:
    events = await (await caller.stream(shape, background=True)).rest()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [event.type for event in events].count("response.completed") == 1
    assert len({event.response.id for event in (events[0], events[1], events[-1])}) == 1
    assert deltas_of(events) == SAID
    final = await completed(caller, events[0].response.id)
    assert final == events[-1].response
    assert (final.status, final.output_text) == ("completed", SAID)
    assert await (await caller.resume(final.id, starting_after=4)).rest() == events[5:]


@pytest.mark.parametrize("agent", ["core"], indirect=True)
@pytest.mark.parametrize("shape", ["readme", "sample"])
async def test_the_helper_takes_a_bare_stream(caller: Caller, shape: str) -> None:
    events, final = await caller.strict(model=MODEL, input=shape, background=True)
    assert deltas_of(events) == final.output_text == SAID
    resumed, again = await caller.strict(response_id=final.id, starting_after=4)
    assert (resumed, again) == (events[5:], final)
