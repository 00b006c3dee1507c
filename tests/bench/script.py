"""What an agent under load says: a small language in a request's `input`, and the events of it, encoded.

Standard library alone: the agents of other SDKs read it too.
"""

import json
from dataclasses import dataclass, fields
from typing import Any

ITEM_ID = "msg_" + "b" * 50
RESPONSE_ID = "resp_" + "a" * 50

PLAIN_TEXT = b"%07d "
"""A delta of a burst: its index."""

STAMPED_TEXT = b"%07d@%019d "
"""A paced delta: its index, and CLOCK_MONOTONIC in ns when it was sent."""


@dataclass(frozen=True, slots=True)
class Script:
    """A message of `burst` deltas as fast as they are taken, then `paced` ones at `rate` a second, each with its time.

    With `spread` the streams of one agent are out of step, as those of people are; without, the first paced delta comes
    1/rate after the head. `hang` says nothing after the deltas until the client goes. `each` gives each delta of the
    burst a write of its own, as web frameworks do; with 2 also a turn of the event loop, as whoever awaits between two
    events does; otherwise one write carries some 64 KiB. `wait` is silence before the paced ones, in seconds.
    """

    burst: int = 0
    paced: int = 0
    rate: float = 1.0
    spread: int = 0
    hang: int = 0
    each: int = 0
    wait: float = 0.0

    def __str__(self) -> str:
        return " ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))

    @classmethod
    def parse(cls, text: str) -> "Script":
        given = dict(pair.split("=", 1) for pair in text.split() if "=" in pair)
        return cls(
            **{name: int(given[name]) for name in ("burst", "paced", "spread", "hang", "each") if name in given},
            rate=float(given.get("rate", 1)),
            wait=float(given.get("wait", 0)),
        )

    @property
    def deltas(self) -> int:
        return self.burst + self.paced

    @property
    def text_size(self) -> int:
        return self.burst * len(PLAIN_TEXT % 0) + self.paced * len(STAMPED_TEXT % (0, 0))


def opening() -> list[bytes]:
    """The events before the deltas."""
    return [
        _event(0, "response.created", response=_response("in_progress", [])),
        _event(1, "response.in_progress", response=_response("in_progress", [])),
        _event(2, "response.output_item.added", output_index=0, item=_item("in_progress", [])),
        _event(3, "response.content_part.added", item_id=ITEM_ID, output_index=0, content_index=0, part=_part("")),
    ]


def closing(script: Script) -> list[bytes]:
    """The events after the deltas; they carry the whole text, as an agent's do."""
    # As long as what the deltas said; nobody reads it.
    text, seq = "x" * script.text_size, len(opening()) + script.deltas
    item = _item("completed", [_part(text)])
    place: dict[str, Any] = {"item_id": ITEM_ID, "output_index": 0, "content_index": 0}
    return [
        _event(seq, "response.output_text.done", **place, text=text),
        _event(seq + 1, "response.content_part.done", **place, part=_part(text)),
        _event(seq + 2, "response.output_item.done", output_index=0, item=item),
        _event(seq + 3, "response.completed", response=_response("completed", [item])),
    ]


_NAME = b"response.output_text.delta"
_DELTA = (
    b"event: " + _NAME + b'\ndata: {"item_id": "' + ITEM_ID.encode() + b'", "output_index": 0, "content_index": 0, '
    b'"delta": "%b", "sequence_number": %d, "type": "' + _NAME + b'"}\n\n'
)


def plain_delta(index: int) -> bytes:
    return _DELTA % (PLAIN_TEXT % index, index + 4)


def stamped_delta(index: int, at_ns: int) -> bytes:
    return _DELTA % (STAMPED_TEXT % (index, at_ns), index + 4)


def chunk(data: bytes) -> bytes:
    """One chunk of HTTP/1.1's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(seq: int, kind: str, **fields_of: Any) -> bytes:
    data = json.dumps({**fields_of, "sequence_number": seq, "type": kind})
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _response(status: str, output: list[Any]) -> dict[str, Any]:
    return {"id": RESPONSE_ID, "object": "response", "status": status, "created_at": 1, "model": "m", "output": output}


def _item(status: str, content: list[Any]) -> dict[str, Any]:
    return {"id": ITEM_ID, "type": "message", "role": "assistant", "status": status, "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}
