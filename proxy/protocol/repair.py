"""The outgoing stream of one run: the agent's messages in, numbered and well-formed frames out.

Adds what a bare or broken stream lacks (created, in_progress, items and parts around text, the end), numbers from 0 by
1, lays the envelope over every response object, and knows how a stream without a terminal event is to be judged.
Source: CONTRACT sections 3 and 8.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from respool.proxy.protocol import events, numbering, spelling
from respool.proxy.protocol.alike import Alike
from respool.proxy.protocol.envelope import Envelope, stamp_item, stamp_response
from respool.proxy.protocol.failure import NO_END, NO_REASON, Failure, failure_of
from respool.proxy.protocol.jsons import Json, JsonObject, dumps
from respool.proxy.protocol.shortened import Shortened
from respool.proxy.protocol.sse import LARGE_BYTES, Message, encode
from respool.proxy.protocol.structure import Made, Structure
from respool.store.status import Status

Mark = tuple[int, bool, bool, bool]

_STRUCTURED = events.LIFECYCLE | events.STRUCTURE | {events.ERROR, b""}
# What a response object tells as we know it, not as the agent does.
_OURS = (*Envelope.FORCED, "response_id", "status", "error", "completed_at")


@dataclass(frozen=True, slots=True)
class Ending:
    """The terminal frame of a stream, and the status and final object (JSON) that go with it."""

    frame: bytes
    status: Status
    result: bytes


class Sequencer:
    """Numbers, stamps and completes the stream of one run. Pure: whoever owns the run does the reading and writing.

    `seq` is the number of the next event. `agent_id` is the id that the agent gave the response. `error` is what an
    `error` event of the agent said. `finished` turns true with the agent's terminal event, which is held back for
    `close`; whatever follows it is dropped. `began` is true once `response.created` has left. `waiting` is true from
    the start of a run that has to wait, for whoever owns the run to change; that it was so is told.
    """

    def __init__(self, envelope: Envelope, *, waiting: bool = False) -> None:
        self.envelope = envelope
        self.seq = 0
        self.agent_id: str | None = None
        self.error: Failure | None = None
        self.began = False
        self.bad = False
        self.waiting = waiting
        self._waited = waiting
        self._queued = False
        self._flowing = False
        self._bare = True
        self._said = False
        self._done_marker = False
        self._merged: JsonObject | None = None
        self._whole = False
        self._structure = Structure(envelope.id)
        self._terminal: tuple[bytes, bytes, JsonObject] | None = None
        self._shortened: Shortened | None = None
        self._alike = Alike()

    @classmethod
    def resumed(cls, envelope: Envelope, seq: int, *, waiting: bool = False) -> "Sequencer":
        """The stream of a run whose first `seq` events are in the log and whose agent is gone, or was never called.

        Once there are any, its end is the next: a dead process may have shown an end with that number while its storage
        failed, so nothing may come in between.
        """
        sequencer = cls(envelope, waiting=waiting)
        sequencer.seq, sequencer.began, sequencer._flowing = seq, seq > 0, seq > 0 and not waiting
        sequencer._queued = waiting and seq > 0
        return sequencer

    @property
    def finished(self) -> bool:
        """Whether the agent's terminal event has come."""
        return self._terminal is not None

    def take(self, messages: Sequence[Message]) -> list[bytes]:
        """The frames for what the agent sent, up to its end or to what is no event at all (then `bad` is true)."""
        burst = self._alike.burst(messages, self.seq)
        if burst is not None:
            self.seq += len(burst)
            return burst
        frames: list[bytes] = []
        try:
            for name, data in messages:
                if (frame := self._alike.frame(name, data, self.seq)) is not None:
                    frames.append(frame)
                    self.seq += 1
                    continue
                if self._terminal is not None:
                    break
                self._alike.forget()
                if len(data) > LARGE_BYTES:
                    self._take_large(name, data, frames)
                else:
                    self._take_one(name, data, frames)
        except events.BadEvent:
            self.bad = True
        return frames

    def take_alike(self, messages: Sequence[Message]) -> list[bytes] | None:
        """The frames for events that all look like the one before them and need just their numbers.

        Else None, and nothing: it is for whoever has no time to look closer.
        """
        frames = self._alike.frames(messages, self.seq)
        if frames is not None:
            self.seq += len(frames)
        return frames

    def mark(self) -> Mark:
        """Where the stream stands, for `rewind` when frames turn out not to have been written."""
        return self.seq, self.began, self._queued, self._flowing

    def rewind(self, mark: Mark) -> None:
        """Take back the frames made since `mark`; nothing but an end follows."""
        self.seq, self.began, self._queued, self._flowing = mark
        self._alike.forget()
        self._structure.forget()

    def begin(self) -> list[bytes]:
        """Our own `response.created`, for a client that must not wait for the agent; and `response.queued`."""
        frames: list[bytes] = []
        self._create(frames)
        return frames

    def _take_one(self, name: bytes, data: bytes, frames: list[bytes]) -> None:
        if not self._take_unparsed(name, data, frames):
            self._take_parsed(name, data, frames)

    def _take_large(self, name: bytes, data: bytes, frames: list[bytes]) -> None:
        short = Shortened(data, dumps(self.envelope.fields))
        if self._is_remembered(name, short.text):
            self._take_one(name, bytes(data), frames)
            return
        made: list[bytes] = []
        try:
            self._take_one(name, short.text, made)
        finally:
            frames += short.whole(made)
        if self._terminal is not None:
            self._shortened = short

    def _is_remembered(self, name: bytes, data: bytes) -> bool:
        """Whether texts of this event will be told again, when it is gone."""
        try:
            parsed = events.parse(data)
        except events.BadEvent:
            return False
        name = str(parsed.get("type") or "").encode("utf-8", "replace") or name
        if name in events.LIFECYCLE:
            return False
        return name in (b"", events.ERROR) or self._structure.remembers(name, parsed)

    def _take_unparsed(self, name: bytes, data: bytes, frames: list[bytes]) -> bool:
        """Pass an event on that needs no more than its number; False if it must be looked into."""
        if not self._flowing or name in _STRUCTURED or not self._structure.passes(name):
            return False
        renumbered = self._alike.learn(name, data, self.seq)
        if renumbered is None:
            return False
        self._send(name, renumbered, frames)
        self._said = True
        return True

    def _take_parsed(self, name: bytes, data: bytes, frames: list[bytes]) -> None:
        words = data.strip()
        if not words or words == b"[DONE]":
            self._done_marker |= bool(words)
            return
        parsed = events.parse(data)
        kind = parsed.get("type")
        if isinstance(kind, str) and kind:
            # On the wire it is a line of its own.
            name = b" ".join(kind.encode("utf-8", "replace").splitlines())
        elif not name and parsed.get("error"):
            name = events.ERROR
        if name in events.LIFECYCLE:
            self._bare = False
            self._take_lifecycle(name, data, parsed, frames)
        elif name == events.ERROR:
            self._take_error(parsed, frames)
        elif name:
            self._flow(frames)
            self._said = True
            self._place(name, data, parsed, frames)

    def _place(self, name: bytes, data: bytes, parsed: JsonObject, frames: list[bytes]) -> None:
        """Pass an event on inside the item and the part that it needs."""
        made, put = self._structure.place(name, parsed)
        self._tell_made(made, frames)
        if not put:
            self._emit(name, stamp_item(data, parsed, self.envelope), frames)
            return
        put = {**put, "type": name.decode(), "sequence_number": self.seq}
        data = spelling.edit(data, parsed, put)
        self._send(name, stamp_item(data, {**parsed, **put}, self.envelope), frames)

    def _tell_made(self, made: Iterable[Made], frames: list[bytes]) -> None:
        for name, fields in made:
            data = dumps({"type": name.decode(), "sequence_number": self.seq, **fields})
            self._send(name, stamp_item(data, fields, self.envelope), frames)

    def _take_lifecycle(self, name: bytes, data: bytes, parsed: JsonObject, frames: list[bytes]) -> None:
        response = parsed.get("response")
        response = response if isinstance(response, dict) else {}
        if self.agent_id is None and isinstance(response.get("id"), str):
            self.agent_id = response["id"]
        if self._waited:
            self._create(frames)
        if name in events.TERMINAL:
            self._flow(frames)
            self._tell_made(self._structure.close(completed=name == events.COMPLETED), frames)
            self._terminal = (name, data, parsed)
        elif name == events.QUEUED:
            if not self._queued and not self._flowing:
                self._queued = True
                self._create(frames, Status.QUEUED)
                self._pass_on(name, data, parsed, frames)
        elif name == events.CREATED and not self.began:
            self.began = True
            # What was created in progress cannot be queued any more: no status goes back.
            self._queued = self._queued or response.get("status") != Status.QUEUED
            self._pass_on(name, data, parsed, frames)
        elif name == events.CREATED and not self._flowing:
            self._flowing, self._merged = True, response
            self._pass_on(events.IN_PROGRESS, events.rename(data, events.IN_PROGRESS), parsed, frames)
        elif not self._is_merged(response):
            self._create(frames)
            self._flowing = True
            if name != events.IN_PROGRESS:
                data = events.rename(data, events.IN_PROGRESS)
            self._pass_on(events.IN_PROGRESS, data, parsed, frames)

    def _is_merged(self, response: JsonObject) -> bool:
        """Whether an `in_progress` says nothing beyond the `created` that was already told as `in_progress`."""
        told, self._merged = self._merged, None
        return told is not None and _theirs(told) == _theirs(response)

    def _take_error(self, parsed: JsonObject, frames: list[bytes]) -> None:
        self.error = failure_of(parsed) or NO_REASON
        if self.began:
            self._flow(frames)
            param = parsed.get("param")
            param = param if isinstance(param, str) and param else None
            self._emit(events.ERROR, events.error_event(self.error.code, self.error.message, param, self.seq), frames)

    def _create(self, frames: list[bytes], status: Status = Status.IN_PROGRESS) -> None:
        if self.began:
            return
        self.began = True
        if not self._waited:
            self._tell(events.CREATED, status, frames)
            return
        self._queued = True
        for name in (events.CREATED, events.QUEUED):
            self._tell(name, Status.QUEUED, frames)

    def _flow(self, frames: list[bytes]) -> None:
        """See to it that everything that precedes the output has been told."""
        self._create(frames)
        if not self._flowing:
            self._flowing = True
            self._tell(events.IN_PROGRESS, Status.IN_PROGRESS, frames)

    def _tell(self, name: bytes, status: Status, frames: list[bytes]) -> None:
        self._emit(name, events.lifecycle(name, self.envelope.snapshot(status), self.seq), frames)

    def _pass_on(self, name: bytes, data: bytes, parsed: JsonObject, frames: list[bytes]) -> None:
        response = parsed.get("response")
        response = response if isinstance(response, dict) else {}
        queued = name == events.CREATED and response.get("status") == Status.QUEUED
        put: JsonObject = {"status": "queued" if queued else str(events.status_of(name)), "error": None}
        if response.get("completed_at") is not None:
            put["completed_at"] = None
        self._emit(name, stamp_response(data, parsed, self.envelope, put).data, frames)

    def _emit(self, name: bytes, data: bytes, frames: list[bytes]) -> None:
        self._send(name, numbering.renumber(name, data, self.seq), frames)

    def _send(self, name: bytes, data: bytes, frames: list[bytes]) -> None:
        frames.append(encode(name, data))
        self.seq += 1

    @property
    def lacks_output(self) -> bool:
        """Whether the agent's terminal event leaves the output to be folded from the events."""
        response = self._terminal[2].get("response") if self._terminal else None
        return not isinstance(response, dict) or response.get("output") is None

    def close(self, now: int, output: list[Json] | None = None) -> Ending:
        """The agent's terminal event; `output` where it lacks one; `now` in unix seconds."""
        if self._terminal is None:
            raise RuntimeError("the agent has not sent a terminal event")
        name, data, parsed = self._terminal
        response = parsed.get("response")
        response = response if isinstance(response, dict) else {}
        status = events.status_of(name)
        if status is Status.FAILED and response.get("status") == Status.CANCELLED:
            status = Status.CANCELLED
        put = self._last_words(status, response, now)
        if output is not None:
            put["output"] = output
        data, result = stamp_response(data, parsed, self.envelope, put)
        frame = encode(name, numbering.renumber(name, data, self.seq))
        self.seq += 1
        if self._shortened is not None:
            frame, result = _whole(self._shortened, frame, result)
        return Ending(frame, status, result)

    def _last_words(self, status: Status, response: JsonObject, now: int) -> JsonObject:
        error = failure_of(response.get("error"))
        if error is None and status is Status.FAILED:
            error = self.error or NO_REASON
        words: JsonObject = {"status": str(status), "error": error.wire() if error else None}
        completed_at = response.get("completed_at")
        if status is Status.COMPLETED:
            words["completed_at"] = int(completed_at) if isinstance(completed_at, int | float) else now
        elif completed_at is not None:
            words["completed_at"] = None
        return words

    def verdict(self, *, clean: bool) -> tuple[Status, Failure | None]:
        """How a stream is judged that ended without a terminal event; `clean` if the transfer ended by its framing."""
        said_all = clean or (self._done_marker and self._said)
        self._whole = self.error is None and (said_all if self._bare else clean and self._structure.is_closed)
        return (Status.COMPLETED, None) if self._whole else (Status.FAILED, self.error or NO_END)

    def preface(self) -> list[bytes]:
        """Whatever must have been told before an end of ours: created and in_progress, the end of an item of ours.

        A run that is still waiting was never in progress, and nothing says so.
        """
        frames: list[bytes] = []
        if self.waiting:
            self._create(frames)
            return frames
        self._flow(frames)
        self._tell_made(self._structure.close(completed=self._whole), frames)
        return frames

    def end(self, snapshot: JsonObject, status: Status, error: Failure | None, now: int) -> Ending:
        """An end that the agent did not write, over the folded `snapshot`; after `preface`. `now` in unix seconds."""
        response: JsonObject = {
            **snapshot,
            **self._last_words(status, {}, now),
            "error": error.wire() if error else None,
        }
        name = events.name_of(status)
        data = events.lifecycle(name, response, self.seq)
        self.seq += 1
        return Ending(encode(name, data), status, events.response_of(data))


def _whole(short: Shortened, frame: bytes, result: bytes) -> tuple[bytes, bytes]:
    """A terminal frame and the object in it, with their long strings; no second copy where the object has them all."""
    if not short.has_all(result):
        return short.copied(frame), short.copied(result)
    start = frame.index(result)
    end = len(frame) - start - len(result)
    [whole] = short.whole([frame])
    return whole, cast(bytes, memoryview(whole)[start : len(whole) - end])


def _theirs(response: JsonObject) -> JsonObject:
    """What only the agent can say about a response."""
    return {key: value for key, value in response.items() if key not in _OURS}
