"""Very many followers of a run that is silent: what each costs, that each hears a sign of life in time, and the end.

The size of the soak is set by RESPOOL_SOAK_FOLLOWERS and RESPOOL_SOAK_SECONDS.
"""

import asyncio
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.bench.connecting import connect_all
from tests.bench.processes import allow_many_files
from tests.clients.process import Respool, respool
from tests.proxy.agent import Held, scripted
from tests.serving import until

GIVEN_ID = "caresp_" + "i" * 50
KEEP_ALIVE_SECONDS = 15
EACH_BYTES = 64 * 1024
LATE_SECONDS = 5.0
"""What a busy machine may be late with its signs of life."""


class Follower(asyncio.Protocol):
    """One reader: when it last heard something, its longest silence in seconds, and whether it got the end."""

    def __init__(self) -> None:
        self.heard = time.monotonic()
        self.longest = 0.0
        self.signs = 0
        self.tail = b""
        self.is_gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(f"GET /responses/{GIVEN_ID}?stream=true HTTP/1.1\r\nhost: x\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self.longest = max(self.longest, now - self.heard)
        self.heard = now
        self.signs += data.count(b": keep-alive\n\n")
        self.tail = (self.tail + data)[-4096:]

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True

    @property
    def has_ended(self) -> bool:
        return b"event: response.completed\n" in self.tail and self.tail.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("count", "seconds", "keep_alive"),
    [
        pytest.param(200, 3.0, 1, id="some"),
        pytest.param(
            int(os.environ.get("RESPOOL_SOAK_FOLLOWERS", "10000")),
            float(os.environ.get("RESPOOL_SOAK_SECONDS", "600")),
            KEEP_ALIVE_SECONDS,
            id="very many",
            marks=pytest.mark.soak,
        ),
    ],
)
async def test_idle_followers_are_held_and_hear_that_there_is_life(
    count: int, seconds: float, keep_alive: int, tmp_path: Path
) -> None:
    allowed = allow_many_files()
    if allowed < count * 4 // 3 + 200:
        pytest.skip(f"the limit of open files is {allowed}")
    held = Held()
    options = ("--keep-alive-seconds", str(keep_alive))
    async with scripted(held) as agent, respool(agent.url, tmp_path, *options) as served:
        headers, body = {"x-agent-response-id": GIVEN_ID}, {"background": True, "stream": True}
        async with served.client.stream("POST", "/responses", json=body, headers=headers) as response:
            await anext(response.aiter_raw())
        await _hold(served, held, count, seconds, keep_alive)


async def _hold(served: Respool, held: Held, count: int, seconds: float, keep_alive: int) -> None:
    port = urlsplit(served.url).port
    assert port
    before = served.memory
    followers = await connect_all(port, [Follower] * count)
    await until(lambda: all(follower.tail for follower in followers))
    for follower in followers:
        follower.longest, follower.heard = 0.0, time.monotonic()
    each = (served.memory - before) / count
    await asyncio.sleep(seconds)
    later = (served.memory - before) / count
    longest = max(follower.longest for follower in followers)
    print(
        f"{count} followers for {seconds:g} s: {each / 1024:.1f} KiB each, {later / 1024:.1f} KiB in the end; "
        f"longest silence {longest:.2f} s"
    )
    assert not any(follower.is_gone for follower in followers)
    assert min(follower.signs for follower in followers) >= int(seconds / (keep_alive + LATE_SECONDS))
    assert longest <= keep_alive + LATE_SECONDS
    if count > 1000:
        assert later <= EACH_BYTES
    held.going_on.set()
    await until(lambda: all(follower.has_ended or follower.is_gone for follower in followers))
    assert all(follower.has_ended for follower in followers)
    for follower in followers:
        follower.transport.close()
