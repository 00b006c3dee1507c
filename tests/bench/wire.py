"""The client's side of one answer: how its bytes are taken, and how it is made sure that nothing is missing."""

import asyncio
import re
import time
from array import array
from dataclasses import dataclass, field
from typing import cast

import httptools

_DELTA = re.compile(rb'"delta": ?"(\d{7})(?:@(\d{19}))? "')
_ID = re.compile(rb'"id": ?"((?:caresp|resp)_\w+)"')
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_LAST = b"event: response.completed\n"
_END = b"0\r\n\r\n"


def post(script: str) -> bytes:
    """A create in background and stream mode."""
    body = b'{"model":"m","input":"%b","stream":true,"background":true}' % script.encode()
    head = b"POST /responses HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def get(path: str) -> bytes:
    return b"GET %b HTTP/1.1\r\nhost: bench\r\naccept: application/json\r\n\r\n" % path.encode()


class Whole(asyncio.Protocol):
    """Keeps what comes and looks at nothing but the end: the cheapest client; what came is checked afterwards."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._pieces: list[bytes] = []
        self._tail = b""
        self._left: int | None = None
        self.sent_at = self.first_at = self.ended_at = 0.0
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self.sent_at = time.perf_counter()
        self._wire.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        if not self.first_at:
            self.first_at = time.perf_counter()
        if self._left is None and len(self._pieces) == 1 and (length := _LENGTH.search(data)):
            self._left = int(length[1]) + data.index(b"\r\n\r\n") + 4
        if self._left is not None:
            self._left -= len(data)
            over = self._left == 0
        else:
            self._tail = (self._tail + data)[-len(_END) :] if len(data) < len(_END) else data[-len(_END) :]
            over = self._tail == _END
        if over:
            self.ended_at = time.perf_counter()
            self._wire.close()
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(f"closed before the end of the answer: {exc}"))

    def answer(self) -> "Answer":
        return decode(b"".join(self._pieces))


class Counted(asyncio.Protocol):
    """Counts the events of one answer and keeps nothing; a lost connection is an end with too few of them."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._ends_in_newline = False
        self._events = 0
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self._wire.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """Told by the parser. An empty line may lie across two pieces."""
        self._events += data.count(b"\n\n") + (self._ends_in_newline and data.startswith(b"\n"))
        self._ends_in_newline = data.endswith(b"\n") and not data.endswith(b"\n\n")

    def on_message_complete(self) -> None:
        """Told by the parser."""
        self._wire.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(self._events)


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer, its transfer coding taken off."""

    status: int
    body: bytes

    @property
    def events(self) -> int:
        return self.body.count(b"\n\nevent: ") + self.body.startswith(b"event: ")

    def missing(self, deltas: int) -> int:
        """How many of the deltas are not where they belong; a stream without its last event misses one more."""
        found = [int(index) for index, _ in _DELTA.findall(self.body)]
        if found == list(range(deltas)):
            return int(_LAST not in self.body)
        return max(1, deltas - len(set(found)), len(found) - deltas)

    @property
    def response_id(self) -> str:
        found = _ID.search(self.body)
        if found is None:
            raise ValueError(f"no response id in {self.body[:300]!r}")
        return found[1].decode()


def decode(raw: bytes) -> Answer:
    """The answer in these bytes, which must be whole."""
    body: list[bytes] = []

    class Parts:
        def on_body(self, data: bytes) -> None:
            body.append(data)

    parser = httptools.HttpResponseParser(Parts())
    parser.feed_data(raw)
    return Answer(parser.get_status_code(), b"".join(body))


@dataclass(slots=True)
class Tally:
    """What all live streams of one job have received together, as it comes."""

    events: int = 0
    missing: int = 0
    sent_ns: "array[int]" = field(default_factory=lambda: array("q"))
    late_ns: "array[int]" = field(default_factory=lambda: array("q"))

    def between(self, start_ns: int, end_ns: int) -> list[float]:
        """Milliseconds from the agent to here, of the events sent in this time, sorted."""
        pairs = zip(self.sent_ns, self.late_ns, strict=True)
        return sorted(late / 1e6 for sent, late in pairs if start_ns <= sent <= end_ns)


class Live(asyncio.Protocol):
    """Follows one stream event by event and counts into the tally; `expected` is the index of its first delta."""

    def __init__(self, request: bytes, tally: Tally, expected: int = 0) -> None:
        self._request = request
        self._tally = tally
        self._expected = expected
        self._unread = b""
        self._now = 0
        self._completed = False
        self._parser = httptools.HttpResponseParser(self)
        loop = asyncio.get_running_loop()
        self.began: asyncio.Future[str] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self._wire.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic_ns()
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """Told by the parser."""
        whole = self._unread + data
        cut = whole.rfind(b"\n\n") + 2
        if cut < 2:
            self._unread = whole
            return
        frames, self._unread = whole[:cut], whole[cut:]
        if not self.began.done() and (found := _ID.search(frames)):
            self.began.set_result(found[1].decode())
        self._count(frames)

    def _count(self, frames: bytes) -> None:
        tally = self._tally
        tally.events += frames.count(b"\n\nevent: ") + frames.startswith(b"event: ")
        for index, sent in _DELTA.findall(frames):
            if int(index) != self._expected:
                tally.missing += 1
            self._expected = int(index) + 1
            if sent:
                tally.sent_ns.append(int(sent))
                tally.late_ns.append(self._now - int(sent))
        self._completed = self._completed or _LAST in frames

    def on_message_complete(self) -> None:
        """Told by the parser."""
        self._tally.missing += not self._completed
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self._tally.missing += 1
            self._end()

    def _end(self) -> None:
        if not self.began.done():
            self.began.set_result("")
        self.ended.set_result(self._expected)
        self._wire.close()

    def leave(self) -> None:
        """Go without waiting for the end."""
        if not self.ended.done():
            self._completed = True
            self._end()
