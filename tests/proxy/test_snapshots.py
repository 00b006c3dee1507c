"""Folds over the log, each continued from where it was left."""

import asyncio
from typing import Any

import pytest

from respool.proxy.snapshots import Snapshots
from respool.store.base import Chunk, Key, NotFound, Page
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from tests.proxy.agent import answer, delta, frame, opening
from tests.proxy.client import text_of
from tests.store.probe import KEY, OTHER, Probe, head

INITIAL: dict[str, Any] = {"id": "r", "status": "in_progress", "error": None, "output": []}


class Slow(Probe):
    """Storage whose reads take a while."""

    async def read(self, key: Key, after: int, max_bytes: int) -> Page:
        await asyncio.sleep(0)
        return await super().read(key, after, max_bytes)


class Written:
    """A log with some responses, all of them to be read from its storage."""

    def __init__(self) -> None:
        self.log = Log(Slow(MemoryBackend()), tail_bytes=0)

    async def create(self, key: Key = KEY) -> None:
        await self.log.create(head(key), b"{}")
        await self.log.append(key, 1, Chunk.of(0, [frame(event) for event in opening()], 0))

    async def say(self, first: int, *texts: str, key: Key = KEY) -> None:
        await self.log.append(key, 1, Chunk.of(first, [frame(delta(text)) for text in texts], 0))


async def test_a_snapshot_is_everything_that_the_log_has_now() -> None:
    written, snapshots = Written(), Snapshots()
    await written.create()
    for first, text in enumerate("abc", 4):
        await written.say(first, text)
        assert text_of(await snapshots.take(written.log, KEY, INITIAL)) == "abc"[: first - 3]
    assert text_of(await snapshots.take(written.log, KEY, INITIAL)) == "abc"
    await written.log.close()


async def test_a_snapshot_is_a_copy_that_later_events_do_not_change() -> None:
    written, snapshots = Written(), Snapshots()
    await written.create()
    await written.say(4, "a")
    early = await snapshots.take(written.log, KEY, INITIAL)
    early["output"][0]["content"][0]["text"] += "changed"
    early["output"].append({})
    await written.say(5, "b")
    assert text_of(await snapshots.take(written.log, KEY, INITIAL)) == "ab"
    assert INITIAL["output"] == []
    await written.log.close()


async def test_a_second_poll_reads_only_what_is_new() -> None:
    written, snapshots = Written(), Snapshots()
    await written.create()
    read: list[int] = []
    real = written.log.read

    async def watched(key: Key, after: int, max_bytes: int) -> Any:
        read.append(after)
        return await real(key, after, max_bytes)

    written.log.read = watched  # type: ignore[method-assign]
    await snapshots.take(written.log, KEY, INITIAL)
    read.clear()
    await snapshots.take(written.log, KEY, INITIAL)
    assert read == [3]
    await written.log.close()


async def test_many_polls_at_once_fold_each_event_once() -> None:
    written, snapshots = Written(), Snapshots()
    await written.create()
    await snapshots.take(written.log, KEY, INITIAL)
    await written.say(4, "a")
    await written.say(5, "b")
    taken = await asyncio.gather(*(snapshots.take(written.log, KEY, INITIAL) for _ in range(10)))
    assert [text_of(one) for one in taken] == ["ab"] * 10
    await written.log.close()


async def test_a_fold_that_was_given_up_is_made_again() -> None:
    written, snapshots = Written(), Snapshots(max_bytes=1)
    for key in (KEY, OTHER):
        await written.create(key)
        await written.say(4, key.id, key=key)
    for _ in range(2):
        for key in (KEY, OTHER):
            assert text_of(await snapshots.take(written.log, key, INITIAL)) == key.id
    assert len(snapshots._folds) == 1
    await written.log.close()


async def test_a_forgotten_fold_costs_nothing_more() -> None:
    written, snapshots = Written(), Snapshots()
    await written.create()
    await snapshots.take(written.log, KEY, INITIAL)
    assert snapshots._bytes > 0
    snapshots.forget(KEY)
    snapshots.forget(KEY)
    assert (snapshots._bytes, len(snapshots._folds)) == (0, 0)
    await written.log.close()


async def test_items_that_are_still_open_can_be_given_a_status() -> None:
    written, snapshots = Written(), Snapshots()
    await written.create()
    await written.say(4, "a")
    open_ = await snapshots.take(written.log, KEY, INITIAL)
    assert open_["output"][0]["status"] == "in_progress"
    closed = await snapshots.take(written.log, KEY, INITIAL, "incomplete")
    assert closed["output"][0]["status"] == "incomplete"
    assert text_of(closed) == "a"
    await written.log.close()


async def test_a_whole_run_folds_to_its_final_output() -> None:
    written, snapshots = Written(), Snapshots()
    events = answer("Hel", "lo")
    await written.log.create(head(), b"{}")
    await written.log.append(KEY, 1, Chunk.of(0, [frame(event) for event in events[:-1]], 0))
    folded = await snapshots.take(written.log, KEY, INITIAL)
    assert folded["output"] == events[-1]["response"]["output"]
    await written.log.close()


async def test_a_response_that_is_gone_has_no_snapshot() -> None:
    written, snapshots = Written(), Snapshots()
    with pytest.raises(NotFound):
        await snapshots.take(written.log, KEY, INITIAL)
    assert (snapshots._bytes, len(snapshots._folds)) == (0, 0)
    await written.log.close()
