"""Reconnects at random cursors while the run is live: where history goes over into live, nothing is missing or doubled.

A seam counts only if the reader got history, and behind it an event that was said after its answer had begun. How many
the soak counts is set by RESPOOL_SOAK_SEAMS.
"""

import asyncio
import os
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.clients.process import Respool, clock, respool
from tests.e2e import wire
from tests.proxy.agent import Wire, closing, completed, delta, opening, scripted

_SEQ = re.compile(rb'"sequence_number": ?(\d+)')
_OPENING = len(opening())
_RUN = 2_000
"""Deltas of one run; then the next one begins."""

_READERS = 20
_NEAR = 300
"""Most cursors are so near to the end, some anywhere."""


@dataclass
class Talker:
    """A script: a delta every few milliseconds; `said` is how many events of this run were said."""

    said: int = 0

    async def __call__(self, agent: Wire) -> None:
        await agent.request()
        await agent.begin()
        await agent.say(*opening())
        self.said = _OPENING
        for number in range(_RUN):
            await asyncio.sleep(0.003)
            await agent.say(delta(f"{number} "))
            self.said += 1
        await agent.say(*closing(""), completed(""))
        await agent.end()


@dataclass
class Seen:
    """The union of what all readers of one run were sent: frames by number."""

    frames: dict[int, bytes] = field(default_factory=dict)
    last: int = -1
    seams: int = 0
    reconnects: int = 0

    def take(self, frame: bytes, number: int) -> None:
        """The next frame of a reader must have this number, and be what everybody else saw of that number."""
        found = _SEQ.search(frame)
        assert found is not None
        assert int(found[1]) == number, f"{int(found[1])} instead of {number}"
        assert self.frames.setdefault(number, frame) == frame
        self.last = max(self.last, number)


async def test_every_seam_between_history_and_live_is_exact(tmp_path: Path) -> None:
    await _seams(300, tmp_path)


@pytest.mark.soak
async def test_a_hundred_thousand_seams_are_exact(tmp_path: Path) -> None:
    await _seams(int(os.environ.get("RESPOOL_SOAK_SEAMS", "100000")), tmp_path)


async def _seams(wanted: int, directory: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, talker, began = random.Random(seed), Talker(), clock()
    seams = reconnects = 0
    async with scripted(talker) as agent, respool(agent.url, directory) as served:
        while seams < wanted:
            seen = await _one_run(served, talker, chance, wanted - seams)
            seams, reconnects = seams + seen.seams, reconnects + seen.reconnects
    print(f"{seams} seams exact, {reconnects} reconnects, in {began.seconds:.0f} s")


async def _one_run(served: Respool, talker: Talker, chance: random.Random, wanted: int) -> Seen:
    body = {"background": True, "stream": True, "input": "talk"}
    async with wire.asking(served.url, "POST", "/responses", body) as answer:
        first = await answer.events(2)
        answer.cut()
    id_ = wire.events_of(first)[0]["response"]["id"]
    seen = Seen(last=1)
    await asyncio.gather(*(_reader(served, id_, talker, chance, seen, wanted) for _ in range(_READERS)))
    if seen.seams < wanted:
        # The readers have left before the end; the last of them stays.
        for number, frame in enumerate(_frames(await wire.replay(served.url, id_, seen.last - 1)), seen.last):
            seen.take(frame, number)
        log = _frames(await wire.replay(served.url, id_))
        assert [seen.frames[number] for number in range(len(log))] == log
    else:
        await served.client.post(f"/responses/{id_}/cancel")
    return seen


def _frames(body: bytes) -> list[bytes]:
    return [frame + b"\n\n" for frame in body.split(b"\n\n")[:-1] if frame != b": keep-alive"]


async def _reader(served: Respool, id_: str, talker: Talker, chance: random.Random, seen: Seen, wanted: int) -> None:
    """Reconnect while the run is live."""
    while seen.seams < wanted and talker.said < _OPENING + _RUN:
        lowest = -1 if chance.random() < 0.1 else max(-1, seen.last - _NEAR)
        cursor = chance.randrange(lowest, seen.last)
        async with wire.asking(served.url, "GET", f"/responses/{id_}?stream=true&starting_after={cursor}") as answer:
            assert answer.http_status == 200
            seen.reconnects += 1
            is_seam = await _read(answer, cursor, talker, chance.randrange(1, 4), seen)
            seen.seams += is_seam
            answer.cut()


async def _read(answer: wire.Answer, cursor: int, talker: Talker, wanted: int, seen: Seen) -> bool:
    """Read from the cursor into what is live; whether it came so far before the run ended."""
    number, live_from, lived = cursor + 1, 0, 0
    while lived < wanted:
        try:
            frame = await answer.events(1)
        except wire.Torn:
            return lived > 0
        seen.take(frame, number)
        live_from = live_from or talker.said
        lived += number >= live_from
        number += 1
    return True
