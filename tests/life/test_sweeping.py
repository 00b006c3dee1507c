"""What a process does about what has expired, and what that costs those who write meanwhile."""

import asyncio
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from respool.proxy.settings import Settings
from respool.proxy.sweeper import Sweeper
from respool.store.base import Key
from respool.store.log import Log
from respool.store.sqlite import SqliteBackend
from tests.proxy.agent import completed, delta, opening, saying, scripted
from tests.serving import start_respool, until
from tests.store.probe import chunk, end, follow, head

LIVE = Key("ann", "live")
PACE_SECONDS = 0.005
# 40 MiB where the writes never pause, and a large transaction or two; a -wal that is never folded back is left with 64.
MOST_WAL_BYTES = 48 * 2**20


@pytest.mark.parametrize(
    ("responses", "kilobytes"),
    [(20, 2_000), pytest.param(20, 10_000, marks=pytest.mark.soak), pytest.param(20_000, 10, marks=pytest.mark.soak)],
)
async def test_writers_go_on_while_much_expires(tmp_path: Path, responses: int, kilobytes: int) -> None:
    """Prints how long an append takes, without and with a sweep beside it."""
    path = str(tmp_path / "respool.db")
    store = Log(await SqliteBackend.open(path))
    for start in range(0, responses, 20):
        keys = [Key("ann", f"r{number}") for number in range(start, start + 20)]
        await asyncio.gather(*(_ended(store, key, kilobytes) for key in keys))
    full = os.path.getsize(path)  # noqa: ASYNC240
    await store.create(head(LIVE), b"")
    alone = await _appends(store, 0, asyncio.create_task(asyncio.sleep(1)))
    sweeper = Sweeper(store, Settings.model_validate({"upstream": "http://x", "retention_seconds": 60}))
    began = time.monotonic()
    beside = await _appends(store, len(alone), asyncio.create_task(sweeper.sweep()))
    took = time.monotonic() - began
    left, wal = os.path.getsize(path), os.path.getsize(f"{path}-wal")  # noqa: ASYNC240
    print(
        f"{full / 1e6:.0f} MB in {responses} responses gone in {took:.1f} s, {left / 1e6:.1f} MB left "
        f"and a -wal of {wal / 1e6:.1f} MB; "
        f"appends alone {_shown(alone)}, beside {_shown(beside)}"
    )
    assert beside, "the sweep had ended before anything was written"
    await store.append(LIVE, 1, None, end=end())
    assert [number for number, _ in await follow(store, LIVE)] == list(range(len(alone) + len(beside)))
    assert left < 2**20
    assert wal < MOST_WAL_BYTES
    await store.close()


async def test_a_process_gives_back_the_space_of_what_has_expired(tmp_path: Path) -> None:
    path = tmp_path / "respool.db"
    async with scripted(saying(*opening(), *[delta("x" * 10_000)] * 300, completed(""))) as agent:
        server = start_respool(agent.url, tmp_path, "--retention-seconds", "0.5")
        async with httpx.AsyncClient(base_url=server.url, timeout=None, trust_env=False) as client:
            ids = [(await client.post("/responses", json={})).json()["id"] for _ in range(3)]
            for id_ in ids:
                while (await client.get(f"/responses/{id_}")).status_code == 200:
                    pass
            await until(lambda: path.stat().st_size < 500_000)
        # The file shrinks in slices; what was swept is told behind the last.
        await until(lambda: "swept responses=" in server.log.read_text())
        assert await asyncio.to_thread(server.stop) == 0
    assert _on_disk(path) < 500_000


def _on_disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob("respool.db*"))


async def _ended(store: Log, key: Key, kilobytes: int) -> None:
    events = os.urandom(1000)
    await store.create(head(key), b"")
    for first in range(0, kilobytes, 100):
        await store.append(key, 1, chunk(first, *[events] * min(100, kilobytes - first)))
    await store.append(key, 1, None, end=replace(end(), at_ms=1000))


async def _appends(store: Log, first: int, meanwhile: "asyncio.Task[None]") -> list[float]:
    """How long each append took, seconds, at a steady pace until the task has ended."""
    took: list[float] = []
    while not meanwhile.done():
        began = time.perf_counter()
        await store.append(LIVE, 1, chunk(first + len(took), b"x" * 200))
        took.append(time.perf_counter() - began)
        await asyncio.sleep(PACE_SECONDS)
    await meanwhile
    return took


def _shown(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    return f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, most {max(seconds) * 1000:.1f} ms"
