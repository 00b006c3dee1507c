"""The log: hot tails and waiting readers, once, over any backend."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import accumulate

from respool.store.backend import (
    Adopt,
    Append,
    Backend,
    Create,
    Delete,
    Expire,
    RequestCancel,
    Restore,
    Start,
    Withdraw,
    Write,
)
from respool.store.base import (
    Chunk,
    Claim,
    Claimed,
    End,
    Ended,
    Filter,
    Follower,
    Gap,
    Head,
    Key,
    Note,
    NotFound,
    Page,
    StorageFailed,
    StoreError,
    Swept,
)
from respool.store.crashpoint import Point, reach
from respool.store.group_commit import GroupCommit
from respool.store.pages import Pages
from respool.store.readings import Readings
from respool.store.tail import Tail, Tails

TAIL_BYTES = 256 * 1024
ENDED_TAIL_BYTES = 8 * 1024 * 1024
PAGES_BYTES = 16 * 1024 * 1024

FURTHEST = 2**62
"""A cursor beyond this is as good as this one, and every backend can hold it."""


class Log:
    """A Store. See there for what the methods promise.

    What was committed goes into the tails before its writers hear of it.

    `tail_bytes` bounds what is kept in memory of each response that has not ended, `ended_tail_bytes` what is kept of
    all that have.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        tail_bytes: int = TAIL_BYTES,
        ended_tail_bytes: int = ENDED_TAIL_BYTES,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._tails = Tails(tail_bytes, ended_tail_bytes)
        self._pages = Pages(PAGES_BYTES)
        self._readings = Readings(clock)
        self._withdrawn: set[Key] = set()
        self._sleep = sleep
        self._commits = GroupCommit(backend, self._show)
        self._closed = False

    @property
    def held(self) -> int:
        """What the tails cost in memory, in bytes."""
        return self._tails.held

    async def create(self, head: Head, request: bytes, claim: Claim | None = None, call: bytes | None = None) -> None:
        if head.key in self._withdrawn:
            raise StorageFailed("The storage has not yet forgotten the response that had this id.")
        try:
            await self._write(Create(head, request, claim, call))
        except Claimed as claimed:
            if claimed.key not in self._withdrawn:
                raise
            raise StorageFailed("The storage has not yet forgotten the response that had this key.") from claimed

    async def claimed(self, owner: str, text: str, now: int) -> Claimed:
        claimed = await self._storage().claimed(owner, text, now)
        self._storage_of(claimed.key)
        return claimed

    async def start(self, key: Key, epoch: int) -> None:
        await self._write(Start(key, epoch))

    async def call(self, key: Key) -> bytes | None:
        return await self._storage_of(key).call(key)

    async def withdraw(self, key: Key, epoch: int) -> None:
        await self._write(Withdraw(key, epoch))

    async def append(
        self, key: Key, epoch: int, chunk: Chunk | None, *, note: Note | None = None, end: End | None = None
    ) -> None:
        await self._write(Append(key, epoch, chunk, note, end))

    def append_soon(self, key: Key, epoch: int, chunk: Chunk, told: Callable[[Exception | None], None]) -> None:
        if self._closed:
            told(StorageFailed("The store is closed."))
        else:
            self._commits.ask(Append(key, epoch, chunk), told, lingers=True)

    async def request_cancel(self, key: Key) -> None:
        self._storage_of(key)
        tail = self._tails.get(key)
        if tail is not None and tail.ended:
            raise Ended  # also for an end that readers have been shown and the storage has not yet taken
        await self._write(RequestCancel(key))

    async def delete(self, key: Key) -> None:
        self._storage_of(key)
        await self._write(Delete(key))

    async def adopt(self) -> Sequence[Head]:
        adopted = Adopt()
        await self._write(adopted)
        return adopted.heads

    async def show_end(self, key: Key, epoch: int, chunk: Chunk, end: End) -> None:
        """See Store.show_end. Gives up quietly when the store is closed: the orphan's end will take the number."""
        self._storage()
        tail = await self._live_tail(key)
        if tail is None or tail.ended:
            raise Ended
        if chunk.first != tail.last_seq + 1:
            raise Gap(f"an end at {chunk.first} does not continue a log up to {tail.last_seq}")
        tail.add(chunk)
        tail.end()
        await self._insist(Append(key, epoch, chunk, end=end))

    async def show_withdrawn(self, key: Key, epoch: int) -> None:
        """See Store.show_withdrawn. Gives up quietly when the store is closed: it is an orphan then."""
        self._storage()
        self._withdrawn.add(key)
        self._tails.drop(key)
        try:
            await self._insist(Withdraw(key, epoch))
        finally:
            self._withdrawn.discard(key)

    async def _insist(self, write: Append | Withdraw) -> None:
        for pause in _pauses():
            try:
                await self._write(write)
                return
            except StorageFailed:
                if self._closed:
                    return
            except StoreError:
                self._tails.drop(write.key)  # what was shown did not come true: from here on the storage has the word
                raise
            await self._sleep(pause)

    async def read(self, key: Key, after: int, max_bytes: int) -> Page:
        storage = self._storage_of(key)
        after = max(-1, min(after, FURTHEST))
        tail = self._tails.get(key)
        if tail is not None and after + 1 >= tail.floor:
            return tail.read(after, max_bytes)
        if (page := self._pages.get(key, after, max_bytes)) is None:
            dropped = self._pages.dropped
            page = await storage.read(key, after, max_bytes)
            if self._pages.dropped == dropped:
                self._pages.keep(key, after, max_bytes, page)
        return page

    async def wait(self, key: Key, after: int) -> None:
        await self.follow(key, _Waiting(after))

    async def follow(self, key: Key, follower: Follower) -> None:
        while not self._closed:
            try:
                tail = self._tails.get(key) or await self._live_tail(key)
            except NotFound:
                return
            if self._closed or tail is None or tail.settles(follower.after):
                return
            await tail.changed(follower)

    async def _live_tail(self, key: Key) -> Tail | None:
        """The tail of a response, made if need be; None for one that ended so long ago that it has none."""
        while (tail := self._tails.get(key)) is None:
            forgotten = self._tails.forgotten
            head = await self._storage_of(key).head(key)
            if head.status.ended:
                return None
            if self._tails.get(key) is None and self._tails.forgotten == forgotten:
                return self._tails.open(key, head.last_seq)
        return tail

    async def head(self, key: Key) -> Head:
        return await self._storage_of(key).head(key)

    async def request(self, key: Key) -> bytes:
        return await self._storage_of(key).request(key)

    async def result(self, key: Key) -> bytes | None:
        return await self._storage_of(key).result(key)

    async def list(self, which: Filter) -> Sequence[Head]:
        storage = self._storage()
        if not self._withdrawn:
            return await storage.list(which)
        found = await storage.list(replace(which, limit=which.limit + len(self._withdrawn)))
        return [head for head in found if head.key not in self._withdrawn][: which.limit]

    async def restore(self, head: Head, request: bytes, chunks: Sequence[Chunk], end: End | None) -> None:
        for chunk, first in zip(chunks, accumulate((len(chunk.sizes) for chunk in chunks), initial=0), strict=False):
            if chunk.first != first or not chunk.sizes:
                raise Gap(f"{len(chunk.sizes)} events from {chunk.first} on where {first} is expected")
        await self._write(Restore(head, request, chunks, end))

    def reading(self, key: Key) -> AbstractContextManager[None]:
        return self._readings.of(key)

    async def expire(self, before_ms: int, max_bytes: int) -> Swept:
        sweep = Expire(before_ms, max_bytes, self._readings.spared())
        await self._write(sweep)
        self._readings.delayed(sweep.passed, are_all=not sweep.more)
        return Swept(sweep.gone, sweep.more or await self._storage().compact())

    async def ping(self) -> None:
        await self._storage().ping()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._tails.wake()
        await self._commits.close()
        await self._backend.close()

    def _storage(self) -> Backend:
        if self._closed:
            raise StorageFailed("The store is closed.")
        return self._backend

    def _storage_of(self, key: Key) -> Backend:
        storage = self._storage()
        if key in self._withdrawn:
            raise NotFound
        return storage

    async def _write(self, write: Write) -> None:
        self._storage()
        await self._commits.write(write)

    def _show(self, write: Write) -> None:
        match write:
            case Append():
                self._show_append(write)
            case Create(head=head):
                self._tails.open(head.key, -1)
                reach(Point.CREATED)
            case Withdraw(key=key) | Delete(key=key):
                self._drop(key)
            case Adopt(heads=heads):
                for head in heads:
                    self._tails.open(head.key, head.last_seq)
            case Expire(gone=keys):
                for key in keys:
                    self._drop(key)
            case RequestCancel():
                reach(Point.CANCEL)
            case Start() | Restore():
                pass

    def _drop(self, key: Key) -> None:
        self._pages.drop(key)
        self._tails.drop(key)

    def _show_append(self, write: Append) -> None:
        key, chunk = write.key, write.chunk
        tail = self._tails.get(key)
        if chunk is not None:
            tail = tail or self._tails.open(key, chunk.first - 1)
            if chunk.first > tail.last_seq:  # else show_end was faster
                tail.add(chunk, is_last=write.end is not None)
        if write.end is not None and tail is not None:
            reach(Point.ENDED)
            tail.end()
            self._tails.retire(key)


@dataclass(slots=True)
class _Waiting:
    """A follower that takes nothing, and only wants to know."""

    after: int

    def take(self, chunk: Chunk, is_last: bool) -> bool:
        return chunk.last <= self.after


def _pauses(first: float = 0.05, longest: float = 1.0) -> Iterator[float]:
    while True:
        yield first
        first = min(2 * first, longest)
