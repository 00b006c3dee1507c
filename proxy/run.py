"""One run as everybody but its relay sees it: what is asked of it, and how far it has come."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from respool.proxy.ear import Ear
from respool.proxy.protocol.envelope import Envelope
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.rules import Plan
from respool.proxy.slots import Slot
from respool.store.base import Key, Store


class Word(Enum):
    """What a relay can be told."""

    BEGIN = auto()
    CANCEL = auto()
    FAILED = auto()
    LEAVE = auto()
    SHUTDOWN = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """What goes to the agent: body, raw headers, query. `previous_id` is its own id of the previous response."""

    body: bytes
    headers: Sequence[tuple[bytes, bytes]]
    query: bytes
    previous_id: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An agent's own answer, to be handed on as it is: HTTP status, raw headers, body."""

    http_status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class Backlog:
    """Bytes of one stream that its only reader has not taken yet. Without `limit` there is no bound."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()

    def add(self, count: int) -> None:
        """The relay has written `count` bytes."""
        self._bytes += count
        if self._limit is not None and self._bytes > self._limit:
            self._room.clear()

    def sent(self, count: int) -> None:
        """The reader has taken `count` bytes."""
        self._bytes -= count
        if self._limit is not None and self._bytes <= self._limit:
            self._room.set()

    @property
    def has_room(self) -> bool:
        """Whether the reader is at most `limit` behind."""
        return self._room.is_set()

    async def room(self) -> None:
        """Return once the reader is at most `limit` behind."""
        await self._room.wait()


@dataclass(slots=True)
class Run:
    """A response being produced.

    `store` is where it is written: the log, or memory for `store: false`. `accepted` is set when the client's answer
    may begin (the agent's 2xx status, or the grace is over), `began` when the first events are durable, `ended`
    when the end is. All three are set when the run is refused: then `refusal` is the whole answer and nothing is kept.
    `final` is the final object (JSON), `session` what the agent said in `x-agent-session-id`. `patience_seconds` is how
    long a run that does not survive its clients goes on when the last of them has left.

    Its `slot` says when the agent may be called. `queued` if its record was created before the slot had come; if it is
    `kept` too, it stays queued over the end of this process, and `call` is None when it comes from another one.
    """

    key: Key
    plan: Plan
    envelope: Envelope
    call: Call | None
    store: Store
    slot: Slot
    epoch: int = 1
    last_seq: int = -1
    queued: bool = False
    kept: bool = False
    backlog: Backlog = field(default_factory=Backlog)
    ear: Ear[Word] = field(default_factory=Ear)
    refusal: WireError | Answer | None = None
    session: str | None = None
    final: bytes | None = None
    patience_seconds: float = 0
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    clients: int = 0
    leaving: asyncio.TimerHandle | None = None

    @property
    def stays(self) -> bool:
        """Whether it is for another process to call the agent, if this one ends now."""
        return self.kept and not self.slot.has_come

    def join(self) -> None:
        """A client waits for the answer to its POST."""
        self.clients += 1
        if self.leaving is not None:
            self.leaving.cancel()

    def leave(self) -> None:
        """A client has gone before it had the whole answer; the last one may take the run with it."""
        self.clients -= 1
        if self.plan.survives or self.clients:
            return
        if not self.patience_seconds:
            self.ear.tell(Word.LEAVE)
        elif not self.ended.is_set():
            loop = asyncio.get_running_loop()
            self.leaving = loop.call_later(self.patience_seconds, self.ear.tell, Word.LEAVE)

    def refuse(self, answer: WireError | Answer) -> None:
        """Nothing has been told yet and nothing will be: `answer` is the whole answer."""
        self.refusal = answer
        for event in (self.accepted, self.began, self.ended):
            event.set()
