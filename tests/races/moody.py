"""A scripted agent whose every answer is drawn from the seed in the request's input."""

import asyncio
import contextlib
import random
from collections import Counter

from tests.proxy.agent import Json, Wire, answer, lifecycle

_PAUSE_SECONDS = 0.004


class Moody:
    """A script. `calls` counts the requests by the response id that they offered."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def __call__(self, wire: Wire) -> None:
        # Whoever hangs up on it, at any point, does not surprise it.
        with contextlib.suppress(ConnectionError, EOFError, OSError):
            asked = await wire.request()
            self.calls[asked.header("x-agent-response-id")[0]] += 1
            await self._answer(wire, random.Random(asked.json["input"]))

    async def _answer(self, wire: Wire, chance: random.Random) -> None:
        await _pause(chance)
        if chance.random() < 0.1:
            await wire.answer("503 Service Unavailable", b'{"error":{"code":"busy","message":"later"}}')
            return
        await wire.begin()
        for event in _events(chance):
            await _pause(chance)
            await wire.say(event)
        await _pause(chance)
        if chance.random() < 0.9:
            await wire.end()
        if chance.random() < 0.2:
            await wire.gone()


def _events(chance: random.Random) -> list[Json]:
    events = answer(*("x" * chance.randint(1, 50) for _ in range(chance.randint(1, 12))))
    match chance.choice(["well", "well", "well", "torn", "failed", "bare"]):
        case "torn":
            return events[: chance.randrange(len(events))]
        case "failed":
            return [*events[:-1], lifecycle("failed", error={"code": "moody", "message": "no"})]
        case "bare":
            return [event for event in events if event["type"].endswith(".delta")]
        case _:
            return events


async def _pause(chance: random.Random) -> None:
    if chance.random() < 0.5:
        await asyncio.sleep(chance.random() * _PAUSE_SECONDS)
