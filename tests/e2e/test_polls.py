"""A poll in mid-run: its text is that of the deltas up to its moment."""

import pytest

from tests.agents.launcher import Agent
from tests.e2e.caller import Caller, completed, deltas_of

pytestmark = pytest.mark.agent

TOKENS = 8


async def test_every_poll_has_the_text_of_the_deltas_so_far(agent: Agent, caller: Caller, key: str) -> None:
    stream = await caller.stream(f"gate {TOKENS} {key}", background=True)
    text, id_ = "", ""
    for token in range(TOKENS):
        agent.release(key)
        async for event in stream:
            id_ = id_ or event.response.id
            text += deltas_of([event])
            if text.endswith(f"tok{token} "):
                break
        polled = await caller.retrieve(id_)
        assert polled.output_text == text
    assert deltas_of(await stream.rest()) == ""
    assert (await caller.retrieve(id_)).output_text == text


async def test_a_background_response_grows_from_poll_to_poll(agent: Agent, caller: Caller, key: str) -> None:
    agent.release(key)
    polled = await caller.create(f"gate {TOKENS} {key}", background=True)
    released = "tok0 "
    for token in range(1, TOKENS):
        while polled.output_text != released:
            polled = await caller.retrieve(polled.id)
            assert released.startswith(polled.output_text)
            assert polled.status == "in_progress"
        agent.release(key)
        released += f"tok{token} "
    final = await completed(caller, polled.id)
    assert (final.status, final.output_text) == ("completed", released)


async def test_a_poll_of_a_run_at_full_speed_lies_between_the_deltas_before_and_after_it(
    agent: Agent, caller: Caller
) -> None:
    stream = await caller.stream("burst 100", background=True)
    seen = await stream.until(0)
    id_, before = seen[0].response.id, ""
    async for event in stream:
        before += deltas_of([event])
        polled = await caller.retrieve(id_)
        assert polled.output_text.startswith(before)
        if polled.status == "completed":
            break
    whole = before + deltas_of(await stream.rest())
    assert (await caller.retrieve(id_)).output_text == whole == "".join(f"tok{i} " for i in range(100))
