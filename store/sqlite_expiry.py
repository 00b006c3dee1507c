"""What has expired leaves the file in slices, so that no write waits long behind it; and the space is given back.

A response that does not fit in a slice is hidden first, in the same transaction as the first of its events that go:
it then belongs to an owner that nobody can be, and what is left of it goes with the next slices, after a crash too.
"""

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from respool.store.backend import Expire
from respool.store.base import Key
from respool.store.statements import statements

SLICE_ROWS = 500
SLICE_BYTES = 2**20
"""About a transaction: some milliseconds."""

_SLICE_PAGES = 256
_SQL = statements("sqlite")


@dataclass(slots=True)
class _Room:
    """What may still be removed in this slice. One row may be larger than the slice, or nothing would ever go."""

    rows: int = SLICE_ROWS
    bytes: int = SLICE_BYTES

    @property
    def is_left(self) -> bool:
        return self.rows > 0 and self.bytes > 0

    def take(self, size: int) -> None:
        self.rows -= 1
        self.bytes -= size


def expire(db: sqlite3.Connection, sweep: Expire) -> None:
    """See Store.expire. To be called in a transaction."""
    sweep.gone.clear()
    sweep.passed.clear()
    sweep.more = not _remove_due(db, sweep, _Room())


def _remove_due(db: sqlite3.Connection, sweep: Expire, room: _Room) -> bool:
    """False when there is more to do."""
    for (run,) in db.execute(_SQL["hidden"]).fetchall():
        if not _remove(db, run, room):
            return False
    for run, key, ended_at_ms in _oldest(db):
        if ended_at_ms >= sweep.before_ms and not _is_too_large(db, sweep.max_bytes):
            return True
        if key in sweep.spared:
            sweep.passed.append(key)
        elif not room.is_left:
            return False
        else:
            sweep.gone.append(key)
            if not _remove(db, run, room):
                db.execute(_SQL["hide"], (run,))
                return False
    return True


def _oldest(db: sqlite3.Connection) -> Iterator[tuple[int, Key, int]]:
    """The ended responses, longest ended first; each is looked up when it is asked for, so they may go meanwhile."""
    run = ended_at_ms = -1
    while row := db.execute(_SQL["next_ended"], (ended_at_ms, run)).fetchone():
        run, owner, id_, ended_at_ms = row
        yield run, Key(owner, id_), ended_at_ms


def _is_too_large(db: sqlite3.Connection, max_bytes: int) -> bool:
    if not max_bytes:
        return False
    free = _figure(db, "freelist_count")
    return (_figure(db, "page_count") - free) * _figure(db, "page_size") > max_bytes


def _remove(db: sqlite3.Connection, run: int, room: _Room) -> bool:
    """Remove a response, from its last event on; false if the slice ended before it was gone."""
    while room.is_left:
        rows = db.execute(_SQL["last_chunks"], (run, room.rows)).fetchall()
        if not rows:
            (size,) = db.execute(_SQL["size_of_bodies"], (run, run)).fetchone()
            db.execute(_SQL["delete"], (run,))
            room.take(size)
            return True
        for last, size in rows:
            if not room.is_left:
                break
            first_to_go = last
            room.take(size)
        db.execute(_SQL["delete_chunks"], (run, first_to_go))
    return False


def compact(db: sqlite3.Connection, path: str) -> bool:
    """See Backend.compact. Not to be called in a transaction."""
    free = _figure(db, "freelist_count")
    if free:
        # As a script: `execute` would leave the statement after its first page.
        db.executescript(f"PRAGMA incremental_vacuum({_SLICE_PAGES})")
        if _figure(db, "freelist_count") < free:
            return True
    if os.stat(path).st_size > _figure(db, "page_count") * _figure(db, "page_size"):
        # The file becomes shorter when its -wal is folded into it. If a reader is in the way the next call tries again.
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return False


def _figure(db: sqlite3.Connection, pragma: str) -> int:
    (figure,) = db.execute(f"PRAGMA {pragma}").fetchone()
    return int(figure)
