"""Turns: one goes in each turn of the event loop."""

import asyncio
from contextlib import suppress

from respool.proxy.turns import Turns


async def turns_taken(names: str, turns: Turns, *, cancelled: str = "") -> list[str]:
    """Who went in which turn of the loop, one string for each turn in which somebody went."""
    gone = [""]

    async def go(name: str) -> None:
        await turns.take()
        gone[-1] += name

    tasks = {name: asyncio.create_task(go(name)) for name in names}
    await asyncio.sleep(0)
    for name in cancelled:
        tasks[name].cancel()
    while not all(task.done() for task in tasks.values()):
        gone.append("")
        await asyncio.sleep(0)
    for task in tasks.values():
        with suppress(asyncio.CancelledError):
            await task
    return [each for each in gone if each]


async def test_one_goes_in_each_turn_and_who_came_first_goes_first() -> None:
    assert await turns_taken("abcde", Turns()) == ["a", "b", "c", "d", "e"]


async def test_who_left_the_line_holds_up_nobody() -> None:
    assert await turns_taken("abcde", Turns(), cancelled="bcd") == ["a", "e"]


async def test_who_is_alone_does_not_wait() -> None:
    turns = Turns()
    for _ in range(3):
        with suppress(StopIteration):
            turns.take().send(None)
            raise AssertionError("it waited")
        await asyncio.sleep(0)
