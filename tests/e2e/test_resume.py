"""A stream that is cut after any event, and resumed: what the client then has is the stream that was never cut."""

from pathlib import Path

import pytest

from respool.store.open import open_store
from tests.agents.launcher import Agent
from tests.e2e import wire
from tests.e2e.caller import Caller, completed, deltas_of
from tests.e2e.valve import valve
from tests.serving import Served, serving

pytestmark = pytest.mark.agent

# Of every agent: created, in_progress, item and part added, six deltas, text, part and item done, completed.
SIX_TOKENS = 14
FIRST_DELTA = 4

CUTS = [(after, torn) for after in range(SIX_TOKENS) for torn in (False, True) if not torn or after + 1 < SIX_TOKENS]


def background(text: str) -> dict[str, object]:
    return {"model": "m", "input": text, "background": True, "stream": True}


@pytest.mark.parametrize(("after", "torn"), CUTS)
async def test_a_stream_cut_after_any_event_and_resumed_is_the_whole_byte_for_byte(
    agent: Agent, tmp_path: Path, after: int, torn: bool
) -> None:
    """Every even cut is resumed while the rest is held back, so that it arrives live; the odd ones after the end."""
    store = await open_store(f"sqlite:///{tmp_path / 'respool.db'}")
    held_back = after % 2 == 0 and after + 1 + torn < SIX_TOKENS
    async with valve(agent.url) as held, serving(held.url, store=store) as served:
        held.let(after + 1 + torn)
        async with wire.asking(served.url, "POST", "/responses", background("burst 6")) as first:
            received = await first.events(after + 1)
            if torn:
                received += await first.half_an_event()
            first.cut()
        kept = wire.whole_events(received)
        id_ = wire.events_of(kept)[0]["response"]["id"]
        if not held_back:
            held.open()
            await wire.replay(served.url, id_)
        query = f"/responses/{id_}?stream=true&starting_after={after}"
        async with wire.asking(served.url, "GET", query) as resumed:
            history = await resumed.events(torn if held_back else SIX_TOKENS - after - 1)
            held.open()
            live = await resumed.rest()
        whole = await wire.replay(served.url, id_)
    assert kept + history + live == whole
    assert [event["sequence_number"] for event in wire.events_of(whole)] == list(range(SIX_TOKENS))
    assert bool(live) == held_back


async def test_a_client_that_was_never_cut_and_a_replay_have_the_same_bytes(agent: Agent, served: Served) -> None:
    async with wire.asking(served.url, "POST", "/responses", background("burst 6")) as answer:
        received = await answer.rest()
    id_ = wire.events_of(received)[0]["response"]["id"]
    assert await wire.replay(served.url, id_) == received
    assert await wire.replay(served.url, id_, after=-5) == received


@pytest.mark.parametrize("agent", ["core"], indirect=True)
async def test_a_cursor_at_or_beyond_the_end_is_empty(served: Served) -> None:
    async with wire.asking(served.url, "POST", "/responses", background("burst 6")) as answer:
        id_ = wire.events_of(await answer.rest())[0]["response"]["id"]
    assert await wire.replay(served.url, id_, after=SIX_TOKENS - 1) == b""
    assert await wire.replay(served.url, id_, after=10**30) == b""


@pytest.mark.parametrize("agent", ["core", "langgraph"], indirect=True)
@pytest.mark.parametrize("after", range(SIX_TOKENS))
async def test_the_stock_client_goes_on_where_it_was_cut(agent: Agent, caller: Caller, key: str, after: int) -> None:
    """The agent waits at its gate until the resumed stream is open."""
    stream = await caller.stream(f"gate 6 {key}", background=True)
    # The agents of LangGraph begin to speak with their first token.
    agent.release(key, max(1, min(after - FIRST_DELTA + 1, 6)))
    seen = await stream.until(after)
    await stream.close()
    id_ = seen[0].response.id
    resumed = await caller.resume(id_, starting_after=after)
    agent.release_all(key)
    rest = await resumed.rest()
    assert [event.sequence_number for event in seen + rest] == list(range(SIX_TOKENS))
    assert deltas_of(seen + rest) == "tok0 tok1 tok2 tok3 tok4 tok5 "
    whole = await (await caller.resume(id_)).rest()
    assert seen + rest == whole
    assert await completed(caller, id_) == whole[-1].response
