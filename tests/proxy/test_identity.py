"""Who a response belongs to, and the list of one's own."""

import asyncio
from itertools import permutations
from typing import Any

import pytest

from tests.proxy.agent import Held, Wire, answer, lifecycle, saying
from tests.proxy.client import dial, error_of, events_of, text_of, whole
from tests.proxy.scene import BACKGROUND, Scene, administration, scene

HELLO = saying(*answer("Hello"))
GIVEN_ID = "caresp_" + "i" * 50
OWNERS: dict[str, dict[str, str]] = {
    "nobody": {},
    "the empty user": {"x-agent-user-id": ""},
    "ann": {"x-agent-user-id": "ann"},
    "bob": {"x-agent-user-id": "bob"},
    "ann's chat": {"x-agent-chat-isolation-key": "ann"},
    "the empty chat": {"x-agent-chat-isolation-key": ""},
    "ann by the older key": {"x-agent-user-isolation-key": "ann"},
}
ROUTES = [("GET", ""), ("GET", "?stream=true"), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")]


# --- owners


@pytest.mark.parametrize(("owner", "other"), list(permutations(OWNERS, 2)))
async def test_what_belongs_to_one_owner_does_not_exist_for_another(owner: str, other: str) -> None:
    async with scene(HELLO) as s:
        mine = OWNERS[owner] | {"x-agent-response-id": GIVEN_ID}
        assert (await s.create(mine, **BACKGROUND)).status_code == 200
        for method, route in ROUTES:
            path = f"/responses/{GIVEN_ID}{route}"
            refused = await s.client.request(method, path, headers=OWNERS[other])
            assert refused.status_code == 404
            assert error_of(refused)["message"] == f"Response with id '{GIVEN_ID}' not found."
        assert (await s.client.get(f"/responses/{GIVEN_ID}", headers=mine)).status_code == 200
        assert (await s.client.delete(f"/responses/{GIVEN_ID}", headers=mine)).status_code == 200


async def test_what_another_owner_asks_of_a_run_does_not_touch_it() -> None:
    async with scene(Held()) as s:
        ann, bob = OWNERS["ann"] | {"x-agent-response-id": GIVEN_ID}, OWNERS["bob"]
        async with s.stream(ann, background=True) as stream:
            await stream.until("response.output_text.delta")
            assert (await s.client.post(f"/responses/{GIVEN_ID}/cancel", headers=bob)).status_code == 404
            still = await s.client.get(f"/responses/{GIVEN_ID}", headers=ann)
            assert still.json()["status"] == "in_progress"
            cancelled = await s.client.post(f"/responses/{GIVEN_ID}/cancel", headers=ann)
            assert cancelled.json()["status"] == "cancelled"


async def test_the_user_counts_before_the_chat_and_the_chat_before_the_older_key() -> None:
    async with scene(HELLO) as s:
        all_three = {
            "x-agent-user-isolation-key": "u",
            "x-agent-chat-isolation-key": "c",
            "x-agent-user-id": "ann",
        }
        path = f"/responses/{(await s.create(all_three)).json()['id']}"
        assert (await s.client.get(path, headers={"x-agent-user-id": "ann"})).status_code == 200
        assert (await s.client.get(path, headers={"x-agent-chat-isolation-key": "c"})).status_code == 404
        del all_three["x-agent-user-id"]
        path = f"/responses/{(await s.create(all_three)).json()['id']}"
        assert (await s.client.get(path, headers={"x-agent-chat-isolation-key": "c"})).status_code == 200
        assert (await s.client.get(path, headers={"x-agent-user-isolation-key": "u"})).status_code == 404


async def test_the_headers_that_name_an_owner_can_be_set() -> None:
    async with scene(HELLO, owner_headers="X-Tenant") as s:
        path = f"/responses/{(await s.create({'x-tenant': 'a', 'x-agent-user-id': 'x'})).json()['id']}"
        assert (await s.client.get(path, headers={"x-tenant": "a", "x-agent-user-id": "y"})).status_code == 200
        assert (await s.client.get(path, headers={"x-agent-user-id": "x"})).status_code == 404


async def test_two_owners_may_hold_the_same_id() -> None:
    async with scene(saying(*answer("for ann")), saying(*answer("for bob"))) as s:
        for name in ("ann", "bob"):
            headers = OWNERS[name] | {"x-agent-response-id": GIVEN_ID}
            assert (await s.create(headers, **BACKGROUND)).status_code == 200
        for name in ("ann", "bob"):
            got = await s.client.get(f"/responses/{GIVEN_ID}", headers=OWNERS[name])
            assert text_of(got.json()) == f"for {name}"
            replayed = await s.client.get(f"/responses/{GIVEN_ID}?stream=true", headers=OWNERS[name])
            assert text_of(whole(events_of(replayed.content))) == f"for {name}"
        assert (await s.client.delete(f"/responses/{GIVEN_ID}", headers=OWNERS["ann"])).status_code == 200
        assert (await s.client.get(f"/responses/{GIVEN_ID}", headers=OWNERS["bob"])).status_code == 200


async def test_an_owner_that_looks_like_a_header_and_value_is_not_mistaken_for_one() -> None:
    async with scene(HELLO, owner_headers="x-a,x-b") as s:
        response_id = (await s.create({"x-a": "v"})).json()["id"]
        other = await s.client.get(f"/responses/{response_id}", headers={"x-b": "x-a=v"})
        assert other.status_code == 404


@pytest.mark.parametrize(("method", "route"), [*ROUTES, ("LIST", ""), ("CREATE", "")])
async def test_who_names_two_owners_is_nobody(method: str, route: str) -> None:
    method, path = {"LIST": ("GET", "/_respool/responses"), "CREATE": ("POST", "/responses")}.get(
        method, (method, f"/responses/{GIVEN_ID}{route}")
    )
    async with scene(HELLO) as s:
        assert (await s.create(OWNERS["ann"] | {"x-agent-response-id": GIVEN_ID}, **BACKGROUND)).status_code == 200
        for names in (("bob", "ann"), ("ann", "bob"), ("ann", "")):
            given = [("X-Agent-User-Id", names[0]), ("x-agent-user-id", names[1])]
            body = {"input": "hi"} if path == "/responses" else None
            refused = await s.client.request(method, path, headers=given, json=body)
            assert (refused.status_code, error_of(refused)["param"]) == (400, "x-agent-user-id")
        assert len(s.agent.asked) == 1
        assert await s.get(GIVEN_ID, OWNERS["ann"])


async def test_an_owner_is_the_same_in_whatever_case_and_space_its_header_comes() -> None:
    async with scene(HELLO) as s:
        await s.create(OWNERS["ann"] | {"x-agent-response-id": GIVEN_ID})
        for line in (b"X-AGENT-USER-ID:ann", b"x-agent-user-id:  ann ", b"X-Agent-User-Id: \tann\t"):
            async with dial(s.served.url) as raw:
                await raw.send(b"GET /responses/%b HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % (GIVEN_ID.encode(), line))
                assert (await raw.head()).startswith(b"HTTP/1.1 200")
        assert await s.get(GIVEN_ID, [("x-agent-user-id", "ann"), ("x-agent-user-id", "ann")])
        for value in ("Ann", "ann,bob", "ann, ann", "a nn", "ann\xa0", '"ann"'):
            name = [(b"x-agent-user-id", value.encode("latin-1"))]
            refused = await s.client.get(f"/responses/{GIVEN_ID}", headers=name)
            assert refused.status_code == 404


@pytest.mark.parametrize("path", ["/responses", f"/responses/{GIVEN_ID}", "/runs"])
@pytest.mark.parametrize("named", ["x-agent-user-id", "close, X-Agent-User-Id", "x-agent-chat-isolation-key"])
async def test_the_owner_cannot_be_hidden_from_the_agent_as_a_header_of_the_connection(path: str, named: str) -> None:
    async with scene(HELLO) as s:
        for method in ("GET", "POST"):
            response = await s.client.request(method, path, headers=OWNERS["ann"] | {"connection": named})
            assert (response.status_code, error_of(response)["code"]) == (400, "bad_request")
        assert s.agent.asked == []


async def test_the_headers_of_the_platform_go_on_to_the_agent() -> None:
    async with scene(HELLO) as s:
        await s.create({"x-agent-user-id": "ann", "x-agent-foundry-call-id": "call-1"})
        assert s.agent.asked[0].header("x-agent-user-id") == ["ann"]
        assert s.agent.asked[0].header("x-agent-foundry-call-id") == ["call-1"]


# --- ids


async def test_minted_ids_have_the_partition_of_what_they_continue() -> None:
    async with scene(HELLO) as s:
        first = (await s.create()).json()["id"]
        assert len(first) == len("caresp_") + 50
        second = (await s.create(previous_response_id=first)).json()["id"]
        assert second[:25] == first[:25]
        assert second != first
        conversation = "conv_" + "9" * 16 + "00" + "c" * 32
        third = (await s.create(conversation=conversation)).json()["id"]
        assert third[7:25] == "9" * 16 + "00"


async def test_minted_ids_begin_with_the_prefix_that_was_set() -> None:
    async with scene(HELLO, id_prefix="resp") as s:
        response_id = (await s.create()).json()["id"]
        assert response_id.startswith("resp_")
        assert (await s.get(response_id))["id"] == response_id
        unknown = await s.client.get(f"/responses/resp_{'0' * 50}")
        assert unknown.status_code == 404


async def test_ids_that_are_stored_are_accepted_whatever_their_prefix() -> None:
    given = "odd1_" + "x" * 48
    async with scene(HELLO) as s:
        assert (await s.create(response_id=given)).json()["id"] == given
        assert (await s.get(given))["id"] == given
        assert (await s.client.get("/responses/odd1_" + "y" * 48)).status_code == 400


# --- the list


async def listed(s: Scene, owner: str, **query: str) -> dict[str, Any]:
    response = await s.client.get("/_respool/responses", params=query, headers=OWNERS[owner])
    assert response.status_code == 200, response.text
    value: dict[str, Any] = response.json()
    return value


async def test_ones_own_responses_are_listed_newest_first() -> None:
    async with scene(HELLO) as s:
        ids = [(await s.create(OWNERS["ann"])).json()["id"] for _ in range(4)]
        await s.create(OWNERS["bob"])
        await s.create()
        page = await listed(s, "ann")
        assert [entry["id"] for entry in page["data"]] == ids[::-1]
        assert (page["object"], page["has_more"]) == ("list", False)
        assert (page["first_id"], page["last_id"]) == (ids[-1], ids[0])


async def test_the_list_comes_in_pages() -> None:
    async with scene(HELLO) as s:
        ids = [(await s.create(OWNERS["ann"])).json()["id"] for _ in range(5)][::-1]
        seen: list[str] = []
        page = await listed(s, "ann", limit="2")
        while page["has_more"]:
            seen += [entry["id"] for entry in page["data"]]
            page = await listed(s, "ann", limit="2", after=page["last_id"])
        assert seen + [entry["id"] for entry in page["data"]] == ids
        assert (await listed(s, "ann", after=ids[-1])) == {
            "object": "list",
            "data": [],
            "first_id": None,
            "last_id": None,
            "has_more": False,
        }


async def test_the_list_can_be_narrowed_to_a_conversation_and_a_status() -> None:
    scripts = [saying(lifecycle("created"), lifecycle(end)) for end in ("failed", "completed", "incomplete")]
    async with scene(*scripts, HELLO) as s:
        ann = OWNERS["ann"]
        a, b, c = [
            (await s.create(ann, conversation=conversation)).json()["id"] for conversation in ("x", "y", {"id": "x"})
        ]
        assert [entry["id"] for entry in (await listed(s, "ann", conversation="x"))["data"]] == [c, a]
        assert [entry["id"] for entry in (await listed(s, "ann", status="completed"))["data"]] == [b]
        assert [entry["id"] for entry in (await listed(s, "ann", conversation="x", status="failed"))["data"]] == [a]
        assert (await listed(s, "ann", conversation="z"))["data"] == []


async def test_an_entry_of_the_list_says_what_one_needs_to_follow_it() -> None:
    async with scene(Held()) as s, s.stream(OWNERS["ann"], background=True, conversation="x") as stream:
        events = await stream.until("response.output_text.delta")
        (entry,) = (await listed(s, "ann", status="in_progress"))["data"]
        assert entry["id"] == events[0].data["response"]["id"]
        assert (entry["status"], entry["background"], entry["stream"]) == ("in_progress", True, True)
        assert entry["conversation"] == {"id": "x"}
        assert entry["sequence_number"] == events[-1].data["sequence_number"]
        assert (entry["object"], entry["model"]) == ("response", "m")


async def test_a_foreground_response_in_flight_is_not_listed() -> None:
    ending = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*answer("x")[:-1])
        await ending.wait()
        await wire.say(lifecycle("completed"))
        await wire.end()

    async with scene(script) as s, s.stream(OWNERS["ann"]) as stream:
        await stream.until("response.output_item.done")
        assert (await listed(s, "ann"))["data"] == []
        ending.set()
        await stream.rest()
        assert len((await listed(s, "ann"))["data"]) == 1


async def test_a_caller_without_a_name_must_name_a_conversation() -> None:
    async with scene(HELLO) as s:
        mine = (await s.create(conversation="x")).json()["id"]
        await s.create(OWNERS["ann"], conversation="x")
        await s.create(conversation="y")
        response = await s.client.get("/_respool/responses")
        assert response.status_code == 400
        assert error_of(response)["param"] == "conversation"
        assert [entry["id"] for entry in (await listed(s, "nobody", conversation="x"))["data"]] == [mine]


async def test_an_empty_name_is_a_name() -> None:
    async with scene(HELLO) as s:
        mine = (await s.create(OWNERS["the empty user"])).json()["id"]
        await s.create()
        assert [entry["id"] for entry in (await listed(s, "the empty user"))["data"]] == [mine]


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("status=done", "status")],
)
async def test_a_bad_query_of_the_list_is_refused(query: str, param: str) -> None:
    async with scene(HELLO) as s:
        response = await s.client.get(f"/_respool/responses?{query}", headers=OWNERS["ann"])
        assert (response.status_code, error_of(response)["param"]) == (400, param)


async def test_the_administrators_list_shows_everybodys() -> None:
    async with scene(HELLO, HELLO, Held()) as s, administration(s) as admin:
        ids = [(await s.create(OWNERS[name])).json()["id"] for name in ("ann", "bob")]
        async with s.stream() as stream:
            await stream.until("response.output_text.delta")
            page = (await admin.get("/_respool/responses")).json()
        assert [entry["id"] for entry in page["data"]][1:] == ids[::-1]
        assert len(page["data"]) == 3


@pytest.mark.parametrize("path", ["/readiness", "/responses", f"/responses/{GIVEN_ID}", "/v1/responses"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_administrators_port_serves_our_own_routes_alone(method: str, path: str) -> None:
    async with scene(HELLO) as s, administration(s) as admin:
        response = await admin.request(method, path, json={})
        assert (response.status_code, error_of(response)["code"]) == (404, "not_found")
        assert s.agent.asked == []
        assert (await admin.get("/_respool/health")).status_code == 200
