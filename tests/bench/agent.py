"""The scripted agent: a bare protocol on uvloop that answers every POST with the script in its input.

`python -m tests.bench.agent PORT`. Bursts are encoded before they are asked for, by a GET of /prepare/N.
"""

import asyncio
import itertools
import os
import re
import sys
import threading
import time
from functools import lru_cache
from typing import cast

import uvloop

from tests.bench.script import Script, chunk, closing, opening, plain_delta, stamped_delta

_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"
_OPENING = b"".join(map(chunk, opening()))
_INPUT = re.compile(rb'"input"\s*:\s*"([^"]*)"')
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_BLOCK = 256
"""Deltas that one write carries in a burst."""

_TURN = 32
"""Writes that a stream makes before the others have their turn."""

_LOOK_SECONDS = 0.0005
_GOLDEN = 0.6180339887
_chunks: list[bytes] = []
_blocks: list[bytes] = []
_numbers = itertools.count()


def prepare(deltas: int) -> None:
    """Encode the first deltas of a burst, one by one and in blocks."""
    while len(_chunks) < deltas:
        first = len(_chunks)
        _chunks.extend(chunk(plain_delta(index)) for index in range(first, first + _BLOCK))
        _blocks.append(b"".join(_chunks[first:]))


@lru_cache(maxsize=8)
def _closing(script: Script) -> bytes:
    return b"".join(map(chunk, closing(script))) + b"0\r\n\r\n"


class Agent(asyncio.Protocol):
    """One connection, which may carry one request after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._read = b""
        self._script = Script()
        self._index = 0
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._writable = True
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self._wire.set_write_buffer_limits(high=256 * 1024, low=64 * 1024)
        self._descriptor = self._wire.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        if self._timer:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._index < self._script.burst and self._script.each != 1:
            self._burst()

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, rest = self._read.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if not end or len(rest) < size:
            return
        self._read = rest[size:]
        if head.startswith(b"POST"):
            self._answer(rest[:size])
        else:
            path = head.split(b" ", 2)[1]
            if path.startswith(b"/prepare/"):
                prepare(int(path[len(b"/prepare/") :]))
            self._wire.write(_OK)

    def _answer(self, body: bytes) -> None:
        said = _INPUT.search(body)
        script = self._script = Script.parse(said[1].decode() if said else "")
        self._index = 0
        if not script.deltas and not script.hang:
            self._wire.write(_HEAD + _OPENING + _closing(script))
            return
        self._wire.write(_HEAD + _OPENING)
        prepare(script.burst)
        self._burst()

    def _burst(self) -> None:
        if self._script.each:
            self._loop.call_soon(self._make_each if self._script.each == 2 else self._write_each)
            return
        while self._index < self._script.burst and self._writable and not self._gone:
            self._wire.write(self._block())
            self._index = min(self._index + _BLOCK, self._script.burst)
        if self._index == self._script.burst and self._timer is None:
            self._pace()

    def _block(self) -> bytes:
        left = self._script.burst - self._index
        if left >= _BLOCK:
            return _blocks[self._index // _BLOCK]
        return b"".join(_chunks[self._index : self._script.burst])

    def _make_each(self) -> None:
        """Make one event and write it; the next has its turn after everything else that the loop has to do."""
        if self._gone or not self._writable:
            return
        self._wire.write(chunk(plain_delta(self._index)))
        self._index += 1
        if self._index < self._script.burst:
            self._loop.call_soon(self._make_each)
        else:
            self._pace()

    def _write_each(self) -> None:
        """Past the transport, which would join what is written in one turn of the loop."""
        if self._gone:
            return
        if self._wire.get_write_buffer_size():
            self._loop.call_later(_LOOK_SECONDS, self._write_each)
            return
        until = min(self._index + _TURN, self._script.burst)
        while self._index < until:
            piece = _chunks[self._index]
            self._index += 1
            try:
                sent = os.write(self._descriptor, piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                return
            if sent < len(piece):
                self._wire.write(piece[sent:])
                break
        if self._index < self._script.burst:
            self._loop.call_soon(self._write_each)
        else:
            self._pace()

    def _pace(self) -> None:
        script = self._script
        phase = next(_numbers) * _GOLDEN % 1 if script.spread else 1.0
        self._began = self._loop.time() + script.wait + phase / script.rate
        self._next()

    def _next(self) -> None:
        script, paced = self._script, self._index - self._script.burst
        self._timer = None
        if paced < script.paced:
            self._timer = self._loop.call_at(self._began + paced / script.rate, self._tick)
        elif not script.hang:
            self._wire.write(_closing(script))

    def _tick(self) -> None:
        self._wire.write(chunk(stamped_delta(self._index, time.monotonic_ns())))
        self._index += 1
        self._next()


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Agent, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def end_with_parent() -> None:
    """End this process when the one that started it is gone: standard input is a pipe from it."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    uvloop.run(serve(int(sys.argv[1])))
