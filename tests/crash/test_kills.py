"""SIGKILL at random and at every named point, with clients of every kind on runs in flight: nothing seen is lost."""

import asyncio
import os
import random
from pathlib import Path

import pytest

from respool.store.crashpoint import Point
from tests.agents.launcher import Agent
from tests.crash.lane import Death, Figures, Lane

SEED = int(os.environ.get("RESPOOL_TEST_SEED") or random.SystemRandom().randrange(2**32))
KILLS = int(os.environ.get("RESPOOL_TEST_KILLS") or 510)
"""Of the soak; its share of each named point is at least 30."""

_LANES = 2

# How often a point may be passed before the process dies there: a handful for what happens once in a response.
_PASSINGS = {
    Point.CREATE: 5,
    Point.CREATED: 5,
    Point.CALLED: 4,
    Point.COMMIT: 80,
    Point.COMMITTED: 80,
    Point.END: 4,
    Point.ENDED: 4,
    Point.CANCEL: 3,
    Point.ADOPT: 2,
}


def deaths(chance: random.Random, of_each: int, at_any_time: int) -> list[Death]:
    """A mixture in random order."""
    named = [Death(point, _passing(point, chance)) for point in _PASSINGS for _ in range(of_each)]
    checkpoints = [Death("checkpoint", chance.randint(1, 200)) for _ in range(of_each)]
    mixed = [*named, *checkpoints, *(Death("any time") for _ in range(at_any_time))]
    chance.shuffle(mixed)
    return mixed


def _passing(point: Point, chance: random.Random) -> int:
    return chance.randint(1, _PASSINGS[point])


async def live(agent: Agent, directory: Path, shim: Path, all_deaths: list[Death], of_a_lane: int) -> Figures:
    """All deaths, on several logs at once, each for `of_a_lane` of them."""
    figures = Figures()
    lanes = [_in_order(all_deaths[start : start + of_a_lane]) for start in range(0, len(all_deaths), of_a_lane)]
    room = asyncio.Semaphore(_LANES)

    async def one(number: int) -> None:
        nonlocal figures
        place = directory / str(number)
        place.mkdir()
        lane = Lane(agent, place, shim, random.Random(SEED + number))
        async with room:
            try:
                await lane.live(lanes[number])
            finally:
                figures += lane.figures
                print(f"lane {number}: {lane.figures}", flush=True)

    async with asyncio.TaskGroup() as group:
        for number in range(len(lanes)):
            group.create_task(one(number))
    return figures


def _in_order(lane: list[Death]) -> list[Death]:
    """A death among the orphans cannot be the first on a log: every other leaves some."""
    first = next(death for death in lane if death.at is not Point.ADOPT)
    return [first, *lane[: lane.index(first)], *lane[lane.index(first) + 1 :]]


async def test_nothing_that_a_client_saw_is_lost_or_repeated_by_a_kill(
    core_agent: Agent, tmp_path: Path, shim: Path
) -> None:
    print(f"RESPOOL_TEST_SEED={SEED}")
    planned = deaths(random.Random(SEED), of_each=2, at_any_time=4)
    figures = await live(core_agent, tmp_path, shim, planned, len(planned) // 2)
    print(figures)
    assert figures.deaths.total() == len(planned)
    assert figures.events > 1000
    assert not figures.faults


@pytest.mark.soak
async def test_nothing_is_lost_by_hundreds_of_kills(core_agent: Agent, tmp_path: Path, shim: Path) -> None:
    print(f"RESPOOL_TEST_SEED={SEED}")
    of_each = 30 if KILLS >= 330 else max(1, KILLS // 12)
    planned = deaths(random.Random(SEED), of_each, at_any_time=KILLS - of_each * (len(_PASSINGS) + 1))
    figures = await live(core_agent, tmp_path, shim, planned, of_a_lane=17)
    print(figures)
    assert figures.deaths.total() == len(planned)
    assert not figures.faults
