"""What lies beneath a log: the writes of a transaction, and the protocol of a storage that takes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from respool.store.base import (
    Chunk,
    Claim,
    Claimed,
    End,
    Filter,
    Head,
    Key,
    Note,
    Page,
    StoreError,
)
from respool.store.status import Status


@dataclass(frozen=True, slots=True)
class Create:
    """See Store.create."""

    head: Head
    request: bytes
    claim: Claim | None = None
    call: bytes | None = None

    @property
    def key(self) -> Key:
        """The key of the new response."""
        return self.head.key


@dataclass(frozen=True, slots=True)
class Start:
    """See Store.start."""

    key: Key
    epoch: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """See Store.withdraw."""

    key: Key
    epoch: int


@dataclass(frozen=True, slots=True)
class Append:
    """See Store.append."""

    key: Key
    epoch: int
    chunk: Chunk | None
    note: Note | None = None
    end: End | None = None


@dataclass(frozen=True, slots=True)
class RequestCancel:
    """See Store.request_cancel."""

    key: Key


@dataclass(frozen=True, slots=True)
class Delete:
    """See Store.delete."""

    key: Key


@dataclass(frozen=True, slots=True)
class Restore:
    """See Store.restore."""

    head: Head
    request: bytes
    chunks: Sequence[Chunk]
    end: End | None

    @property
    def key(self) -> Key:
        """The key of the response."""
        return self.head.key

    def writes(self) -> "Iterator[Create | Append | RequestCancel]":
        """What it is made of. If the first is refused, so is the whole; nothing refuses the others."""
        head = self.head
        begun = Status.QUEUED if head.status is Status.QUEUED and not self.chunks else Status.IN_PROGRESS
        yield Create(replace(head, status=begun, last_seq=-1, cancel_requested=False, ended_at_ms=None), self.request)
        for chunk in self.chunks:
            yield Append(head.key, head.epoch, chunk)
        if head.cancel_requested:
            yield RequestCancel(head.key)
        if self.end is not None:
            yield Append(head.key, head.epoch, None, end=self.end)


@dataclass(frozen=True, slots=True)
class Adopt:
    """See Store.adopt."""

    heads: list[Head] = field(default_factory=list)


@dataclass(slots=True)
class Expire:
    """See Store.expire. `spared` are those that must stay.

    The backend fills in the rest: `gone` are the responses that nobody finds any more, `passed` those that are due and
    were spared, and there is `more` when the slice was too small for all of it.
    """

    before_ms: int
    max_bytes: int
    spared: frozenset[Key] = frozenset()
    gone: list[Key] = field(default_factory=list)
    passed: list[Key] = field(default_factory=list)
    more: bool = False


Write = Create | Start | Withdraw | Append | RequestCancel | Delete | Adopt | Expire | Restore


class Reader(Protocol):
    """What can be read of a storage, by whoever writes it or by somebody else. Every method may raise StorageFailed."""

    async def read(self, key: Key, after: int, max_bytes: int) -> Page:
        """See Store.read."""

    async def head(self, key: Key) -> Head:
        """See Store.head."""

    async def request(self, key: Key) -> bytes:
        """See Store.request."""

    async def result(self, key: Key) -> bytes | None:
        """See Store.result."""

    async def list(self, which: Filter) -> Sequence[Head]:
        """See Store.list."""

    async def close(self) -> None:
        """Let go of the storage."""


class Backend(Reader, Protocol):
    """Storage beneath a Log: one transaction for many writes, and plain reads. Thin: no tasks, no waiting."""

    async def commit(self, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        """Do all writes in order in one transaction.

        A write that the invariants refuse yields its error and leaves the others alone. When the storage itself fails,
        nothing of the whole is written and StorageFailed is raised. `Adopt` fills its `heads`, and `Expire` what it
        has done.
        """

    def commit_now(self, writes: Sequence[Write]) -> Sequence[StoreError | None] | None:
        """The same without waiting, where that takes no longer than to wake another thread; else None, and nothing.

        When it raises, nothing of the whole is written.
        """

    async def claimed(self, owner: str, text: str, now: int) -> Claimed:
        """See Store.claimed."""

    async def compact(self) -> bool:
        """Give back a slice of the space that nothing is in; true while there is more of it."""

    async def call(self, key: Key) -> bytes | None:
        """See Store.call."""

    async def ping(self) -> None:
        """See Store.ping."""
