"""A database of ours opened for reading alone: beside the process that serves it, after its death, or in an archive.

Three ways lead into a file, and none of them changes it:

- With a -wal file beside it (a server is running, or was killed) it is opened `mode=ro`, and the -wal is read too.
- Without one it is a whole, and opened `immutable`: with `mode=ro` SQLite would make the two files beside it, which are
  nobody's afterwards, and could not in a folder that cannot be written. Should a server begin to write just then, what
  was read meanwhile is read again.
- An empty -wal in a folder that cannot be written is as good as none.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import Concatenate, NamedTuple, ParamSpec, Self, TypeVar

from respool.store import sqlite_survey
from respool.store.archive import Fault, Last, Survey
from respool.store.base import Filter, Head, Incompatible, Key, Page, StorageFailed, StoreError
from respool.store.sqlite_file import NEWEST, Connection, recognise
from respool.store.sqlite_rows import find_head, find_request, find_result, list_heads, read_page

P = ParamSpec("P")
T = TypeVar("T")


class _Look(NamedTuple):
    """How the files were when they were looked at. `wal` is the size of the -wal file in bytes, None without one."""

    inode: int
    size: int
    mtime_ns: int
    wal: int | None


class SqliteReader:
    """An Archive in a file that another process may be writing, or nobody."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: Connection | None = None
        # How a file was that is read as one that nobody writes; None while it is read beside its -wal.
        self._unchanging: _Look | None = None
        self._asking = asyncio.Lock()

    @classmethod
    async def open(cls, path: str) -> Self:
        """Open the database at `path`, of this version alone. Raises Incompatible, StorageFailed."""
        reader = cls(os.path.realpath(path))  # noqa: ASYNC240 - once, before anything is read
        await reader._ask(_check_version, reader._path)
        return reader

    async def read(self, key: Key, after: int, max_bytes: int) -> Page:
        return await self._ask(read_page, key, after, max_bytes)

    async def head(self, key: Key) -> Head:
        return await self._ask(find_head, key)

    async def request(self, key: Key) -> bytes:
        return await self._ask(find_request, key)

    async def result(self, key: Key) -> bytes | None:
        return await self._ask(find_result, key)

    async def list(self, which: Filter) -> Sequence[Head]:
        return await self._ask(list_heads, which)

    async def owners(self) -> Sequence[str]:
        return await self._ask(sqlite_survey.owners)

    async def survey(self) -> Survey:
        return await self._ask(sqlite_survey.survey, self._path)

    async def faults(self) -> Sequence[Fault]:
        return await self._ask(sqlite_survey.faults)

    async def last_events(self, place: int, limit: int) -> Sequence[Last]:
        return await self._ask(sqlite_survey.last_events, place, limit)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _ask(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work` on what is written now: done again, if somebody wrote a file that was read as an unchanging one."""
        async with self._asking:
            while True:
                try:
                    connection = self._connection = self._connection or await self._open()
                    found = await connection.run(work, *args, **kwargs)
                except StoreError:
                    if not self._is_outdated():
                        raise
                else:
                    if not self._is_outdated():
                        return found
                await self.close()

    def _is_outdated(self) -> bool:
        return self._unchanging is not None and _look(self._path) != self._unchanging

    async def _open(self) -> Connection:
        self._unchanging = None
        look = _look(self._path)
        if look.wal is not None:
            connection = await Connection.reader(self._path)
            try:
                await connection.run(_begin_reading)
                return connection
            except BaseException as error:
                await connection.close()
                if look.wal or not _is_unopened(error):
                    raise self._explained(error) from error
        self._unchanging = look
        return await Connection.reader(self._path, immutable=True)

    def _explained(self, error: BaseException) -> BaseException:
        if not _is_unopened(error):
            return error
        return StorageFailed(
            f"{self._path} cannot be read without its -shm file, and here none can be made: "
            "copy it together with its -wal file to a folder that can be written, and read it there."
        )


def _look(path: str) -> _Look:
    """Raises StorageFailed for what is missing or may not be read."""
    try:
        database = os.stat(path)
        try:
            wal = os.stat(f"{path}-wal").st_size
        except FileNotFoundError:
            wal = None
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}") from error
    # Not tried by opening it: closing the descriptor would drop the locks of SQLite in this process.
    for file in [path] if wal is None else [path, f"{path}-wal"]:
        if not os.access(file, os.R_OK, effective_ids=True):
            owner = os.stat(file).st_uid
            raise StorageFailed(f"{file} belongs to user {owner} and may not be read by user {os.geteuid()}.")
    return _Look(database.st_ino, database.st_size, database.st_mtime_ns, wal)


def _begin_reading(db: sqlite3.Connection) -> None:
    db.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _is_unopened(error: BaseException) -> bool:
    """SQLite could not open or make a file beside the database."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.Error) and cause.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    )


def _check_version(db: sqlite3.Connection, path: str) -> None:
    version = recognise(db, path)
    if version < NEWEST:
        raise Incompatible(
            f"{path} was last written by an older respool: its schema has version {version}, this respool reads "
            f"version {NEWEST}. Serve it once with this respool, and it is brought up to date."
        )
