"""What is read from a SQLite database of ours: rows into records, each function in the thread of its connection."""

import sqlite3
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from respool.store.base import CLAIM_SECONDS, Chunk, Claimed, Filter, Head, Key, NotFound, Page
from respool.store.sqlite_blobs import read_blob
from respool.store.sqlite_file import in_transaction
from respool.store.statements import statements
from respool.store.status import Status

_SQL = statements("sqlite")
_Row = tuple[Any, ...]
# Fields of a Filter that are each one condition, with one value of the same name.
_LISTED = ("owner", "conversation", "status", "after", "prefix", "since", "until")


class TooLarge(Exception):
    """There is more to be loaded than was allowed."""


def read_page(db: sqlite3.Connection, key: Key, after: int, max_bytes: int, most: int | None = None) -> Page:
    """See Store.read. Raises TooLarge if its first event came with more than `most` bytes."""

    def page() -> Page:
        run, status, last_seq = _find(db, "position", key)
        with closing(db.execute(_SQL["chunks"], (run, after))) as rows:
            chunks = _chunks(db, rows, max_bytes, most)
            return Page.cut(chunks, after, max_bytes, last_seq if Status(status).ended else None)

    # One transaction, so that the status and the events are of the same moment.
    return in_transaction(db, "BEGIN", page)


def _chunks(db: sqlite3.Connection, rows: sqlite3.Cursor, max_bytes: int, most: int | None) -> Iterator[Chunk]:
    """The chunks of a page; a larger one is loaded only where the page has room for it, or begins with it."""
    room = None
    for last, at_ms, sizes_on_disk, data, row, size in rows:
        if data is None:
            if room is not None and size > room:
                return
            if most is not None and size > most:
                raise TooLarge
            data = read_blob(db, "chunk", "data", row)
        room = (max_bytes if room is None else room) - size
        sizes = unpacked(sizes_on_disk)
        if not sizes or sum(sizes) != len(data):
            raise ValueError(f"{sum(sizes)} bytes of events in {len(data)}")
        yield Chunk(last - len(sizes) + 1, data, sizes, at_ms)


def find_head(db: sqlite3.Connection, key: Key) -> Head:
    """See Store.head."""
    return head_of(_find(db, "head", key))


def find_request(db: sqlite3.Connection, key: Key) -> bytes:
    """See Store.request."""
    (body,) = _find(db, "request", key)
    return bytes(body)


def find_result(db: sqlite3.Connection, key: Key) -> bytes | None:
    """See Store.result."""

    def result() -> bytes | None:
        run, size, body = _find(db, "result", key)
        return read_blob(db, "result", "body", run) if body is None and size is not None else body

    return in_transaction(db, "BEGIN", result)


def find_call(db: sqlite3.Connection, key: Key) -> bytes | None:
    """See Store.call."""
    (kept,) = _find(db, "call", key)
    return None if kept is None else bytes(kept)


def find_claimed(db: sqlite3.Connection, owner: str, text: str, now: int) -> Claimed:
    """See Store.claimed."""
    row = db.execute(_SQL["claimed"], (owner, text, now - CLAIM_SECONDS)).fetchone()
    if row is None:
        raise NotFound
    id_, digest = row
    return Claimed(Key(owner, id_), digest)


def list_heads(db: sqlite3.Connection, which: Filter) -> Sequence[Head]:
    """See Store.list."""
    values: dict[str, Any] = {name: getattr(which, name) for name in _LISTED}
    conditions = [_SQL[f"list_{name}"] for name in values if values[name] is not None]
    if which.visible:
        conditions.append(_SQL["list_visible"])
    if which.older_than is not None:
        conditions.append(_SQL["list_older_than"])
        values |= {"older_owner": which.older_than.owner, "older_id": which.older_than.id}
    if which.texts:
        conditions.append(_any_text(which.texts, values))
    values["limit"] = which.limit
    rows = db.execute(" ".join([_SQL["list"], *conditions, _SQL["list_order"]]), values)
    return [head_of(row) for row in rows]


def _any_text(texts: Sequence[bytes], values: dict[str, Any]) -> str:
    """The condition that one of the texts is there; each gets a place of its own among the values."""
    values |= {f"text_{place}": text.decode() for place, text in enumerate(texts)}
    each = (_SQL["list_text"].removeprefix("AND ").replace(":text", f":text_{place}") for place in range(len(texts)))
    return f"AND ({' OR '.join(each)})"


def head_of(row: _Row) -> Head:
    """A row of the view `head` as a record."""
    _run, owner, id_, status, background, stream, *told, cancel_requested, ended_at_ms, created_at_ms = row
    told += (bool(cancel_requested), ended_at_ms, created_at_ms)
    return Head(Key(owner, id_), Status(status), bool(background), bool(stream), *told)


def _find(db: sqlite3.Connection, statement: str, key: Key) -> _Row:
    row: _Row | None = db.execute(_SQL[statement], key).fetchone()
    if row is None:
        raise NotFound
    return row


def packed(sizes: "array[int]") -> bytes:
    """The sizes of a chunk as they are on disk."""
    return _little_endian(sizes).tobytes()


def unpacked(data: bytes) -> "array[int]":
    """The sizes of a chunk that are so on disk."""
    return _little_endian(array("I", data))


def _little_endian(sizes: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        sizes = sizes[:]
        sizes.byteswap()
    return sizes
