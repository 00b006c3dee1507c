"""A whole store to be looked through, by whoever does not write it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from respool.store.backend import Reader
from respool.store.base import Key
from respool.store.status import Status


@dataclass(frozen=True, slots=True)
class Survey:
    """A whole store in figures: responses by status, and bytes of what is remembered of them.

    `file_bytes` is what the files take on the disk, `free_bytes` the part of it that deletes have left empty. `schema`
    and `library` are versions: of the tables, and of what read them.
    """

    by_status: Mapping[Status, int]
    events: int
    event_bytes: int
    request_bytes: int
    result_bytes: int
    file_bytes: int
    free_bytes: int
    schema: int
    library: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in a store that must not be. `key` is the response that it concerns, None for the whole file."""

    words: str
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Last:
    """An ended response and its last event, None where it has none. `place` is its place in the order of creation."""

    place: int
    key: Key
    event: bytes | None


class Archive(Reader, Protocol):
    """A Reader of a whole file, which can be looked through."""

    async def owners(self) -> Sequence[str]:
        """Everybody who owns a response, in order."""

    async def survey(self) -> Survey:
        """The figures; reads every page that holds the beginning of a row."""

    async def faults(self) -> Sequence[Fault]:
        """What is wrong with the file and with the numbers in it; reads all of it."""

    async def last_events(self, place: int, limit: int) -> Sequence[Last]:
        """How ended responses end, oldest first: at most `limit` with a greater place than `place`."""
