"""A scripted agent, respool before it as a process of its own, and what memory that takes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.bench.processes import memory_bytes
from tests.proxy.agent import Agent, Script, Wire, completed, delta, opening, scripted
from tests.proxy.scene import BACKGROUND
from tests.serving import start_respool

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Place:
    """A respool process, its agent, and a client."""

    agent: Agent
    pid: int
    client: httpx.AsyncClient

    async def create(self, seen: Callable[[bytes], None] = lambda _: None) -> bytes:
        """The body of a background stream, read as it comes."""
        body = bytearray()
        asked = {"model": "m", "input": "hi", **BACKGROUND}
        async with self.client.stream("POST", "/responses", json=asked) as response:
            async for piece in response.aiter_raw():
                body += piece
                seen(piece)
        return bytes(body)

    async def read(self, path: str) -> bytes:
        response = await self.client.get(path)
        assert response.status_code == 200
        return response.content

    @contextmanager
    def at_most(self, size: float) -> Iterator[None]:
        """What happens here takes at most so many bytes more than there are now."""
        before = memory_bytes([self.pid])
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        yield
        grown = memory_bytes([self.pid], "VmHWM") - before
        print(f"{grown / MIB:.1f} MiB more at its highest, of {size / MIB:.1f}")
        assert grown <= size


@asynccontextmanager
async def place(script: Script, directory: Path) -> AsyncIterator[Place]:
    """One with its defaults, that has had a response: what a process takes once belongs to none."""

    async def first(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        for _ in range(100):
            await wire.say(*opening()[:2], *[delta("x" * 1000)] * 100)
        await wire.say(completed("x"))
        await wire.end()

    async with scripted(first, script) as agent:
        respool = await asyncio.to_thread(start_respool, agent.url, directory)
        try:
            async with httpx.AsyncClient(base_url=respool.url, timeout=None, trust_env=False) as client:
                here = Place(agent, respool.process.pid, client)
                await here.create()
                yield here
        finally:
            await asyncio.to_thread(respool.stop)
