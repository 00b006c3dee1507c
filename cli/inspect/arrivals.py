"""When the events of a response arrived, counted over time."""

from collections.abc import Sequence
from dataclasses import dataclass

from respool.cli.inspect.entry import created_ms
from respool.cli.inspect.source import Source
from respool.proxy.protocol.jsons import JsonObject
from respool.proxy.protocol.timeline import Silence, Span, Timeline
from respool.store.base import Chunk, Head

_SILENCES = 3


@dataclass(frozen=True, slots=True)
class Arrival:
    """Events that arrived together, `ms` after the POST."""

    ms: int
    first_seq: int
    events: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Arrivals:
    """One response: its arrivals in order, the life of its items, and how long it all took."""

    head: Head
    arrivals: Sequence[Arrival]
    timeline: Timeline
    total_ms: int

    @property
    def begin_ms(self) -> int:
        """The POST, in unix milliseconds."""
        return created_ms(self.head)

    def bins(self, count: int) -> list[int]:
        """Events in each of `count` equal parts of the time."""
        counted = [0] * count
        for arrival in self.arrivals:
            counted[min(count - 1, arrival.ms * count // (self.total_ms + 1))] += arrival.events
        return counted

    def gaps(self, most: int = _SILENCES) -> list[Silence]:
        """The longest silences after the POST, longest first: those that take a twentieth of the time and more."""
        gaps, at_ms, seq = [], 0, -1
        for arrival in self.arrivals:
            gaps.append(Silence(at_ms, arrival.ms, seq))
            at_ms, seq = arrival.ms, arrival.first_seq + arrival.events - 1
        longest = sorted(gaps, key=lambda gap: gap.ms, reverse=True)[:most]
        return [gap for gap in longest if gap.ms * 20 >= self.total_ms and gap.ms > 0]

    def spans(self) -> list[tuple[Span, int, int]]:
        """Each item with its beginning and its end, milliseconds after the POST."""
        found = []
        for span in sorted(self.timeline.items.values(), key=lambda span: span.index):
            ended_ms = span.ended_ms if span.ended_ms is not None else self.begin_ms + self.total_ms
            found.append((span, max(0, span.begun_ms - self.begin_ms), max(0, ended_ms - self.begin_ms)))
        return found

    def json(self) -> JsonObject:
        """The stable shape: see docs/json.md."""
        first = self.timeline.first_output_ms
        return {
            "id": self.head.key.id,
            "status": str(self.head.status),
            "total_ms": self.total_ms,
            "first_output_ms": None if first is None else max(0, first - self.begin_ms),
            "arrivals": [[arrival.ms, arrival.first_seq, arrival.events, arrival.bytes] for arrival in self.arrivals],
            "silences": [{"from_ms": g.from_ms, "until_ms": g.until_ms, "after": g.after_seq} for g in self.gaps()],
            "items": [
                {"type": span.type, "name": span.name, "from_ms": begun, "until_ms": ended}
                for span, begun, ended in self.spans()
            ],
        }


async def arrivals(source: Source, head: Head) -> Arrivals:
    """Read them. Raises NotFound, Trouble."""
    timeline = Timeline()
    found: list[Arrival] = []
    begin = created_ms(head)
    async for chunk in source.events(head.key):
        found.append(_arrival(chunk, begin, found))
        for seq, frame in enumerate(chunk.events(), chunk.first):
            timeline.add(seq, chunk.at_ms, frame)
    ended_ms = max(0, (head.ended_at_ms or begin) - begin)
    return Arrivals(head, found, timeline, max([ended_ms, *(arrival.ms for arrival in found[-1:])]))


def _arrival(chunk: Chunk, begin: int, before: Sequence[Arrival]) -> Arrival:
    # A clock that was set back must not make a response run backwards.
    ms = max([0, chunk.at_ms - begin, *(arrival.ms for arrival in before[-1:])])
    return Arrival(ms, chunk.first, len(chunk.sizes), len(chunk.data))
