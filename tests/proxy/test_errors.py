"""Every refusal of ours: status, code, type, param and sentence, which other tools match to the letter."""

import asyncio
from typing import Any

import pytest

from tests.proxy.agent import Wire, answer, opening, saying
from tests.proxy.client import dial, error_of
from tests.proxy.scene import BACKGROUND, scene

HELLO = saying(*answer("Hello"))
UNKNOWN = "caresp_" + "0" * 50
SCHEMA = "request body failed schema validation"
SHAPE = "response_id must be in format caresp_<18-char partition key><32-char alphanumeric entropy>"


def said(message: str, param: str | None = "response_id", code: str = "invalid_request_error") -> dict[str, Any]:
    return {"message": message, "type": "invalid_request_error", "param": param, "code": code}


# --- creates

REFUSED = [
    (b"", said("Expecting value: line 1 column 1 (char 0)", None)),
    (b"{", said("Expecting property name enclosed in double quotes: line 1 column 2 (char 1)", None)),
    (b'{"a":1}}', said("Extra data: line 1 column 8 (char 7)", None)),
    (b'{"a":"\xff"}', said("The request body is not valid UTF-8.", None)),
    (b'{"a":NaN}', said("The request body is not valid JSON.", None)),
    (b"[]", said("request body must be a JSON object", None, "invalid_request")),
    (b'"text"', said("request body must be a JSON object", None, "invalid_request")),
    (b"null", said("request body must be a JSON object", None, "invalid_request")),
    (
        b'{"store":false,"background":true}',
        said("background=true requires store=true", "background", "unsupported_parameter"),
    ),
    (b'{"stream_options":{}}', said("stream_options requires stream=true", "stream", "invalid_mode")),
    (
        b'{"stream_options":{"include_obfuscation":false},"stream":false}',
        said("stream_options requires stream=true", "stream", "invalid_mode"),
    ),
    (
        b'{"metadata":{%b}}' % b",".join(b'"%d":"v"' % number for number in range(17)),
        said("metadata must have at most 16 key-value pairs", "metadata", "invalid_request"),
    ),
    (
        b'{"metadata":{"%b":"v"}}' % (b"k" * 65),
        said("metadata keys must be at most 64 characters", "metadata", "invalid_request"),
    ),
    (
        b'{"metadata":{"k":"%b"}}' % (b"v" * 513),
        said("metadata values must be at most 512 characters", "metadata", "invalid_request"),
    ),
    (b'{"response_id":"nonsense"}', said(SHAPE, code="invalid_request")),
    (b'{"response_id":"caresp_short"}', said(SHAPE, code="invalid_request")),
    (b'{"response_id":"caresp_%b"}' % (b"-" * 50), said(SHAPE, code="invalid_request")),
    (
        b'{"previous_response_id":"nonsense"}',
        said("Malformed identifier.", "previous_response_id", "invalid_parameters"),
    ),
    (
        b'{"agent_reference":"name"}',
        said("agent_reference must be an object", "agent_reference", "invalid_request"),
    ),
    (
        b'{"agent_reference":{"type":"other","name":"n"}}',
        said("agent_reference.type must be 'agent_reference'", "agent_reference.type", "invalid_request"),
    ),
    (
        b'{"agent_reference":{"type":"agent_reference","name":" "}}',
        said("agent_reference.name must be a non-empty string", "agent_reference.name", "invalid_request"),
    ),
    (
        b'{"agent_reference":{"type":"agent_reference"}}',
        said("agent_reference.name must be a non-empty string", "agent_reference.name", "invalid_request"),
    ),
]


@pytest.mark.parametrize(("body", "error"), REFUSED, ids=[str(body[:40]) for body, _ in REFUSED])
async def test_a_bad_create_is_refused_before_the_agent_is_asked(body: bytes, error: dict[str, Any]) -> None:
    async with scene(HELLO) as s:
        response = await s.client.post("/responses", content=body)
        assert response.status_code == 400
        assert error_of(response) == error
        assert response.headers["x-platform-error-source"] == "user"
        assert "x-should-retry" not in response.headers
        assert s.agent.asked == []


@pytest.mark.parametrize(
    ("key", "value", "expected", "got"),
    [
        ("stream", "true", "boolean", "string"),
        ("stream", 1, "boolean", "integer"),
        ("store", [], "boolean", "array"),
        ("background", {}, "boolean", "object"),
        ("background", 0.5, "boolean", "number"),
        ("conversation", True, "string or object", "boolean"),
        ("model", 1, "string", "integer"),
        ("metadata", "x", "object", "string"),
        ("previous_response_id", 5, "string", "integer"),
        ("input", 5, "string or array", "integer"),
        ("response_id", 5, "string", "integer"),
    ],
)
async def test_a_field_of_the_wrong_type_is_named_in_the_details(
    key: str, value: object, expected: str, got: str
) -> None:
    async with scene(HELLO) as s:
        response = await s.client.post("/responses", json={key: value})
        assert response.status_code == 400
        detail = {
            "code": "invalid_value",
            "message": f"Expected {expected}, got {got}",
            "param": f"$.{key}",
            "type": "invalid_request_error",
        }
        assert error_of(response) == {**said(SCHEMA, None, "invalid_request"), "details": [detail]}
        assert s.agent.asked == []


async def test_every_wrong_type_of_a_body_is_told_at_once() -> None:
    async with scene(HELLO) as s:
        error = error_of(await s.client.post("/responses", json={"stream": 1, "store": 1, "metadata": 1}))
        assert [detail["param"] for detail in error["details"]] == ["$.stream", "$.store", "$.metadata"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"unknown": {"x": 1}},
        {"metadata": {str(number): "v" for number in range(16)}},
        {"metadata": {"k" * 64: "v" * 512}},
        {"metadata": None, "conversation": None, "model": None, "previous_response_id": None, "stream": None},
        {"agent_reference": {"type": "agent_reference", "name": "n"}},
        {"agent_reference": None},
        {"response_id": "caresp_" + "a" * 48},
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        {"conversation": {"id": "c"}},
        {"conversation": "any string"},
    ],
)
async def test_what_is_within_the_bounds_is_accepted(body: dict[str, Any]) -> None:
    async with scene(HELLO) as s:
        assert (await s.client.post("/responses", json=body)).status_code == 200


@pytest.mark.parametrize("given", ["nonsense", "caresp_short", "caresp_" + "a" * 49])
async def test_a_bad_id_in_the_header_is_refused(given: str) -> None:
    async with scene(HELLO) as s:
        response = await s.create({"x-agent-response-id": given})
        assert (response.status_code, error_of(response)) == (400, said(SHAPE, code="invalid_request"))
        assert s.agent.asked == []


async def test_a_blank_id_in_the_header_is_none() -> None:
    async with scene(HELLO) as s:
        assert (await s.create({"x-agent-response-id": ""})).json()["id"].startswith("caresp_")


async def test_the_id_in_the_header_counts_before_that_in_the_body() -> None:
    header, body = "caresp_" + "h" * 50, "caresp_" + "b" * 50
    async with scene(HELLO) as s:
        assert (await s.create({"x-agent-response-id": header}, response_id=body)).json()["id"] == header
        assert (await s.create(response_id=body)).json()["id"] == body


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_that_is_too_large_is_a_413(chunked: bool) -> None:
    async def pieces() -> Any:
        for _ in range(11):
            yield b" " * 100

    async with scene(HELLO, max_request_bytes=1000) as s:
        content = pieces() if chunked else b" " * 1001
        response = await s.client.post("/responses", content=content)
        error = said("The request body is larger than 1000 bytes.", None, "request_too_large")
        assert (response.status_code, error_of(response)) == (413, error)
        assert response.headers["x-platform-error-source"] == "user"
        assert s.agent.asked == []


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    async with scene(HELLO, max_request_bytes=1000) as s:
        body = b'{"input":"%b"}' % (b"x" * 988)
        assert len(body) == 1000
        assert (await s.client.post("/responses", content=body)).status_code == 200


@pytest.mark.parametrize("first", [{}, {"stream": True}, {"background": True}, BACKGROUND])
@pytest.mark.parametrize("second", [{}, {"stream": True}, BACKGROUND])
async def test_an_id_that_is_in_the_log_is_a_conflict_that_must_not_be_repeated(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    headers = {"x-agent-response-id": UNKNOWN}
    async with scene(HELLO) as s:
        assert (await s.create(headers, **first)).status_code == 200
        response = await s.create(headers, **second)
        assert response.status_code == 409
        assert error_of(response) == {
            "message": "An active execution or retained replay stream with this response ID already exists.",
            "type": "conflict",
            "param": "response_id",
            "code": "response_id_conflict",
        }
        assert response.headers["x-should-retry"] == "false"
        assert len(s.agent.asked) == 1


async def test_the_id_of_a_deleted_response_can_be_used_again() -> None:
    headers = {"x-agent-response-id": UNKNOWN}
    async with scene(HELLO) as s:
        await s.create(headers)
        await s.delete(UNKNOWN)
        assert (await s.create(headers)).status_code == 200


# --- ids in the path

ROUTES = [
    ("GET", ""),
    ("GET", "?stream=true"),
    ("GET", "/input_items"),
    ("POST", "/cancel"),
    ("DELETE", ""),
]


@pytest.mark.parametrize(("method", "route"), ROUTES)
async def test_an_unknown_id_is_the_same_404_on_every_route(method: str, route: str) -> None:
    async with scene(HELLO) as s:
        response = await s.client.request(method, f"/responses/{UNKNOWN}{route}")
        assert response.status_code == 404
        assert error_of(response) == said(f"Response with id '{UNKNOWN}' not found.")
        assert response.headers["x-platform-error-source"] == "user"
        assert s.agent.asked == []


@pytest.mark.parametrize(("method", "route"), ROUTES)
@pytest.mark.parametrize("given", ["nonsense", "caresp_short", "conv_" + "0" * 50, "resp_" + "x" * 200])
async def test_a_malformed_id_is_the_same_400_on_every_route(method: str, route: str, given: str) -> None:
    async with scene(HELLO) as s:
        response = await s.client.request(method, f"/responses/{given}{route}")
        error = said("Malformed identifier.", f"responseId{{{given}}}", "invalid_parameters")
        assert (response.status_code, error_of(response)) == (400, error)
        assert s.agent.asked == []


@pytest.mark.parametrize(("method", "route"), ROUTES)
async def test_a_deleted_response_is_the_ordinary_404(method: str, route: str) -> None:
    async with scene(HELLO) as s:
        response_id = (await s.create()).json()["id"]
        deleted = await s.delete(response_id)
        assert (deleted.status_code, deleted.json()) == (
            200,
            {"id": response_id, "object": "response", "deleted": True},
        )
        response = await s.client.request(method, f"/responses/{response_id}{route}")
        assert (response.status_code, error_of(response)) == (404, said(f"Response with id '{response_id}' not found."))


# --- what comes first


async def test_the_body_is_looked_at_before_ids_and_ids_before_the_schema() -> None:
    async with scene(HELLO) as s:
        both = await s.client.post("/responses", json={"stream": 1, "response_id": "bad"})
        assert error_of(both)["param"] == "response_id"
        reference = await s.client.post("/responses", json={"store": 1, "agent_reference": 1})
        assert error_of(reference)["param"] == "agent_reference"
        semantic = await s.client.post("/responses", json={"store": False, "background": True, "metadata": 5})
        assert error_of(semantic)["message"] == SCHEMA


async def test_a_content_type_is_not_asked_for() -> None:
    async with scene(HELLO) as s, dial(s.served.url) as raw:
        await raw.send(b"POST /responses HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        assert (await raw.head()).startswith(b"HTTP/1.1 200")
        await raw.rest()


async def test_a_route_below_ours_that_does_not_exist_is_a_404_in_our_shape() -> None:
    async with scene(HELLO) as s:
        for path in ("/_respool", "/_respool/nothing", "/_respool/responses/x"):
            response = await s.client.get(path)
            assert response.status_code == 404
            assert error_of(response)["code"] == "not_found"
        assert s.agent.asked == []


async def test_an_error_never_tells_of_our_insides() -> None:
    async with scene(HELLO) as s:

        async def broken(*_: object) -> None:
            raise RuntimeError("secret detail")

        s.served.store.head = broken  # type: ignore[method-assign, assignment]
        response = await s.client.get(f"/responses/{UNKNOWN}")
        assert response.status_code == 500
        assert error_of(response) == {
            "message": "internal server error",
            "type": "server_error",
            "param": None,
            "code": "server_error",
        }
        assert response.headers["x-platform-error-source"] == "platform"
        assert "secret" not in response.text


async def test_creates_are_refused_while_draining_and_reads_are_not() -> None:
    ending = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening())
        await ending.wait()
        await wire.say(*answer("x")[4:])
        await wire.end()

    async with scene(script, grace_seconds=600) as s:
        response_id = await s.created()
        drain = asyncio.create_task(s.served.app.drain())
        ready = "/_respool/ready"
        while (await s.client.get(ready)).status_code == 200:
            pass
        for content in (b"{}", b"no json"):
            response = await s.client.post("/responses", content=content)
            assert response.status_code == 503
            assert error_of(response) == {
                "message": "Server is shutting down.",
                "type": "server_error",
                "param": None,
                "code": "service_unavailable",
            }
            assert response.headers["x-platform-error-source"] == "platform"
            assert "x-should-retry" not in response.headers
        assert error_of(await s.client.get(ready))["code"] == "service_unavailable"
        assert (await s.get(response_id))["status"] == "in_progress"
        assert (await s.client.get("/_respool/health")).json() == {"status": "ok"}
        ending.set()
        await drain
        assert (await s.get(response_id))["status"] == "completed"
        assert len(s.agent.asked) == 1
