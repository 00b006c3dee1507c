"""What is refused of a response that is there: replays, cancels, deletes; and pages of input items."""

from typing import Any

import pytest

from tests.proxy.agent import Held, answer, lifecycle, saying
from tests.proxy.client import error_of, events_of, whole
from tests.proxy.scene import BACKGROUND, Scene, scene

HELLO = saying(*answer("Hello"))
UNKNOWN = "caresp_" + "0" * 50
NO_BACKGROUND = "This response cannot be streamed because it was not created with background=true."
NO_STREAM = "This response cannot be streamed because it was not created with stream=true."
NO_STREAM_ENDED = (
    "This response cannot be streamed because it was not created with stream=true or the stream TTL has expired."
)


def said(message: str, param: str | None = "response_id", code: str = "invalid_request_error") -> dict[str, Any]:
    return {"message": message, "type": "invalid_request_error", "param": param, "code": code}


# --- replays


async def ended(s: Scene, **asked: Any) -> str:
    """The id of a response that has ended."""
    response = await s.create(**asked)
    if asked.get("stream"):
        return str(whole(events_of(response.content))["id"])
    response_id: str = response.json()["id"]
    while (await s.get(response_id))["status"] == "in_progress":
        pass
    return response_id


@pytest.mark.parametrize(
    ("asked", "message"),
    [({}, NO_BACKGROUND), ({"stream": True}, NO_BACKGROUND), ({"background": True}, NO_STREAM_ENDED)],
)
async def test_what_was_not_created_for_it_cannot_be_replayed(asked: dict[str, Any], message: str) -> None:
    async with scene(HELLO) as s:
        response = await s.client.get(f"/responses/{await ended(s, **asked)}?stream=true")
        assert (response.status_code, error_of(response)) == (400, said(message, "stream"))


async def test_a_background_response_without_a_stream_cannot_be_replayed_in_flight() -> None:
    async with scene(Held()) as s:
        response_id = (await s.create(background=True)).json()["id"]
        response = await s.client.get(f"/responses/{response_id}?stream=true")
        assert (response.status_code, error_of(response)) == (400, said(NO_STREAM, "stream"))


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"background": True}, BACKGROUND])
async def test_any_stored_response_can_be_replayed_if_so_set(asked: dict[str, Any]) -> None:
    async with scene(HELLO, replay="any") as s:
        response_id = await ended(s, **asked)
        assert whole(await s.events(response_id))["status"] == "completed"


async def test_a_foreground_response_in_flight_is_not_there_yet() -> None:
    headers = {"x-agent-response-id": UNKNOWN}
    async with scene(Held()) as s, s.stream(headers) as stream:
        await stream.until("response.output_text.delta")
        for method, route in (("GET", ""), ("POST", "/cancel"), ("DELETE", "")):
            response = await s.client.request(method, f"/responses/{UNKNOWN}{route}")
            assert (response.status_code, error_of(response)) == (404, said(f"Response with id '{UNKNOWN}' not found."))
        replay = await s.client.get(f"/responses/{UNKNOWN}?stream=true")
        assert (replay.status_code, error_of(replay)) == (400, said(NO_BACKGROUND, "stream"))
        assert (await s.client.get(f"/responses/{UNKNOWN}/input_items")).status_code == 200


@pytest.mark.parametrize("cursor", ["abc", "", "1.5", "0x1", "1e3"])
async def test_a_cursor_that_is_no_integer_is_refused(cursor: str) -> None:
    async with scene(HELLO) as s:
        response_id = await ended(s, **BACKGROUND)
        for id_ in (response_id, UNKNOWN):
            response = await s.client.get(f"/responses/{id_}", params={"stream": "true", "starting_after": cursor})
            error = said("starting_after must be an integer", "starting_after")
            assert (response.status_code, error_of(response)) == (400, error)


async def test_a_cursor_is_not_looked_at_without_a_stream() -> None:
    async with scene(HELLO) as s:
        response_id = await ended(s)
        assert (await s.client.get(f"/responses/{response_id}?starting_after=abc")).status_code == 200


# --- cancel and delete


@pytest.mark.parametrize(
    ("end", "asked", "message"),
    [
        ("completed", {}, "Cannot cancel a synchronous response."),
        ("failed", {"stream": True}, "Cannot cancel a synchronous response."),
        ("completed", BACKGROUND, "Cannot cancel a completed response."),
        ("completed", {"background": True}, "Cannot cancel a completed response."),
        ("failed", BACKGROUND, "Cannot cancel a failed response."),
        ("incomplete", BACKGROUND, "Cannot cancel a response in terminal state."),
    ],
)
async def test_what_has_ended_cannot_be_cancelled(end: str, asked: dict[str, Any], message: str) -> None:
    async with scene(saying(lifecycle("created"), lifecycle(end))) as s:
        response_id = await ended(s, **asked)
        before = await s.get(response_id)
        response = await s.cancel(response_id)
        assert (response.status_code, error_of(response)) == (400, said(message))
        assert await s.get(response_id) == before


@pytest.mark.parametrize("asked", [{"background": True}, BACKGROUND])
async def test_what_is_in_flight_cannot_be_deleted(asked: dict[str, Any]) -> None:
    async with scene(Held()) as s, s.stream({"x-agent-response-id": UNKNOWN}, **asked):
        response = await s.delete(UNKNOWN)
        assert (response.status_code, error_of(response)) == (400, said("Cannot delete an in-flight response."))


# --- input items


@pytest.mark.parametrize(
    ("query", "param", "message"),
    [
        ("limit=0", "limit", "limit must be between 1 and 100"),
        ("limit=101", "limit", "limit must be between 1 and 100"),
        ("limit=-1", "limit", "limit must be between 1 and 100"),
        ("limit=abc", "limit", "limit must be an integer between 1 and 100"),
        ("limit=", "limit", "limit must be an integer between 1 and 100"),
        ("limit=1.5", "limit", "limit must be an integer between 1 and 100"),
        ("order=up", "order", "order must be 'asc' or 'desc'"),
    ],
)
async def test_a_bad_page_of_input_items_is_refused(query: str, param: str, message: str) -> None:
    async with scene(HELLO) as s:
        response = await s.client.get(f"/responses/{await ended(s)}/input_items?{query}")
        assert (response.status_code, error_of(response)) == (400, said(message, param))


@pytest.mark.parametrize(
    ("query", "texts", "more"),
    [
        ("", "cba", False),
        ("order=asc", "abc", False),
        ("order=DESC", "cba", False),
        ("limit=2", "cb", True),
        ("limit=100", "cba", False),
        ("after=msg_c", "ba", False),
        ("before=msg_a", "cb", False),
        ("after=msg_c&limit=1", "b", True),
        ("order=asc&after=msg_a&before=msg_c", "b", False),
        ("after=unknown", "cba", False),
    ],
)
async def test_input_items_are_paged(query: str, texts: str, more: bool) -> None:
    given = [{"type": "message", "role": "user", "id": f"msg_{text}", "content": text} for text in "abc"]
    async with scene(HELLO) as s:
        response_id = await ended(s, input=given)
        page = (await s.client.get(f"/responses/{response_id}/input_items?{query}")).json()
        assert [item["content"][0]["text"] for item in page["data"]] == list(texts)
        assert (page["object"], page["has_more"]) == ("list", more)
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])


async def test_input_that_is_a_string_is_one_user_message_with_a_stable_id() -> None:
    async with scene(HELLO) as s:
        path = f"/responses/{await ended(s, input='what?')}/input_items"
        page = (await s.client.get(path)).json()
        (item,) = page["data"]
        assert item["id"].startswith("msg_")
        assert (item["type"], item["role"]) == ("message", "user")
        assert item["content"] == [{"type": "input_text", "text": "what?"}]
        assert (await s.client.get(path)).json() == page


async def test_a_response_without_input_has_an_empty_list() -> None:
    async with scene(HELLO) as s:
        response_id = (await s.client.post("/responses", json={})).json()["id"]
        page = (await s.client.get(f"/responses/{response_id}/input_items")).json()
        assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
