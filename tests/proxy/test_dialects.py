"""What agents say that is no stream, too much, nothing or in another dialect."""

import asyncio
import json
from typing import Any

import pytest

from tests.proxy.agent import (
    AGENT_ID,
    ITEM_ID,
    Json,
    Wire,
    answer,
    answering,
    closing,
    completed,
    delta,
    frame,
    lifecycle,
    message,
    opening,
    saying,
)
from tests.proxy.client import deltas, error_of, events_of, text_of, whole
from tests.proxy.endings import BROKEN, after, outcome, reset, stall
from tests.proxy.scene import id_from, scene

GIVEN_ID = "caresp_" + "f" * 50


# --- answers that are no stream


RESPONSE = {
    "id": AGENT_ID,
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "output": [message("Hello"), {"type": "function_call", "id": "fc_1", "name": "f", "arguments": "{}"}],
    "usage": {"total_tokens": 3},
    "extra": None,
}


async def test_a_json_answer_to_a_forced_stream_becomes_the_events_that_lead_to_it() -> None:
    events, final = await outcome(answering("200 OK", json.dumps(RESPONSE).encode()))
    assert (final["status"], text_of(final)) == ("completed", "Hello")
    assert (final["usage"], final["extra"]) == ({"total_tokens": 3}, None)
    assert [item["type"] for item in final["output"]] == ["message", "function_call"]
    names = [event.name for event in events]
    assert names[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert deltas(events) == ["Hello"]


@pytest.mark.parametrize("status", ["failed", "incomplete"])
async def test_a_json_answer_that_failed_ends_so(status: str) -> None:
    body = {**RESPONSE, "status": status, "error": {"code": "c", "message": "m"}}
    events, final = await outcome(answering("200 OK", json.dumps(body).encode()))
    assert (final["status"], final["error"]) == (status, {"code": "c", "message": "m"})
    assert events[-1].name == f"response.{status}"


NO_STREAMS = [
    (b'{"code":"server_error","message":"boom"}', "application/json", "server_error", "boom"),
    (b'{"error":{"code":"c","message":"m"}}', "application/json", "c", "m"),
    (b'{"error":"words"}', "application/json", "server_error", "words"),
    (b"not json", "application/json", "server_error", "The agent's answer is not a response object."),
    (b"[1]", "application/json", "server_error", "The agent's answer is not a response object."),
    (b"<html>", "text/html", "server_error", "The agent answered with text/html instead of a stream."),
    (b"", "text/plain; charset=utf-8", "server_error", "The agent answered with text/plain instead of a stream."),
]


@pytest.mark.parametrize(("body", "kind", "code", "words"), NO_STREAMS)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_is_no_response_is_a_500_and_leaves_nothing(
    body: bytes, kind: str, code: str, words: str, stream: bool
) -> None:
    async with scene(answering("200 OK", body, kind=kind)) as s:
        response = await s.create({"x-agent-response-id": GIVEN_ID}, stream=stream)
        error = error_of(response)
        assert (response.status_code, error["code"], error["message"]) == (500, code, words)
        assert response.headers["x-should-retry"] == "false"
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404


@pytest.mark.parametrize(("body", "kind", "code", "words"), NO_STREAMS)
async def test_after_the_grace_an_answer_that_is_no_response_is_a_stored_failure(
    body: bytes, kind: str, code: str, words: str
) -> None:
    answering_now = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await answering_now.wait()
        await wire.answer("200 OK", body, kind=kind)

    async with scene(script, accept_grace_ms=1) as s, s.stream(background=True) as stream:
        response_id = await id_from(stream)
        answering_now.set()
        await stream.rest()
        final = whole(await s.events(response_id))
        assert (final["status"], final["error"]) == ("failed", {"code": code, "message": words})


async def test_a_torn_json_answer_is_no_answer() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        body = json.dumps(RESPONSE).encode()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        await wire.send(b"content-length: %d\r\n\r\n%b" % (len(body) + 1, body))

    async with scene(script) as s:
        assert error_of(await s.create())["code"] == "upstream_disconnected"


async def test_a_stream_that_does_not_say_what_it_is_is_taken_for_one() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin(kind=None)
        await wire.say(*answer("Hello"))
        await wire.end()

    assert (await outcome(script))[1]["status"] == "completed"


# --- events that are too large, or none


def of_size(size: int) -> Json:
    """An event whose data has exactly that many bytes."""
    empty = len(json.dumps(delta("")))
    return delta("x" * (size - empty))


async def test_an_event_of_exactly_the_limit_passes() -> None:
    big = of_size(100_000)
    events, final = await outcome(saying(*opening(), big, completed("")), max_event_bytes=100_000)
    assert final["status"] == "completed"
    assert deltas(events) == [big["delta"]]


async def test_an_event_of_one_byte_more_is_a_failure_behind_what_came_before_it() -> None:
    script = after(*opening(), delta("Hel"), of_size(100_001), then=stall)
    events, final = await outcome(script, max_event_bytes=100_000)
    assert (final["status"], final["error"]["code"]) == ("failed", "event_too_large")
    assert final["error"]["message"] == "The agent sent an event larger than 100000 bytes."
    assert deltas(events) == ["Hel"]
    assert text_of(final) == "Hel"


async def test_an_event_without_an_end_is_cut_off_at_the_limit() -> None:
    async def then(wire: Wire) -> None:
        await wire.chunk(b"data: ")
        while True:
            await wire.chunk(b"x" * 65536)

    _, final = await outcome(after(*opening(), delta("Hel"), then=then), max_event_bytes=100_000)
    assert (final["status"], final["error"]["code"], text_of(final)) == ("failed", "event_too_large", "Hel")


async def test_a_terminal_event_has_a_limit_of_its_own() -> None:
    text = "x" * 200_000
    script = saying(*opening(), completed(text))
    _, final = await outcome(script, max_event_bytes=100_000, max_object_bytes=300_000)
    assert (final["status"], text_of(final)) == ("completed", text)
    _, final = await outcome(script, max_event_bytes=100_000, max_object_bytes=150_000)
    assert (final["status"], final["error"]["code"]) == ("failed", "event_too_large")


async def test_an_event_behind_the_end_is_nobodys_however_large() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.chunk(b"".join(map(frame, [*answer("Hello"), of_size(100_001)])))
        await wire.end()

    events, final = await outcome(script, max_event_bytes=100_000)
    assert (final["status"], text_of(final), deltas(events)) == ("completed", "Hello", ["Hello"])


async def test_a_json_answer_that_is_too_large_is_a_failure() -> None:
    async with scene(answering("200 OK", json.dumps(RESPONSE).encode()), max_object_bytes=50) as s:
        error = error_of(await s.create())
        assert (error["code"], error["message"]) == ("event_too_large", "The agent's answer is larger than 50 bytes.")


@pytest.mark.parametrize("data", [b"not json", b"[1]", b'{"type":', b"null", b'"text"', b"{}}"])
async def test_an_event_that_is_no_json_object_is_a_failure_behind_what_came_before_it(data: bytes) -> None:
    async def then(wire: Wire) -> None:
        await wire.chunk(b"event: response.odd\ndata: %b\n\n" % data)
        await wire.gone()

    events, final = await outcome(after(*opening(), delta("Hel"), then=then))
    assert final["status"] == "failed"
    assert final["error"] == {
        "code": "server_error",
        "message": "The agent sent an event that is not a JSON object.",
    }
    assert deltas(events) == ["Hel"]
    assert text_of(final) == "Hel"


async def test_events_of_unknown_types_and_unknown_fields_pass_byte_for_byte() -> None:
    odd = b'{"type":"response.odd.thing","sequence_number":4,"z":1.0,"a":{"b":[ ]},"e":1E5,"u":"\\u00e9"}'

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening())
        await wire.chunk(b"event: response.odd.thing\ndata: %b\n\n" % odd)
        await wire.say(*closing(""), completed(""))
        await wire.end()

    events, _ = await outcome(script)
    assert events[4].frame == b"event: response.odd.thing\ndata: %b\n\n" % odd


# --- dialects


async def test_the_agents_ids_and_numbers_are_replaced_everywhere() -> None:
    item = {**message("Hello"), "response_id": AGENT_ID}
    numbered: list[Json] = [
        {**event, "sequence_number": number}
        for number, event in zip(
            (5, 5, 9, 2**70, 1, 0, 3),
            [
                lifecycle("created", response_id=AGENT_ID),
                *opening()[1:],
                delta("Hello"),
                {"type": "response.output_item.done", "output_index": 0, "item": item},
                lifecycle("completed", output=[item], response_id=AGENT_ID),
            ],
            strict=True,
        )
    ]
    events, final = await outcome(saying(*numbered))
    for event in events:
        assert AGENT_ID.encode() not in event.frame
    assert final["response_id"] == final["id"]
    assert final["output"][0]["response_id"] == final["id"]
    assert final["output"][0]["id"] == ITEM_ID


async def test_ids_in_text_are_not_touched() -> None:
    events, final = await outcome(saying(*answer(f"I am {AGENT_ID}")))
    assert text_of(final) == f"I am {AGENT_ID}"
    assert deltas(events) == [f"I am {AGENT_ID}"]


async def test_the_envelope_is_the_same_in_every_snapshot() -> None:
    events, final = await outcome(
        saying(
            lifecycle("created", created_at=1.5, background=False, store=False),
            lifecycle("in_progress", created_at=2),
            lifecycle("completed", created_at=3, extra=None),
        )
    )
    for event in events:
        response = event.data["response"]
        assert response["created_at"] == final["created_at"]
        assert (response["object"], response["background"], response["store"]) == ("response", True, True)
        assert response["model"] == "m"
    assert isinstance(final["created_at"], int)
    assert final["extra"] is None


async def test_fields_of_the_request_fill_what_the_agent_leaves_out() -> None:
    reference = {"type": "agent_reference", "name": "n"}
    asked: dict[str, Any] = {
        "metadata": {"a": "b"},
        "conversation": "conv_1",
        "agent_reference": reference,
        "agent_session_id": "s",
    }
    async with scene(saying(*answer("x"))) as s:
        events = events_of((await s.create(stream=True, **asked)).content)
        for event in (events[0], events[1], events[-1]):
            response = event.data["response"]
            assert response["metadata"] == {"a": "b"}
            assert response["conversation"] == {"id": "conv_1"}
            assert response["agent_reference"] == reference
            assert response["agent_session_id"] == "s"
        added = next(event for event in events if event.name == "response.output_item.added")
        assert added.data["item"]["agent_reference"] == reference


async def test_comments_of_the_agent_are_dropped() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.chunk(b": keep-alive\n\n")
        for event in answer("Hello"):
            await wire.chunk(b": note\n" + frame(event) + b":\n\nretry: 5\n\nid: 7\n\n")
        await wire.end()

    async with scene(script, keep_alive_seconds=0) as s:
        response = await s.create(stream=True)
        assert not [line for line in response.content.splitlines() if line.startswith((b":", b"retry", b"id"))]
        assert whole(events_of(response.content))["status"] == "completed"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r", b"\n"])
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_events_are_the_same_however_they_are_cut(size: int, line_end: bytes) -> None:
    body = b"".join(map(frame, answer("Hé", "llo\u2028"))).replace(b"\n", line_end)

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        for start in range(0, len(body), size):
            await wire.chunk(body[start : start + size])
        await wire.end()

    events, final = await outcome(script)
    assert (final["status"], text_of(final), len(events)) == ("completed", "Héllo\u2028", len(answer("x", "y")))


async def test_events_without_an_event_line_take_their_name_from_their_type() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        for event in answer("Hello"):
            await wire.chunk(b"data:" + json.dumps(event).encode() + b"\n\n")
        await wire.chunk(b"data: [DONE]\n\n")
        await wire.end()

    events, final = await outcome(script)
    assert (final["status"], text_of(final), len(events)) == ("completed", "Hello", len(answer("Hello")))


async def test_a_foreground_failure_in_mid_stream_is_a_200_whose_object_has_failed() -> None:
    async with scene(after(*opening(), delta("Hel"), then=reset)) as s:
        response = await s.create()
        value = response.json()
        assert (response.status_code, value["status"], value["error"]) == (200, "failed", BROKEN)
        assert text_of(value) == "Hel"
        assert await s.get(value["id"]) == value


async def test_two_runs_do_not_touch_each_other() -> None:
    breaking = asyncio.Event()

    async def broken(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening(), delta("Hel"))
        await breaking.wait()
        wire.reset()

    async with scene(broken, saying(*answer("Hello"))) as s, s.stream() as first:
        await first.until("response.output_text.delta")
        good = await s.create()
        breaking.set()
        assert (await first.rest())[-1].data["response"]["status"] == "failed"
        assert good.json()["status"] == "completed"
