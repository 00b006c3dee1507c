"""A whole SQLite database of ours looked through: figures, and what is wrong with it."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress

from respool.store.archive import Fault, Last, Survey
from respool.store.base import Key
from respool.store.sqlite_file import in_transaction
from respool.store.sqlite_rows import unpacked
from respool.store.statements import statements
from respool.store.status import Status

_SQL = statements("sqlite")
_MOST_FAULTS = 100
"""Of each kind: a file that is broken in many places need not be told in full."""


def owners(db: sqlite3.Connection) -> Sequence[str]:
    """See Archive.owners."""
    return [owner for (owner,) in db.execute(_SQL["owners"])]


def survey(db: sqlite3.Connection, path: str) -> Survey:
    """See Archive.survey."""

    def figures() -> Survey:
        by_status = {Status(word): count for word, count in db.execute(_SQL["by_status"])}
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (page_size,) = db.execute("PRAGMA page_size").fetchone()
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
        events, event_bytes, request_bytes, result_bytes = db.execute(_SQL["sizes"]).fetchone()
        on_disk = (bytes_on_disk(path), free * page_size)
        library = f"SQLite {sqlite3.sqlite_version}"
        return Survey(by_status, events, event_bytes, request_bytes, result_bytes, *on_disk, version, library)

    return in_transaction(db, "BEGIN", figures)


def bytes_on_disk(path: str) -> int:
    """The database and the files that SQLite has put beside it."""
    total = 0
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            total += os.stat(path + suffix).st_size
    return total


def faults(db: sqlite3.Connection) -> Sequence[Fault]:
    """See Archive.faults."""
    return in_transaction(db, "BEGIN", lambda: [*_of_the_file(db), *_of_responses(db)])


def last_events(db: sqlite3.Connection, place: int, limit: int) -> Sequence[Last]:
    """See Archive.last_events."""
    rows = db.execute(_SQL["last_events"], (place, limit))
    return [Last(run, Key(owner, id_), _last(sizes, data)) for run, owner, id_, sizes, data in rows]


def _last(sizes: bytes | None, data: bytes | None) -> bytes | None:
    if sizes is None or data is None:
        return None
    return data[len(data) - unpacked(sizes)[-1] :]


def _of_the_file(db: sqlite3.Connection) -> Iterator[Fault]:
    for (words,) in db.execute(f"PRAGMA integrity_check({_MOST_FAULTS})"):
        if words != "ok":
            yield Fault(f"SQLite: {words}")
    for table, row, parent, _ in db.execute("PRAGMA foreign_key_check").fetchmany(_MOST_FAULTS):
        yield Fault(f"row {row} of {table} belongs to no {parent}")


def _of_responses(db: sqlite3.Connection) -> Iterator[Fault]:
    for owner, id_, first, expected in db.execute(_SQL["holes"]).fetchmany(_MOST_FAULTS):
        yield Fault(f"its events go on at {first} where {expected} is expected", Key(owner, id_))
    for owner, id_ in db.execute(_SQL["without_request"]).fetchmany(_MOST_FAULTS):
        yield Fault("it has no request", Key(owner, id_))
    for owner, id_, has_ended in db.execute(_SQL["without_result"]).fetchmany(_MOST_FAULTS):
        yield Fault(
            "it has ended without a final object" if has_ended else "it has a final object and no end", Key(owner, id_)
        )
    for owner, id_, status in db.execute(_SQL["unlike_end"]).fetchmany(_MOST_FAULTS):
        yield Fault(f"its status {status} does not fit its end", Key(owner, id_))
