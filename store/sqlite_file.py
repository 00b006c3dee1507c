"""A SQLite database of ours: how it is recognised, made, migrated and opened."""

import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Concatenate, Literal, ParamSpec, Self, TypeVar

import aiosqlite

from respool.store.base import Incompatible, StorageFailed
from respool.store.statements import migrations

APPLICATION_ID = 0x72737031
"""Says in the header of the file whose it is: "rsp1"."""

Synchronous = Literal["NORMAL", "FULL"]

P = ParamSpec("P")
T = TypeVar("T")

_MIGRATIONS = migrations("sqlite")
NEWEST = len(_MIGRATIONS)
"""The version of the schema that this respool reads and writes."""

_BUSY_SECONDS = 5.0

# Of a thread for whose work nobody waits; a tenth of what the others get where the processor is short.
_NICE = 10


class Connection(aiosqlite.Connection):
    """A connection in a thread of its own, which runs whole functions there.

    Each call of aiosqlite is a round trip to the thread, some 60 us; a transaction statement by statement would be
    five of them and more.
    """

    def __init__(self, database: str, *, uri: bool = False) -> None:
        connect = partial(
            sqlite3.connect,
            database,
            uri=uri,
            isolation_level=None,
            timeout=_BUSY_SECONDS,
            check_same_thread=False,
        )
        super().__init__(connect, iter_chunk_size=64)
        # A process that fails on its way out must not hang for this thread; to SQLite it is a crash, which it survives.
        self._thread.daemon = True
        # Each counted by one thread alone. A caller that is cancelled does not make the other thread finish.
        self._asked = self._done = 0
        self._waits = True

    @classmethod
    async def writer(cls, path: str, synchronous: Synchronous) -> Self:
        """The one connection that writes, on a database of this version. Raises Incompatible, StorageFailed."""
        connection = cls(path)
        await connection._start()
        try:
            await connection.run(_prepare, path, synchronous)
        except BaseException:
            await connection.close()
            raise
        return connection

    @classmethod
    async def keeper(cls, path: str) -> Self:
        """A connection that folds the -wal back, beside an open writer. Raises StorageFailed."""
        connection = cls(path)
        await connection._start()
        await connection.run(_give_way)
        return connection

    @classmethod
    async def reader(cls, path: str, *, immutable: bool = False) -> Self:
        """A connection that cannot write, beside an open writer. Raises StorageFailed.

        With `immutable` it takes the file for one that nobody writes: it looks for no file beside it and makes none.
        """
        connection = cls(f"file:{_quote(path)}?mode=ro{'&immutable=1' if immutable else ''}", uri=True)
        await connection._start()
        return connection

    async def _start(self) -> None:
        try:
            await self
        except sqlite3.Error as error:
            raise StorageFailed(f"SQLite: {error}") from error

    async def run(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work` with the bare connection, in its thread. Raises StorageFailed for what SQLite raises."""
        # The thread remembers its last call and what came of it until the next: it must not remember megabytes.
        given, found = [partial(work, self._conn, *args, **kwargs)], list[T]()

        def call() -> None:
            try:
                found.append(given.pop()())
            finally:
                self._done += 1

        try:
            if not self.busy:
                self._wait(True)
            self._asked += 1
            await self._execute(call)  # type: ignore[no-untyped-call]
            return found.pop()
        except sqlite3.Error as error:
            raise StorageFailed(f"SQLite: {error}") from error

    @property
    def busy(self) -> int:
        """How many calls its thread has not done yet."""
        return self._asked - self._done

    def run_here(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same in the calling thread, while nothing runs in the other one. Waits for nobody who holds a lock."""
        assert not self.busy
        try:
            self._wait(False)
            return work(self._conn, *args, **kwargs)
        except sqlite3.Error as error:
            raise StorageFailed(f"SQLite: {error}") from error

    def _wait(self, waits: bool) -> None:
        """Whether others who hold a lock are waited for."""
        if waits is not self._waits:
            self._conn.execute(f"PRAGMA busy_timeout = {round(_BUSY_SECONDS * 1000) if waits else 0}")
            self._waits = waits


def _give_way(_: sqlite3.Connection) -> None:
    """Leave the processor to the threads that somebody waits for, where one may say so."""
    if sys.platform == "linux":
        # There a thread has a priority of its own, and only root may raise one.
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICE)


def make_private(path: str) -> None:
    """Make sure that the file is there, for its owner alone, as what is found beside it. Raises StorageFailed.

    To be called before the database is open: closing a second descriptor of it would drop the locks of SQLite. The
    files that SQLite puts beside it get its mode. Who may write files of somebody else must take them as they are, and
    a database that nobody may write stays one.
    """
    try:
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            os.fchmod(descriptor, 0o600)
            os.close(descriptor)
        with suppress(PermissionError):
            os.chmod(path, os.stat(path).st_mode & 0o600)
        for suffix in ("-wal", "-shm", ".lock"):
            with suppress(FileNotFoundError, PermissionError):
                os.chmod(path + suffix, 0o600)
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}") from error


def fold(db: sqlite3.Connection) -> None:
    """Write what is in the -wal into the database and empty it, before a close.

    SQLite does so at the close of the last connection alone, and a reader of another process is one too. It does not
    wait long for such a reader, and what fails here is lost to nobody: the -wal stays as it is.
    """
    with suppress(sqlite3.Error):
        db.execute("PRAGMA busy_timeout = 1000")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def in_transaction(db: sqlite3.Connection, begin: str, work: Callable[[], T]) -> T:
    """`work` between `begin` and COMMIT, or undone."""
    try:
        db.execute(begin)
        done = work()
        db.execute("COMMIT")
    except BaseException:
        # After some errors SQLite has rolled back by itself; one that forbids even this must not hide the first.
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    return done


def _prepare(db: sqlite3.Connection, path: str, synchronous: Synchronous) -> None:
    version = recognise(db, path)
    if version == 0:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # later it would take a full VACUUM
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute("PRAGMA foreign_keys = ON")
    # Else the commit that reaches the limit does it, and everybody waits for the disk. See `sqlite_wal`.
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("PRAGMA journal_size_limit = 67108864")
    for number, script in enumerate(_MIGRATIONS[version:], version + 1):
        _migrate(db, number, script)


def recognise(db: sqlite3.Connection, path: str) -> int:
    """The version of the schema, 0 for an empty file. Writes nothing. Raises Incompatible."""
    try:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (objects,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        raise Incompatible(f"{path} is not a SQLite database.") from error
    if application != APPLICATION_ID and (application or objects):
        raise Incompatible(f"{path} is a SQLite database, but not one of respool.")
    if version > NEWEST:
        raise Incompatible(
            f"{path} was written by a newer respool: its schema has version {version}, "
            f"this respool knows versions up to {NEWEST}."
        )
    return int(version)


def _migrate(db: sqlite3.Connection, version: int, script: str) -> None:
    marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};"
    try:
        db.executescript(f"BEGIN IMMEDIATE; {script} {marks} COMMIT;")
    except sqlite3.Error:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _quote(path: str) -> str:
    """`path` for a file: URI, where these three characters mean something."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
