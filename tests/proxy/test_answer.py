"""When the answer to a create leaves, and what it is when the agent refuses, fails or cannot be called."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.proxy.agent import Wire, answer, answering, saying, silent
from tests.proxy.client import KEEP_ALIVE, error_of, events_of, whole
from tests.proxy.scene import BACKGROUND, id_from, scene

HELLO = saying(*answer("Hel", "lo"))
GIVEN_ID = "caresp_" + "a" * 16 + "00" + "B" * 32


# --- when the answer leaves


async def test_an_sse_answer_begins_with_the_agents_status_and_before_its_first_event() -> None:
    speaking = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await speaking.wait()
        await wire.say(*answer("x"))
        await wire.end()

    async with scene(script, keep_alive_seconds=0.01) as s, s.stream() as stream:
        assert stream.response.status_code == 200
        assert await stream.block() == KEEP_ALIVE
        speaking.set()
        assert whole(await stream.rest())["status"] == "completed"


async def test_a_silent_agent_does_not_keep_a_background_client_from_its_id() -> None:
    speaking = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await speaking.wait()
        await wire.begin()
        await wire.say(*answer("x"))
        await wire.end()

    async with scene(script, accept_grace_ms=1) as s:
        value = (await s.create(background=True)).json()
        assert (value["status"], value["output"], value["background"]) == ("in_progress", [], True)
        assert await s.get(value["id"]) == value
        speaking.set()


async def test_an_agent_that_speaks_after_the_grace_has_its_created_merged_into_in_progress() -> None:
    speaking = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await speaking.wait()
        first, *others = answer("x")
        first["response"]["extra"] = "the agent's own"
        await wire.say(first, *others)
        await wire.end()

    async with scene(script, accept_grace_ms=1) as s, s.stream(background=True) as stream:
        response_id = await id_from(stream)
        speaking.set()
        events = await stream.rest()
        names = [event.name for event in events]
        assert names.count("response.created") == 0
        assert names[0] == "response.in_progress"
        assert events[0].data["response"]["extra"] == "the agent's own"
        assert whole(await s.events(response_id))["status"] == "completed"


REFUSALS = [
    ("400 Bad Request", b'{"error":{"message":"no","code":"c"}}', ()),
    ("401 Unauthorized", b"", ("www-authenticate: Bearer",)),
    ("404 Not Found", b"Not Found", ()),
    ("409 Conflict", b'{"error":{"code":"conversation_locked"}}', ()),
    ("429 Too Many Requests", b'{"error":"slow down"}', ("retry-after: 7", "x-ratelimit-remaining: 0")),
    ("500 Internal Server Error", b"<html>oops</html>", ()),
    ("503 Service Unavailable", b"", ("retry-after: 120", "x-should-retry: true")),
    ("307 Temporary Redirect", b"", ("location: http://elsewhere/responses",)),
    ("302 Found", b"moved", ("location: /login",)),
]


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"background": True}, BACKGROUND, {"store": False}])
@pytest.mark.parametrize(("status", "body", "headers"), REFUSALS)
async def test_an_early_refusal_of_the_agent_is_the_whole_answer(
    status: str, body: bytes, headers: tuple[str, ...], asked: dict[str, Any]
) -> None:
    script = answering(status, body, *headers, "x-of-agent: 1", "set-cookie: a=1", "set-cookie: b=2", kind="text/odd")
    async with scene(script, accept_grace_ms=600_000) as s:
        response = await s.create({"x-agent-response-id": GIVEN_ID}, **asked)
        assert response.status_code == int(status[:3])
        assert response.content == body
        assert response.headers["content-type"] == "text/odd"
        assert response.headers["x-of-agent"] == "1"
        assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert response.headers["x-platform-error-source"] == "upstream"
        assert response.headers["x-request-id"]
        for line in headers:
            name, _, value = line.partition(": ")
            assert response.headers[name] == value
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404
        assert len(s.agent.asked) == 1


async def test_an_id_whose_create_was_refused_can_be_used_again() -> None:
    async with scene(answering("429 Too Many Requests", b""), HELLO) as s:
        headers = {"x-agent-response-id": GIVEN_ID}
        assert (await s.create(headers)).status_code == 429
        assert (await s.create(headers)).json()["id"] == GIVEN_ID


async def test_an_error_status_after_the_grace_is_stored_as_a_failure_in_the_agents_words() -> None:
    refusing = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await refusing.wait()
        await wire.answer("429 Too Many Requests", b'{"error":{"code":"too_many","message":"come back later"}}')

    async with scene(script, accept_grace_ms=1) as s, s.stream(background=True) as stream:
        response_id = await id_from(stream)
        refusing.set()
        await stream.rest()
        final = whole(await s.events(response_id))
        assert final["status"] == "failed"
        assert final["error"] == {"code": "too_many", "message": "come back later"}
        assert await s.get(response_id) == final


async def test_an_error_status_without_words_is_told_by_its_number() -> None:
    refusing = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await refusing.wait()
        await wire.answer("503 Service Unavailable", b"<html>", kind="text/html")

    async with scene(script, accept_grace_ms=1) as s, s.stream(background=True) as stream:
        await id_from(stream)
        refusing.set()
        final = (await stream.rest())[-1].data["response"]
        assert final["error"] == {"code": "server_error", "message": "The agent answered with status 503."}


# --- the agent cannot be called


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"background": True}, {"store": False}])
async def test_an_agent_that_cannot_be_reached_is_a_502_that_may_be_repeated(asked: dict[str, Any]) -> None:
    async with scene(HELLO, upstream="http://127.0.0.1:1", accept_grace_ms=600_000) as s:
        response = await s.create({"x-agent-response-id": GIVEN_ID}, **asked)
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404
    error = error_of(response)
    assert response.status_code == 502
    assert (error["type"], error["code"], error["param"]) == ("server_error", "upstream_unreachable", None)
    assert error["message"] == "The agent cannot be reached."
    assert response.headers["x-platform-error-source"] == "upstream"
    assert "x-should-retry" not in response.headers


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"background": True}, {"store": False}])
async def test_an_agent_that_hangs_up_before_its_answer_is_a_502_not_to_be_repeated(asked: dict[str, Any]) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()

    async with scene(script, accept_grace_ms=600_000) as s:
        response = await s.create({"x-agent-response-id": GIVEN_ID}, **asked)
        error = error_of(response)
        assert (response.status_code, error["code"]) == (502, "upstream_disconnected")
        assert response.headers["x-should-retry"] == "false"
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404
        assert len(s.agent.asked) == 1


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"background": True}, {"store": False}])
async def test_an_agent_that_does_not_answer_in_time_is_a_504(asked: dict[str, Any]) -> None:
    async with scene(silent, header_timeout_seconds=0.05, accept_grace_ms=600_000) as s:
        response = await s.create({"x-agent-response-id": GIVEN_ID}, **asked)
        error = error_of(response)
        assert response.status_code == 504
        assert (error["type"], error["code"], error["param"]) == ("server_error", "upstream_timeout", None)
        assert error["message"] == "The agent did not answer in time."
        assert response.headers["x-platform-error-source"] == "upstream"
        assert response.headers["x-should-retry"] == "false"
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404


async def test_an_agent_that_is_lost_after_the_grace_is_a_stored_failure() -> None:
    leaving = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await leaving.wait()

    async with scene(script, accept_grace_ms=1) as s, s.stream(background=True) as stream:
        response_id = await id_from(stream)
        leaving.set()
        await stream.rest()
        final = whole(await s.events(response_id))
        assert (final["status"], final["error"]["code"]) == ("failed", "upstream_disconnected")


async def test_an_agent_that_stays_silent_after_the_grace_is_a_stored_timeout() -> None:
    async with scene(silent, accept_grace_ms=1, header_timeout_seconds=0.1) as s, s.stream(background=True) as stream:
        response_id = await id_from(stream)
        await stream.rest()
        final = whole(await s.events(response_id))
        assert (final["status"], final["error"]["code"]) == ("failed", "upstream_timeout")


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"store": False, "stream": True}])
async def test_a_stream_that_fails_before_its_first_event_leaves_no_record(asked: dict[str, Any]) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say({"type": "error", "code": "model_down", "message": "no model", "sequence_number": 1})
        await wire.end()

    async with scene(script) as s:
        response = await s.create({"x-agent-response-id": GIVEN_ID}, **asked)
        if asked.get("stream"):
            (only,) = events_of(response.content)
            assert only.name == "error"
            assert only.data == {
                "type": "error",
                "code": "model_down",
                "message": "no model",
                "param": None,
                "sequence_number": 0,
            }
        else:
            error = error_of(response)
            assert (response.status_code, error["code"], error["message"]) == (500, "model_down", "no model")
            assert response.headers["x-platform-error-source"] == "upstream"
            assert response.headers["x-should-retry"] == "false"
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404


# --- request ids and sessions


async def request_id_after(headers: dict[str, str], path: str = "/responses/x") -> httpx.Response:
    async with scene(HELLO) as s:
        return await s.client.get(path, headers=headers)


async def test_the_request_id_is_that_of_the_trace_then_of_the_request_then_new() -> None:
    trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x-request-id": "mine"}
    assert (await request_id_after(trace)).headers["x-request-id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert (await request_id_after({"x-request-id": "mine"})).headers["x-request-id"] == "mine"
    minted = (await request_id_after({"traceparent": "nonsense"})).headers["x-request-id"]
    assert len(minted) == 32
    assert int(minted, 16)


async def test_every_answer_of_ours_has_a_request_id() -> None:
    async with scene(HELLO) as s:
        headers = {"x-request-id": "r-1"}
        plain = await s.create(headers)
        streamed = await s.create(headers, **BACKGROUND)
        response_id = whole(events_of(streamed.content))["id"]
        path = f"/responses/{response_id}"
        for answer_ in (
            plain,
            streamed,
            await s.client.get(path, headers=headers),
            await s.client.get(path, params={"stream": "true"}, headers=headers),
            await s.client.get(f"{path}/input_items", headers=headers),
            await s.client.post(f"{path}/cancel", headers=headers),
            await s.client.get("/_respool/health", headers=headers),
            await s.client.get("/_respool/nothing", headers=headers),
            await s.client.delete(path, headers=headers),
            await s.client.get(path, headers=headers),
        ):
            assert answer_.headers["x-request-id"] == "r-1"


async def test_the_agents_session_is_repeated_on_every_later_read() -> None:
    async with scene(saying(*answer("x"), headers=["x-agent-session-id: s-1"])) as s:
        streamed = await s.create(**BACKGROUND)
        path = f"/responses/{whole(events_of(streamed.content))['id']}"
        for answer_ in (
            streamed,
            await s.create(),
            await s.client.get(path),
            await s.client.get(path, params={"stream": "true"}),
            await s.client.get(f"{path}/input_items"),
        ):
            assert answer_.headers["x-agent-session-id"] == "s-1"


async def test_without_a_session_of_the_agent_there_is_no_header() -> None:
    async with scene(HELLO) as s:
        response = await s.create()
        assert "x-agent-session-id" not in response.headers
        assert "x-agent-session-id" not in (await s.client.get(f"/responses/{response.json()['id']}")).headers
