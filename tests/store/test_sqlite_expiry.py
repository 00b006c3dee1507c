"""What has expired leaves the file: in slices, after a crash too, and the file becomes smaller by it."""
# ruff: noqa: ASYNC240 - the files of these tests are small and local

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from respool.store.base import Filter, Key, NotFound
from respool.store.log import Log
from respool.store.open import open_reader
from respool.store.sqlite import SqliteBackend
from respool.store.sqlite_expiry import SLICE_BYTES, SLICE_ROWS
from tests.store.conformance import swept
from tests.store.probe import KEY, OTHER, chunk, end, follow, head, numbered

LIVE = Key("ann", "live")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "respool.db")


@pytest.fixture
async def store(path: str) -> AsyncIterator[Log]:
    store = Log(await SqliteBackend.open(path))
    yield store
    await store.close()


async def ended(store: Log, key: Key, *events: bytes, chunks: int = 1) -> None:
    """A response with so many chunks of these events."""
    await store.create(head(key), b"request")
    appends = [store.append(key, 1, chunk(at * len(events), *events)) for at in range(chunks)]
    await asyncio.gather(*appends, store.append(key, 1, None, end=replace(end(), at_ms=1000)))


@pytest.mark.parametrize(("size", "chunks"), [(1000, 20 * SLICE_ROWS), (SLICE_BYTES // 3, 60), (5 * SLICE_BYTES, 4)])
async def test_the_file_becomes_as_small_as_it_was(path: str, store: Log, size: int, chunks: int) -> None:
    await store.create(head(LIVE), b"")
    await store.append(LIVE, 1, chunk(0, b"event"))
    await swept(store)
    before = os.path.getsize(path)
    await ended(store, KEY, os.urandom(size), chunks=chunks)
    await store.append(LIVE, 1, chunk(1, b"event"))
    assert os.path.getsize(path) + os.path.getsize(f"{path}-wal") > before + size * chunks / 2
    assert await swept(store, before_ms=2000) == ["r1"]
    assert os.path.getsize(path) <= before + 100_000
    assert numbered(await store.read(LIVE, -1, 100)) == [(0, b"event"), (1, b"event")]
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


async def test_what_clients_deleted_is_given_back_too(path: str, store: Log) -> None:
    await ended(store, KEY, os.urandom(SLICE_BYTES), chunks=10)
    await store.delete(KEY)
    await swept(store)
    assert os.path.getsize(path) < SLICE_BYTES


async def test_writes_go_on_between_the_slices_of_a_large_response(path: str, store: Log) -> None:
    await ended(store, KEY, b"x" * 1000, chunks=10 * SLICE_ROWS)
    await ended(store, OTHER, b"x" * (SLICE_BYTES // 2), chunks=20)
    await store.create(head(LIVE), b"")
    sweeping = asyncio.create_task(swept(store, before_ms=2000))
    number = 0
    while not sweeping.done():
        await store.append(LIVE, 1, chunk(number, b"event"))
        number += 1
    assert await sweeping == ["r1", "r2"]
    assert number >= 20
    assert os.path.getsize(f"{path}-wal") < 32 * SLICE_BYTES


async def test_what_an_expiry_has_begun_is_nobodys_and_is_finished_by_the_next_process(path: str) -> None:
    store = Log(await SqliteBackend.open(path))
    await ended(store, KEY, b"x" * 1000, chunks=10 * SLICE_ROWS)
    first = await store.expire(2000, 0)
    assert ([key.id for key in first.gone], first.more) == (["r1"], True)
    with pytest.raises(NotFound):
        await store.head(KEY)
    await store.close()
    left = os.path.getsize(path)
    assert left > SLICE_BYTES

    reader = await open_reader(f"sqlite:///{path}")
    assert (await reader.list(Filter()), await reader.owners(), await reader.faults()) == ([], [], [])
    assert dict((await reader.survey()).by_status) == {}
    await reader.close()

    store = Log(await SqliteBackend.open(path))
    assert await store.adopt() == []
    await store.create(head(), b"with the same id")
    assert await swept(store) == []
    assert await store.request(KEY) == b"with the same id"
    assert os.path.getsize(path) < left / 2
    await store.close()


async def test_what_is_next_to_expire_is_found_in_the_index(path: str) -> None:
    backend = await SqliteBackend.open(path)
    store, seen = Log(backend), list[str]()
    await ended(store, KEY, b"event")
    await backend._writer.run(lambda db: db.set_trace_callback(seen.append))
    await swept(store, before_ms=2000)
    await backend._writer.run(lambda db: db.set_trace_callback(None))
    selects = [line for line in seen if line.startswith("SELECT")]
    plans = await backend._writer.run(
        lambda db: [row[3] for line in selects for row in db.execute(f"EXPLAIN QUERY PLAN {line}")]
    )
    await store.close()
    assert plans
    assert not [plan for plan in plans if plan.startswith("SCAN") and plan != "SCAN CONSTANT ROW"]
    assert not [plan for plan in plans if "TEMP B-TREE" in plan]


async def test_a_replay_that_has_begun_before_its_response_expires_is_whole(store: Log) -> None:
    await ended(store, KEY, b"x" * 1000, chunks=1000)
    events: list[tuple[int, bytes]] = []
    with store.reading(KEY):
        page = await store.read(KEY, -1, 10_000)
        events += numbered(page)
        assert await swept(store, before_ms=2000, max_bytes=1) == []
        events += await follow(store, after=page.chunks[-1].last)
    assert [number for number, _ in events] == list(range(1000))
