"""The SQLite backend: one file, one connection that writes, and a few that read."""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import Concatenate, Literal, ParamSpec, Self, TypeVar

from respool.store.backend import Adopt, Append, Create, Delete, Expire, RequestCancel, Restore, Start, Withdraw, Write
from respool.store.base import Chunk, Claimed, Filter, Head, Key, NotFound, Page, StorageFailed, StoreError
from respool.store.crashpoint import Point, reach
from respool.store.lock import Hold, Lock
from respool.store.sqlite_blobs import LARGE_BYTES, write_blob
from respool.store.sqlite_expiry import compact, expire
from respool.store.sqlite_file import Connection, Synchronous, fold, in_transaction, make_private
from respool.store.sqlite_pace import Pace
from respool.store.sqlite_rows import (
    TooLarge,
    find_call,
    find_claimed,
    find_head,
    find_request,
    find_result,
    head_of,
    list_heads,
    packed,
    read_page,
)
from respool.store.sqlite_wal import EVERY_PAGES, Keeper
from respool.store.standing import Change, Standing, appended, refusal, started
from respool.store.statements import statements
from respool.store.status import Status

READERS = 2
"""Connections that read: one more than one, so that a poll does not wait for the load of a long history."""

log = logging.getLogger(__name__)

# What is written on the event loop itself: so much takes less time there than a thread takes to wake up.
_PAGES_AT_ONCE = 128
_PAGES_A_WRITE = 2
_PAGE_BYTES = 4096

# Rows above this size split the pages that they come to, and need pages of their own.
_SPREAD_BYTES, _PAGES_A_SPREAD = 1000, 2

WAL_WORTH_TELLING = 256 * 2**20
"""Bytes of a -wal file far beyond what it grows to by itself: somebody else holds an old state of the database."""

_SQL = statements("sqlite")

P = ParamSpec("P")
T = TypeVar("T")


class SqliteBackend:
    """A Backend in a file that no other process writes: see `Lock`."""

    def __init__(
        self,
        file: Hold,
        writer: Connection,
        keeper: Keeper,
        readers: Sequence[Connection],
        held: AsyncExitStack,
        *,
        is_quick: bool,
    ) -> None:
        self._file = file
        self._writer = writer
        self._readers = readers
        self._held = held
        self._wal_told = WAL_WORTH_TELLING
        self._keeper = keeper
        self._is_quick = is_quick
        self._commits = Pace()
        self._reads = Pace()
        # What the writer knows by heart of the responses that it has lately written to. Only who runs the writer's
        # connection uses it; it is right because nobody else writes, and dropped whenever a transaction fails.
        self._standings: dict[Key, Standing] = {}

    @classmethod
    async def open(cls, path: str, *, synchronous: Synchronous = "NORMAL", url: str = "") -> Self:
        """Open the database at `path`, or make it. `url`, where this process serves, is for whoever finds it locked.

        With "NORMAL" nothing that was committed is lost when the process dies, with "FULL" nor when the power does.
        Raises Locked, Incompatible, StorageFailed.
        """
        path = os.path.realpath(path)  # noqa: ASYNC240 - once, before anything is served
        async with AsyncExitStack() as opening:
            opening.callback(Lock.acquire(f"{path}.lock", url).release)
            make_private(path)
            file = Hold.take(path)
            opening.callback(file.release)
            writer = await Connection.writer(path, synchronous)
            opening.push_async_callback(writer.close)
            opening.push_async_callback(writer.run, fold)
            keeper = Keeper(await Connection.keeper(path))
            opening.push_async_callback(keeper.close)
            readers = []
            for _ in range(READERS):
                readers.append(await Connection.reader(path))
                opening.push_async_callback(readers[-1].close)
                await readers[-1].run(_begin_reading)
            await writer.run(_touch)
            file.watch(("-wal", "-shm"))
            quick = synchronous == "NORMAL"
            return cls(file, writer, keeper, readers, opening.pop_all(), is_quick=quick)
        raise AssertionError  # an exit stack without exits that swallow exceptions does not come here

    async def close(self) -> None:
        # The writer after the readers: whoever closes last folds the -wal file into the database and removes it.
        await self._held.aclose()

    async def commit(self, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        await self._keeper.catch_up(self._writer)
        errors = await self._writer.run(self._commit, writes)
        self._keeper.wrote(sum(map(_pages, writes)))
        return errors

    def commit_now(self, writes: Sequence[Write]) -> Sequence[StoreError | None] | None:
        if not self._is_quick or not self._commits.are_quick or self._writer.busy:
            return None
        if self._keeper.is_owed or self._keeper.is_behind:
            return None
        pages = sum(map(_pages, writes))
        if pages > _PAGES_AT_ONCE:
            return None
        try:
            with self._commits.timed():
                errors = self._writer.run_here(self._commit, writes)
        except StorageFailed as error:
            if _is_busy(error):
                return None
            raise
        self._keeper.wrote(pages)
        return errors

    async def read(self, key: Key, after: int, max_bytes: int) -> Page:
        try:
            return await self._read_soon(read_page, key, after, max_bytes, LARGE_BYTES)
        except TooLarge:
            return await self._read(read_page, key, after, max_bytes)

    async def head(self, key: Key) -> Head:
        return await self._read_soon(find_head, key)

    async def request(self, key: Key) -> bytes:
        return await self._read(find_request, key)

    async def result(self, key: Key) -> bytes | None:
        return await self._read(find_result, key)

    async def list(self, which: Filter) -> Sequence[Head]:
        return await self._read(list_heads, which)

    async def claimed(self, owner: str, text: str, now: int) -> Claimed:
        return await self._read_soon(find_claimed, owner, text, now)

    async def compact(self) -> bool:
        has_more = await self._writer.run(self._compact)
        await self._keeper.fold()
        return has_more

    async def call(self, key: Key) -> bytes | None:
        return await self._read(find_call, key)

    async def ping(self) -> None:
        await self._writer.run(self._touch)

    async def _read(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with _damage_told():
            return await self._reader().run(work, *args, **kwargs)

    async def _read_soon(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same for a little, which the system most often has at hand: then a thread would take longer."""
        reader = self._reader()
        if reader.busy or not self._reads.are_quick:
            return await self._read(work, *args, **kwargs)
        try:
            with self._reads.timed(), _damage_told():
                return reader.run_here(work, *args, **kwargs)
        except StorageFailed as error:
            if not _is_busy(error):
                raise
        return await self._read(work, *args, **kwargs)

    def _reader(self) -> Connection:
        return min(self._readers, key=lambda reader: reader.busy)

    def _touch(self, db: sqlite3.Connection) -> None:
        self._file.check()
        _touch(db)

    def _compact(self, db: sqlite3.Connection) -> bool:
        self._file.check()
        return compact(db, self._file.path)

    def _commit(self, db: sqlite3.Connection, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        try:
            self._file.check()
            self._look_at_the_wal()
            return in_transaction(db, "BEGIN IMMEDIATE", lambda: self._write_all(db, writes))
        except BaseException:
            self._standings.clear()
            raise

    def _write_all(self, db: sqlite3.Connection, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        errors = [self._write(db, write) for write in writes]
        reach(Point.COMMIT)
        return errors

    def _look_at_the_wal(self) -> None:
        """Tell the operator when it grows, at each doubling; it shrinks by itself once its reader has gone."""
        size = self._file.sizes.get(f"{self._file.path}-wal", 0)
        if size >= self._wal_told:
            log.warning("wal_is_held", extra={"bytes": size, "reason": "a reader outside keeps a transaction open"})
            self._wal_told = 2 * size
        elif size < WAL_WORTH_TELLING:
            self._wal_told = WAL_WORTH_TELLING

    def _write(self, db: sqlite3.Connection, write: Write) -> StoreError | None:
        if isinstance(write, Adopt):
            self._adopt(db, write)
            return None
        if isinstance(write, Expire):
            expire(db, write)
            return None
        if isinstance(write, Restore):
            return next(filter(None, (self._write(db, each) for each in write.writes())), None)
        standing = self._standing(db, write.key)
        error = _claimed(db, write) or refusal(standing, write)
        if error is None:
            now = _change(db, standing, write)
            if now is None or now.status.ended:
                self._standings.pop(write.key, None)
            else:
                self._standings[write.key] = now
        return error

    def _standing(self, db: sqlite3.Connection, key: Key) -> Standing | None:
        known = self._standings.get(key)
        if known is None and (row := db.execute(_SQL["standing"], key).fetchone()):
            run, status, epoch, last_seq, cancel_requested = row
            known = Standing(run, Status(status), epoch, last_seq, bool(cancel_requested))
        return known

    def _adopt(self, db: sqlite3.Connection, adopt: Adopt) -> None:
        self._standings.clear()
        db.execute(_SQL["adopt"])
        adopt.heads[:] = map(head_of, db.execute(_SQL["orphans"]))


def _pages(write: Write) -> int:
    """About how many pages a write changes; what may be any number counts as enough to fold them back."""
    match write:
        case Append(chunk=chunk, end=end):
            size = (len(chunk.data) if chunk else 0) + (len(end.result) if end else 0)
        case Create(request=request):
            size = len(request)
        case Start() | Withdraw() | RequestCancel():
            size = 0
        case _:
            return EVERY_PAGES
    spread = _PAGES_A_SPREAD if size >= _SPREAD_BYTES else 0
    return _PAGES_A_WRITE + spread + size // _PAGE_BYTES


@contextmanager
def _damage_told() -> Iterator[None]:
    """What a row makes no sense for is a failure of the storage."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise StorageFailed(f"a row is damaged: {error}") from error


def _is_busy(error: StorageFailed) -> bool:
    cause = error.__cause__
    return isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorcode == sqlite3.SQLITE_BUSY


def _claimed(db: sqlite3.Connection, change: Change) -> Claimed | None:
    if not isinstance(change, Create) or change.claim is None:
        return None
    try:
        return find_claimed(db, change.key.owner, change.claim.text, change.head.created_at)
    except NotFound:
        return None


def _change(db: sqlite3.Connection, standing: Standing | None, change: Change) -> Standing | None:
    """Do what was not refused. How the response stands afterwards; None when it is no more."""
    if standing is None:
        return _create(db, change) if isinstance(change, Create) else None
    match change:
        case Append():
            return _append(db, standing, change)
        case Start():
            db.execute(_SQL["start"], (standing.run,))
            db.execute(_SQL["forget_call"], (standing.run,))
            return started(standing)
        case RequestCancel():
            db.execute(_SQL["request_cancel"], (standing.run,))
            return replace(standing, cancel_requested=True)
        case Withdraw() | Delete():
            db.execute(_SQL["delete"], (standing.run,))
    return None


def _create(db: sqlite3.Connection, create: Create) -> Standing:
    head = create.head
    told = (head.conversation, head.previous_id, head.agent_id, head.session, head.epoch, head.created_at_ms)
    claim = (create.claim.text, create.claim.digest) if create.claim else (None, None)
    if create.claim:
        db.execute(_SQL["free_claim"], (head.key.owner, create.claim.text))
    values = (*head.key, head.status, head.background, head.stream, head.created_at, head.envelope, *told, *claim)
    run = db.execute(_SQL["insert_response"], values).lastrowid
    assert run is not None  # an INSERT that did not raise has made a row
    reach(Point.CREATE)
    _insert_blob(db, "request", run, create.request)
    if create.call is not None:
        db.execute(_SQL["insert_call"], (run, create.call))
    return Standing(run, head.status, head.epoch, -1, False)


def _append(db: sqlite3.Connection, standing: Standing, append: Append) -> Standing:
    run = standing.run
    if chunk := append.chunk:
        _insert_chunk(db, run, chunk)
    if note := append.note:
        db.execute(_SQL["note"], (note.agent_id, note.session, run))
    if end := append.end:
        db.execute(_SQL["end"], (end.status, end.at_ms, run))
        reach(Point.END)
        _insert_blob(db, "result", run, end.result)
        if standing.status is Status.QUEUED:
            db.execute(_SQL["forget_call"], (run,))
    return appended(standing, append)


def _insert_chunk(db: sqlite3.Connection, run: int, chunk: Chunk) -> None:
    values = (run, chunk.last, chunk.at_ms, packed(chunk.sizes))
    if len(chunk.data) <= LARGE_BYTES:
        db.execute(_SQL["insert_chunk"], (*values, chunk.data))
        return
    row = db.execute(_SQL["insert_large_chunk"], (*values, len(chunk.data))).lastrowid
    write_blob(db, "chunk", "data", row, chunk.data)


def _insert_blob(db: sqlite3.Connection, table: Literal["request", "result"], run: int, body: bytes) -> None:
    if len(body) <= LARGE_BYTES:
        db.execute(_SQL[f"insert_{table}"], (run, body))
        return
    db.execute(_SQL[f"insert_large_{table}"], (run, len(body)))
    write_blob(db, table, "body", run, body)


def _begin_reading(db: sqlite3.Connection) -> None:
    # Histories are read once, from front to back: what the system caches of the file is enough.
    db.execute("PRAGMA cache_size = -256")
    # Only a first read opens what lies beside the file; later it may have been taken away.
    db.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _touch(db: sqlite3.Connection) -> None:
    """A real write that changes nothing: the version that the file has."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.execute(f"PRAGMA user_version = {version}")
