"""A time of day that jumps by an hour under a running process: nothing is cut, nothing ends, nothing expires early."""

import asyncio
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from examples.environments import Server, free_port, start
from tests.proxy.agent import Held, answer, saying, scripted
from tests.proxy.client import KEEP_ALIVE, Stream, whole
from tests.proxy.scene import BACKGROUND

HOUR = 3600
KEPT_SECONDS = 2.0
FAR = 24 * HOUR


class Clock:
    """The time of day of a process that is started with `environment`."""

    def __init__(self, folder: Path) -> None:
        source, library = Path(__file__).with_name("stepping.c"), folder / "stepping.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self._file = folder / "step"
        self.step(0)
        self.environment = {"LD_PRELOAD": str(library), "STEP_FILE": str(self._file)}

    def step(self, seconds: int) -> None:
        """Set it to so much after the true time."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if shutil.which("gcc") is None and "CI" not in os.environ:
        pytest.skip("needs gcc")
    return Clock(tmp_path)


Start = Callable[..., Server]


@pytest.fixture
def start_under(clock: Clock, tmp_path: Path) -> Iterator[Start]:
    """Starts respool under that clock."""
    started: list[Server] = []

    def start_one(upstream: str, *options: str) -> Server:
        port = free_port()
        command = [sys.executable, "-m", "respool.cli", "serve", "--upstream", upstream, "--store", "memory:"]
        command += ["--listen", f"127.0.0.1:{port}", *options]
        environment = {**os.environ, **clock.environment}
        log = tmp_path / "respool.log"
        started.append(start(command, port, ready="/_respool/health", log=log, environment=environment))
        return started[-1]

    yield start_one
    for server in started:
        server.kill()


def client_of(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, timeout=None, trust_env=False)


async def created_at(client: httpx.AsyncClient) -> int:
    return int((await client.post("/responses", json={})).json()["created_at"])


@pytest.mark.parametrize("step", [FAR, -FAR])
async def test_a_run_and_its_followers_do_not_notice(clock: Clock, start_under: Start, step: int) -> None:
    """By more than every deadline; keep-alives go on at their pace."""
    held = Held()
    async with scripted(held, saying(*answer("x"))) as agent:
        server = start_under(agent.url, "--keep-alive-seconds", "0.2")
        async with client_of(server) as client, client.stream("POST", "/responses", json=BACKGROUND) as response:
            stream = Stream(response)
            seen = await stream.until("response.output_text.delta")
            clock.step(step)
            assert abs(await created_at(client) - time.time() - step) < HOUR  # the process has that time now
            began = time.monotonic()
            assert [await stream.block() for _ in range(5)] == [KEEP_ALIVE] * 5
            assert time.monotonic() - began >= 0.7
            held.going_on.set()
            assert whole([*seen, *await stream.rest()])["status"] == "completed"


async def test_the_grace_of_a_stop_is_as_long_as_it_was_going_to_be(clock: Clock, start_under: Start) -> None:
    held = Held()
    async with scripted(held) as agent:
        server = start_under(agent.url, "--grace-seconds", "600")
        async with client_of(server) as client, client.stream("POST", "/responses", json=BACKGROUND) as response:
            stream = Stream(response)
            seen = await stream.until("response.output_text.delta")
            server.process.send_signal(signal.SIGTERM)
            while (await client.get("/_respool/ready")).status_code == 200:
                pass
            clock.step(FAR)
            assert (await client.post("/responses", json={})).status_code == 503
            held.going_on.set()
            assert whole([*seen, *await stream.rest()])["status"] == "completed"
        assert await asyncio.to_thread(server.process.wait) == 0


async def test_a_jump_forward_lets_nothing_expire_early(clock: Clock, start_under: Start) -> None:
    async with scripted(saying(*answer("x"))) as agent:
        server = start_under(agent.url, "--retention-seconds", str(KEPT_SECONDS))
        async with client_of(server) as client:
            began = time.monotonic()
            id_ = (await client.post("/responses", json={})).json()["id"]
            clock.step(HOUR)
            await _gone(client, id_)
            assert time.monotonic() - began >= KEPT_SECONDS


async def test_what_ends_while_the_clock_is_slow_is_kept_as_long_as_anything(clock: Clock, start_under: Start) -> None:
    async with scripted(saying(*answer("x"))) as agent:
        server = start_under(agent.url, "--retention-seconds", str(KEPT_SECONDS))
        async with client_of(server) as client:
            clock.step(-HOUR)
            began = time.monotonic()
            id_ = (await client.post("/responses", json={})).json()["id"]
            clock.step(0)
            await _gone(client, id_)
            assert time.monotonic() - began >= KEPT_SECONDS


async def _gone(client: httpx.AsyncClient, id_: str) -> None:
    while (await client.get(f"/responses/{id_}")).status_code == 200:
        pass
