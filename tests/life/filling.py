"""A log full of responses, as weeks of runs would have left it: written through the backend, many to a transaction."""

import json
from collections.abc import Iterator
from dataclasses import replace

from respool.store.backend import Append, Create, Write
from respool.store.base import Chunk, End, Head, Key
from respool.store.sqlite import SqliteBackend
from respool.store.status import Status
from tests.proxy.agent import delta, frame, opening

_AT_ONCE = 200
_TOGETHER = 5
_SHORT = 20
_CREATED_AT = 1_700_000_000


async def fill(path: str, *, ended: int, orphans: int, events: int) -> list[str]:
    """Write responses of twenty events that have ended, and orphans with so many deltas each, whose ids it returns."""
    backend = await SqliteBackend.open(path)
    frames = [
        frame({**event, "sequence_number": number})
        for number, event in enumerate([*opening(), *(delta(f"word{word} ") for word in range(events))])
    ]
    for start in range(0, ended + orphans, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, ended + orphans))
        await backend.commit(
            [write for number in numbers for write in _writes(number, frames, has_ended=number < ended)]
        )
    await backend.close()
    return [_id(number) for number in range(ended, ended + orphans)]


def _id(number: int) -> str:
    return f"caresp_{number:050}"


def _writes(number: int, frames: list[bytes], *, has_ended: bool) -> Iterator[Write]:
    key = Key("", _id(number))
    fields = {"id": key.id, "object": "response", "created_at": _CREATED_AT, "background": True, "store": True}
    envelope = json.dumps(fields).encode()
    yield Create(Head(key, Status.IN_PROGRESS, True, True, _CREATED_AT, envelope), b'{"input":"hi"}')
    frames = frames[:_SHORT] if has_ended else frames
    chunks = [Chunk.of(at, frames[at : at + _TOGETHER], 1) for at in range(0, len(frames), _TOGETHER)]
    appends = [Append(key, 1, chunk) for chunk in chunks]
    if has_ended:
        end = End(Status.COMPLETED, envelope, (_CREATED_AT + number) * 1000)
        appends[-1] = replace(appends[-1], end=end)
    yield from appends
