"""How a response stands, and which writes that refuses: the invariants, once for all backends that decide in Python."""

from dataclasses import dataclass, replace

from respool.store.backend import Append, Create, Delete, RequestCancel, Start, Withdraw
from respool.store.base import Begun, Cancelled, Ended, Exists, Fenced, Gap, InFlight, NotFound, StoreError
from respool.store.status import Status

Change = Create | Start | Withdraw | Append | RequestCancel | Delete
"""A write to one response."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides about the next write. `run` numbers the responses in the order of their creation."""

    run: int
    status: Status
    epoch: int
    last_seq: int
    cancel_requested: bool


def refusal(standing: Standing | None, change: Change) -> StoreError | None:
    """Why `change` is refused, or None. `standing` is None where there is no such response."""
    if standing is None:
        return None if isinstance(change, Create) else NotFound()
    match change:
        case Create():
            return Exists()
        case RequestCancel():
            return Ended() if standing.status.ended else None
        case Delete():
            return None if standing.status.ended else InFlight()
        case Start() | Withdraw() | Append():
            return _refusal_of_the_writer(standing, change)


def _refusal_of_the_writer(standing: Standing, change: Start | Withdraw | Append) -> StoreError | None:
    if change.epoch != standing.epoch:
        return Fenced()
    if standing.status.ended:
        return Ended()
    if standing.cancel_requested and not _ends_as_cancelled(change):
        return Cancelled()
    if isinstance(change, Start) and standing.status is not Status.QUEUED:
        return Begun()
    if isinstance(change, Append) and change.chunk is not None:
        chunk = change.chunk
        if chunk.first != standing.last_seq + 1 or not chunk.sizes:
            return Gap(
                f"{len(chunk.sizes)} events from {chunk.first} on do not continue a log up to {standing.last_seq}"
            )
    return None


def _ends_as_cancelled(change: Start | Withdraw | Append) -> bool:
    return isinstance(change, Append) and change.end is not None and change.end.status is Status.CANCELLED


def started(standing: Standing) -> Standing:
    """How the response stands after a start that was not refused."""
    return replace(standing, status=Status.IN_PROGRESS)


def appended(standing: Standing, change: Append) -> Standing:
    """How the response stands after an append that was not refused."""
    return replace(
        standing,
        status=change.end.status if change.end else standing.status,
        last_seq=change.chunk.last if change.chunk else standing.last_seq,
    )
