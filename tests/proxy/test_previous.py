"""Responses that continue another: whose id the agent is told, what is refused, and the chain of input items."""

from typing import Any

import pytest

from tests.proxy.agent import (
    AGENT_ID,
    Held,
    Script,
    answer,
    answering,
    completed,
    lifecycle,
    saying,
)
from tests.proxy.client import error_of, events_of, whole
from tests.proxy.scene import BACKGROUND, Scene, scene

HELLO = saying(*answer("Hello"))
GIVEN_ID = "caresp_" + "p" * 50


async def test_the_agent_is_told_its_own_id_and_the_client_its_own() -> None:
    async with scene(HELLO) as s:
        first = (await s.create()).json()["id"]
        events = events_of((await s.create(stream=True, previous_response_id=first)).content)
        assert s.agent.asked[1].json["previous_response_id"] == AGENT_ID
        for event in events:
            if "response" in event.data:
                assert event.data["response"]["previous_response_id"] == first
        assert (await s.get(whole(events)["id"]))["previous_response_id"] == first


async def test_an_agents_own_echo_of_the_previous_id_is_ours_again() -> None:
    echo = saying(lifecycle("created", previous_response_id=AGENT_ID), completed("x"))
    async with scene(HELLO, echo) as s:
        first = (await s.create()).json()["id"]
        assert (await s.create(previous_response_id=first)).json()["previous_response_id"] == first


async def test_an_agent_without_an_id_of_its_own_is_told_ours() -> None:
    created = lifecycle("created")
    del created["response"]["id"]
    ended = lifecycle("completed")
    del ended["response"]["id"]
    async with scene(saying(created, ended), HELLO) as s:
        first = (await s.create()).json()["id"]
        await s.create(previous_response_id=first)
        assert s.agent.asked[1].json["previous_response_id"] == first


async def test_only_the_id_is_changed_in_the_body() -> None:
    async with scene(HELLO) as s:
        first = (await s.create()).json()["id"]
        body = b'{ "n":1.0, "previous_response_id" : "%b" ,"stream":true }' % first.encode()
        assert (await s.client.post("/responses", content=body)).status_code == 200
        assert s.agent.asked[1].body == body.replace(first.encode(), AGENT_ID.encode())


async def refused(s: Scene, previous_id: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    asked = len(s.agent.asked)
    response = await s.create(headers, previous_response_id=previous_id)
    assert len(s.agent.asked) == asked
    return response.status_code, error_of(response)


def unknown(previous_id: str) -> tuple[int, Any]:
    return 404, {
        "message": f"Response with id '{previous_id}' not found.",
        "type": "invalid_request_error",
        "param": "previous_response_id",
        "code": "invalid_request_error",
    }


async def test_a_previous_response_that_is_not_there_is_the_same_404_whatever_the_reason() -> None:
    async with scene(HELLO) as s:
        ann, bob = {"x-agent-user-id": "ann"}, {"x-agent-user-id": "bob"}
        anns = (await s.create(ann)).json()["id"]
        deleted = (await s.create()).json()["id"]
        await s.delete(deleted)
        unstored = (await s.create(store=False)).json()["id"]
        assert await refused(s, GIVEN_ID) == unknown(GIVEN_ID)
        assert await refused(s, anns) == unknown(anns)
        assert await refused(s, anns, bob) == unknown(anns)
        assert await refused(s, deleted) == unknown(deleted)
        assert await refused(s, unstored) == unknown(unstored)
        assert (await s.create(ann, previous_response_id=anns)).status_code == 200


@pytest.mark.parametrize("asked", [{"stream": True}, BACKGROUND])
async def test_a_previous_response_that_still_runs_is_refused(asked: dict[str, Any]) -> None:
    async with scene(Held(), HELLO) as s, s.stream({"x-agent-response-id": GIVEN_ID}, **asked) as stream:
        await stream.until("response.output_text.delta")
        status, error = await refused(s, GIVEN_ID)
        assert (status, error["param"]) == (400, "previous_response_id")
        assert error["message"] == f"Response with id '{GIVEN_ID}' is still in progress."


@pytest.mark.parametrize("end", ["completed", "failed", "incomplete"])
async def test_a_previous_response_may_have_ended_in_any_way(end: str) -> None:
    async with scene(saying(lifecycle("created"), lifecycle(end)), HELLO) as s:
        first = (await s.create()).json()["id"]
        assert (await s.create(previous_response_id=first)).status_code == 200


@pytest.mark.parametrize("previous_id", [GIVEN_ID, "nonsense", "resp_agents"])
async def test_an_unknown_previous_id_is_sent_on_if_so_set(previous_id: str) -> None:
    async with scene(HELLO, unknown_ids="forward") as s:
        value = (await s.create(previous_response_id=previous_id)).json()
        assert s.agent.asked[0].json["previous_response_id"] == previous_id
        assert value["previous_response_id"] == previous_id


@pytest.mark.parametrize("setting", ["refuse", "forward"])
async def test_a_known_previous_id_is_mapped_whatever_is_done_with_unknown_ones(setting: str) -> None:
    async with scene(HELLO, unknown_ids=setting) as s:
        first = (await s.create()).json()["id"]
        await s.create(previous_response_id=first)
        assert s.agent.asked[1].json["previous_response_id"] == AGENT_ID


@pytest.mark.parametrize("previous_id", [None, ""])
async def test_no_previous_id_is_none(previous_id: str | None) -> None:
    async with scene(HELLO) as s:
        assert (await s.create(previous_response_id=previous_id)).status_code == 200


# --- unknown ids on the other routes


@pytest.mark.parametrize(
    ("method", "route"),
    [("GET", ""), ("GET", "?stream=true&a=%2F"), ("GET", "/input_items?limit=5"), ("POST", "/cancel"), ("DELETE", "")],
)
@pytest.mark.parametrize("response_id", [GIVEN_ID, "resp_odd", "nonsense"])
async def test_an_unknown_id_is_sent_on_if_so_set(method: str, route: str, response_id: str) -> None:
    script = answering("418 Teapot", b"the agent's own", "x-twice: 1", "x-twice: 2", kind="text/odd")
    async with scene(script, unknown_ids="forward") as s:
        response = await s.client.request(method, f"/responses/{response_id}{route}")
        assert (response.status_code, response.content) == (418, b"the agent's own")
        assert response.headers.get_list("x-twice") == ["1", "2"]
        assert (s.agent.asked[0].method, s.agent.asked[0].target) == (method, f"/responses/{response_id}{route}")


async def test_known_ids_are_answered_here_whatever_is_done_with_unknown_ones() -> None:
    async with scene(HELLO, unknown_ids="forward") as s:
        first = (await s.create()).json()
        assert await s.get(first["id"]) == first
        assert len(s.agent.asked) == 1


# --- the chain of input items


def item_ids(page: Any) -> list[str]:
    return [item["id"] for item in page["data"]]


async def texts_of(s: Scene, response_id: str) -> list[str]:
    page = (await s.client.get(f"/responses/{response_id}/input_items?order=asc&limit=100")).json()
    assert len(set(item_ids(page))) == len(page["data"])
    return [item["content"][0]["text"] for item in page["data"]]


async def test_items_of_earlier_turns_come_before_the_requests_own() -> None:
    scripts: list[Script] = [saying(*answer(text)) for text in ("one", "two", "three")]
    async with scene(*scripts) as s:
        first = (await s.create(input="1?")).json()["id"]
        second = (await s.create(input="2?", previous_response_id=first)).json()["id"]
        third = (await s.create(input="3?", previous_response_id=second)).json()["id"]
        assert await texts_of(s, first) == ["1?"]
        assert await texts_of(s, third) == ["1?", "one", "2?", "two", "3?"]
        newest = (await s.client.get(f"/responses/{third}/input_items?limit=1")).json()
        assert newest["data"][0]["content"][0]["text"] == "3?"
        assert newest["has_more"] is True


async def test_the_chain_stops_at_the_first_turn_that_is_missing() -> None:
    async with scene(HELLO) as s:
        first = (await s.create(input="1?")).json()["id"]
        second = (await s.create(input="2?", previous_response_id=first)).json()["id"]
        third = (await s.create(input="3?", previous_response_id=second)).json()["id"]
        await s.delete(first)
        assert await texts_of(s, third) == ["2?", "Hello", "3?"]
        await s.delete(second)
        assert await texts_of(s, third) == ["3?"]
