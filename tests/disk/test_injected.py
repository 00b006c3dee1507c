"""An error at the k-th call below a run, for every k: retried or a clean failure, and nothing told that is not so."""

import contextlib
import errno
import os
import random
import secrets
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.disk.bench import Bench, bench
from tests.disk.shim import FOR_EVER, Kind, Shim

FAULTS = {
    "SQLITE_BUSY": (Kind.STEP, sqlite3.SQLITE_BUSY),
    "SQLITE_IOERR": (Kind.STEP, sqlite3.SQLITE_IOERR_WRITE),
    "SQLITE_CORRUPT": (Kind.STEP, sqlite3.SQLITE_CORRUPT),
    "SQLITE_FULL": (Kind.STEP, sqlite3.SQLITE_FULL),
    "write ENOSPC": (Kind.WRITE, errno.ENOSPC),
    "write EIO": (Kind.WRITE, errno.EIO),
    "read EIO": (Kind.READ, errno.EIO),
    "sync EIO": (Kind.SYNC, errno.EIO),
    "truncate EIO": (Kind.TRUNCATE, errno.EIO),
    "map ENOMEM": (Kind.MAP, errno.ENOMEM),
    "lock EAGAIN": (Kind.LOCK, errno.EAGAIN),
}
SEED = int(os.environ.get("RESPOOL_SEED", secrets.randbits(32)))
PLACES = int(os.environ.get("RESPOOL_PLACES", "200"))


@contextlib.asynccontextmanager
async def shimmed(folder: Path, library: Path) -> AsyncIterator[tuple[Bench, Shim]]:
    """A bench that syncs each commit, whose calls can be made to fail; its log must be sound in the end."""
    shim = Shim(library, folder / "shim", folder)
    async with bench(folder, "--synchronous", "full", environment=shim.environment) as b:
        await b.works()
        yield b, shim
    with sqlite3.connect(b.path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


async def outcome_at(b: Bench, shim: Shim, fault: tuple[Kind, int], place: int, count: int, deltas: int) -> str:
    """How a run ends of whose calls `count` fail from the one at `place` on, after all that must be true is checked."""
    shim.arm(*fault, place, count)
    outcome = await b.run(deltas)
    has_failed = shim.failed > 0
    shim.disarm()
    status = await b.check(outcome, deltas)
    assert has_failed or status == "completed"
    await b.works()
    return status if has_failed else "not reached"


async def test_an_error_at_any_call_is_retried_or_fails_cleanly(tmp_path: Path, shim_library: Path) -> None:
    """Some places of each fault; the soak takes them all."""
    print(f"RESPOOL_SEED={SEED}")
    chance = random.Random(SEED)
    seen: Counter[str] = Counter()
    async with shimmed(tmp_path, shim_library) as (b, shim):
        for fault in FAULTS.values():
            for place in (1, *(chance.randint(2, 30) for _ in range(5))):
                # A lock that stays is waited for, five seconds each time.
                count = 1 if fault[0] is Kind.LOCK else chance.choice((1, FOR_EVER))
                seen[await outcome_at(b, shim, fault, place, count, deltas=5)] += 1
    print(seen)
    assert seen["refused"]
    assert seen["failed"]
    assert seen["completed"]


@pytest.mark.soak
@pytest.mark.parametrize("count", [1, FOR_EVER], ids=["once", "from then on"])
@pytest.mark.parametrize("name", FAULTS)
async def test_an_error_at_every_call_is_retried_or_fails_cleanly(
    tmp_path: Path, shim_library: Path, name: str, count: int
) -> None:
    """For every k up to 200; of a lock that stays, which is waited for five seconds each time, every tenth."""
    step = 10 if FAULTS[name][0] is Kind.LOCK and count > 1 else 1
    seen: Counter[str] = Counter()
    async with shimmed(tmp_path, shim_library) as (b, shim):
        for place in range(1, PLACES + 1, step):
            outcome = await outcome_at(b, shim, FAULTS[name], place, count, deltas=70)
            seen[outcome] += 1
    print(f"{name}, {'once' if count == 1 else 'from then on'}: {dict(seen)}")
    assert seen["not reached"] < seen.total()
