"""Stores with responses in them, written through the store itself: what they say and when is chosen here."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from respool.proxy.protocol.sse import encode
from respool.store.base import Chunk, End, Head, Key, Store
from respool.store.open import open_store
from respool.store.status import Status

Json = dict[str, Any]

BEGIN_MS = 1_700_000_000_123
"""When the first response of these stores was created."""


@dataclass(frozen=True, slots=True)
class Told:
    """One response to be written. `output` items are streamed one after the other, a delta each 100 ms.

    `rhythm_ms` is what goes by from one to the next, again and again; `pauses_ms` what goes by before an item.
    """

    id: str
    owner: str = ""
    input: str = "Tell me a story"
    model: str = "gpt-5-mini"
    status: Status = Status.COMPLETED
    output: Sequence[Json] = field(default_factory=lambda: [message("Once upon a time")])
    error: Json | None = None
    created_ms: int = BEGIN_MS
    waits_ms: int = 400
    background: bool = True
    agent_id: str | None = None
    rhythm_ms: Sequence[int] = (100,)
    pauses_ms: Mapping[int, int] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return Key(self.owner, self.id)

    @property
    def envelope(self) -> Json:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_ms // 1_000,
            "background": self.background,
            "store": True,
            "model": self.model,
        }


def message(text: str) -> Json:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}


def call(name: str, arguments: str) -> Json:
    names = {"id": "fc_1", "call_id": "call_1", "name": name}
    return {"type": "function_call", **names, "arguments": arguments, "status": "completed"}


def thought(text: str) -> Json:
    return {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": text}]}


def seconds_ago(seconds: float) -> int:
    return int((time.time() - seconds) * 1_000)


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


async def write(path: Path, responses: Iterable[Told], batch: int = 200) -> None:
    """Write them all, oldest first, and close the store."""
    store = await open_store(url_of(path))
    waiting: list[Told] = []
    for told in responses:
        waiting.append(told)
        if len(waiting) == batch:
            await asyncio.gather(*(write_one(store, each) for each in waiting))
            waiting.clear()
    await asyncio.gather(*(write_one(store, each) for each in waiting))
    await store.close()


async def write_one(store: Store, told: Told) -> None:
    """One response with its events; without an end if its status has none."""
    head = Head(
        told.key,
        Status.IN_PROGRESS,
        told.background,
        True,
        told.created_ms // 1_000,
        json.dumps(told.envelope).encode(),
        agent_id=told.agent_id,
        created_at_ms=told.created_ms,
    )
    await store.create(head, json.dumps({"model": told.model, "input": told.input, "stream": True}).encode())
    chunks = chunks_of(told)
    for chunk in chunks[:-1]:
        await store.append(told.key, 1, chunk)
    end = None
    if told.status.ended:
        end = End(told.status, json.dumps(final(told)).encode(), chunks[-1].at_ms)
    await store.append(told.key, 1, chunks[-1], end=end)


def final(told: Told) -> Json:
    tokens = sum(len(json.dumps(item)) for item in told.output) // 4
    usage = {"input_tokens": 10, "output_tokens": tokens, "total_tokens": 10 + tokens}
    return {
        **told.envelope,
        "status": str(told.status),
        "output": list(told.output),
        "usage": usage,
        "error": told.error,
    }


def chunks_of(told: Told) -> list[Chunk]:
    """The events as they arrived: the opening at once, each delta alone, the end with what closes the last item."""
    opening = {**told.envelope, "status": "in_progress", "output": []}
    groups: list[tuple[int, list[Json]]] = [
        (50, [{"type": f"response.{name}", "response": opening} for name in ("created", "in_progress")])
    ]
    at_ms = told.waits_ms
    rhythm = cycle(told.rhythm_ms)
    for index, item in enumerate(told.output):
        at_ms += told.pauses_ms.get(index, 0)
        for events in _spoken(index, item):
            groups.append((at_ms, events))
            at_ms += next(rhythm)
    if told.status.ended:
        name = "failed" if told.status is Status.CANCELLED else str(told.status)
        groups.append((at_ms, [{"type": f"response.{name}", "response": final(told)}]))
    chunks, seq = [], 0
    for offset, events in groups:
        frames = [
            encode(event["type"].encode(), json.dumps({**event, "sequence_number": number}).encode())
            for number, event in enumerate(events, seq)
        ]
        chunks.append(Chunk.of(seq, frames, told.created_ms + offset))
        seq += len(frames)
    return chunks


_DELTAS: dict[str, tuple[str, Callable[[Json], str]]] = {
    "message": ("response.output_text", lambda item: item["content"][0]["text"]),
    "function_call": ("response.function_call_arguments", lambda item: item["arguments"]),
    "reasoning": ("response.reasoning_summary_text", lambda item: item["summary"][0]["text"]),
}


def _spoken(index: int, item: Json) -> list[list[Json]]:
    kind, text_of = _DELTAS[item["type"]]
    text = text_of(item)
    place = {"output_index": index, "item_id": item["id"], "content_index": 0, "summary_index": 0}
    empty = {**item, "status": "in_progress"} | {
        key: value for key, value in (("content", []), ("summary", []), ("arguments", "")) if key in item
    }
    words = [f"{word} " for word in text.split(" ")]
    words[-1] = words[-1][:-1]
    return [
        [{"type": "response.output_item.added", "output_index": index, "item": empty}],
        *([{"type": f"{kind}.delta", **place, "delta": word}] for word in words),
        [{"type": "response.output_item.done", "output_index": index, "item": item}],
    ]
