"""The hot end of the responses: their last events in memory, shared by all readers, and the readers that wait."""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import islice

from respool.store.base import Chunk, Follower, Key, Page

log = logging.getLogger(__name__)

CHUNK_OVERHEAD = 300
"""Bytes that Python's objects add to a chunk: events that come one by one would cost more than they show."""

TAIL_OVERHEAD = 1000
"""The same for a tail, so that tails without events count too."""

# A chunk is given to so many followers in one turn of the loop: to each it is a write to a socket.
_FOLLOWERS_A_TURN = 128

_Waiting = tuple[asyncio.Future[None], Follower]


class Tail:
    """The last events of one response, about `limit` bytes, but always the newest chunk.

    `floor` is the first number that it can serve, `last_seq` the last; `held` is what it costs in bytes.
    """

    __slots__ = ("_chunks", "_limit", "_newest", "_waiting", "ended", "floor", "held", "last_seq")

    def __init__(self, last_seq: int, limit: int) -> None:
        self.floor = last_seq + 1
        self.last_seq = last_seq
        self.ended = False
        self.held = TAIL_OVERHEAD
        self._limit = limit
        self._chunks: deque[Chunk] = deque()
        self._newest: Page | None = None
        self._waiting: dict[asyncio.Future[None], Follower] = {}

    def add(self, chunk: Chunk, *, is_last: bool = False) -> None:
        """Show `chunk`, which continues the tail; with the last one `end` follows at once."""
        self._chunks.append(chunk)
        self.held += cost(chunk)
        while self.held > self._limit and len(self._chunks) > 1:
            self.held -= cost(self._chunks.popleft())
        self.floor = self._chunks[0].first
        self.last_seq = chunk.last
        self._newest = None
        if self._waiting:
            self._give(chunk, is_last, iter(tuple(self._waiting.items())))

    def end(self) -> None:
        """Show that there will be no further event."""
        self.ended = True
        self._newest = None
        self.wake()

    def read(self, after: int, max_bytes: int) -> Page:
        """See Store.read; `after` is not below the floor."""
        if after >= self.last_seq:
            return _ENDED if self.ended else _NOTHING_YET
        newest = self._chunks[-1]
        if after == newest.first - 1 and len(newest.data) <= max_bytes:
            # A follower that keeps up reads just this, and with a thousand of them it is one object for all.
            self._newest = self._newest or Page((newest,), self.ended)
            return self._newest
        return Page.cut(self._beyond(after), after, max_bytes, self.last_seq if self.ended else None)

    def _beyond(self, after: int) -> Iterator[Chunk]:
        # From the right, because readers are near the end.
        count = 0
        for chunk in reversed(self._chunks):
            if chunk.last <= after:
                break
            count += 1
        return (self._chunks[index] for index in range(-count, 0))

    def settles(self, after: int) -> bool:
        """True when a reader at `after` has nothing to wait for here."""
        return self.last_seq > after or self.ended

    def _give(self, chunk: Chunk, is_last: bool, waiting: Iterator[_Waiting]) -> None:
        """Give a chunk to those that waited when it came, some in each turn of the loop."""
        given = 0
        for waiter, follower in islice(waiting, _FOLLOWERS_A_TURN):
            given += 1
            if waiter in self._waiting and not _takes(follower, chunk, is_last):
                self._wake(waiter)
        if given == _FOLLOWERS_A_TURN:
            asyncio.get_running_loop().call_soon(self._give, chunk, is_last, waiting)

    def _wake(self, waiter: asyncio.Future[None]) -> None:
        del self._waiting[waiter]
        if not waiter.done():
            waiter.set_result(None)

    async def changed(self, follower: Follower) -> None:
        """Return at the next change that is more than chunks which the follower takes."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = follower
        try:
            await waiter
        finally:
            self._waiting.pop(waiter, None)

    def wake(self) -> None:
        """Let every waiting reader look again."""
        for waiter in tuple(self._waiting):
            self._wake(waiter)


class Tails:
    """The tails of all live responses, and of those that ended or were read last, as far as they fit in a bound.

    `forgotten` counts what went: whoever looked a response up while it changed has to look again.
    """

    def __init__(self, tail_bytes: int, ended_tail_bytes: int) -> None:
        self.forgotten = 0
        self._tail_bytes = tail_bytes
        self._room = ended_tail_bytes
        self._live: dict[Key, Tail] = {}
        self._ended: OrderedDict[Key, Tail] = OrderedDict()

    @property
    def held(self) -> int:
        """What all tails cost, in bytes."""
        return sum(tail.held for tail in (*self._live.values(), *self._ended.values()))

    def get(self, key: Key) -> Tail | None:
        """The tail of `key`, if it is in memory."""
        tail = self._live.get(key)
        if tail is None and (tail := self._ended.get(key)) is not None:
            self._ended.move_to_end(key)
        return tail

    def open(self, key: Key, last_seq: int) -> Tail:
        """A fresh tail behind `last_seq`, in the place of any other."""
        self.drop(key)
        tail = self._live[key] = Tail(last_seq, self._tail_bytes)
        return tail

    def retire(self, key: Key) -> None:
        """Count the tail of a response whose end is durable as one that may go."""
        if (tail := self._live.pop(key, None)) is None:
            return
        self._ended[key] = tail
        self._room -= tail.held
        while self._room < 0:
            self.drop(next(iter(self._ended)))

    def drop(self, key: Key) -> None:
        """Forget the tail of `key`, if there is one, and send its readers to the storage."""
        tail = self._live.pop(key, None)
        if tail is None and (tail := self._ended.pop(key, None)) is not None:
            self._room += tail.held
        if tail is not None:
            self.forgotten += 1
            tail.wake()

    def wake(self) -> None:
        """Let every waiting reader look again."""
        for tail in self._live.values():
            tail.wake()


def _takes(follower: Follower, chunk: Chunk, is_last: bool) -> bool:
    try:
        return follower.take(chunk, is_last)
    except Exception:
        # It must not fail those who write and the other readers; it will fail by itself when it reads.
        log.exception("follower_failed")
        return False


def cost(chunk: Chunk) -> int:
    """What a chunk takes in memory, in bytes."""
    return CHUNK_OVERHEAD + len(chunk.data) + chunk.sizes.itemsize * len(chunk.sizes)


_ENDED = Page((), True)
_NOTHING_YET = Page((), False)
