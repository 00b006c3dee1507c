"""The -wal file of a SQLite database: it is folded back beside the writer, so that no commit waits for the disk."""

import asyncio
import logging
import sqlite3

from respool.store.base import StorageFailed
from respool.store.sqlite_file import Connection

log = logging.getLogger(__name__)

EVERY_PAGES = 1_000
"""4 MiB: a larger interval saves hardly any write."""

_TOO_MANY_PAGES = 4_000
"""16 MiB: a -wal is used from its beginning again only when all of it was folded back, and that may need a rest."""

_FEW_PAGES = 100
_ROUNDS = 3


class Keeper:
    """Folds the -wal back every so many pages, with a connection and in a thread of its own.

    Meanwhile the writer goes on behind it; where it always does, the last pages are folded back in its turn (`rest`).
    It fails quietly: nothing is lost by it, the -wal grows, and that is told to the operator.
    """

    def __init__(self, connection: Connection) -> None:
        self.is_owed = False
        """Whether the next commit belongs into a thread, because it will wait for the disk."""
        self._connection = connection
        self._pages = 0
        self._next = EVERY_PAGES
        self._folding: asyncio.Task[None] | None = None

    def wrote(self, pages: int) -> None:
        """About so many pages were written."""
        self._pages += pages
        if self._pages >= self._next and self._folding is None and not self.is_owed:
            self._begin()

    async def fold(self) -> None:
        """Fold back what is there now."""
        if self._folding is not None:
            await asyncio.wait({self._folding})
        await asyncio.wait({self._folding or self._begin()})

    def _begin(self) -> asyncio.Task[None]:
        self._folding = asyncio.create_task(self._fold(), name="store-keeper")
        return self._folding

    def rest(self, db: sqlite3.Connection) -> None:
        """Fold the last pages back if that is owed; called by the writer between two of its transactions."""
        if not self.is_owed:
            return
        self.is_owed = False
        try:
            self._count(*_checkpoint(db))
        except sqlite3.Error:
            self._next = self._pages + _TOO_MANY_PAGES

    async def close(self) -> None:
        """Let go of the connection."""
        if self._folding is not None:
            await asyncio.wait({self._folding})
        await self._connection.close()

    async def _fold(self) -> None:
        try:
            for _ in range(_ROUNDS):
                all_pages, folded = await self._connection.run(_checkpoint)
                if all_pages - folded < _FEW_PAGES or all_pages < _TOO_MANY_PAGES:
                    break
            self._count(all_pages, folded)
            # What begins the -wal anew, or ends it, waits for the disk.
            self.is_owed = all_pages == folded or all_pages >= _TOO_MANY_PAGES
        except StorageFailed as error:
            log.warning("wal_not_folded", extra={"error": str(error)})
            self._next = self._pages + EVERY_PAGES
        finally:
            self._folding = None

    def _count(self, all_pages: int, folded: int) -> None:
        self._pages = 0 if all_pages == folded else all_pages
        # One that is held by a reader outside is not worth a try each time.
        self._next = self._pages + (EVERY_PAGES if all_pages < _TOO_MANY_PAGES else _TOO_MANY_PAGES)


def _checkpoint(db: sqlite3.Connection) -> tuple[int, int]:
    """Fold back what can be, without waiting for anybody: the pages of the -wal, and how many of them are."""
    _, all_pages, folded = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return max(all_pages, 0), max(folded, 0)
