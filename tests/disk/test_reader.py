"""A reader outside that keeps a transaction open: writing goes on, and the -wal file is small again when it goes."""
# ruff: noqa: ASYNC240 - one look at the size of a file

import asyncio
import os
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from respool.store.base import Key
from respool.store.log import Log
from respool.store.sqlite import SqliteBackend
from tests.store.probe import chunk, head

SECONDS = float(os.environ.get("RESPOOL_READER_SECONDS", "60"))
RUNS = 50
EVERY = 0.02
MIB = 2**20
JOURNAL_SIZE_LIMIT = 64 * MIB

# Opens a transaction, says what it sees, and sees the same when it is told to look again.
READER = """
import sqlite3, sys
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
db.execute("BEGIN")
for _ in range(2):
    print(*db.execute("SELECT count(*), coalesce(sum(last), 0) FROM chunk").fetchone(), flush=True)
    sys.stdin.readline()
"""


class Writer:
    """Runs that each append an event now and then, and how long that took them."""

    def __init__(self, store: Log) -> None:
        self._store = store
        self.written = {Key("ann", f"r{number}"): 0 for number in range(RUNS)}

    async def create(self) -> None:
        for key in self.written:
            await self._store.create(head(key), b"{}")

    async def write(self, seconds: float) -> list[float]:
        """The latencies in that time, in milliseconds, sorted."""
        until, taken = time.monotonic() + seconds, list[float]()
        await asyncio.gather(*(self._write(key, place, until, taken) for place, key in enumerate(self.written)))
        return sorted(taken)

    async def _write(self, key: Key, place: int, until: float, taken: list[float]) -> None:
        due = time.monotonic() + EVERY * place / RUNS
        while due < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            started = time.perf_counter()
            await self._store.append(key, 1, chunk(self.written[key], b"x" * 250))
            taken.append((time.perf_counter() - started) * 1000)
            self.written[key] += 1
            due += EVERY


def figures(taken: list[float]) -> str:
    p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    return f"{len(taken)} appends, p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {taken[-1]:.0f} ms"


@pytest.mark.soak
async def test_a_reader_that_stays_for_a_minute_costs_disk_and_no_time(tmp_path: Path) -> None:
    path = str(tmp_path / "x.db")
    wal = Path(f"{path}-wal")
    store = Log(await SqliteBackend.open(path))
    writer = Writer(store)
    await writer.create()
    await writer.write(2)
    print(f"alone:       {figures(await writer.write(SECONDS))}, -wal {wal.stat().st_size / MIB:.1f} MiB")
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", READER, path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert reader.stdin
    assert reader.stdout
    seen = await reader.stdout.readline()
    before = wal.stat().st_size
    taken = await writer.write(SECONDS)
    grown = wal.stat().st_size - before
    print(f"with reader: {figures(taken)}, -wal {grown / MIB:.1f} MiB, {grown / len(taken) / 1024:.1f} KiB an append")
    reader.stdin.write(b"\n")
    assert await reader.stdout.readline() == seen
    await reader.communicate(b"\n")
    print(f"afterwards:  {figures(await writer.write(5))}, -wal {wal.stat().st_size / MIB:.1f} MiB")
    assert wal.stat().st_size <= JOURNAL_SIZE_LIMIT
    await store.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT count(*) FROM chunk").fetchone() == (sum(writer.written.values()),)
    db.close()


async def test_the_operator_is_told_of_a_reader_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("respool.store.sqlite.WAL_WORTH_TELLING", 32 * MIB)
    path = str(tmp_path / "x.db")
    store = Log(await SqliteBackend.open(path))
    await store.create(head(), b"{}")

    async def write(first: int) -> int:
        """Some 20 MiB."""
        for number in range(first, first + 40):
            await store.append(head().key, 1, chunk(number, b"x" * 500_000))
        return first + 40

    written = await write(0)
    assert caplog.records == []
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM chunk").fetchone()
    for _ in range(3):
        written = await write(written)
    told = [vars(record)["bytes"] for record in caplog.records if record.message == "wal_is_held"]
    assert len(told) == 2
    assert told[1] >= 2 * told[0] >= 64 * MIB
    reader.close()
    await write(written)
    assert [record.message for record in caplog.records] == ["wal_is_held"] * 2
    await store.close()
