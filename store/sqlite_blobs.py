"""Large blobs in and out of SQLite, each without a copy of its whole.

A bound parameter is copied, and the cached statement keeps the copy until it is used again; a column of a row is copied
twice.
"""

import sqlite3

LARGE_BYTES = 2**20
"""Blobs beyond this are inserted as `zeroblob` and written here; statements give NULL for them."""

_SLICE_BYTES = 256 * 1024


def write_blob(db: sqlite3.Connection, table: str, column: str, row: int | None, data: bytes) -> None:
    """Fill a blob that was inserted as `zeroblob`, in the same transaction."""
    assert row is not None  # an INSERT that did not raise has made a row
    with db.blobopen(table, column, row) as blob, memoryview(data) as view:
        for at in range(0, len(view), _SLICE_BYTES):
            blob.write(view[at : at + _SLICE_BYTES])


def read_blob(db: sqlite3.Connection, table: str, column: str, row: int) -> bytes:
    """The whole of a blob, in the transaction that found its row."""
    with db.blobopen(table, column, row, readonly=True) as blob:
        return blob.read()
