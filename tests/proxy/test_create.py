"""A create: the rows of the matrix, and what the agent is sent."""

import asyncio
from typing import Any

import pytest

from tests.proxy.agent import Asked, Wire, answer, answering, completed, delta, lifecycle, opening, saying
from tests.proxy.client import dial, error_of, events_of, posting, text_of, whole
from tests.proxy.scene import scene

HELLO = saying(*answer("Hel", "lo"))
GIVEN_ID = "caresp_" + "a" * 16 + "00" + "B" * 32


# --- the rows


@pytest.mark.parametrize("store", [None, True, "absent"])
@pytest.mark.parametrize("background", [None, False, "absent"])
@pytest.mark.parametrize("stream", [None, False, "absent"])
async def test_a_foreground_json_create_is_answered_after_the_end_and_stored(
    store: object, background: object, stream: object
) -> None:
    asked: dict[str, Any] = {"store": store, "background": background, "stream": stream}
    async with scene(HELLO) as s:
        response = await s.create(**{key: value for key, value in asked.items() if value != "absent"})
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        value = response.json()
        assert (value["status"], value["background"], value["store"]) == ("completed", False, True)
        assert text_of(value) == "Hello"
        assert await s.get(value["id"]) == value


async def test_a_foreground_stream_goes_to_its_end_and_is_stored() -> None:
    async with scene(HELLO) as s:
        response = await s.create(stream=True)
        final = whole(events_of(response.content))
        assert (final["status"], final["background"], final["store"]) == ("completed", False, True)
        assert await s.get(final["id"]) == final


async def test_a_background_json_create_is_answered_at_the_first_event_and_outlives_its_client() -> None:
    ending = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening(), delta("Hel"))
        await ending.wait()
        await wire.say(delta("lo"), completed("Hello"))
        await wire.end()

    async with scene(script, accept_grace_ms=600_000) as s:
        response = await s.create(background=True)
        value = response.json()
        assert response.status_code == 200
        assert (value["status"], value["background"], value["store"]) == ("in_progress", True, True)
        assert (await s.get(value["id"]))["status"] == "in_progress"
        ending.set()
        async with s.client.stream("GET", f"/responses/{value['id']}?stream=true") as refused:
            assert refused.status_code == 400
        while (await s.get(value["id"]))["status"] == "in_progress":
            pass
        assert text_of(await s.get(value["id"])) == "Hello"


async def test_a_background_stream_outlives_its_client_and_can_be_replayed() -> None:
    ending = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening(), delta("Hel"))
        await ending.wait()
        await wire.say(delta("lo"), completed("Hello"))
        await wire.end()

    async with scene(script) as s:
        response_id = await s.created()
        ending.set()
        final = whole(await s.events(response_id))
        assert (final["status"], final["background"], text_of(final)) == ("completed", True, "Hello")


@pytest.mark.parametrize("stream", [True, False])
async def test_without_store_nothing_is_kept(stream: bool) -> None:
    async with scene(HELLO) as s:
        response = await s.create(store=False, stream=stream)
        value = whole(events_of(response.content)) if stream else response.json()
        assert (value["status"], value["store"], text_of(value)) == ("completed", False, "Hello")
        path = f"/responses/{value['id']}"
        for answer_ in (
            await s.client.get(path),
            await s.client.get(path, params={"stream": "true"}),
            await s.client.get(f"{path}/input_items"),
            await s.cancel(value["id"]),
            await s.delete(value["id"]),
        ):
            assert answer_.status_code == 404
        listed = await s.client.get("/_respool/responses", params={"conversation": "c"})
        assert listed.json()["data"] == []


@pytest.mark.parametrize("stream", [True, False, None])
async def test_background_without_store_is_refused(stream: bool | None) -> None:
    async with scene(HELLO) as s:
        response = await s.create(store=False, background=True, stream=stream)
        error = error_of(response)
        assert response.status_code == 400
        assert (error["code"], error["param"]) == ("unsupported_parameter", "background")
        assert error["message"] == "background=true requires store=true"
        assert s.agent.asked == []


# --- what goes upstream


async def upstream_of(
    content: bytes, query: str = "", headers: list[tuple[str, str]] | None = None, **options: Any
) -> Asked:
    async with scene(HELLO, **options) as s:
        response = await s.client.post(f"/responses{query}", content=content, headers=headers)
        assert response.status_code == 200, response.text
        return s.agent.asked[0]


ODD = b'"z":1.0,"big":12345678901234567890123,"exp":1E5,"minus":-0,"esc":"\\u00e9\\/","in":[ 1, {"background":true} ]'
UNICODE = '"input":"é 漢","unknown":{"b":1,"a":2}'.encode()


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"{}", b'{"stream":true}'),
        (b'{ "model" : "m" }', b'{ "model" : "m" ,"stream":true}'),
        (b'{"stream": false, "input":"x"}', b'{"stream": true, "input":"x"}'),
        (b'{"stream":null}', b'{"stream":true}'),
        (b'{"background":true,"input":"x","stream":true}', b'{"input":"x","stream":true}'),
        (b'{"input":"x","background": true}', b'{"input":"x","stream":true}'),
        (b"{%b}" % ODD, b'{%b,"stream":true}' % ODD),
        (b"{%b}" % UNICODE, b'{%b,"stream":true}' % UNICODE),
        (b'{"store":null,"metadata":null}', b'{"store":null,"metadata":null,"stream":true}'),
    ],
)
async def test_the_body_goes_upstream_as_it_came_but_for_stream_and_background(sent: bytes, expected: bytes) -> None:
    asked = await upstream_of(sent, accept_grace_ms=600_000)
    assert asked.body == expected
    assert asked.header("content-length") == [str(len(expected))]


@pytest.mark.parametrize("path", ["", "/base/of/agent"])
@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "/v1",
        "/openai",
        "/openai/v1",
        "/api/projects/p%2Fq/openai/v1",
        "/agents/a/endpoint/protocols/openai",
        "/api/projects/p/agents/a/endpoint/protocols/openai",
    ],
)
async def test_every_prefix_leads_to_the_one_route_of_the_agent(prefix: str, path: str) -> None:
    async with scene(HELLO, path=path) as s:
        assert (await s.client.post(f"{prefix}/responses", json={})).status_code == 200
        assert (s.agent.asked[0].method, s.agent.asked[0].target) == ("POST", f"{path}/responses")


async def test_the_query_goes_along_byte_for_byte() -> None:
    async with scene(HELLO) as s, dial(s.served.url) as raw:
        await raw.send(posting("/v1/responses?api-version=2025-11-15&a=%2f+b&c", {}, "connection: close"))
        await raw.rest()
        assert s.agent.asked[0].target == "/responses?api-version=2025-11-15&a=%2f+b&c"


async def test_headers_pass_but_for_those_of_the_connection() -> None:
    headers = [
        ("authorization", "Bearer t"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("x-mine", "hop"),
        ("connection", "x-mine, keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "secret"),
        ("te", "trailers"),
        ("trailer", "x-sum"),
        ("upgrade", "h2c"),
        ("expect", "100-continue"),
        ("accept-encoding", "gzip, br"),
        ("content-type", "application/json; charset=utf-8"),
        ("user-agent", "test"),
        ("accept", "application/json"),
    ]
    async with scene(HELLO) as s:
        assert (await s.client.post("/responses", content=b"{}", headers=headers)).status_code == 200
        asked = s.agent.asked[0]
        assert asked.header("host") == [s.agent.url.removeprefix("http://")]
    for gone in ("x-mine", "connection", "keep-alive", "proxy-authorization", "te", "trailer", "upgrade", "expect"):
        assert asked.header(gone) == []
    assert asked.header("transfer-encoding") == []
    assert asked.header("x-twice") == ["1", "2"]
    assert asked.header("authorization") == ["Bearer t"]
    assert asked.header("accept-encoding") == ["identity"]
    assert asked.header("content-type") == ["application/json; charset=utf-8"]
    assert asked.header("user-agent") == ["test"]
    assert asked.header("accept") == ["application/json"]


async def test_nothing_is_added_to_the_headers_of_a_client_but_what_the_call_needs() -> None:
    async with scene(HELLO) as s, dial(s.served.url) as raw:
        await raw.send(posting("/responses", {}, "connection: close"))
        await raw.rest()
        names = [name.lower() for name, _ in s.agent.asked[0].headers]
    assert sorted(names) == ["accept-encoding", "content-length", "host", "x-agent-response-id"]


# --- offering the id


@pytest.mark.parametrize("offer", ["header", "both"])
async def test_the_id_is_offered_in_a_header_that_replaces_the_clients(offer: str) -> None:
    async with scene(HELLO, offer_id=offer) as s:
        minted = (await s.create()).json()["id"]
        assert minted.startswith("caresp_")
        given = (await s.create({"X-Agent-Response-Id": GIVEN_ID})).json()["id"]
        assert given == GIVEN_ID
        assert [asked.header("x-agent-response-id") for asked in s.agent.asked] == [[minted], [GIVEN_ID]]


@pytest.mark.parametrize("offer", ["metadata", "none"])
async def test_a_header_of_the_client_passes_where_none_is_offered(offer: str) -> None:
    async with scene(HELLO, offer_id=offer) as s:
        await s.create()
        await s.create({"x-agent-response-id": GIVEN_ID})
        assert [asked.header("x-agent-response-id") for asked in s.agent.asked] == [[], [GIVEN_ID]]


@pytest.mark.parametrize("offer", ["metadata", "both"])
@pytest.mark.parametrize("given", [None, {}, {"mine": "1"}, "absent"])
async def test_the_id_is_offered_in_the_metadata_and_taken_out_of_its_echo(offer: str, given: object) -> None:
    async def script(wire: Wire) -> None:
        echo = (await wire.request()).json["metadata"]
        await wire.begin()
        await wire.say(lifecycle("created", metadata=echo), lifecycle("completed", metadata=echo))
        await wire.end()

    own = given if isinstance(given, dict) else {}
    async with scene(script, offer_id=offer) as s:
        body: dict[str, Any] = {} if given == "absent" else {"metadata": given}
        events = events_of((await s.create(stream=True, **body)).content)
        final = whole(events)
        assert s.agent.asked[0].json["metadata"] == {**own, "response_id": final["id"]}
        assert [event.data["response"]["metadata"] for event in (events[0], events[-1])] == [own, own]
        assert (await s.get(final["id"]))["metadata"] == own


@pytest.mark.parametrize("offer", ["metadata", "both", "header", "none"])
async def test_a_response_id_in_the_clients_own_metadata_is_never_touched(offer: str) -> None:
    async def script(wire: Wire) -> None:
        echo = (await wire.request()).json["metadata"]
        await wire.begin()
        await wire.say(lifecycle("created", metadata=echo), lifecycle("completed", metadata=echo))
        await wire.end()

    async with scene(script, offer_id=offer) as s:
        mine = {"response_id": "my own"}
        value = (await s.create(metadata=mine)).json()
        assert s.agent.asked[0].json["metadata"] == mine
        assert value["metadata"] == mine


@pytest.mark.parametrize("offer", ["header", "none"])
async def test_null_metadata_stays_null_where_nothing_is_put_into_it(offer: str) -> None:
    asked = await upstream_of(b'{"metadata":null}', offer_id=offer)
    assert asked.body == b'{"metadata":null,"stream":true}'


# --- settings of the call


@pytest.mark.parametrize("body", [{}, {"model": None}, {"model": ""}])
async def test_a_missing_model_is_filled_with_the_default(body: dict[str, Any]) -> None:
    async with scene(HELLO, default_model="house-model") as s:
        response = await s.client.post("/responses", json=body)
        assert s.agent.asked[0].json["model"] == "house-model"
        assert response.json()["model"] == "house-model"


async def test_a_model_that_is_named_is_kept() -> None:
    async with scene(HELLO, default_model="house-model") as s:
        assert (await s.create(model="other")).json()["model"] == "other"
        assert s.agent.asked[0].json["model"] == "other"


@pytest.mark.parametrize(
    ("asked", "forced"),
    [({}, False), ({"stream": False}, False), ({"stream": True}, True), ({"background": True}, True)],
)
async def test_only_resumable_requests_are_forced_to_stream_if_so_set(asked: dict[str, Any], forced: bool) -> None:
    async with scene(HELLO, force_stream="resumable", accept_grace_ms=600_000) as s:
        assert (await s.create(**asked)).status_code == 200
        sent = s.agent.asked[0].json
        assert sent.get("stream", False) is forced
        assert "background" not in sent


async def test_an_unforced_json_answer_is_stored_and_stamped() -> None:
    body = b'{"id":"resp_agents","object":"response","created_at":1.5,"status":"completed","output":[],"extra":1.0}'
    async with scene(answering("200 OK", body), force_stream="resumable") as s:
        value = (await s.create()).json()
        assert value["id"].startswith("caresp_")
        assert (value["status"], value["extra"], value["background"]) == ("completed", 1.0, False)
        assert isinstance(value["created_at"], int)
        assert await s.get(value["id"]) == value


async def test_an_error_with_status_200_is_the_failure_that_it_is() -> None:
    async with scene(answering("200 OK", b'{"code":"server_error","message":"boom"}'), force_stream="resumable") as s:
        response = await s.create({"x-agent-response-id": GIVEN_ID})
        error = error_of(response)
        assert (response.status_code, error["code"], error["message"]) == (500, "server_error", "boom")
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404
