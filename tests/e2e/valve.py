"""A TCP relay between respool and an agent, which lets the agent's answer through event by event.

An agent that holds itself back can do so only where it waits for something; this holds it back anywhere.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import Literal
from urllib.parse import urlsplit

from tests.serving import until

_END = b"\n\n"
_LAST_CHUNK = b"0\r\n\r\n"


class Valve:
    """Closed at first. `url` stands for the agent's; one connection at a time."""

    def __init__(self, agent_url: str) -> None:
        self.url = ""
        self._endings: list[Literal["read out", "hung up"]] = []
        self.relays: set[asyncio.Task[None]] = set()
        self._agent = urlsplit(agent_url)
        self._let = 0.0
        self._changed = asyncio.Event()
        self._arrived = bytearray()
        self._agent_closed = False
        self._last = b""

    def let(self, events: float) -> None:
        """Let this many events through, counted from the first."""
        self._let = events
        self._changed.set()

    def open(self) -> None:
        """Let everything through."""
        self.let(inf)

    async def ending(self) -> Literal["read out", "hung up"]:
        """How the only connection has ended, once it has: respool read the answer out, or hung up before."""
        await until(lambda: self._endings)
        [only] = self._endings
        return only

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of respool, until one side closes it."""
        task = asyncio.current_task()
        assert task is not None
        self.relays.add(task)
        agent_reader, agent_writer = await asyncio.open_connection(self._agent.hostname, self._agent.port)
        asking = asyncio.create_task(_pump(reader, agent_writer))
        arriving = asyncio.create_task(self._arrive(agent_reader))
        answering = asyncio.create_task(self._pass_on(writer))
        await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
        self._endings.append("read out" if self._last == _LAST_CHUNK else "hung up")
        for way in (asking, arriving, answering):
            way.cancel()
        await asyncio.gather(asking, arriving, answering, return_exceptions=True)
        for end in (writer, agent_writer):
            end.close()
            with suppress(OSError):
                await end.wait_closed()

    async def _arrive(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self._arrived += data
                self._changed.set()
        self._agent_closed = True
        self._changed.set()

    async def _pass_on(self, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while self._arrived or not self._agent_closed:
            if size := self._passable(passed):
                passed += 1
                piece = bytes(self._arrived[:size])
                del self._arrived[:size]
                self._last = (self._last + piece)[-len(_LAST_CHUNK) :]
                writer.write(piece)
                await writer.drain()
            else:
                self._changed.clear()
                await self._changed.wait()

    def _passable(self, passed: int) -> int:
        """How many bytes may go on now; a whole event while the valve is not open."""
        if self._let == inf:
            return len(self._arrived)
        end = self._arrived.find(_END)
        return end + len(_END) if end >= 0 and passed < self._let else 0


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def valve(agent_url: str) -> AsyncIterator[Valve]:
    """A valve in front of an agent; leave it after respool has been left."""
    made = Valve(agent_url)
    async with await asyncio.start_server(made.relay, "127.0.0.1", 0) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made
    await asyncio.gather(*made.relays)
