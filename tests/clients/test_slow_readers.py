"""Readers that take little or nothing: what they cost, that nobody else notices, and that they can come back.

The size of the soak is set by RESPOOL_SOAK_READERS, RESPOOL_SOAK_MIB and RESPOOL_SOAK_SECONDS.
"""

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.clients.process import Respool, clock, respool
from tests.proxy.agent import Wire, closing, completed, delta, opening, scripted
from tests.proxy.client import Stream, dial, events_of, whole
from tests.raw_server import Peer
from tests.serving import until

GIVEN_ID = "caresp_" + "r" * 50
TARGET = f"/responses/{GIVEN_ID}?stream=true"
EVENT_BYTES = 60_000
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Size:
    """Half of the readers take nothing, half `rate` bytes a second of an answer of `mib` MiB, for `seconds`."""

    readers: int
    mib: int
    seconds: float
    rate: int
    timeout: float

    @property
    def events(self) -> int:
        return self.mib * MIB // EVENT_BYTES


SMALL = Size(readers=10, mib=16, seconds=5, rate=8192, timeout=2)
FULL = Size(
    readers=int(os.environ.get("RESPOOL_SOAK_READERS", "50")),
    mib=int(os.environ.get("RESPOOL_SOAK_MIB", "100")),
    seconds=float(os.environ.get("RESPOOL_SOAK_SECONDS", "600")),
    rate=1024,
    timeout=30,
)


@dataclass
class Speaker:
    """A script: large deltas, at once or spread over a quarter of the time; when each was said."""

    size: Size
    said: list[float] = field(default_factory=list)

    async def __call__(self, wire: Wire) -> None:
        asked = await wire.request()
        pause = 0.0 if asked.json["input"] == "at once" else self.size.seconds / 4 / self.size.events
        self.said.clear()
        await wire.begin()
        await wire.say(*opening())
        for number in range(self.size.events):
            await asyncio.sleep(pause)
            self.said.append(time.monotonic())
            await wire.say(delta(f"{number:06d}" + "x" * EVENT_BYTES))
        await wire.say(*closing(""), completed(""))
        await wire.end()


@dataclass
class Healthy:
    """A follower that takes everything: the frames, and how late each delta was, in seconds."""

    frames: list[bytes] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    async def read(self, stream: Stream, speaker: Speaker) -> None:
        while event := await stream.next():
            if event.name == "response.output_text.delta":
                self.late.append(time.monotonic() - speaker.said[len(self.late)])
            self.frames.append(event.frame)

    @property
    def delay(self) -> str:
        late = sorted(self.late)
        return f"p50 {late[len(late) // 2] * 1e3:.1f} ms, p99 {late[len(late) * 99 // 100] * 1e3:.1f} ms"


class Slow:
    """A reader of so many bytes a second, or of none."""

    def __init__(self, raw: Peer, rate: int) -> None:
        self._raw = raw
        self._rate = rate
        self._got = bytearray()
        self.is_over = False

    async def read(self, seconds: float) -> None:
        """Until it has been cut off, or for so long."""
        began, loop = clock(), asyncio.get_running_loop()
        while began.seconds < seconds and not self.is_over:
            if self._rate:
                await self._take(loop.sock_recv(self._raw.sock, self._rate // 4))
            await asyncio.sleep(0.25)

    async def rest(self) -> None:
        """Take what the kernel still has for it, if it was cut off."""
        while not self.is_over:
            await self._take(asyncio.get_running_loop().sock_recv(self._raw.sock, MIB))

    async def _take(self, receiving: object) -> None:
        assert asyncio.iscoroutine(receiving)
        try:
            piece = await receiving
        except ConnectionError:
            piece = b""
        self.is_over = not piece
        self._got += piece

    @property
    def frames(self) -> list[bytes]:
        """The events that came whole."""
        body = bytearray()
        rest = bytes(self._got).partition(b"\r\n\r\n")[2]
        while b"\r\n" in rest:
            size, _, rest = rest.partition(b"\r\n")
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return [frame + b"\n\n" for frame in bytes(body).split(b"\n\n")[:-1] if frame != b": keep-alive"]


@pytest.mark.parametrize(
    "size", [pytest.param(SMALL, id="small"), pytest.param(FULL, id="full", marks=[pytest.mark.soak])]
)
async def test_slow_readers_cost_a_cursor_and_can_come_back(size: Size, tmp_path: Path) -> None:
    speaker = Speaker(size)
    options = ["--write-timeout-seconds", f"{size.timeout:g}"]
    async with scripted(speaker) as agent, respool(agent.url, tmp_path, *options) as served:
        # What a process takes once, for the first long answer, belongs to no reader.
        first = await served.client.post("/responses", json={"input": "at once", "stream": True})
        alone = served.memory
        assert whole(events_of(first.content))["status"] == "completed"
        await _slowly(size, speaker, served, alone)


async def _slowly(size: Size, speaker: Speaker, served: Respool, alone: int) -> None:
    healthy, body = Healthy(), {"input": "slowly", "background": True, "stream": True}
    headers = {"x-agent-response-id": GIVEN_ID}
    async with contextlib.AsyncExitStack() as stack:
        answer = served.client.stream("POST", "/responses", json=body, headers=headers)
        stream = Stream(await stack.enter_async_context(answer))
        following = asyncio.create_task(healthy.read(stream, speaker))
        await until(lambda: len(healthy.frames) > size.events // 10)
        # Among them that of the run to its agent, which goes with the run.
        before, began = served.sockets, clock()
        readers = [await _reader(stack, served, size.rate * (number % 2)) for number in range(size.readers)]
        await until(lambda: served.sockets >= before - following.done() + size.readers)
        reading = [asyncio.create_task(reader.read(size.seconds)) for reader in readers]
        most, cut_after = 0, 0.0
        while not all(task.done() for task in reading):
            await asyncio.sleep(0.1)
            most = max(most, served.memory)
            if not cut_after and served.sockets <= before - following.done() + size.readers // 2:
                cut_after = began.seconds
        await following
        each = (most - alone) / size.readers
        print(f"{size.readers} slow readers of {size.mib} MiB for {size.seconds:g} s: {each / 1024:.0f} KiB each")
        print(f"those who take nothing were cut off after {cut_after:.1f} s; the healthy one: {healthy.delay}")
        assert whole([event for frame in healthy.frames for event in events_of(frame)])["status"] == "completed"
        assert each <= MIB + EVENT_BYTES
        # Five looks in the time of four; then a busy machine.
        assert size.timeout * 0.75 <= cut_after <= size.timeout * 1.25 + 2
        for number, reader in enumerate(readers):
            assert reader.is_over is False
            if not number % 2:
                await reader.rest()
            await _comes_back(served, reader.frames, healthy.frames, to_the_end=number < 2)


async def _reader(stack: contextlib.AsyncExitStack, served: Respool, rate: int) -> Slow:
    raw = await stack.enter_async_context(dial(served.url, receive_buffer=4096))
    await raw.send(f"GET {TARGET} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    return Slow(raw, rate)


async def _comes_back(served: Respool, seen: list[bytes], log: list[bytes], *, to_the_end: bool) -> None:
    """What was seen and what comes behind it are the log, to the byte."""
    assert seen == log[: len(seen)]
    wanted = log[len(seen) :] if to_the_end else log[len(seen) : len(seen) + 20]
    async with served.client.stream("GET", f"{TARGET}&starting_after={len(seen) - 1}") as response:
        stream = Stream(response)
        for frame in wanted:
            event = await stream.next()
            assert event is not None
            assert event.frame == frame
