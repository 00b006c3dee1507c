"""The SQLite backend: the suite of all backends, and what a file adds to it."""
# ruff: noqa: ASYNC240 - the files of these tests are small and local

import asyncio
import itertools
import os
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respool.store import sqlite, sqlite_pace, sqlite_rows, sqlite_wal
from respool.store.backend import Adopt, Append, Create, Delete, Expire, RequestCancel, Start, Withdraw, Write
from respool.store.base import (
    CLAIM_SECONDS,
    Claim,
    Fenced,
    Filter,
    Incompatible,
    Key,
    Locked,
    Note,
    Page,
    StorageFailed,
)
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from respool.store.open import open_reader, open_store
from respool.store.sqlite import SqliteBackend
from respool.store.sqlite_blobs import read_blob
from respool.store.sqlite_file import APPLICATION_ID
from respool.store.statements import migrations
from respool.store.status import Status
from tests.store.conformance import Conformance
from tests.store.probe import KEY, OTHER, chunk, end, follow, head, killed, numbered


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a db? #1%.sqlite")


class TestSqlite(Conformance):
    @pytest.fixture
    async def backend(self, path: str) -> AsyncIterator[SqliteBackend]:
        backend = await SqliteBackend.open(path)
        yield backend
        await backend.close()


async def test_a_reopened_store_shows_the_same(path: str) -> None:
    store = Log(await SqliteBackend.open(path))
    await store.create(head(), b"request")
    await store.append(KEY, 1, chunk(0, b"a", b"", b"ccc"), note=Note("a1", "s1"))
    await store.append(KEY, 1, chunk(3, b"d"), end=end())
    before = await store.list(Filter()), await follow(store), await store.request(KEY), await store.result(KEY)
    await store.close()

    store = Log(await SqliteBackend.open(path))
    after = await store.list(Filter()), await follow(store), await store.request(KEY), await store.result(KEY)
    await store.close()
    assert after == before


async def test_orphans_are_adopted_after_a_reopening_and_their_old_writer_is_fenced(path: str) -> None:
    store = Log(await SqliteBackend.open(path))
    await store.create(head(), b"")
    await store.append(KEY, 1, chunk(0, b"a"))
    await store.request_cancel(KEY)
    await store.close()

    store = Log(await SqliteBackend.open(path))
    (orphan,) = await store.adopt()
    assert (orphan.key, orphan.epoch, orphan.last_seq, orphan.cancel_requested) == (KEY, 2, 0, True)
    with pytest.raises(Fenced):
        await store.append(KEY, 1, None, end=end(Status.CANCELLED))
    await store.append(KEY, 2, chunk(1, b"b"), end=end(Status.CANCELLED))
    assert await follow(store) == [(0, b"a"), (1, b"b")]
    await store.close()


async def test_a_claim_outlives_a_reopening(path: str) -> None:
    store = Log(await SqliteBackend.open(path))
    await store.create(head(), b"", Claim("k", b"digest"))
    await store.close()
    store = Log(await SqliteBackend.open(path))
    assert (await store.claimed("ann", "k", head().created_at)).digest == b"digest"
    await store.close()


async def test_a_file_of_each_earlier_version_is_brought_up_to_date_with_what_is_in_it(path: str) -> None:
    scripts = migrations("sqlite")
    for version in range(1, len(scripts)):
        Path(path).unlink(missing_ok=True)
        db = sqlite3.connect(path)
        for script in scripts[:version]:
            db.executescript(script)
        db.executescript(
            "INSERT INTO response (owner, id, status, background, stream, created_at, envelope, epoch, ended_at_ms)"
            " VALUES ('ann', 'r1', 'completed', 1, 1, 1700000000, x'7b7d', 1, 1700000001000);"
            "INSERT INTO request VALUES (1, x'62'); INSERT INTO result VALUES (1, x'66');"
            "INSERT INTO chunk VALUES (1, 0, 1700000000123, x'01000000', x'61');"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};"
        )
        db.close()
        store = Log(await SqliteBackend.open(path))
        assert await follow(store) == [(0, b"a")]
        assert (await store.request(KEY), await store.result(KEY)) == (b"b", b"f")
        await store.create(head(OTHER), b"", Claim("k", b"digest"))
        assert (await store.claimed("ann", "k", head().created_at)).key == OTHER
        assert [found.key.id for found in await store.list(Filter())] == ["r2", "r1"]
        await store.close()


async def test_an_order_of_creation_outlives_deletes_and_reopenings(path: str) -> None:
    backend = await SqliteBackend.open(path)
    for name in ("r1", "r2"):
        await backend.commit([Create(head(Key("ann", name)), b"")])
    await backend.commit([Append(OTHER, 1, None, end=end()), Delete(OTHER)])
    await backend.close()
    backend = await SqliteBackend.open(path)
    await backend.commit([Create(head(Key("ann", "r0")), b"")])
    assert [found.key.id for found in await backend.list(Filter())] == ["r0", "r1"]
    await backend.close()


async def test_a_second_process_is_told_who_serves_the_database(path: str) -> None:
    backend = await SqliteBackend.open(path, url="http://127.0.0.1:8088")
    with pytest.raises(Locked, match=f"process {os.getpid()} at http://127.0.0.1:8088") as refused:
        await SqliteBackend.open(path)
    assert os.path.realpath(path) in str(refused.value)
    await backend.close()
    await (await SqliteBackend.open(path)).close()


async def test_any_name_of_the_file_meets_a_lock(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = await SqliteBackend.open(path)
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "hard link").hardlink_to(path)
    monkeypatch.chdir(tmp_path)
    for name in (tmp_path / "link", tmp_path / "folder" / Path(path).name, Path(path).name, "hard link"):
        with pytest.raises(Locked):
            await SqliteBackend.open(str(name))
    (tmp_path / f"{path}.lock").unlink()
    with pytest.raises(Locked):
        await SqliteBackend.open(path)
    await backend.commit([Create(head(), b"")])
    await backend.close()
    await (await SqliteBackend.open("hard link")).close()


async def test_what_has_lost_its_name_is_not_written_to(path: str) -> None:
    backend = await SqliteBackend.open(path)
    store = Log(backend)
    await store.create(head(), b"")
    for suffix in ("", "-wal", "-shm"):
        os.rename(path + suffix, f"{path}.away")
        for attempt in (store.append(KEY, 1, chunk(0, b"a")), store.ping()):
            with pytest.raises(StorageFailed, match="was taken away while it is served"):
                await attempt
        Path(path + suffix).touch()
        for attempt in (store.append(KEY, 1, chunk(0, b"a")), store.ping()):
            with pytest.raises(StorageFailed, match="was replaced while it is served"):
                await attempt
        assert (await store.head(KEY)).last_seq == -1
        os.rename(f"{path}.away", path + suffix)
    await store.append(KEY, 1, chunk(0, b"a"), end=end())
    await store.close()
    store = Log(await SqliteBackend.open(path))
    assert await follow(store) == [(0, b"a")]
    await store.close()


async def test_the_lock_ends_with_its_process_however_that_ends(path: str) -> None:
    script = (
        "import asyncio, os, sys\n"
        "from respool.store.sqlite import SqliteBackend\n"
        "asyncio.run(SqliteBackend.open(sys.argv[1]))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", script, path)
    assert await child.wait() == -9
    await (await SqliteBackend.open(path)).close()


@pytest.mark.parametrize("mask", [0, 0o777])
@pytest.mark.parametrize("mode_before", [None, 0o666])
async def test_all_files_are_for_their_owner_alone(
    path: str, tmp_path: Path, mask: int, mode_before: int | None
) -> None:
    """Whatever the process was started with, and whatever modes the files have that it finds."""
    if mode_before is not None:
        await killed(f"sqlite:///{path}")
        for file in tmp_path.iterdir():
            file.chmod(mode_before)
    before = os.umask(mask)
    try:
        backend = await SqliteBackend.open(path)
        await backend.commit([Create(head(OTHER), b"secret")])
        modes = {file.name.rpartition("sqlite")[2]: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        await backend.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["", "-wal", "-shm", ".lock"], 0o600)


async def test_a_close_empties_the_wal_though_another_process_looks_into_the_file(path: str, tmp_path: Path) -> None:
    store = Log(await SqliteBackend.open(path))
    await store.create(head(), b"request")
    reader = await open_reader(f"sqlite:///{path}")
    assert await reader.request(KEY) == b"request"
    await store.close()
    sizes = {file.name.rpartition("-")[2]: file.stat().st_size for file in tmp_path.glob("*-wal")}
    assert sizes == {"wal": 0}
    assert await reader.request(KEY) == b"request"
    await reader.close()


async def test_a_closed_database_is_one_sound_file(path: str, tmp_path: Path) -> None:
    store = Log(await SqliteBackend.open(path))
    await store.create(head(), b"")
    await store.create(head(OTHER), b"")
    await store.append(KEY, 1, chunk(0, b"x" * 100_000), end=end())
    await store.append(OTHER, 1, chunk(0, b"y"), end=end())
    await store.delete(KEY)
    await store.close()
    assert not list(tmp_path.glob("*-wal")) + list(tmp_path.glob("*-shm"))
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    left = [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("request", "result", "chunk")]
    assert left == [1, 1, 1]
    db.close()


@pytest.mark.parametrize(("name", "level"), [("NORMAL", 1), ("FULL", 2)])
async def test_the_writer_syncs_as_it_was_told(path: str, name: str, level: int) -> None:
    backend = await SqliteBackend.open(path, synchronous="FULL" if name == "FULL" else "NORMAL")
    found = await backend._writer.run(lambda db: db.execute("PRAGMA synchronous").fetchone())
    await backend.close()
    assert found == (level,)


async def test_the_database_of_a_newer_respool_is_refused(path: str) -> None:
    await (await SqliteBackend.open(path)).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Incompatible, match=r"version 99, .*versions up to 4\."):
        await SqliteBackend.open(path)


async def test_a_database_of_before_the_time_of_creation_was_kept_finely_is_brought_up_to_date(path: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"BEGIN; {migrations('sqlite')[0]}; PRAGMA user_version = 1; COMMIT;")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(
            "INSERT INTO response (owner, id, status, background, stream, created_at, epoch, envelope)"
            " VALUES ('ann', 'r1', 'in_progress', 1, 1, 1700000000, 1, x'7b7d')"
        )
        db.commit()
    log = Log(await SqliteBackend.open(path))
    await log.create(replace(head(OTHER), created_at_ms=1_700_000_000_123), b"")
    assert [found.created_at_ms for found in await log.list(Filter())] == [1_700_000_000_123, None]
    assert (await log.head(KEY)).created_at == 1_700_000_000
    await log.close()


@pytest.mark.parametrize("content", [b"not a database", b"\x00\xff" * 4096])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    with pytest.raises(Incompatible, match="is not a SQLite database"):
        await SqliteBackend.open(path)
    assert Path(path).read_bytes() == content


async def test_the_database_of_another_program_is_refused_and_left_alone(path: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE response (theirs)")
    db.close()
    before = Path(path).read_bytes()
    with pytest.raises(Incompatible, match="not one of respool"):
        await SqliteBackend.open(path)
    assert Path(path).read_bytes() == before


async def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="missing"):
        await SqliteBackend.open(str(tmp_path / "missing" / "x.db"))


async def test_a_full_disk_fails_the_write_and_not_the_next_when_there_is_room_again(path: str) -> None:
    backend = await SqliteBackend.open(path)
    store = Log(backend)
    await store.create(head(), b"")
    await store.append(KEY, 1, chunk(0, b"a"))
    await backend._writer.run(lambda db: db.execute("PRAGMA max_page_count = 1").fetchone())
    for _ in range(2):
        with pytest.raises(StorageFailed, match="full"):
            await store.append(KEY, 1, chunk(1, b"x" * 50_000))
    assert numbered(await backend.read(KEY, -1, 100)) == [(0, b"a")]
    await backend._writer.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
    await store.append(KEY, 1, chunk(1, b"x" * 50_000), end=end())
    await store.close()
    store = Log(await SqliteBackend.open(path))
    assert await follow(store) == [(0, b"a"), (1, b"x" * 50_000)]
    await store.close()


async def test_a_group_that_fails_anywhere_leaves_nothing_and_succeeds_when_tried_again(path: str) -> None:
    backend = await SqliteBackend.open(path)
    failed = 0
    for steps in range(1, 400, 4):
        key = Key("ann", f"r{steps}")
        group: list[Write] = [
            Create(head(key), b""),
            Append(key, 1, chunk(0, b"a"), Note("a1")),
            Append(key, 1, None, end=end()),
        ]
        await backend._writer.run(_interrupt_after, steps)
        try:
            assert await backend.commit(group) == [None] * 3
        except StorageFailed:
            failed += 1
            await backend._writer.run(lambda db: db.set_progress_handler(None, 0))
            assert key not in [found.key for found in await backend.list(Filter(limit=1))]
            assert await backend.commit(group) == [None] * 3
        assert (await backend.read(key, -1, 100)).ended
    await backend.close()
    assert 0 < failed < 100


async def test_small_writes_are_done_at_once_and_no_others(path: str) -> None:
    backend = await SqliteBackend.open(path)
    small = Append(KEY, 1, chunk(0, b"a"))
    assert backend.commit_now([Create(head(), b""), small]) == [None, None]
    assert numbered(await backend.read(KEY, -1, 100)) == [(0, b"a")]
    assert backend.commit_now([Append(KEY, 1, chunk(1, b"x" * 2**20))]) is None
    assert backend.commit_now([Adopt()]) is None
    under_way = asyncio.create_task(backend.ping())
    await asyncio.sleep(0)
    assert backend.commit_now([Append(KEY, 1, chunk(1, b"b"))]) is None
    await under_way
    assert backend.commit_now([Append(KEY, 1, chunk(1, b"b"))]) == [None]
    await backend.close()


async def test_no_disk_is_waited_for_on_the_event_loop(path: str) -> None:
    backend = await SqliteBackend.open(path, synchronous="FULL")
    assert backend.commit_now([Create(head(), b"")]) is None
    await backend.close()


def waits(reading: Coroutine[Any, Any, object]) -> bool:
    """Whether a read waits for a thread; it is not finished."""
    try:
        reading.send(None)
    except StopIteration:
        return False
    reading.close()
    return True


async def test_a_little_is_read_without_a_thread_as_long_as_the_disk_is_quick(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(sqlite_pace, "time", SimpleNamespace(monotonic=lambda: now))
    backend = await SqliteBackend.open(path)
    await backend.commit([Create(head(), b""), Append(KEY, 1, chunk(0, b"a"))])
    assert not waits(backend.read(KEY, -1, 100))
    assert not waits(backend.head(KEY))

    def late(db: sqlite3.Connection, *asked: Any) -> Page:
        nonlocal now
        now += 0.02
        return sqlite_rows.read_page(db, *asked)

    def slow(db: sqlite3.Connection, *asked: Any) -> Page:
        time.sleep(0.001)  # a wait, as for a disk
        return late(db, *asked)

    for read in (late, slow):
        with monkeypatch.context() as patch:
            patch.setattr(sqlite, "read_page", read)
            assert not waits(backend.read(KEY, -1, 100))
        assert waits(backend.head(KEY)) is (read is slow)
    assert (await backend.read(KEY, -1, 100)).chunks == [chunk(0, b"a")]
    now += 1.01
    assert not waits(backend.head(KEY))
    await backend.close()


async def test_a_very_large_event_is_read_in_a_thread(path: str) -> None:
    backend = await SqliteBackend.open(path)
    large = chunk(1, b"x" * (2**20 + 1))
    await backend.commit([Create(head(), b""), Append(KEY, 1, chunk(0, b"a")), Append(KEY, 1, large)])
    assert not waits(backend.read(KEY, -1, 100))
    assert waits(backend.read(KEY, 0, 100))
    assert (await backend.read(KEY, 0, 100)).chunks == [large]
    await backend.close()


async def test_what_a_page_has_no_room_for_is_not_loaded(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(db: sqlite3.Connection, table: str, column: str, row: int) -> bytes:
        loaded.append(row)
        return read_blob(db, table, column, row)

    monkeypatch.setattr(sqlite_rows, "read_blob", load)
    backend = await SqliteBackend.open(path)
    first, second = chunk(0, b"a" * 200_000), chunk(1, b"b" * 200_000)
    await backend.commit([Create(head(), b""), Append(KEY, 1, first), Append(KEY, 1, second)])
    assert (await backend.read(KEY, -1, 256 * 1024)).chunks == [first]
    assert len(loaded) == 1
    assert (await backend.read(KEY, -1, 512 * 1024)).chunks == [first, second]
    await backend.close()


async def test_who_asked_first_is_told_first_while_more_is_written(path: str) -> None:
    store = Log(await SqliteBackend.open(path, synchronous="FULL"))
    await store.create(head(), b"")
    told: list[int] = []

    def tell(number: int, error: Exception | None) -> None:
        assert error is None
        told.append(number)
        if number < 50:
            # What is asked for here is in the queue while the group before is told.
            store.append_soon(KEY, 1, chunk(number + 2, b"x"), partial(tell, number + 2))

    for number in (0, 1):
        store.append_soon(KEY, 1, chunk(number, b"x"), partial(tell, number))
        await asyncio.sleep(0)
    while len(told) < 52:
        await store.ping()
    await store.append(KEY, 1, None, end=end())
    await store.close()
    assert told == list(range(52))


async def test_who_holds_the_database_holds_up_the_writes_and_nothing_else(path: str) -> None:
    backend = await SqliteBackend.open(path)
    store = Log(backend)
    await store.create(head(), b"")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    append = asyncio.create_task(store.append(KEY, 1, chunk(0, b"a"), end=end()))
    turns = 0
    while backend._writer.busy == 0:
        await asyncio.sleep(0)
        turns += 1
        assert turns < 100
    assert not (await store.read(KEY, -1, 100)).chunks
    other.execute("COMMIT")
    other.close()
    await append
    assert await follow(store) == [(0, b"a")]
    await store.close()


@pytest.mark.parametrize(("before", "after"), [([0.0], 0.0), ([0.1], 0.0), ([0.0, 0.0, 0.3], 0.05)])
async def test_the_wal_stays_small_while_the_writes_never_pause(
    path: str, monkeypatch: pytest.MonkeyPatch, before: list[float], after: float
) -> None:
    """With a disk as it is, and with one that takes long to fold it back: each time, or now and then."""
    folds, waits = sqlite_wal._checkpoint, itertools.cycle(before)

    def folds_slowly(db: sqlite3.Connection) -> tuple[int, int]:
        time.sleep(next(waits))
        folded = folds(db)
        time.sleep(after)
        return folded

    monkeypatch.setattr(sqlite_wal, "_checkpoint", folds_slowly)
    store = Log(await SqliteBackend.open(path))
    await store.create(head(), b"")
    largest = 0
    for number in range(10_000):
        await store.append(KEY, 1, chunk(number, b"x" * 5000))
        if number % 100 == 0:
            largest = max(largest, os.path.getsize(f"{path}-wal"))
    assert largest < 48 * 2**20
    assert os.path.getsize(path) > 10 * 2**20
    await store.close()
    assert os.path.getsize(path) > 50_000_000


async def test_a_wal_that_cannot_be_folded_back_fails_no_write(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(db: sqlite3.Connection) -> tuple[int, int]:
        raise sqlite3.OperationalError("disk I/O error")

    store = Log(await SqliteBackend.open(path))
    await store.create(head(), b"")
    monkeypatch.setattr(sqlite_wal, "_checkpoint", fails)
    for number in range(1000):
        await store.append(KEY, 1, chunk(number, b"x" * 10_000))
    monkeypatch.undo()
    await store.append(KEY, 1, None, end=end())
    await store.close()
    assert os.path.getsize(path) > 10_000_000


async def test_one_row_that_cannot_be_written_fails_its_run_alone(path: str) -> None:
    backend = await SqliteBackend.open(path)
    store = Log(backend)
    keys = [Key("ann", f"r{number}") for number in range(20)]
    await asyncio.gather(*(store.create(head(key), b"") for key in keys))
    await backend._writer.run(lambda db: db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000))
    sizes = [20_000 if key == keys[7] else 100 for key in keys]
    writes = [store.append(key, 1, chunk(0, b"x" * size)) for key, size in zip(keys, sizes, strict=True)]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageFailed if key == keys[7] else type(None) for key in keys]
    for key in keys:
        assert len(numbered(await backend.read(key, -1, 100))) == (key != keys[7])
    await store.append(keys[7], 1, chunk(0, b"storage_error"), end=end(Status.FAILED))
    assert await follow(store, keys[7]) == [(0, b"storage_error")]
    await store.close()


def _interrupt_after(db: sqlite3.Connection, steps: int) -> None:
    """Let SQLite fail once after so many steps of its virtual machine."""
    left = iter([False] * steps + [True])
    db.set_progress_handler(lambda: next(left, False), 1)


async def test_a_ping_finds_out_that_nothing_can_be_written(path: str) -> None:
    backend = await SqliteBackend.open(path)
    await backend.ping()
    await backend._writer.run(lambda db: db.execute("PRAGMA query_only = ON"))
    with pytest.raises(StorageFailed):
        await backend.ping()
    await backend._writer.run(lambda db: db.execute("PRAGMA query_only = OFF"))
    await backend.ping()
    await backend.close()


@pytest.mark.parametrize(
    ("which", "index"),
    [
        (Filter(owner="ann"), "response_by_owner"),
        (Filter(conversation="c"), "response_by_conversation"),
        (Filter(owner="ann", after="r1"), "response_by_owner"),
    ],
)
async def test_a_list_is_read_from_its_index_and_needs_no_sorting(path: str, which: Filter, index: str) -> None:
    backend = await SqliteBackend.open(path)
    reader, seen = backend._reader(), list[str]()
    await reader.run(lambda db: db.set_trace_callback(seen.append))
    await backend.list(which)
    await reader.run(lambda db: db.set_trace_callback(None))
    plan = await reader.run(lambda db: db.execute(f"EXPLAIN QUERY PLAN {seen[0]}").fetchall())
    await backend.close()
    details = " ".join(row[3] for row in plan)
    assert index in details
    assert "TEMP B-TREE" not in details


async def test_a_store_is_opened_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for address in ("sqlite:///relative.db", f"sqlite:///{tmp_path}/absolute.db", "memory:"):
        store = await open_store(address)
        await store.create(head(), b"")
        await store.close()
    assert {file.name for file in tmp_path.glob("*.db")} == {"relative.db", "absolute.db"}


@pytest.mark.parametrize("address", ["", "relative.db", "sqlite://", "sqlite:///", "postgres://x", "memory"])
async def test_an_address_of_no_store_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is no store"):
        await open_store(address)


# Whatever is written, in whatever groups, the file behaves as the reference does

_keys = st.sampled_from([KEY, OTHER, Key("bob", "r1")])
_chunks = st.none() | st.builds(
    lambda first, events: chunk(first, *events), st.integers(0, 4), st.lists(st.binary(max_size=3), min_size=1)
)
_ends = st.none() | st.builds(end, st.sampled_from([Status.COMPLETED, Status.FAILED, Status.CANCELLED]))
_notes = st.none() | st.builds(Note, st.none() | st.text("ab"), st.none() | st.text("ab"))
_epochs = st.sampled_from([1, 1, 1, 2])
_writes: st.SearchStrategy[Write] = st.one_of(
    st.builds(
        lambda key, claim, days: Create(replace(head(key), created_at=days * CLAIM_SECONDS), b"body", claim),
        _keys,
        st.none() | st.builds(Claim, st.sampled_from("kl"), st.binary(max_size=1)),
        st.integers(0, 2),
    ),
    st.builds(Append, _keys, _epochs, _chunks, _notes, _ends),
    st.builds(Append, _keys, _epochs, _chunks, _notes, _ends),
    st.builds(Withdraw, _keys, _epochs),
    st.builds(lambda key: Create(head(key, status=Status.QUEUED), b"", call=b"kept"), _keys),
    st.builds(Start, _keys, _epochs),
    st.builds(RequestCancel, _keys),
    st.builds(Delete, _keys),
    st.builds(Adopt),
    st.builds(Expire, st.sampled_from([0, end().at_ms, end().at_ms + 1]), st.just(0), st.just(frozenset({OTHER}))),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_writes, min_size=1, max_size=8), max_size=6), st.integers(0, 5))
def test_the_file_agrees_with_the_reference(groups: list[list[Write]], reopen_at: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_agree(f"{folder}/x.db", groups, reopen_at))


async def _agree(path: str, groups: list[list[Write]], reopen_at: int) -> None:
    reference, file = MemoryBackend(), await SqliteBackend.open(path)
    for number, group in enumerate(groups):
        if number == reopen_at:
            await file.close()
            file = await SqliteBackend.open(path)
        expected = await reference.commit(group)
        assert list(map(repr, await file.commit(group))) == list(map(repr, expected))
    assert await file.list(Filter()) == await reference.list(Filter())
    for found in await reference.list(Filter()):
        assert await file.read(found.key, -1, 10) == await reference.read(found.key, -1, 10)
        assert await file.result(found.key) == await reference.result(found.key)
        assert await file.call(found.key) == await reference.call(found.key)
    await file.close()
