"""The -wal file of a SQLite database: it is folded back beside the writer, so that no commit waits for the disk."""

import asyncio
import logging
import sqlite3
from contextlib import suppress

from respool.store.base import StorageFailed
from respool.store.sqlite_file import Connection

log = logging.getLogger(__name__)

EVERY_PAGES = 1_000
"""4 MiB: about so much a power cut takes with NORMAL, and a larger interval saves hardly any write."""

_TOO_MANY_PAGES = 4_000
"""16 MiB: a -wal is used from its beginning again only when all of it was folded back, and that may need a rest.

Nor is it worth having sooner: the commit that begins it anew waits for the disk.
"""

_AHEAD_PAGES = 5_000
"""So far may the writer be beyond where a fold was due: a disk that is slower than the writes sets their pace."""

_FEW_PAGES = 100
_ROUNDS = 3


class Keeper:
    """Folds the -wal back every so many pages, with a connection and in a thread of its own.

    Meanwhile the writer goes on behind it, a bounded way; where it always does, the last pages are folded back in its
    turn (`catch_up`). It fails quietly: nothing is lost by it, the -wal grows, and that is told to the operator.
    """

    def __init__(self, connection: Connection) -> None:
        self.is_owed = False
        """Whether the next commit belongs into a thread, because it will wait for the disk."""
        self._connection = connection
        # About how many pages were written at all, how many are in the -wal, and with how many it is folded back.
        self._written = 0
        self._pages = 0
        self._next = EVERY_PAGES
        self._folding: asyncio.Task[None] | None = None

    def wrote(self, pages: int) -> None:
        """About so many pages were written."""
        self._written += pages
        self._pages += pages
        if self._pages >= self._next and self._folding is None and not self.is_owed:
            self._begin()

    @property
    def is_behind(self) -> bool:
        """Whether the next commit belongs after what is folded back now."""
        return self._folding is not None and self._pages >= self._next + _AHEAD_PAGES

    async def catch_up(self, writer: Connection) -> None:
        """Before a commit: wait for what is behind, and fold the last pages back in `writer`, where that is owed."""
        if self._folding is not None and self.is_behind:
            await asyncio.wait({self._folding})
        if self.is_owed:
            self.is_owed = False
            with suppress(StorageFailed):
                self._count(*await writer.run(_checkpoint), 0)

    async def fold(self) -> None:
        """Fold back what is there now."""
        if self._folding is not None:
            await asyncio.wait({self._folding})
        await asyncio.wait({self._folding or self._begin()})

    def _begin(self) -> asyncio.Task[None]:
        self._folding = asyncio.create_task(self._fold(), name="store-keeper")
        return self._folding

    async def close(self) -> None:
        """Let go of the connection."""
        if self._folding is not None:
            await asyncio.wait({self._folding})
        await self._connection.close()

    async def _fold(self) -> None:
        try:
            for _ in range(_ROUNDS):
                all_pages, folded, before = await self._connection.run(self._fold_back)
                if all_pages - folded < _FEW_PAGES or all_pages < _TOO_MANY_PAGES:
                    break
            self._count(all_pages, folded, self._written - before)
            # What begins the -wal anew, or ends it, waits for the disk: the one behind nothing but folded pages.
            self.is_owed = self._pages == 0 or all_pages >= _TOO_MANY_PAGES
        except StorageFailed as error:
            log.warning("wal_not_folded", extra={"error": str(error)})
            self._next = self._pages + EVERY_PAGES
        finally:
            self._folding = None

    def _fold_back(self, db: sqlite3.Connection) -> tuple[int, int, int]:
        """See `_checkpoint`; and what had been written before, looked up in the thread, where nothing comes between."""
        before = self._written
        return *_checkpoint(db), before

    def _count(self, all_pages: int, folded: int, since: int) -> None:
        """`since`: about so many pages were written behind those."""
        begins_anew = all_pages == folded and not since
        self._pages = 0 if begins_anew else all_pages + since
        # One that is held by a reader outside is not worth a try each time.
        is_held = folded < all_pages and self._pages >= _TOO_MANY_PAGES
        self._next = (0 if begins_anew else all_pages) + (_TOO_MANY_PAGES if is_held else EVERY_PAGES)


def _checkpoint(db: sqlite3.Connection) -> tuple[int, int]:
    """Fold back what can be, without waiting for anybody: the pages of the -wal, and how many of them are."""
    _, all_pages, folded = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return max(all_pages, 0), max(folded, 0)
