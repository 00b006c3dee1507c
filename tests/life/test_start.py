"""The start on a full log, after a crash under load: the promise is five seconds (CONTRACT section 8)."""

import time
from pathlib import Path

import httpx
import pytest

from respool.store.base import Filter
from respool.store.open import open_reader
from respool.store.status import Status
from tests.life.filling import fill
from tests.serving import start_respool

PROMISED_SECONDS = 5.0


@pytest.mark.parametrize(
    ("ended", "orphans", "events"), [(1_000, 200, 50), pytest.param(100_000, 2_000, 200, marks=pytest.mark.soak)]
)
async def test_within_the_promised_time_no_response_is_without_an_end(
    tmp_path: Path, ended: int, orphans: int, events: int
) -> None:
    """From the moment on when it answers at all; the large one takes 2.3 s of a processor that nobody else wants."""
    path = tmp_path / "respool.db"
    ids = await fill(str(path), ended=ended, orphans=orphans, events=events)
    asked = time.monotonic()
    server = start_respool("http://127.0.0.1:1", tmp_path, "--retention-seconds", "0")
    answered = time.monotonic()
    async with httpx.AsyncClient(base_url=server.url, timeout=None, trust_env=False) as client:
        last = (await client.get(f"/responses/{ids[-1]}")).json()
    took = time.monotonic() - answered
    print(
        f"{ended} ended responses and {orphans} orphans with {events} deltas each: "
        f"answers after {answered - asked:.2f} s, all ended {took:.2f} s later"
    )
    assert server.stop() == 0
    assert last["error"]["code"] == "owner_lost"
    assert last["output"][0]["content"][0]["text"].split()[-1] == f"word{events - 1}"
    assert f"{orphans} orphaned responses ended" in server.log.read_text()
    reader = await open_reader(f"sqlite:///{path}")
    assert await reader.list(Filter(status=Status.IN_PROGRESS)) == []
    assert len(await reader.list(Filter(status=Status.FAILED, limit=orphans + 1))) == orphans
    await reader.close()
    assert took <= PROMISED_SECONDS
