"""An error at the k-th call below a run, for every k: retried or a clean failure, and nothing told that is not so."""

import asyncio
import contextlib
import errno
import os
import random
import secrets
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.disk.bench import Bench, bench
from tests.disk.shim import FOR_EVER, Kind, Shim
from tests.proxy.client import error_of, events_of, whole
from tests.proxy.scene import BACKGROUND

FAULTS = {
    "SQLITE_BUSY": (Kind.STEP, sqlite3.SQLITE_BUSY),
    "SQLITE_IOERR": (Kind.STEP, sqlite3.SQLITE_IOERR_WRITE),
    "SQLITE_CORRUPT": (Kind.STEP, sqlite3.SQLITE_CORRUPT),
    "SQLITE_FULL": (Kind.STEP, sqlite3.SQLITE_FULL),
    "write ENOSPC": (Kind.WRITE, errno.ENOSPC),
    "write EIO": (Kind.WRITE, errno.EIO),
    "read EIO": (Kind.READ, errno.EIO),
    "sync EIO": (Kind.SYNC, errno.EIO),
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


async def test_an_end_that_was_shown_while_nothing_could_be_synced_has_its_number_after_a_kill(
    tmp_path: Path, shim_library: Path
) -> None:
    """What a commit has written that failed at its sync is in the file, and must not come back as something else."""
    async with shimmed(tmp_path, shim_library) as (b, shim):
        shim.arm(*FAULTS["sync EIO"], 9, FOR_EVER)
        outcome = await b.run(20)
        assert whole(outcome.events)["error"]["code"] == "storage_error"
        b.server.kill()
        shim.disarm()
        await asyncio.to_thread(b.restart)
        await b.ended(outcome.id)
        events = await b.replay(outcome.id)
        assert events[:-1] == outcome.events[:-1]
        assert (events[-1].name, len(events)) == ("response.failed", len(outcome.events))


READ_FAULTS = [FAULTS[name] for name in ("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_BUSY", "read EIO")]


async def test_an_error_at_any_call_of_a_read_is_a_503_or_a_cut(tmp_path: Path, shim_library: Path) -> None:
    """And with the error gone the same reads are what they were."""
    refused = 0
    async with shimmed(tmp_path, shim_library) as (b, shim):
        paths = await read_of(b)
        right = [await b.client.get(path) for path in paths]
        for fault in READ_FAULTS:
            for place in (1, 2, 3, 5):
                await b.works()  # and what the readers of the log remember of the file counts no more
                for path, before in zip(paths, right, strict=True):
                    shim.arm(*fault, place, 1)
                    try:
                        answer = await b.client.get(path)
                    except httpx.TransportError:
                        answer = None
                    shim.disarm()
                    if answer is not None and answer.status_code == 503:
                        assert error_of(answer)["code"] == "storage_error"
                        refused += 1
                    elif answer is not None:
                        assert (answer.status_code, answer.content) == (200, before.content)
                    assert (await b.client.get(path)).content == before.content
    assert refused > 10


async def read_of(b: Bench) -> list[str]:
    """The reads of a response whose events are in the file and no longer in memory."""
    body = {"model": "m", "input": "at once", "conversation": "c", **BACKGROUND}
    response = await b.client.post("/responses", json=body)
    id_ = events_of(response.content)[0].data["response"]["id"]
    await asyncio.to_thread(b.restart)
    own = f"/responses/{id_}"
    return [own, f"{own}?stream=true", f"{own}/input_items", "/_respool/responses?conversation=c"]


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
