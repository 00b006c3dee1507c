"""Events at their real sizes, through a respool process: what passes, what is refused, and what memory it takes.

The memory is the most that was resident beyond what was before. A client that lags behind holds one event more of its
own; these keep up, because the agent says its large events one after the other.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.bench.script import Script, closing, plain_delta
from tests.bench.script import opening as bench_opening
from tests.proxy.agent import Json, Wire, completed, delta, opening
from tests.proxy.client import deltas, events_of, text_of, whole
from tests.proxy.place import MIB, place

LIMIT = 16 * MIB
MOST = 3
"""Times the largest thing: what it may take."""

EVENTS = 1_000_000


def delta_of(size: int) -> Json:
    """A delta whose data has that many bytes."""
    return delta("x" * (size - len(json.dumps(delta("")))))


async def test_an_event_of_sixteen_mebibytes_passes_within_three_times_its_size(tmp_path: Path) -> None:
    big = delta_of(LIMIT)
    text = "Hel" + big["delta"]

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening(), delta("Hel"), big)
        await wire.say(completed(text))
        await wire.end()

    async with place(script, tmp_path) as here:
        with here.at_most(MOST * LIMIT):
            body = await here.create()
        events = events_of(body)
        assert deltas(events) == ["Hel", big["delta"]]
        final = whole(events)
        assert (final["status"], text_of(final)) == ("completed", text)
        assert await here.read(f"/responses/{final['id']}?stream=true") == body
        assert json.loads(await here.read(f"/responses/{final['id']}")) == final
        assert len(here.agent.asked) == 2


async def one_byte_more(wire: Wire) -> None:
    await wire.say(delta_of(LIMIT + 1))
    await wire.gone()


async def no_line_end(wire: Wire) -> None:
    await wire.chunk(b"event: response.output_text.delta\ndata: ")
    for _ in range(64):
        await wire.chunk(b"x" * MIB)
    await wire.gone()


@pytest.mark.parametrize("then", [one_byte_more, no_line_end])
async def test_more_than_sixteen_mebibytes_is_a_failure_within_three_times_the_limit(
    then: Callable[[Wire], Awaitable[None]], tmp_path: Path
) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening(), delta("Hel"))
        await then(wire)

    async with place(script, tmp_path) as here:
        with here.at_most(MOST * LIMIT):
            body = await here.create()
        final = whole(events_of(body))
        assert (final["status"], final["error"]["code"]) == ("failed", "event_too_large")
        assert (deltas(events_of(body)), text_of(final)) == (["Hel"], "Hel")
        assert await here.read(f"/responses/{final['id']}?stream=true") == body
        assert json.loads(await here.read(f"/responses/{final['id']}")) == final


async def test_text_beyond_ascii_takes_no_more(tmp_path: Path) -> None:
    """As a Python string the one sign makes each of the others four bytes wide."""
    text = "x" * (10 * MIB) + "\U0001f600"

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening(), delta("Hel"))
        data = json.dumps(completed(text), ensure_ascii=False).encode()
        await wire.chunk(b"event: response.completed\ndata: %b\n\n" % data)
        await wire.end()

    async with place(script, tmp_path) as here:
        with here.at_most(MOST * len(text)):
            body = await here.create()
        assert text_of(whole(events_of(body))) == text


@pytest.mark.soak
async def test_a_million_events_take_three_times_the_final_object(tmp_path: Path) -> None:
    caught_up = asyncio.Event()
    script_of = Script(burst=EVENTS)
    ends = closing(script_of)
    counted = 0

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        for event in bench_opening():
            await wire.chunk(event)
        for start in range(0, EVENTS, 1000):
            await wire.chunk(b"".join(map(plain_delta, range(start, start + 1000))))
        for event in ends:
            await caught_up.wait()
            caught_up.clear()
            await wire.chunk(event)
        await wire.end()

    marks = [b"%07d " % (EVENTS - 1), *(re.search(rb"event: ([^\n]+)", event)[1] for event in ends[:-1])]  # type: ignore[index]
    held = b""

    def seen(piece: bytes) -> None:
        nonlocal held, counted
        counted += piece.count(b"event: response.output_text.delta")
        held = held[-100:] + piece
        if marks and marks[0] in held:
            held = b""
            marks.pop(0)
            caught_up.set()

    async with place(script, tmp_path) as here:
        with here.at_most(MOST * script_of.text_size):
            body = await here.create(seen)
        found = re.findall(rb'"delta": "(\d{7}) ", "sequence_number": (\d+)', body)
        assert len(found) == EVENTS
        assert all(int(text) == number == int(seq) - 4 for number, (text, seq) in enumerate(found))
        response_id = re.search(rb'"id": ?"(caresp_[^"]+)"', body)
        assert response_id is not None
        path = f"/responses/{response_id[1].decode()}"
        assert await here.read(f"{path}?stream=true") == body
        final = json.loads(await here.read(path))
        assert (final["status"], len(text_of(final))) == ("completed", script_of.text_size)
