"""Hostile ids, cursors, bodies and headers: a documented refusal or the ordinary answer, never a fault of ours."""

import json
import random
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest

from tests.proxy.agent import Held, answer, answering, saying
from tests.proxy.client import dial, error_of, events_of, whole
from tests.proxy.scene import BACKGROUND, Scene, scene

HELLO = saying(*answer("Hel", "lo"))
LAST = 9
GIVEN_ID = "caresp_" + "h" * 50
CHOSEN = {"x-agent-response-id": GIVEN_ID}
ROUTES = [("GET", ""), ("GET", "?stream=true"), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")]
INJECTION = "x\r\nx-injected: 1\r\n\r\n"


async def asked_raw(s: Scene, method: str, target: bytes) -> tuple[int, bytes]:
    """The status and the whole answer to a request whose target goes out to the byte."""
    async with dial(s.served.url) as raw:
        await raw.send(b"%b %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % (method.encode(), target))
        got = await raw.rest()
    return int(got[9:12]), got


# --- ids


def odd_ids(count: int) -> list[bytes]:
    """Ids of any bytes, percent-encoded, some with bytes that need no encoding, some half encoded."""
    chance = random.Random(20260101)
    plain = [
        b"%",
        b"%zz",
        b"%2",
        b"..",
        b".",
        b"%2e%2e%2f",
        b"%00",
        b"%ff%fe",
        b"%0d%0ax:1",
        b"~" * 10_000,
        b"%41" * 3_000,
    ]
    plain += [
        b"caresp_" + b"%c3%a9" * 25,
        b"resp_" + b"x" * 129,
        b"resp_%2f",
        b"a;b",
        b"a,b",
        b"a'b",
        b"a<script>b",
        b"{id}",
    ]
    made = [quote_from_bytes(chance.randbytes(chance.randrange(1, 60)), safe="").encode() for _ in range(count)]
    return [*plain, *made]


@pytest.mark.parametrize(("method", "route"), ROUTES)
async def test_an_id_of_any_bytes_is_malformed_or_unknown(method: str, route: str) -> None:
    async with scene(HELLO) as s:
        for id_ in odd_ids(60):
            http_status, got = await asked_raw(s, method, b"/responses/" + id_ + route.encode())
            assert http_status in (400, 404), id_
            head, _, body = got.partition(b"\r\n\r\n")
            assert b"\nx:" not in head
            assert json.loads(body)["error"]["type"] == "invalid_request_error"
        assert s.agent.asked == []


@pytest.mark.parametrize("given", ["", " ", "x", "caresp_", "x" * 10_000, "caresp_" + "é" * 50, "resp_" + "a" * 51])
async def test_a_chosen_id_that_is_none_is_refused_or_ignored(given: str) -> None:
    async with scene(HELLO) as s:
        headers: Any = [(b"x-agent-response-id", given.encode().strip())]
        by_header = await s.client.post("/responses", json={}, headers=headers)
        by_body = await s.create(response_id=given)
        assert by_header.status_code == (400 if given.strip() else 200)
        assert by_body.status_code == 400
        previous = await s.create(previous_response_id=given)
        assert previous.status_code in ((400, 404) if given else (200,))


# --- cursors


@pytest.mark.parametrize(
    ("cursor", "first"),
    [
        ("-1", 0),
        ("0", 1),
        ("-0", 1),
        (str(LAST - 1), LAST),
        (str(LAST), None),
        (str(LAST + 1), None),
        (str(2**31), None),
        (str(2**63), None),
        (str(2**64), None),
        (str(-(2**64)), 0),
        ("9" * 20_000, None),
        ("-" + "9" * 20_000, 0),
        ("0" * 20_000 + "3", 4),
        ("+3", 4),
        (" 3 ", 4),
        ("1_0", None),
        ("٣", 4),
    ],
)
async def test_a_cursor_that_is_an_integer_in_any_form_is_one(cursor: str, first: int | None) -> None:
    async with scene(HELLO) as s:
        assert whole(events_of((await s.create(CHOSEN, **BACKGROUND)).content))
        response = await s.client.get(f"/responses/{GIVEN_ID}?stream=true&starting_after={quote(cursor)}")
        assert response.status_code == 200, response.text
        numbers = [event.data["sequence_number"] for event in events_of(response.content)]
        assert numbers == ([] if first is None else list(range(first, LAST + 1)))


@pytest.mark.parametrize(
    "cursor", ["", "abc", "1.5", "1e3", "0x3", "--1", "1 2", "null", "NaN", "²", "3\0", "9" * 9_999 + "x"]
)
async def test_a_cursor_that_is_no_integer_is_refused(cursor: str) -> None:
    async with scene(HELLO) as s:
        await s.create(CHOSEN, **BACKGROUND)
        for id_ in (GIVEN_ID, "caresp_" + "u" * 50):
            response = await s.client.get(f"/responses/{id_}?stream=true&starting_after={quote(cursor)}")
            assert response.status_code == 400
            assert error_of(response)["message"] == "starting_after must be an integer"


async def test_the_first_of_several_cursors_counts() -> None:
    async with scene(HELLO) as s:
        await s.create(CHOSEN, **BACKGROUND)
        response = await s.client.get(f"/responses/{GIVEN_ID}?stream=true&starting_after=7&starting_after=abc")
        assert [event.data["sequence_number"] for event in events_of(response.content)] == [8, 9]


async def test_a_cursor_far_ahead_of_a_live_run_gets_what_is_behind_it_alone() -> None:
    agent = Held()
    async with scene(agent) as s:
        response_id = await s.created()
        async with (
            s.replay(response_id, starting_after="8") as near,
            s.replay(response_id, starting_after="9" * 99) as far,
        ):
            agent.going_on.set()
            assert [event.data["sequence_number"] for event in await near.rest()] == [9]
            assert await far.rest() == []


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1.5", "9" * 20_000, "null"])
async def test_a_limit_out_of_its_bounds_is_refused(limit: str) -> None:
    async with scene(HELLO) as s:
        await s.create(CHOSEN)
        response = await s.client.get(f"/responses/{GIVEN_ID}/input_items?limit={limit}")
        assert (response.status_code, error_of(response)["param"]) == (400, "limit")


@pytest.mark.parametrize(
    "query", ["after=%00", "after=%FF", "before=" + "x" * 20_000, "after=%F0%9F%92%A9", "include[]=x&x="]
)
async def test_a_query_of_any_bytes_does_no_harm(query: str) -> None:
    async with scene(HELLO) as s:
        await s.create({**CHOSEN, "x-agent-user-id": "ann"})
        for path in (f"/responses/{GIVEN_ID}/input_items", f"/responses/{GIVEN_ID}", "/_respool/responses"):
            for extra in ("", "&conversation=%00%FF&status="):
                response = await s.client.get(f"{path}?{query}{extra}", headers={"x-agent-user-id": "ann"})
                assert response.status_code == 200, response.text


# --- bodies


DEEP = 100_000
BODIES: dict[str, bytes] = {
    "brackets": b"[" * DEEP,
    "closed brackets": b"[" * DEEP + b"]" * DEEP,
    "objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep in the input": b'{"input":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep in the metadata": b'{"metadata":{"a":' + b"[" * 900 + b"]" * 900 + b"}}",
    "deep in the conversation": b'{"conversation":{"a":' + b'{"a":' * 900 + b"1" + b"}" * 902,
    "deep in the agent": b'{"agent_reference":{"name":"n","a":' + b"[" * 900 + b"]" * 900 + b"}}",
    "deep in what nobody knows": b'{"x":' + b"[" * 900 + b"]" * 900 + b"}",
    "not UTF-8": b'{"input":"\xff"}',
    "UTF-16": '{"input":"x"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"input":"x"}',
    "nul": b'{"input":"x"}\x00',
    "nul in a string": b'{"input":"\\u0000","metadata":{"\\u0000":"\\u0000"}}',
    "half a surrogate pair": b'{"input":"\\ud800","metadata":{"\\ud800":"\\udfff"},"model":"\\ud800"}',
    "half a pair as a conversation": b'{"conversation":"\\ud800"}',
    "half a pair in the agent's name": b'{"agent_reference":{"name":"\\ud800"},"agent_session_id":"\\ud800"}',
    "half a pair as a key": b'{"\\ud800":1,"stream":false}',
    "keys twice": b'{"stream":true,"stream":false,"input":1,"input":"x","background":true,"background":false}',
    "keys twice, one escaped": b'{"stream":true,"str\\u0065am":false,"input":"x"}',
    "a large integer": b'{"input":"x","temperature":' + b"9" * 4_000 + b"}",
    "a larger integer": b'{"input":"x","temperature":' + b"9" * 100_000 + b"}",
    "a large number": b'{"input":"x","temperature":1e400,"metadata":{"a":1e400}}',
    "a larger number": b'{"input":"x","temperature":1e999999999}',
    "an exponent of 30 digits": b'{"input":"x","temperature":1e' + b"9" * 30 + b"}",
    "many large numbers": b'{"input":"x","temperature":[' + b"1e400," * 5_000 + b"1]}",
    "NaN": b'{"input":"x","temperature":NaN}',
    "infinity": b'{"input":"x","temperature":-Infinity}',
    "nothing": b"",
    "spaces": b" " * 100_000,
    "a number": b"1",
    "null": b"null",
    "wrong everywhere": b'{"stream":1,"store":[],"background":"x","metadata":7,"conversation":[],"model":{},"input":3}',
    "an open string": b'{"input":"x',
    "a control character": b'{"input":"a\nb"}',
    "a trailing comma": b'{"input":"x",}',
    "a comment": b'{"input":"x"} // y',
    "two objects": b'{"input":"x"}{"input":"y"}',
    "too many values": b'{"input":[' + b"[]," * 1_000_001 + b"[]]}",
    "values in a string": json.dumps({"input": json.dumps([[1, "a,b"]] * 300_000)}).encode(),
}


@pytest.mark.parametrize("mode", ["foreground", "background"])
@pytest.mark.parametrize("name", BODIES)
async def test_a_body_of_any_kind_is_refused_in_words_or_passes(name: str, mode: str) -> None:
    body = BODIES[name]
    if mode == "background" and body.startswith(b"{"):
        body = b'{"background":true,' + body[1:]
    async with scene(HELLO) as s:
        response = await s.client.post("/responses", content=body, headers=CHOSEN)
        assert response.status_code in (200, 400)
        if response.status_code == 400:
            assert error_of(response)["message"]
            assert s.agent.asked == []
            return
        assert len(s.agent.asked) == 1
        for path in ("", "/input_items"):
            assert (await s.client.get(f"/responses/{GIVEN_ID}{path}")).status_code == 200
        listed = await s.client.get("/_respool/responses", headers={"x-agent-user-id": "nobody"})
        assert listed.status_code == 200


async def test_a_body_may_have_as_many_bytes_as_was_set_and_not_one_more() -> None:
    body = b'{"input":"' + b"x" * 1_000 + b'"}'
    async with scene(HELLO, max_request_bytes=len(body)) as s:
        assert (await s.client.post("/responses", content=body)).status_code == 200

        async def pieces() -> Any:
            yield body
            yield b" "

        for content in (body + b" ", pieces()):
            response = await s.client.post("/responses", content=content)
            assert (response.status_code, error_of(response)["code"]) == (413, "request_too_large")
        assert len(s.agent.asked) == 1


@pytest.mark.parametrize(
    ("metadata", "good"),
    [
        ({f"k{number}": "v" for number in range(16)}, True),
        ({f"k{number}": "v" for number in range(17)}, False),
        ({"k" * 64: "v" * 512}, True),
        ({"k" * 65: "v"}, False),
        ({"k": "v" * 513}, False),
        ({"é" * 64: "💩" * 512}, True),
    ],
)
async def test_metadata_has_bounds(metadata: dict[str, str], good: bool) -> None:
    async with scene(HELLO) as s:
        response = await s.create(metadata=metadata)
        assert response.status_code == (200 if good else 400)
        assert (response.json()["metadata"] == metadata) if good else (error_of(response)["param"] == "metadata")


# --- headers and frames


async def test_what_a_client_says_makes_no_header_and_no_frame() -> None:
    evil = INJECTION + "event: response.completed\ndata: {}\n\n"
    async with scene(HELLO) as s:
        fields = {"metadata": {"a": evil, "b": "\u2028\u0085"}, "model": evil, "conversation": evil}
        response = await s.create(CHOSEN, **BACKGROUND, **fields)
        events = events_of(response.content)
        assert whole(events)["metadata"]["a"] == evil
        for given in (response, await s.client.get(f"/responses/{GIVEN_ID}?stream=true")):
            assert "x-injected" not in given.headers
            assert len(events_of(given.content)) == LAST + 1
        listed = await s.client.get("/_respool/responses", params={"conversation": evil})
        assert [entry["id"] for entry in listed.json()["data"]] == [GIVEN_ID]


@pytest.mark.parametrize("given", [b"a b", b"\xe9", b"x" * 257, b"", b'"><script>', b"ok-id.1"])
async def test_a_request_id_is_told_back_if_it_is_one(given: bytes) -> None:
    async with scene(HELLO) as s:
        told = (await s.client.get("/_respool/health", headers=[(b"x-request-id", given)])).headers["x-request-id"]
        good = given in (b"ok-id.1", b'"><script>')
        assert (told == given.decode("latin-1")) == good
        assert told


@pytest.mark.parametrize("value", ["a\tb", "\xe9", "x" * 5_000, "", "a, b"])
async def test_the_agents_session_is_told_as_it_came(value: str) -> None:
    async with scene(saying(*answer("x"), headers=[f"x-agent-session-id: {value}"])) as s:
        created = await s.create(CHOSEN)
        read = await s.client.get(f"/responses/{GIVEN_ID}")
        assert created.status_code == read.status_code == 200
        assert [response.headers["x-agent-session-id"] for response in (created, read)] == [value] * 2


async def test_headers_of_one_connection_do_not_reach_the_agent_with_a_create() -> None:
    async with scene(HELLO) as s, dial(s.served.url) as raw:
        await raw.send(
            b"POST /responses HTTP/1.1\r\nhost: x\r\nconnection: close, X-Hop\r\nx-hop: 1\r\nte: trailers\r\n"
            b"keep-alive: 5\r\n"
            b"proxy-authorization: Basic x\r\nproxy-connection: x\r\ntrailer: x\r\nupgrade: h2c\r\n"
            b"expect: 100-continue\r\n"
            b"x-kept: 1\r\ncontent-length: 2\r\n\r\n{}"
        )
        await raw.rest()
        names = {name.lower() for name, _ in s.agent.asked[0].headers}
        assert names == {"host", "x-kept", "content-length", "accept-encoding", "x-agent-response-id"}


async def test_headers_of_the_agents_connection_do_not_reach_the_client() -> None:
    hop = [
        "connection: X-Hop",
        "x-hop: 1",
        "keep-alive: timeout=5",
        "proxy-authenticate: Basic",
        "upgrade: h2c",
        "trailer: x",
    ]
    async with scene(answering("429 Slow", b"{}", *hop, "retry-after: 3")) as s:
        for response in (await s.create(), await s.create(stream=True), await s.client.get("/runs")):
            assert response.status_code == 429
            assert response.headers["retry-after"] == "3"
            assert not {"x-hop", "keep-alive", "proxy-authenticate", "upgrade", "trailer"} & set(response.headers)
