"""The Store protocol, its records and errors.

What every store promises, whatever lies beneath it:

- **Durable before visible.** `read` never shows an event that a crash of the process could take back. `show_end` is the
  one exception.
- **Numbers without a hole.** The events of a response are numbered from 0 by 1; an append that does not continue the
  log is refused whole.
- **The end is one transaction**: last events, status and final object become visible together, and once.
- **Commit order decides every race.** A cancel that was committed first refuses any other end, and the reverse.
- **One writer of a run.** An append carries the epoch that the run was created or adopted with; an older one is fenced.
- A response is found by its owner and its id together; another owner's is `NotFound`, as is a deleted one.

The store knows ids, numbers, status and bytes. What the bytes of an event mean is not its business.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

from respool.store.status import Status


class StoreError(Exception):
    """The store cannot do what was asked."""

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or "").strip()


class NotFound(StoreError):
    """No such response for this owner."""


class Exists(StoreError):
    """This owner already has a response with this id."""


class Claimed(StoreError):
    """An idempotency key of this owner belongs to another response already: `key`, asked for with `digest`."""

    def __init__(self, key: "Key", digest: bytes) -> None:
        super().__init__()
        self.key = key
        self.digest = digest


class Ended(StoreError):
    """The response has already ended."""


class Cancelled(StoreError):
    """A cancel was committed first: only an end as cancelled is accepted."""


class Begun(StoreError):
    """The response does not wait any more: it has been started before."""


class Fenced(StoreError):
    """Another process has taken this run over."""


class InFlight(StoreError):
    """The response has not ended yet."""


class Gap(StoreError):
    """The events do not continue the log: our own inconsistency."""


class StorageFailed(StoreError):
    """The storage beneath failed; nothing was written."""


class Locked(StoreError):
    """Another process serves this database."""


class Incompatible(StoreError):
    """The database is not one that this version can open."""


class Key(NamedTuple):
    """What a response is found by. `owner` is "" for callers that named none."""

    owner: str
    id: str


CLAIM_SECONDS = 24 * 60 * 60
"""How long after the creation of a response its idempotency key belongs to it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key that a new response takes for its owner, and the digest of the request that it came with."""

    text: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Events of one response that arrived together: the unit that is written, kept and sent.

    `first` is the number of the first event, `data` their encoded bytes one after the other, `sizes` the length of each
    in bytes, `at_ms` when they arrived (milliseconds since 1970, UTC). A chunk is never empty.
    The data of one large event may be a bytearray that nobody changes any more.
    """

    first: int
    data: bytes
    sizes: "array[int]"
    at_ms: int

    @classmethod
    def of(cls, first: int, events: Sequence[bytes], at_ms: int) -> "Chunk":
        """One chunk of the encoded `events`, the first of which has the number `first`."""
        # One event stays what it is: a large one is not copied, not even if it is a bytearray.
        data = events[0] if len(events) == 1 else b"".join(events)
        return cls(first, data, array("I", map(len, events)), at_ms)

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self.first + len(self.sizes) - 1

    def events(self) -> Iterator[bytes]:
        """The encoded events, one by one."""
        start = 0
        for size in self.sizes:
            yield bytes(self.data[start : start + size])
            start += size

    def after(self, seq: int) -> "Chunk":
        """The part with numbers greater than `seq`, which must not be all of it."""
        skip = seq + 1 - self.first
        if skip <= 0:
            return self
        return Chunk(seq + 1, self.data[sum(self.sizes[:skip]) :], self.sizes[skip:], self.at_ms)

    def within(self, max_bytes: int) -> "Chunk":
        """The first events, as many as fit in `max_bytes`, but at least one."""
        ends = list(accumulate(self.sizes))
        count = max(1, bisect_right(ends, max_bytes))
        if count == len(ends):
            return self
        return Chunk(self.first, self.data[: ends[count - 1]], self.sizes[:count], self.at_ms)


@dataclass(frozen=True, slots=True)
class Page:
    """What `read` found: chunks in order, and whether the last of them ends the response.

    Both come from one snapshot: with `ended` true and no event left after the last chunk, there will never be one.
    """

    chunks: Sequence[Chunk]
    ended: bool

    @classmethod
    def cut(cls, chunks: Iterable[Chunk], after: int, max_bytes: int, end: int | None) -> "Page":
        """The events after `after` at the front of `chunks`: `max_bytes` at most, but at least one event.

        `chunks` come in order, each with an event after `after`. `end` is the last number of a response that has ended.
        """
        taken: list[Chunk] = []
        for chunk in chunks:
            rest = chunk.after(after)
            if len(rest.data) > max_bytes:
                if not taken:
                    taken.append(rest.within(max_bytes))
                break
            taken.append(rest)
            max_bytes -= len(rest.data)
        reached = taken[-1].last if taken else after
        return cls(taken, end is not None and reached >= end)


@dataclass(frozen=True, slots=True)
class End:
    """The end of a response: terminal status, the final object as JSON bytes, unix milliseconds."""

    status: Status
    result: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class Note:
    """What the agent said of itself: its own id of the response, the session it answered with, its path."""

    agent_id: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """A response without its events, its request and its final object: what a poll or a list reads first.

    `envelope` is a JSON object that the owner of the run made at the create (what every snapshot carries); the store
    does not look into it. `last_seq` is -1 before the first event. `created_at` is in unix seconds,
    `created_at_ms` the same moment in milliseconds, None where it was not noted.
    """

    key: Key
    status: Status
    background: bool
    stream: bool
    created_at: int
    envelope: bytes
    conversation: str | None = None
    previous_id: str | None = None
    agent_id: str | None = None
    session: str | None = None
    epoch: int = 1
    last_seq: int = -1
    cancel_requested: bool = False
    ended_at_ms: int | None = None
    created_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which responses `list` shows, newest first. None means any; `after` is an id of the list, exclusive.

    `visible` leaves out foreground responses in flight, which nobody but their client may see. `older_than` is a
    response of the list too, exclusive, and finds nothing if it is gone. `prefix` is what an id begins with. `since`
    and `until` bound the creation in unix seconds, both inclusive. `texts` are pieces of the body of the POST, of which
    one must be in it, whatever the case of its ASCII letters.
    """

    owner: str | None = None
    conversation: str | None = None
    status: Status | None = None
    after: str | None = None
    visible: bool = False
    limit: int = 20
    older_than: Key | None = None
    prefix: str | None = None
    since: int | None = None
    until: int | None = None
    texts: tuple[bytes, ...] = ()


class Follower(Protocol):
    """A reader that has read all there is and is given what comes, without a turn of its own."""

    after: int
    """The number that it has got to; it must count on by itself."""

    def take(self, chunk: Chunk, is_last: bool) -> bool:
        """Take a chunk that has just become durable; False for one that it cannot take now and will have to read.

        `is_last` tells that the response ends with it, which it will be woken for all the same.

        Called on the event loop between other things, so it must not wait; a chunk may lie anywhere to its `after`.
        """


@dataclass(frozen=True, slots=True)
class Swept:
    """What a call of `expire` did: the responses that nobody finds any more, and whether there is more to do."""

    gone: Sequence[Key]
    more: bool


class Store(Protocol):
    """The log of all responses. Every method may raise `StorageFailed`."""

    async def create(self, head: Head, request: bytes, claim: Claim | None = None, call: bytes | None = None) -> None:
        """Remember a new response, the body of its request, and the idempotency key that it claims, all at once.

        `call` is for one that is queued: what else is needed to start it later. It is forgotten at its start or end.

        A claim is free again when its response is withdrawn or deleted, and CLAIM_SECONDS after the response was
        created (`head.created_at`). Raises Claimed, Exists.
        """

    async def claimed(self, owner: str, text: str, now: int) -> Claimed:
        """Whose an idempotency key of this owner is; `now` in unix seconds. Raises NotFound for one that is free."""

    async def start(self, key: Key, epoch: int) -> None:
        """Let a queued response be in progress; done once, so that what follows from it is done once.

        Raises Begun, Ended, NotFound, Fenced, Cancelled.
        """

    async def call(self, key: Key) -> bytes | None:
        """What was kept for the start of a queued response, None if nothing was. Raises NotFound."""

    async def withdraw(self, key: Key, epoch: int) -> None:
        """Forget a response that never began, as if it had not been created.

        Raises NotFound, Fenced, Ended, Cancelled.
        """

    async def append(
        self, key: Key, epoch: int, chunk: Chunk | None, *, note: Note | None = None, end: End | None = None
    ) -> None:
        """Write events, what the agent said of itself, and the end, in one transaction; returns when durable.

        Raises Ended, NotFound, Fenced, Cancelled, Gap. If the caller is cancelled, the write goes on without it.
        """

    def append_soon(self, key: Key, epoch: int, chunk: Chunk, told: Callable[[Exception | None], None]) -> None:
        """`append` for who does not wait: `told` is called when it is durable, or with what `append` would raise."""

    async def show_end(self, key: Key, epoch: int, chunk: Chunk, end: End) -> None:
        """Show an end to the live readers at once, and write it as soon as the storage lets it.

        Only for a storage that fails in mid-run. Returns when the end is durable; raises as `append`.
        """

    async def show_withdrawn(self, key: Key, epoch: int) -> None:
        """Let a response that never began be gone for everybody at once, and forget it as soon as the storage lets it.

        Only for a storage that fails. Meanwhile a `create` with its key raises StorageFailed. Returns when it is
        forgotten; raises as `withdraw`, and then it is there again.
        """

    async def read(self, key: Key, after: int, max_bytes: int) -> Page:
        """Events with numbers greater than `after`, at least one if there is one, and about `max_bytes` at most.

        Raises NotFound.
        """

    async def wait(self, key: Key, after: int) -> None:
        """Return once `read` after `after` would show an event, the end or NotFound. Level-triggered."""

    async def follow(self, key: Key, follower: Follower) -> None:
        """`wait` behind a follower that is given every chunk that comes, and return once there is one it did not take.

        Whatever a chunk does to a follower, it is left alone from then on, and finds the chunk by reading.
        """

    async def head(self, key: Key) -> Head:
        """Raises NotFound."""

    async def request(self, key: Key) -> bytes:
        """The body of the POST, as it came. Raises NotFound."""

    async def result(self, key: Key) -> bytes | None:
        """The final object, or None while there is none. Raises NotFound."""

    async def request_cancel(self, key: Key) -> None:
        """Commit the wish to cancel; again is the same. Raises NotFound, Ended (also for an end as cancelled)."""

    async def delete(self, key: Key) -> None:
        """Remove a response that has ended, with everything of it. Raises NotFound, InFlight."""

    async def adopt(self) -> Sequence[Head]:
        """Take over every response that has not ended, under a new epoch: orphans of a process that died."""

    async def list(self, which: Filter) -> Sequence[Head]:
        """Responses, newest first, at most `which.limit`. An unknown `which.after` is ignored."""

    async def restore(self, head: Head, request: bytes, chunks: Sequence[Chunk], end: End | None) -> None:
        """Write a response as another store had it, with all its events, in one transaction; it becomes the newest.

        Without an `end` it is an orphan to the next process that adopts. Raises Exists, Gap.
        """

    def reading(self, key: Key) -> AbstractContextManager[None]:
        """While the block runs, `expire` spares the response, though for a bounded time."""

    async def expire(self, before_ms: int, max_bytes: int) -> Swept:
        """Remove one slice of what is to go, and give the space back; to be called again while there is more.

        Those go that ended before `before_ms` (unix milliseconds), and of the others those that ended first, as many as
        it takes to bring the storage down to `max_bytes`; 0 is no bound. What has not ended is never touched.
        """

    async def ping(self) -> None:
        """Raises StorageFailed when nothing could be written now."""

    async def close(self) -> None:
        """Write what is under way and let go of the storage."""
