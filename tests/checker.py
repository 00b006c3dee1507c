"""What clients saw against what the log holds: nothing lost, nothing twice, numbers by one, one end, one status.

A test gathers transcripts of what each client was told of a response, reads the log (`read_file` after the process has
died or stopped, `read_store` beside a live one), and asserts that `faults` finds none. Everything is compared byte by
byte, or as parsed JSON where the client is one that parses.
"""

import json
import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from respool.store.base import Filter, Key, Store
from respool.store.status import Status

Json = dict[str, Any]
Kind = Literal["lost", "repeated", "skipped", "altered", "ends", "status", "log"]

TERMINAL = {
    "response.completed": {Status.COMPLETED},
    "response.failed": {Status.FAILED, Status.CANCELLED},
    "response.incomplete": {Status.INCOMPLETE},
}
_END = b"\n\n"


class Fault(NamedTuple):
    """One broken promise: what kind, and the sentence for whoever reads the test's output."""

    kind: Kind
    words: str


@dataclass(frozen=True, slots=True)
class Logged:
    """One response as the log has it: status, frames from number 0 on, the final object (None while there is none)."""

    key: Key
    status: Status
    frames: tuple[bytes, ...]
    result: bytes | None = None
    ended_at_ms: int | None = None
    cancel_requested: bool = False


@dataclass(slots=True)
class Stream:
    """A stream as its bytes came: the SSE body behind the cursor `after`; `whole` once the answer ended properly."""

    who: str
    after: int = -1
    received: bytes = b""
    whole: bool = False

    def events(self) -> list[Json]:
        """The data of the whole events."""
        return [_data(frame) for frame in _split(self.received)[0]]


@dataclass(slots=True)
class Parsed:
    """A stream as a client library handed it on: the data of each event behind the cursor `after`."""

    who: str
    after: int = -1
    received: list[Json] = field(default_factory=list)
    whole: bool = False

    def events(self) -> list[Json]:
        """The data of the whole events."""
        return self.received


@dataclass(slots=True)
class Objects:
    """Response objects that one client was given (polls, the answer to a POST or a cancel), in their order."""

    who: str
    received: list[Json] = field(default_factory=list)


Transcript = Stream | Parsed | Objects


def faults(response: Logged | None, transcripts: Iterable[Transcript]) -> list[Fault]:
    """Everything that is wrong with a response and with what clients saw of it; [] is what tests want.

    `response` None stands for one that was deleted or withdrawn: then the transcripts are held against each other.
    """
    if response is None:
        return list(_faults_among(list(transcripts)))
    found = list(_faults_of_the_log(response))
    for transcript in transcripts:
        found += _faults_of_a_client(response, transcript)
    return found


def read_file(path: Path) -> dict[Key, Logged]:
    """The log in a SQLite file that no process has open; empty where not even the tables have been made yet.

    Raises AssertionError if the database itself is not sound.
    """
    assert path.exists(), path
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = OFF")  # closing folds the -wal file in, which need not reach the disk for this
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], path
        assert db.execute("PRAGMA foreign_key_check").fetchall() == [], path
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'response'").fetchone():
            return {}
        return {logged.key: logged for logged in _rows(db)}


def _rows(db: sqlite3.Connection) -> Iterator[Logged]:
    frames: dict[int, list[bytes]] = {}
    for run, last, packed, data in db.execute("SELECT run, last, sizes, data FROM chunk ORDER BY run, last"):
        sizes = array("I", packed)  # little-endian, as is every machine that runs these tests
        so_far = frames.setdefault(run, [])
        assert last == len(so_far) + len(sizes) - 1, f"run {run} has a hole or an overlap before {last}"
        so_far += _cut(data, sizes)
    results = dict(db.execute("SELECT run, body FROM result"))
    for run, owner, id_, status, ended_at_ms, cancel_requested in db.execute(
        "SELECT run, owner, id, status, ended_at_ms, cancel_requested FROM response"
    ):
        told = (results.get(run), ended_at_ms, bool(cancel_requested))
        yield Logged(Key(owner, id_), Status(status), tuple(frames.get(run, ())), *told)


def _cut(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    start = 0
    for size in sizes:
        yield data[start : start + size]
        start += size
    assert start == len(data), "the sizes of a chunk are not those of its events"


async def read_store(store: Store) -> dict[Key, Logged]:
    """The log as an open store shows it."""
    heads = await store.list(Filter(limit=1_000_000))
    return {head.key: await _logged(store, head.key) for head in heads}


async def _logged(store: Store, key: Key) -> Logged:
    frames: list[bytes] = []
    while (page := await store.read(key, len(frames) - 1, 2**20)).chunks:
        for chunk in page.chunks:
            assert chunk.first == len(frames), f"{key.id} has a hole or an overlap before {chunk.first}"
            frames += chunk.events()
    head = await store.head(key)
    return Logged(key, head.status, tuple(frames), await store.result(key), head.ended_at_ms, head.cancel_requested)


def _faults_of_the_log(response: Logged) -> Iterator[Fault]:
    id_ = response.key.id
    events = [_data(frame) for frame in response.frames]
    for number, event in enumerate(events):
        if event["sequence_number"] != number:
            yield Fault("log", f"{id_}: the event at place {number} says {event['sequence_number']}")
        if not response.frames[number].startswith(b"event: %s\ndata: " % event["type"].encode()):
            yield Fault("log", f"{id_}: event {number} is named otherwise than its type {event['type']}")
        if event.get("response", {}).get("id", id_) != id_:
            yield Fault("log", f"{id_}: event {number} speaks of {event['response']['id']}")
    if events and events[0]["type"] != "response.created":
        yield Fault("log", f"{id_}: begins with {events[0]['type']}")
    yield from _faults_of_the_end(response, events)


def _faults_of_the_end(response: Logged, events: list[Json]) -> Iterator[Fault]:
    id_, ended = response.key.id, response.status.ended
    ends = [number for number, event in enumerate(events) if event["type"] in TERMINAL]
    if ends != ([len(events) - 1] if ended else []):
        yield Fault("ends", f"{id_} is {response.status} and has terminal events at {ends} of {len(events)}")
        return
    if ended != (response.ended_at_ms is not None) or ended != (response.result is not None):
        yield Fault("status", f"{id_} is {response.status} with ended_at_ms={response.ended_at_ms}")
    if not ended or response.result is None:
        return
    last = events[-1]
    if response.status not in TERMINAL[last["type"]] or last["response"]["status"] != response.status:
        yield Fault("status", f"{id_} is {response.status}, its end {last['type']} {last['response']['status']}")
    if last["response"] != json.loads(response.result):
        yield Fault("status", f"{id_}: its final object is not the one of its last event")


def _faults_of_a_client(response: Logged, transcript: Transcript) -> Iterator[Fault]:
    match transcript:
        case Stream():
            yield from _faults_of_a_stream(response, transcript)
        case Parsed():
            numbers = [event["sequence_number"] for event in transcript.received]
            logged = [_data(frame) for frame in response.frames]
            yield from _faults_of_events(response, transcript, numbers, transcript.received, logged)
        case Objects():
            yield from _faults_of_objects(response, transcript)


def _faults_of_a_stream(response: Logged, stream: Stream) -> Iterator[Fault]:
    frames, torn = _split(stream.received)
    numbers = [_data(frame)["sequence_number"] for frame in frames]
    yield from _faults_of_events(response, stream, numbers, frames, response.frames)
    rest = response.frames[stream.after + 1 + len(frames) :]
    if torn and not torn.startswith(b":") and not (rest and rest[0].startswith(torn)):
        yield Fault("lost", f"{stream.who}: the half of an event that it saw is not in the log: {torn[:80]!r}")


def _faults_of_events(
    response: Logged, stream: Stream | Parsed, numbers: list[int], seen: list[Any], logged: Iterable[Any]
) -> Iterator[Fault]:
    who, logged = f"{stream.who} of {response.key.id}", list(logged)
    next_number = max(stream.after, -1) + 1
    for number, event in zip(numbers, seen, strict=True):
        if number < next_number:
            yield Fault("repeated", f"{who} got {number} again, where {next_number} was next")
        elif number > next_number:
            yield Fault("skipped", f"{who} got {number}, where {next_number} was next")
        if number >= len(logged):
            yield Fault("lost", f"{who} saw {number}, the log has {len(logged)} events: {str(event)[:120]}")
        elif logged[number] != event:
            yield Fault("altered", f"{who} saw at {number} {str(event)[:200]}, the log has {str(logged[number])[:200]}")
        next_number = max(next_number, number + 1)
    if stream.whole and not (response.status.ended and next_number >= len(logged)):
        yield Fault("ends", f"{who} was told that it is over before {next_number}; {response.status}, {len(logged)}")


def _faults_of_objects(response: Logged, objects: Objects) -> Iterator[Fault]:
    who, ended = f"{objects.who} of {response.key.id}", False
    said = text_of(_data(frame) for frame in response.frames)
    before = ""
    for seen in objects.received:
        if Status(seen["status"]).ended:
            ended = True
            if response.result is None or seen != json.loads(response.result):
                yield Fault("status", f"{who} saw the end {seen['status']}, the log says {response.status}")
            continue
        if ended:
            yield Fault("status", f"{who} saw {seen['status']} after an end")
        text = output_text(seen)
        if not text.startswith(before):
            yield Fault("lost", f"{who} saw {text!r} after {before!r}")
        if not said.startswith(text):
            yield Fault("lost", f"{who} saw the text {text!r}, the log has {said!r}")
        before = text


def _faults_among(transcripts: list[Transcript]) -> Iterator[Fault]:
    """Of a response that is no more: every number is one event to all who saw it, and each saw them by one."""
    known: dict[int, Json] = {}
    ends: set[str] = set()
    for transcript in transcripts:
        if isinstance(transcript, Objects):
            ends |= {seen["status"] for seen in transcript.received if Status(seen["status"]).ended}
            continue
        numbers = [event["sequence_number"] for event in transcript.events()]
        if numbers != list(range(transcript.after + 1, transcript.after + 1 + len(numbers))):
            yield Fault("skipped", f"{transcript.who} got {numbers} behind {transcript.after}")
        for event in transcript.events():
            if known.setdefault(event["sequence_number"], event) != event:
                yield Fault("altered", f"{transcript.who} saw another event {event['sequence_number']} than others")
    ends |= {event["response"]["status"] for event in known.values() if event["type"] in TERMINAL}
    if len(ends) > 1:
        yield Fault("ends", f"clients were told of several ends: {sorted(ends)}")


def _split(received: bytes) -> tuple[list[bytes], bytes]:
    """The whole events of a body without its comments, and the torn rest."""
    *whole, torn = received.split(_END)
    return [frame + _END for frame in whole if not frame.startswith(b":")], torn


def _data(frame: bytes) -> Json:
    data: Json = json.loads(frame[frame.index(b"data: ") + 6 :])
    return data


def text_of(events: Iterable[Json]) -> str:
    """The text that the deltas make."""
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def output_text(response: Json) -> str:
    """The text of a response object."""
    parts = (part for item in response["output"] for part in item.get("content") or ())
    return "".join(part.get("text", "") for part in parts)
