"""The life of a response, read from its events and the times at which they arrived."""

from collections import Counter
from dataclasses import dataclass, field

from respool.proxy.protocol import events
from respool.proxy.protocol.growing import index_in
from respool.proxy.protocol.jsons import JsonObject
from respool.proxy.protocol.sse import split

_STEPS = events.LIFECYCLE | {events.ERROR}


@dataclass(frozen=True, slots=True)
class Step:
    """An event that moves the response itself, or an error: its type, its number, its arrival in unix milliseconds."""

    type: str
    seq: int
    at_ms: int


@dataclass(slots=True)
class Span:
    """An output item from its first event to its end; `ended_ms` is None while it is open.

    `deltas` counts its deltas, `characters` what they carried.
    """

    index: int
    type: str
    id: str
    name: str
    first_seq: int
    begun_ms: int
    last_seq: int
    ended_ms: int | None = None
    deltas: int = 0
    characters: int = 0


@dataclass(frozen=True, slots=True)
class Silence:
    """No event between two arrivals: milliseconds since one moment, which is 1970 in a Timeline.

    `after_seq` is the number of the last event before it, -1 before the first.
    """

    from_ms: int
    until_ms: int
    after_seq: int

    @property
    def ms(self) -> int:
        """How long it was."""
        return self.until_ms - self.from_ms


@dataclass(slots=True)
class Timeline:
    """Feed it every event in order; all of it can be read at any time.

    `first_output_ms` is the arrival of the first delta, or where there was none of the first item that was whole;
    `silence` the longest time between two arrivals.
    """

    steps: list[Step] = field(default_factory=list)
    items: dict[int, Span] = field(default_factory=dict)
    types: Counter[str] = field(default_factory=Counter)
    events: int = 0
    size: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    first_output_ms: int | None = None
    silence: Silence | None = None

    def add(self, seq: int, at_ms: int, frame: bytes) -> None:
        """Take the event `seq`, encoded, that arrived at `at_ms`."""
        self._arrived(seq, at_ms)
        self.events += 1
        self.size += len(frame)
        name, data = split(frame)
        kind = name.decode("utf-8", "replace")
        self.types[kind] += 1
        if name in _STEPS:
            self.steps.append(Step(kind, seq, at_ms))
            return
        if not _concerns_an_item(name):
            return
        if self.first_output_ms is None and (is_delta(name) or name == events.ITEM_DONE):
            self.first_output_ms = at_ms
        self._item(seq, at_ms, name, _parsed(data))

    def _arrived(self, seq: int, at_ms: int) -> None:
        if self.first_ms is None or self.last_ms is None:
            self.first_ms = self.last_ms = at_ms
        elif at_ms - self.last_ms > (self.silence.ms if self.silence else 0):
            self.silence = Silence(self.last_ms, at_ms, seq - 1)
        self.last_ms = max(at_ms, self.last_ms)

    def _item(self, seq: int, at_ms: int, name: bytes, event: JsonObject) -> None:
        index = index_in(event, "output_index")
        if index is None:
            return
        span = self.items.get(index)
        item = event.get("item")
        if span is None:
            span = self.items[index] = Span(index, "item", "", "", seq, at_ms, seq)
        if isinstance(item, dict):
            span.type, span.id, span.name = (str(item.get(key) or "") for key in ("type", "id", "name"))
        span.last_seq = seq
        if is_delta(name) and isinstance(delta := event.get("delta"), str):
            span.deltas += 1
            span.characters += len(delta)
        elif name == events.ITEM_DONE:
            span.ended_ms = at_ms


def is_delta(name: bytes) -> bool:
    """Whether an event of this type carries a piece of the output: what a person calls a token."""
    return name.endswith(b".delta")


def is_end(frame: bytes) -> bool:
    """Whether an encoded event ends its response."""
    return split(frame)[0] in events.TERMINAL


def _concerns_an_item(name: bytes) -> bool:
    return name.startswith(b"response.") and name not in events.LIFECYCLE


def _parsed(data: bytes) -> JsonObject:
    try:
        return events.parse(data)
    except events.BadEvent:
        return {}
