"""What the agent and the network do wrong: one end each time, with everything that had arrived."""

import asyncio

import pytest

from tests.proxy.agent import (
    Json,
    Wire,
    answer,
    completed,
    delta,
    frame,
    lifecycle,
    opening,
    saying,
)
from tests.proxy.client import deltas, error_of, text_of
from tests.proxy.endings import (
    BROKEN,
    Ending,
    after,
    close_in_a_chunk,
    close_without_the_last_chunk,
    end,
    end_in_an_event,
    outcome,
    reset,
    reset_in_an_event,
    send_a_malformed_chunk,
    stall,
)
from tests.proxy.scene import BACKGROUND, scene

GIVEN_ID = "caresp_" + "f" * 50
NO_END = {"code": "server_error", "message": "The agent ended its stream before its answer was complete."}
NO_REASON = {"code": "server_error", "message": "The agent failed without giving a reason."}
SILENT = {"code": "upstream_timeout", "message": "The agent was silent for too long."}


# --- transfers that break


@pytest.mark.parametrize(
    "then",
    [reset, reset_in_an_event, close_in_a_chunk, close_without_the_last_chunk, send_a_malformed_chunk],
)
@pytest.mark.parametrize("so_far", [[*opening(), delta("Hel"), delta("lo")], [*opening()[:2]], answer("Hello")[:-1]])
async def test_a_broken_transfer_is_a_failure_that_keeps_what_had_arrived(so_far: list[Json], then: Ending) -> None:
    events, final = await outcome(after(*so_far, then=then))
    assert final["status"] == "failed"
    assert final["error"] == BROKEN
    assert [event.name for event in events] == [*(event["type"] for event in so_far), "response.failed"]
    assert text_of(final) == "".join(deltas(events))
    assert final.get("completed_at") is None


@pytest.mark.parametrize(
    ("then", "status", "error"),
    [(end, "completed", None), (reset, "failed", BROKEN), (close_in_a_chunk, "failed", BROKEN)],
)
async def test_a_finished_output_is_complete_only_if_the_transfer_is(
    then: Ending, status: str, error: Json | None
) -> None:
    events, final = await outcome(after(*answer("Hel", "lo")[:-1], then=then))
    assert (final["status"], final["error"], text_of(final)) == (status, error, "Hello")
    assert deltas(events) == ["Hel", "lo"]


@pytest.mark.parametrize("then", [end, end_in_an_event])
async def test_a_clean_end_with_an_open_item_is_a_failure(then: Ending) -> None:
    events, final = await outcome(after(*opening(), delta("Hel"), then=then))
    assert (final["status"], final["error"]) == ("failed", NO_END)
    assert deltas(events) == ["Hel"]
    assert text_of(final) == "Hel"
    assert final["output"][0]["status"] == "incomplete"


async def test_an_end_in_the_middle_of_an_event_is_a_failure_although_all_items_are_closed() -> None:
    _, final = await outcome(after(*answer("Hello")[:-1], then=end_in_an_event))
    assert (final["status"], text_of(final)) == ("failed", "Hello")


@pytest.mark.parametrize("so_far", [[], opening()[:1], opening()[:2]])
async def test_a_clean_end_of_an_agent_that_opened_nothing_is_complete(so_far: list[Json]) -> None:
    events, final = await outcome(after(*so_far, then=end))
    assert (final["status"], final["output"], final["error"]) == ("completed", [], None)
    assert [event.name for event in events] == ["response.created", "response.in_progress", "response.completed"]


@pytest.mark.parametrize(
    ("events", "status"),
    [
        (answer("Hello"), "completed"),
        (answer("Hello")[:-1], "failed"),
        ([*opening(), delta("Hello")], "failed"),
        (opening()[:1], "failed"),
    ],
)
async def test_a_body_that_ends_with_its_connection_is_whole_only_by_its_terminal_event(
    events: list[Json], status: str
) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        await wire.send(b"".join(map(frame, events)))

    _, final = await outcome(script)
    assert final["status"] == status


async def test_a_body_that_is_shorter_than_its_length_is_a_failure() -> None:
    body = b"".join(map(frame, answer("Hello")[:-1]))

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        await wire.send(b"content-length: %d\r\n\r\n%b" % (len(body) + 1, body))

    _, final = await outcome(script)
    assert (final["status"], final["error"], text_of(final)) == ("failed", BROKEN, "Hello")


# --- agents that say that they failed


@pytest.mark.parametrize("then", [end, reset])
@pytest.mark.parametrize("so_far", [[*opening(), delta("Hel")], answer("Hel")[:-1], opening()[:1]])
async def test_an_error_event_makes_the_end_a_failure_in_the_agents_words(so_far: list[Json], then: Ending) -> None:
    error = {"type": "error", "code": "boom", "message": "it broke", "param": "", "sequence_number": 99}
    events, final = await outcome(after(*so_far, error, then=then))
    assert final["status"] == "failed"
    said = [event.data for event in events if event.name == "error"]
    assert [(data["code"], data["message"], data["param"]) for data in said] == [("boom", "it broke", None)]
    assert set(said[0]) == {"type", "code", "message", "param", "sequence_number"}
    assert final["error"] == {"code": "boom", "message": "it broke"}


async def test_a_failure_without_words_takes_those_of_the_error_event_before_it() -> None:
    error = {"type": "error", "code": "boom", "message": "it broke"}
    events, final = await outcome(saying(*opening(), delta("Hel"), error, lifecycle("failed")))
    assert final["error"] == {"code": "boom", "message": "it broke"}
    assert [event.name for event in events][-2:] == ["error", "response.failed"]


async def test_a_failure_without_any_words_is_still_an_error() -> None:
    _, final = await outcome(saying(*opening(), lifecycle("failed")))
    assert final["error"] == NO_REASON


async def test_a_terminal_event_behind_an_error_still_decides() -> None:
    error = {"type": "error", "code": "boom", "message": "it broke"}
    events, final = await outcome(saying(*opening(), error, completed("Hello")))
    assert final["status"] == "completed"
    assert "error" in [event.name for event in events]


# --- silence


async def test_a_silence_beyond_the_limit_is_a_failure_and_the_agent_is_left() -> None:
    left = asyncio.Event()

    async def then(wire: Wire) -> None:
        await wire.gone()
        left.set()

    events, final = await outcome(after(*opening(), delta("Hel"), then=then), idle_timeout_seconds=0.05)
    assert (final["status"], final["error"], text_of(final)) == ("failed", SILENT, "Hel")
    assert deltas(events) == ["Hel"]
    await left.wait()


async def test_an_agent_that_answers_and_then_says_nothing_is_an_error_of_its_own() -> None:
    async with scene(after(then=stall), idle_timeout_seconds=0.05, accept_grace_ms=600_000) as s:
        response = await s.create({"x-agent-response-id": GIVEN_ID})
        assert response.status_code == 500
        error = error_of(response)
        assert {"code": error["code"], "message": error["message"]} == SILENT
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404


# --- the terminal event


async def test_what_comes_behind_the_terminal_event_is_dropped() -> None:
    extra = [delta("late"), lifecycle("in_progress"), lifecycle("failed"), completed("other")]
    events, final = await outcome(saying(*answer("Hello"), *extra))
    assert (final["status"], text_of(final)) == ("completed", "Hello")
    assert len(events) == len(answer("Hello"))


async def test_what_comes_behind_the_terminal_event_in_a_later_piece_is_dropped() -> None:
    async def then(wire: Wire) -> None:
        await wire.say(lifecycle("failed"), delta("late"))
        await wire.end()

    _, final = await outcome(after(*answer("Hello"), then=then))
    assert (final["status"], text_of(final)) == ("completed", "Hello")


@pytest.mark.parametrize("then", [reset, close_in_a_chunk, close_without_the_last_chunk, send_a_malformed_chunk, end])
async def test_once_the_terminal_event_was_read_the_rest_of_the_transfer_decides_nothing(then: Ending) -> None:
    _, final = await outcome(after(*answer("Hello"), then=then))
    assert (final["status"], text_of(final)) == ("completed", "Hello")


async def test_an_agent_that_does_not_close_is_left_after_the_drain() -> None:
    left = asyncio.Event()

    async def then(wire: Wire) -> None:
        await wire.gone()
        left.set()

    _, final = await outcome(after(*answer("Hello"), then=then), drain_seconds=0.05)
    assert final["status"] == "completed"
    await left.wait()


async def test_the_client_need_not_wait_for_the_agent_to_close() -> None:
    closing_now = asyncio.Event()

    async def then(wire: Wire) -> None:
        await closing_now.wait()
        await wire.end()
        await wire.gone()

    async with scene(after(*answer("Hello"), then=then), drain_seconds=600) as s:
        for asked in ({}, {"stream": True}, BACKGROUND):
            assert (await s.create(**asked)).status_code == 200
        closing_now.set()


async def test_the_agent_is_read_to_the_end_of_what_it_writes_behind_its_terminal_event() -> None:
    written = asyncio.Event()

    async def then(wire: Wire) -> None:
        for _ in range(200):
            await wire.chunk(b": a comment\n\n" * 5000)
        await wire.end()
        written.set()

    async with scene(after(*answer("Hello"), then=then), drain_seconds=600) as s:
        assert (await s.create()).status_code == 200
        await written.wait()


async def test_a_terminal_event_without_output_gets_what_was_streamed() -> None:
    bare = lifecycle("completed")
    del bare["response"]["output"]
    _, final = await outcome(saying(*answer("Hel", "lo")[:-1], bare))
    assert (final["status"], text_of(final)) == ("completed", "Hello")


async def test_a_terminal_output_is_taken_as_it_is_even_if_empty() -> None:
    _, final = await outcome(saying(*answer("Hello")[:-1], lifecycle("failed", output=[], error=None)))
    assert (final["status"], final["output"]) == ("failed", [])


@pytest.mark.parametrize("status", ["completed", "failed", "incomplete"])
async def test_the_status_of_the_object_is_that_of_its_event(status: str) -> None:
    script = saying(lifecycle("created"), lifecycle(status, status="in_progress"))
    events, final = await outcome(script)
    assert final["status"] == status
    assert events[-1].name == f"response.{status}"
    assert (final.get("completed_at") is not None) is (status == "completed")


async def test_an_agents_own_cancel_is_a_failed_event_with_status_cancelled() -> None:
    events, final = await outcome(saying(lifecycle("created"), lifecycle("failed", status="cancelled")))
    assert events[-1].name == "response.failed"
    assert final["status"] == "cancelled"
