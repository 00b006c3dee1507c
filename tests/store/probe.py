"""What the tests of the store put between the log and its backend, and the records that they write."""

import asyncio
import sys
from collections.abc import Sequence

from respool.store.backend import Adopt, Backend, Expire, Write
from respool.store.base import Chunk, Claimed, End, Filter, Head, Key, Page, StorageFailed, Store, StoreError
from respool.store.status import Status

KEY = Key("ann", "r1")
OTHER = Key("ann", "r2")


class Probe:
    """A backend before another: counts transactions, holds them and heads back, and fails all writes or some."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.commits = 0
        self.reads = 0
        self.tried = 0
        self.broken: set[Key] = set()
        self.is_down = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.head_gate = asyncio.Event()
        self.head_gate.set()

    async def commit(self, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        await self.gate.wait()
        self.tried += 1
        of_one = [write for write in writes if not isinstance(write, Adopt | Expire)]
        if self.is_down or any(write.key in self.broken for write in of_one):
            raise StorageFailed("disk full")
        self.commits += 1
        return await self.backend.commit(writes)

    def commit_now(self, writes: Sequence[Write]) -> None:
        """Never: what is done at once cannot be held back."""

    async def read(self, key: Key, after: int, max_bytes: int) -> Page:
        self.reads += 1
        return await self.backend.read(key, after, max_bytes)

    async def head(self, key: Key) -> Head:
        found = await self.backend.head(key)
        await self.head_gate.wait()
        return found

    async def request(self, key: Key) -> bytes:
        return await self.backend.request(key)

    async def result(self, key: Key) -> bytes | None:
        return await self.backend.result(key)

    async def list(self, which: Filter) -> Sequence[Head]:
        return await self.backend.list(which)

    async def claimed(self, owner: str, text: str, now: int) -> Claimed:
        return await self.backend.claimed(owner, text, now)

    async def compact(self) -> bool:
        return await self.backend.compact()

    async def call(self, key: Key) -> bytes | None:
        return await self.backend.call(key)

    async def ping(self) -> None:
        if self.is_down:
            raise StorageFailed("disk full")
        await self.backend.ping()

    async def close(self) -> None:
        await self.backend.close()


def head(key: Key = KEY, *, conversation: str | None = None, status: Status = Status.IN_PROGRESS) -> Head:
    return Head(key, status, True, True, 1_700_000_000, b'{"model":"m"}', conversation, "prev")


def chunk(first: int, *events: bytes) -> Chunk:
    return Chunk.of(first, events, 1_700_000_000_123)


def end(status: Status = Status.COMPLETED, result: bytes = b'{"id":"r1"}') -> End:
    return End(status, result, 1_700_000_001_000)


def numbered(page: Page) -> list[tuple[int, bytes]]:
    """The events of a page with their numbers."""
    return [(number, data) for part in page.chunks for number, data in enumerate(part.events(), part.first)]


async def follow(store: Store, key: Key = KEY, after: int = -1, max_bytes: int = 1 << 20) -> list[tuple[int, bytes]]:
    """What a reader gets that stays until the end: every event with its number."""
    events: list[tuple[int, bytes]] = []
    while True:
        page = await store.read(key, after, max_bytes)
        events += numbered(page)
        if page.ended:
            return events
        if page.chunks:
            after = page.chunks[-1].last
        else:
            await store.wait(key, after)


_WRITE_AND_DIE = """
import asyncio, os, sys
from respool.store.open import open_store
from tests.store.probe import KEY, chunk, end, head

async def main():
    store = await open_store(sys.argv[1])
    await store.create(head(), b"request")
    await store.append(KEY, 1, chunk(0, b"a", b"b"))
    await store.append(KEY, 1, chunk(2, b"c"), end=end())
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def killed(url: str) -> None:
    """Leave a file there as a process does that wrote a response of three events and was killed."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", _WRITE_AND_DIE, url)
    assert await child.wait() == -9


async def let_others_run() -> None:
    """As many turns of the loop as any chain of callbacks in these tests takes."""
    for _ in range(20):
        await asyncio.sleep(0)
