"""respool as a process of its own in front of a scripted agent, and what the kernel knows of it."""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from examples.environments import Server
from tests.bench.processes import memory_bytes
from tests.serving import start_respool


@dataclass(frozen=True, slots=True)
class Respool:
    """Where it serves, and its process."""

    server: Server
    client: httpx.AsyncClient

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return memory_bytes([self.server.process.pid])

    @property
    def sockets(self) -> int:
        """How many it has open, listening ones and those to the agent too."""
        found = 0
        place = Path(f"/proc/{self.server.process.pid}/fd")
        for entry in place.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += os.readlink(entry).startswith("socket:")
        return found

    @property
    def complaints(self) -> list[str]:
        """Lines of its log that tell of a fault."""
        return re.findall(r".*(?:ERROR|WARNING|Traceback).*", self.server.log.read_text())


@contextlib.asynccontextmanager
async def respool(upstream: str, directory: Path, *options: str) -> AsyncIterator[Respool]:
    """`respool serve` until the block ends; a fault in its log, or another exit code than 0, fails the test."""
    # Not in another thread, which would be in another network where a test has its own.
    server = start_respool(upstream, directory, *options)
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=None, trust_env=False, verify=False) as client:
            served = Respool(server, client)
            yield served
        assert await asyncio.to_thread(server.stop, 30) == 0
        assert served.complaints == []
    finally:
        server.kill()


@dataclass(slots=True)
class Clock:
    """Seconds since it was made."""

    began: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def clock() -> Clock:
    return Clock(time.monotonic())
