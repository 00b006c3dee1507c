"""Cancel, delete, disconnect, a second POST and readers against each other, at random moments and at chosen ones."""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from respool.store.open import open_store
from tests.checker import read_file, read_store
from tests.proxy.agent import scripted
from tests.proxy.scene import scene
from tests.races.moody import Moody
from tests.races.rounds import Round
from tests.serving import start_respool, until

SEED = int(os.environ.get("RESPOOL_TEST_SEED") or random.SystemRandom().randrange(2**32))
ROUNDS = int(os.environ.get("RESPOOL_TEST_ROUNDS") or 3000)
"""Of the soak, in each of its settings."""

_AT_ONCE = 8


async def play(url: str, count: int, at_once: int = _AT_ONCE) -> list[Round]:
    """So many rounds, several at a time."""
    print(f"RESPOOL_TEST_SEED={SEED}")
    left = iter([Round(url, SEED * 100_000 + number) for number in range(count)])
    played: list[Round] = []

    async def some() -> None:
        for one in left:
            await one.run()
            played.append(one)

    await asyncio.gather(*(some() for _ in range(at_once)))
    return played


def told(rounds: list[Round]) -> Counter[str]:
    """What was asked, and how it was answered."""
    found: Counter[str] = Counter()
    for one in rounds:
        found += one.asked
        for what, answers in (("POST", one.posts), ("cancel", one.cancels), ("DELETE", one.deletes)):
            found += Counter(f"{what} {answer.http_status}" for answer in answers)
    return found


@pytest.mark.parametrize("options", [{}, {"max_in_flight": 2}], ids=["at once", "behind a limit"])
async def test_whoever_races_with_whom_there_is_one_end_and_one_status(tmp_path: Path, options: dict[str, Any]) -> None:
    moody, store = Moody(), await open_store(f"sqlite:///{tmp_path / 'x.db'}")
    async with scene(moody, store=store, drain_seconds=0.02, idle_timeout_seconds=0.3, **options) as s:
        rounds = await play(s.served.url, 120)
        await until(lambda: not s.served.app.runs._tasks)
        log = await read_store(s.served.store)
        wrong = [words for one in rounds for words in one.wrong(log, moody.calls[one.id])]
    print(told(rounds))
    assert not wrong
    # Each of these is an outcome that the races are about: without them nothing was raced.
    for outcome in ("cancel 200", "cancel 400", "cancel 404", "DELETE 200", "DELETE 400", "POST 200"):
        assert told(rounds)[outcome], outcome


@pytest.mark.soak
@pytest.mark.parametrize("options", [(), ("--max-in-flight", "4")], ids=["at once", "behind a limit"])
async def test_thousands_of_races_against_a_real_process(tmp_path: Path, options: tuple[str, ...]) -> None:
    moody = Moody()
    async with scripted(moody) as agent:
        impatient = ("--drain-seconds", "0.02", "--idle-timeout-seconds", "0.3")
        server = await asyncio.to_thread(start_respool, agent.url, tmp_path, *impatient, *options)
        try:
            rounds = await play(server.url, ROUNDS, at_once=16)
        finally:
            assert await asyncio.to_thread(server.stop, 60) == 0
    log = read_file(tmp_path / "respool.db")
    wrong = [words for one in rounds for words in one.wrong(log, moody.calls[one.id])]
    print(told(rounds))
    assert not wrong
