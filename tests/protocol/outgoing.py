"""A run without a relay: what an agent says, through the sequencer to its end, as the client gets it."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from respool.proxy.protocol.accumulator import Accumulator
from respool.proxy.protocol.envelope import Envelope
from respool.proxy.protocol.failure import Failure
from respool.proxy.protocol.jsons import Json, JsonObject, dumps, loads
from respool.proxy.protocol.repair import Ending, Sequencer
from respool.proxy.protocol.sse import Message, split
from respool.store.status import MOVES, Status

OURS = "resp_ours"
CREATED_AT = 1700000000
NOW = 1700000009
REFERENCE = {"type": "agent_reference", "name": "ref"}
FIELDS: JsonObject = {
    "id": OURS,
    "object": "response",
    "created_at": CREATED_AT,
    "background": True,
    "store": True,
    "model": "asked",
    "agent_reference": REFERENCE,
}
ENVELOPE = Envelope(FIELDS)

TERMINAL = ("completed", "failed", "incomplete")
_KEPT = ("id", "object", "created_at", "background", "store")


@dataclass(frozen=True)
class Told:
    """A whole stream as it left: its frames, the events in them, and how it ended."""

    frames: list[bytes]
    ending: Ending

    @property
    def events(self) -> list[JsonObject]:
        """Each event, parsed."""
        return parsed(self.frames)

    @property
    def names(self) -> list[str]:
        """The name of each event, without its `response.`."""
        return names(self.frames)

    @property
    def final(self) -> JsonObject:
        """The final object."""
        return dict(loads(bytes(self.ending.result)))

    def of(self, name: str) -> list[JsonObject]:
        """The events of one name."""
        return [event for event in self.events if event["type"] == f"response.{name}"]


def said(kind: str, **fields: Json) -> Message:
    """An event of an agent, with an `event:` line."""
    name = kind if kind == "error" else f"response.{kind}"
    return name.encode(), dumps({"type": name, **fields})


def nameless(kind: str, **fields: Json) -> Message:
    """An event of an agent without an `event:` line."""
    return b"", said(kind, **fields)[1]


def parsed(frames: Iterable[bytes]) -> list[JsonObject]:
    """The data of each frame."""
    return [loads(split(bytes(frame))[1]) for frame in frames]


def names(frames: Iterable[bytes]) -> list[str]:
    """The name of each frame, without its `response.`."""
    return [split(frame)[0].decode().removeprefix("response.") for frame in frames]


def folded(frames: Iterable[bytes], envelope: Envelope = ENVELOPE) -> Accumulator:
    """The fold of what has left so far, as for a poll."""
    accumulator = Accumulator(envelope.snapshot(Status.IN_PROGRESS))
    for frame in frames:
        accumulator.add(split(bytes(frame))[1])
    return accumulator


def tell(
    messages: Iterable[Message],
    *,
    clean: bool = True,
    envelope: Envelope = ENVELOPE,
    sequencer: Sequencer | None = None,
    before: Iterable[bytes] = (),
    stop: tuple[Status, Failure | None] | None = None,
) -> Told:
    """All of a run: the agent's messages, then its own end or the one that it is judged to have (or `stop`).

    `sequencer` has already told what is in `before`.
    """
    sequencer = sequencer or Sequencer(envelope)
    frames = [*before, *sequencer.take(list(messages))]
    if sequencer.finished:
        output = folded(frames, envelope).snapshot()["output"] if sequencer.lacks_output else None
        ending = sequencer.close(NOW, output)
    else:
        status, failure = stop or sequencer.verdict(clean=clean)
        accumulator = folded(frames, envelope)
        accumulator.close_items(status)
        frames += sequencer.preface()
        ending = sequencer.end(accumulator.snapshot(), status, failure, NOW)
    return Told([*frames, ending.frame], ending)


def check_order(told: Told, envelope: Envelope = ENVELOPE) -> None:
    """What is true of every stream, whatever an agent said; inside items and outputs it is trusted."""
    assert [event["sequence_number"] for event in told.events] == list(range(len(told.frames)))
    assert [event["type"].removeprefix("response.") for event in told.events] == told.names
    assert told.names[0] == "created"
    assert "created" not in told.names[1:]
    assert told.names[1 + ("queued" in told.names)] == "in_progress"
    assert [name for name in told.names if name in TERMINAL] == told.names[-1:]
    responses = [event["response"] for event in told.events if "response" in event]
    for response in responses:
        assert {key: response[key] for key in _KEPT} == {key: envelope.fields[key] for key in _KEPT}
    statuses = [Status(response["status"]) for response in responses]
    assert all(after == before or after in MOVES[before] for before, after in pairwise(statuses))
    assert responses[-1] == told.final
    assert told.final["status"] == told.ending.status
    assert (told.final["error"] is not None) == (told.ending.status == "failed")
