"""Pages that several readers asked for: read once, true for as long as they are kept, and bounded."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from respool.store.base import Key, NotFound, Page
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from respool.store.pages import Pages
from tests.store.probe import KEY, OTHER, Probe, chunk, end, follow, head

EVENTS = [(number, b"%04d" % number * 250) for number in range(40)]


@pytest.fixture
def probe() -> Probe:
    return Probe(MemoryBackend())


@pytest.fixture
async def store(probe: Probe) -> AsyncIterator[Log]:
    """With one response of 40,000 bytes, of which no tail is kept."""
    store = Log(probe, tail_bytes=1000, ended_tail_bytes=0)
    await store.create(head(), b"")
    for number, event in EVENTS:
        await store.append(KEY, 1, chunk(number, event))
    yield store
    await store.close()


async def test_what_two_have_read_is_read_from_memory(probe: Probe, store: Log) -> None:
    await store.append(KEY, 1, None, end=end())
    for _ in range(2):
        assert await follow(store, max_bytes=4000) == EVENTS
    reads = probe.reads
    assert await follow(store, max_bytes=4000) == EVENTS
    assert probe.reads == reads
    assert await follow(store, after=19, max_bytes=4000) == EVENTS[20:]
    assert await follow(store, max_bytes=3000) == EVENTS


async def test_what_comes_later_is_read_by_all(store: Log) -> None:
    for _ in range(3):
        assert (await store.read(KEY, -1, 100_000)).chunks[-1].last == 39
    await store.append(KEY, 1, chunk(40, b"late"), end=end())
    assert await follow(store, max_bytes=100_000) == [*EVENTS, (40, b"late")]


async def test_what_was_deleted_is_read_by_nobody(probe: Probe, store: Log) -> None:
    await store.append(KEY, 1, None, end=end())
    for _ in range(3):
        await store.read(KEY, -1, 4000)
    await store.delete(KEY)
    with pytest.raises(NotFound):
        await store.read(KEY, -1, 4000)


async def test_a_page_that_was_read_while_its_response_was_deleted_is_not_kept(
    probe: Probe, store: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append(KEY, 1, None, end=end())
    await store.read(KEY, -1, 4000)
    found, go_on = asyncio.Event(), asyncio.Event()

    async def slow(key: Key, after: int, max_bytes: int) -> Page:
        page = await probe.backend.read(key, after, max_bytes)
        found.set()
        await go_on.wait()
        return page

    with monkeypatch.context() as patch:
        patch.setattr(probe, "read", slow)
        reading = asyncio.create_task(store.read(KEY, -1, 4000))
        await found.wait()
        await store.delete(KEY)
        go_on.set()
        await reading
    with pytest.raises(NotFound):
        await store.read(KEY, -1, 4000)


def page(size: int) -> Page:
    return Page([chunk(0, b"x" * size)], ended=False)


def test_they_are_bounded_and_what_was_read_last_is_kept() -> None:
    pages = Pages(12_000)
    keys = [Key("ann", f"r{number}") for number in range(20)]
    for key in keys:
        for _ in range(2):
            pages.keep(key, -1, 100, page(1000))
        assert pages.get(keys[0], -1, 100) is not None
    kept = [key for key in keys if pages.get(key, -1, 100) is not None]
    assert kept == [keys[0], *keys[-len(kept) + 1 :]]
    assert 8 <= len(kept) <= 10


def test_what_many_read_at_once_is_kept_and_counted_once() -> None:
    pages = Pages(10_000)
    for _ in range(100):
        pages.keep(KEY, -1, 100, page(1000))
    pages.drop(KEY)
    for _ in range(2):
        pages.keep(OTHER, -1, 100, page(1000))
    assert pages.get(OTHER, -1, 100) is not None


def test_a_lone_reader_and_a_huge_page_leave_nothing_behind() -> None:
    pages = Pages(10_000)
    pages.keep(KEY, -1, 100, page(1000))
    assert pages.get(KEY, -1, 100) is None
    for _ in range(3):
        pages.keep(OTHER, -1, 100, page(5000))
    assert pages.get(OTHER, -1, 100) is None


def test_what_was_asked_for_long_ago_counts_as_never() -> None:
    pages = Pages(10_000)
    pages.keep(KEY, -1, 100, page(10))
    for after in range(2000):
        pages.keep(OTHER, after, 100, page(10))
    pages.keep(KEY, -1, 100, page(10))
    assert pages.get(KEY, -1, 100) is None
