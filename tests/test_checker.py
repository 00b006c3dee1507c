"""The checker itself: a log and clients that agree pass, and each kind of deviation is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from respool.store.base import Chunk, End, Head, Key
from respool.store.open import open_store
from respool.store.status import Status
from tests.checker import Fault, Logged, Objects, Parsed, Stream, Transcript, faults, read_file, read_store

KEY = Key("", "resp_1")


def response(status: str, text: str = "") -> dict[str, Any]:
    return {"id": KEY.id, "status": status, "output": [{"content": [{"text": text}]}] if text else []}


def frame(number: int, kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, "sequence_number": number, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode()


FRAMES = (
    frame(0, "response.created", response=response("in_progress")),
    frame(1, "response.output_text.delta", delta="Hel"),
    frame(2, "response.output_text.delta", delta="lo"),
    frame(3, "response.completed", response=response("completed", "Hello")),
)
RESULT = json.dumps(response("completed", "Hello")).encode()
ENDED = Logged(KEY, Status.COMPLETED, FRAMES, RESULT, 1)
LIVE = Logged(KEY, Status.IN_PROGRESS, FRAMES[:3])


def kinds(found: list[Fault]) -> list[str]:
    return [fault.kind for fault in found]


def test_what_agrees_has_no_fault() -> None:
    whole = b"".join(FRAMES)
    events = [json.loads(one.partition(b"data: ")[2]) for one in FRAMES]
    transcripts: list[Transcript] = [
        Stream("post", -1, whole, whole=True),
        Stream("with a comment", 0, FRAMES[1] + b": keep-alive\n\n" + FRAMES[2]),
        Stream("torn", 0, FRAMES[1] + FRAMES[2][:10]),
        Stream("behind the end", 3, b"", whole=True),
        Parsed("library", 1, events[2:], whole=True),
        Objects("poller", [response("in_progress"), response("in_progress", "Hel"), response("completed", "Hello")]),
    ]
    assert faults(ENDED, transcripts) == []
    assert faults(None, transcripts) == []
    assert faults(LIVE, [Stream("post", -1, b"".join(FRAMES[:3]))]) == []


@pytest.mark.parametrize(
    ("kind", "transcript"),
    [
        ("lost", Stream("", -1, b"".join(FRAMES))),
        ("lost", Stream("", -1, b"".join(FRAMES[:3]) + FRAMES[3][:20])),
        ("repeated", Stream("", -1, FRAMES[0] + FRAMES[1] + FRAMES[1])),
        ("repeated", Stream("", 1, FRAMES[1])),
        ("skipped", Stream("", -1, FRAMES[0] + FRAMES[2])),
        ("altered", Stream("", -1, FRAMES[0] + frame(1, "response.output_text.delta", delta="hel"))),
        ("ends", Stream("", -1, b"".join(FRAMES[:3]), whole=True)),
        ("repeated", Parsed("", 0, [{"sequence_number": 0}])),
        ("lost", Objects("", [response("in_progress", "Hello you")])),
        ("lost", Objects("", [response("in_progress", "Hel"), response("in_progress", "He")])),
        ("status", Objects("", [response("completed", "Hello")])),
    ],
)
def test_a_client_that_saw_something_else_is_named(kind: str, transcript: Transcript) -> None:
    assert kind in kinds(faults(LIVE, [transcript]))


@pytest.mark.parametrize(
    ("kind", "logged"),
    [
        ("ends", replace(LIVE, frames=FRAMES)),
        ("ends", replace(ENDED, frames=FRAMES[:3])),
        ("ends", replace(ENDED, frames=(*FRAMES[:3], FRAMES[3], frame(4, "response.failed", response={})))),
        ("status", replace(ENDED, status=Status.CANCELLED)),
        ("status", replace(ENDED, result=json.dumps(response("completed", "Hell")).encode())),
        ("log", replace(LIVE, frames=FRAMES[1:3])),
        ("log", replace(LIVE, frames=(frame(0, "response.created", response={"id": "resp_2"}),))),
    ],
)
def test_a_log_that_contradicts_itself_is_named(kind: str, logged: Logged) -> None:
    assert kind in kinds(faults(logged, []))


def test_clients_of_a_deleted_response_are_held_against_each_other() -> None:
    other = frame(2, "response.output_text.delta", delta="p")
    one, two = Stream("one", -1, b"".join(FRAMES[:3])), Stream("two", 0, FRAMES[1] + other)
    assert kinds(faults(None, [one, two])) == ["altered"]
    ends = [Objects("one", [response("completed")]), Objects("two", [response("cancelled")])]
    assert kinds(faults(None, ends)) == ["ends"]


async def test_file_and_store_are_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = await open_store(f"sqlite:///{path}")
    await store.create(Head(KEY, Status.IN_PROGRESS, True, True, 1, b"{}"), b"{}")
    await store.append(KEY, 1, Chunk.of(0, FRAMES[:2], 1))
    await store.append(KEY, 1, Chunk.of(2, FRAMES[2:], 1), end=End(Status.COMPLETED, RESULT, 1))
    assert await read_store(store) == {KEY: ENDED}
    await store.close()
    assert read_file(path) == {KEY: ENDED}
