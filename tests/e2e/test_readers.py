"""Many readers of one response: each gets everything, whenever it comes, and exactly one end."""

import asyncio
import random

import pytest

from tests.agents.launcher import Agent
from tests.e2e import wire
from tests.e2e.caller import MODEL
from tests.serving import Served

pytestmark = pytest.mark.agent

TERMINAL = {"response.completed", "response.failed", "response.incomplete"}


async def started(served: Served, text: str, seen: int) -> str:
    """The id of a background stream whose client has left after `seen` events."""
    body = {"model": MODEL, "input": text, "background": True, "stream": True}
    async with wire.asking(served.url, "POST", "/responses", body) as first:
        id_: str = wire.events_of(await first.events(seen))[0]["response"]["id"]
        return id_


async def test_two_readers_from_different_moments_get_the_same(agent: Agent, served: Served, key: str) -> None:
    agent.release(key, 2)
    id_ = await started(served, f"gate 6 {key}", 6)
    target = f"/responses/{id_}?stream=true"
    async with wire.asking(served.url, "GET", target) as one:
        seen_by_one = await one.events(6)
        agent.release(key, 2)
        seen_by_one += await one.events(2)
        async with wire.asking(served.url, "GET", target) as two:
            seen_by_two = await two.events(8)
            assert seen_by_two == seen_by_one
            agent.release_all(key)
            rest_of_one, rest_of_two = await asyncio.gather(one.rest(), two.rest())
    assert seen_by_one + rest_of_one == seen_by_two + rest_of_two == await wire.replay(served.url, id_)


async def test_a_reader_that_goes_changes_nothing_for_the_others(agent: Agent, served: Served, key: str) -> None:
    agent.release(key, 2)
    asked = f"gate 6 {key}"
    id_ = await started(served, asked, 6)
    target = f"/responses/{id_}?stream=true"
    async with wire.asking(served.url, "GET", target) as stays:
        async with wire.asking(served.url, "GET", target) as goes:
            await goes.events(3)
            goes.cut()
        seen = await stays.events(6)
        agent.release_all(key)
        seen += await stays.rest()
    assert seen == await wire.replay(served.url, id_)
    assert "CANCELLED" not in agent.words(asked)


@pytest.mark.parametrize("attempt", range(5))
async def test_readers_who_come_at_the_very_end_get_everything_and_one_end(
    agent: Agent, served: Served, key: str, attempt: int
) -> None:
    agent.release(key, 5)
    id_ = await started(served, f"gate 6 {key}", 9)

    async def release() -> bytes:
        agent.release(key)
        return b""

    before = [wire.replay(served.url, id_) for _ in range(attempt)]
    behind = [wire.replay(served.url, id_) for _ in range(8 - attempt)]
    read = await asyncio.gather(*before, release(), *behind)
    for received in read[:attempt] + read[attempt + 1 :]:
        events = wire.events_of(received)
        assert [event["sequence_number"] for event in events] == list(range(14))
        assert [event["type"] in TERMINAL for event in events] == [False] * 13 + [True]


async def test_twenty_readers_at_random_cursors_each_get_what_is_behind_theirs(
    agent: Agent, served: Served, key: str
) -> None:
    chance = random.Random(20)
    agent.release(key, 15)
    id_ = await started(served, f"gate 30 {key}", 19)
    cursors = [chance.randrange(-1, 19) for _ in range(20)]
    reading = [asyncio.create_task(wire.replay(served.url, id_, cursor)) for cursor in cursors[:10]]
    for _ in range(10):
        agent.release(key)
        reading.append(asyncio.create_task(wire.replay(served.url, id_, cursors[len(reading)])))
    agent.release_all(key)
    whole = await wire.replay(served.url, id_)
    assert [event["sequence_number"] for event in wire.events_of(whole)] == list(range(38))
    for cursor, received in zip(cursors, await asyncio.gather(*reading), strict=True):
        assert received == wire.behind(whole, cursor)
