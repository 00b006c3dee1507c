"""A disk that hangs in a write: at first all whom the event loop serves wait with it, then its writers alone."""

import asyncio
from pathlib import Path

import httpx

from tests.disk.bench import bench
from tests.disk.shim import HANGS, Kind, Shim
from tests.proxy.client import events_of
from tests.proxy.scene import BACKGROUND
from tests.serving import until

HUNG_SECONDS = 0.05


async def test_while_a_slow_disk_hangs_again_others_are_answered(tmp_path: Path, shim_library: Path) -> None:
    shim = Shim(shim_library, tmp_path / "shim", tmp_path)
    async with bench(tmp_path, environment=shim.environment) as b:
        await b.works()
        # Twice, because behind the sweep of the start one of them is left to a thread in any case.
        for _ in range(2):
            create = await _hanging(b.client, shim)
            await asyncio.sleep(HUNG_SECONDS)  # the fault itself: nobody can be asked meanwhile
            await _goes_on(create, shim)
        create = await _hanging(b.client, shim)
        health = await b.client.get("/_respool/health")
        assert (health.status_code, create.done()) == (200, False)
        await _goes_on(create, shim)


async def _hanging(client: httpx.AsyncClient, shim: Shim) -> asyncio.Task[httpx.Response]:
    """A create whose write hangs."""
    shim.arm(Kind.WRITE, HANGS)
    body = {"model": "m", "input": "at once", **BACKGROUND}
    task = asyncio.create_task(client.post("/responses", json=body))
    await until(lambda: shim.failed > 0)
    return task


async def _goes_on(create: asyncio.Task[httpx.Response], shim: Shim) -> None:
    shim.disarm()
    assert events_of((await create).content)[-1].name == "response.completed"
