"""The body of a create: what is refused, in which words and order; what of it the agent and the objects get."""

import json
from collections.abc import Callable

import pytest

from respool.proxy.protocol import body as bodies
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.jsons import Json, JsonObject

INVALID = "invalid_request_error"
ID = "caresp_" + "0" * 50


def refusal(call: Callable[[], object]) -> WireError:
    with pytest.raises(WireError) as caught:
        call()
    assert (caught.value.http_status, caught.value.kind, caught.value.source) == (400, INVALID, "user")
    return caught.value


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        (b"", INVALID, "Expecting value: line 1 column 1 (char 0)"),
        (b"x", INVALID, "Expecting value: line 1 column 1 (char 0)"),
        (b'{"a":1', INVALID, "Expecting ',' delimiter: line 1 column 7 (char 6)"),
        (b"{a:1}", INVALID, "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b'{"a":"\xff"}', INVALID, "The request body is not valid UTF-8."),
        (b'{"a":NaN}', INVALID, "The request body is not valid JSON."),
        (b"[]", "invalid_request", "request body must be a JSON object"),
        (b'"x"', "invalid_request", "request body must be a JSON object"),
        (b"null", "invalid_request", "request body must be a JSON object"),
    ],
)
def test_what_is_no_json_object_is_refused(raw: bytes, code: str, message: str) -> None:
    error = refusal(lambda: bodies.parse(raw))
    assert (error.code, error.param, error.message) == (code, None, message)


def test_more_values_than_can_be_read_in_time_are_refused() -> None:
    listed, named = b'{"input":[' + b"[]," * 1_000_000 + b"0]}", b"{" + b'"a":0,' * 1_000_000 + b'"b":0}'
    for body in (listed, named, b"[" * 1_000_001):
        with pytest.raises(WireError, match="at most 1000000 values"):
            bodies.parse(body)
    strings = b'{"input":' + json.dumps(json.dumps(["\\", [1, 2]] * 300_000)).encode() + b"}"
    assert len(bodies.parse(strings)["input"]) > 1_000_000


def test_nesting_without_end_is_refused() -> None:
    assert refusal(lambda: bodies.parse(b'{"input":' + b"[" * 100_000)).code == INVALID


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": "x", "unknown": {"a": [1]}, "tools": None},
        {"store": None, "stream": None, "background": None, "metadata": None, "conversation": None, "input": None},
        {"conversation": "c", "previous_response_id": ID},
        {"conversation": {"id": "c"}},
        {"conversation": {}},
        {"metadata": {f"k{at}": "v" for at in range(16)}},
        {"metadata": {"k" * 64: "v" * 512, "n": 1}},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        {"stream": True, "stream_options": None},
        {"response_id": ID},
        {"agent_reference": {"name": "a"}},
        {"agent_reference": {"type": "agent_reference", "name": "a", "version": "1"}},
    ],
)
def test_a_body_that_is_taken(body: JsonObject) -> None:
    bodies.check(body)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("stream", "true", "Expected boolean, got string"),
        ("stream", 1, "Expected boolean, got integer"),
        ("store", 0.5, "Expected boolean, got number"),
        ("background", [], "Expected boolean, got array"),
        ("conversation", 5, "Expected string or object, got integer"),
        ("model", {}, "Expected string, got object"),
        ("metadata", "x", "Expected object, got string"),
        ("stream_options", True, "Expected object, got boolean"),
        ("previous_response_id", 5, "Expected string, got integer"),
        ("input", 5, "Expected string or array, got integer"),
        ("response_id", 5, "Expected string, got integer"),
    ],
)
def test_a_wrong_type_fails_the_schema(key: str, value: Json, message: str) -> None:
    error = refusal(lambda: bodies.check({key: value}))
    assert (error.code, error.param) == ("invalid_request", None)
    assert error.message == "request body failed schema validation"
    assert error.details == [{"code": "invalid_value", "message": message, "param": f"$.{key}", "type": INVALID}]


def test_all_wrong_types_are_told_at_once() -> None:
    error = refusal(lambda: bodies.check({"store": "x", "stream": "x", "input": {}}))
    assert [detail["param"] for detail in error.details or []] == ["$.stream", "$.store", "$.input"]


SHAPE = "response_id must be in format caresp_<18-char partition key><32-char alphanumeric entropy>"


@pytest.mark.parametrize(
    ("body", "code", "param", "message"),
    [
        ({"response_id": "resp_1"}, "invalid_request", "response_id", SHAPE),
        ({"agent_reference": "a"}, "invalid_request", "agent_reference", "agent_reference must be an object"),
        ({"agent_reference": []}, "invalid_request", "agent_reference", "agent_reference must be an object"),
        (
            {"agent_reference": {"type": "x", "name": "a"}},
            *("invalid_request", "agent_reference.type", "agent_reference.type must be 'agent_reference'"),
        ),
        *(
            (
                {"agent_reference": reference},
                "invalid_request",
                "agent_reference.name",
                "agent_reference.name must be a non-empty string",
            )
            for reference in ({}, {"name": ""}, {"name": "  "}, {"name": 5})
        ),
        ({"stream_options": {}}, "invalid_mode", "stream", "stream_options requires stream=true"),
        ({"stream_options": {}, "stream": False}, "invalid_mode", "stream", "stream_options requires stream=true"),
        (
            {"metadata": {f"k{at}": "v" for at in range(17)}},
            *("invalid_request", "metadata", "metadata must have at most 16 key-value pairs"),
        ),
        (
            {"metadata": {"k" * 65: "v"}},
            *("invalid_request", "metadata", "metadata keys must be at most 64 characters"),
        ),
        (
            {"metadata": {"k": "v" * 513}},
            *("invalid_request", "metadata", "metadata values must be at most 512 characters"),
        ),
        ({"conversation": "\ud800"}, "invalid_request", "conversation", "conversation is not valid Unicode"),
        ({"conversation": {"id": "\ud800"}}, "invalid_request", "conversation", "conversation is not valid Unicode"),
        (
            {"previous_response_id": "\ud800"},
            *("invalid_request", "previous_response_id", "previous_response_id is not valid Unicode"),
        ),
    ],
)
def test_a_body_that_is_refused(body: JsonObject, code: str, param: str, message: str) -> None:
    error = refusal(lambda: bodies.check(body))
    assert (error.code, error.param, error.message, error.details) == (code, param, message, None)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"response_id": "x", "agent_reference": 5, "stream": "x"}, "response_id"),
        ({"agent_reference": 5, "stream": "x", "stream_options": {}}, "agent_reference"),
        ({"stream": "x", "metadata": {"k": "v" * 513}}, None),
        ({"stream_options": {}, "metadata": {"k": "v" * 513}}, "stream"),
    ],
)
def test_of_several_faults_identity_comes_first_then_types_then_sense(body: JsonObject, told: str | None) -> None:
    assert refusal(lambda: bodies.check(body)).param == told


@pytest.mark.parametrize(
    ("body", "conversation"),
    [
        ({"conversation": "c"}, "c"),
        ({"conversation": {"id": "c", "more": 1}}, "c"),
        ({"conversation": {}}, None),
        ({"conversation": {"id": 5}}, None),
        ({"conversation": None}, None),
        ({}, None),
    ],
)
def test_the_conversation_comes_as_text_or_as_an_object(body: JsonObject, conversation: str | None) -> None:
    assert bodies.conversation_id(body) == conversation


def test_an_object_carries_of_the_request_what_was_given() -> None:
    given = {
        "model": "m",
        "metadata": {"a": "b"},
        "previous_response_id": ID,
        "agent_reference": {"name": "a"},
        "agent_session_id": "s",
    }
    rest = {"input": "x", "tools": [], "instructions": "i", "stream": True}
    expected = {**given, "conversation": {"id": "c"}}
    assert bodies.envelope_fields({**given, **rest, "conversation": "c"}) == expected
    assert bodies.envelope_fields({**given, **rest, "conversation": {"id": "c", "x": 1}}) == expected
    assert bodies.envelope_fields({"model": None, "metadata": None, "conversation": None}) == {}


# What the agent gets.


def sent(raw: str, **change: Json) -> str:
    plain: JsonObject = {"stream": True, "previous_id": None, "model": None, "metadata_id": None}
    return bodies.for_agent(raw.encode(), json.loads(raw), **{**plain, **change}).decode()


@pytest.mark.parametrize(
    ("raw", "change", "expected"),
    [
        ('{"input":"x"}', {}, '{"input":"x","stream":true}'),
        ('{"input":"x","stream":true}', {}, '{"input":"x","stream":true}'),
        ('{"stream": false, "input":"x"}', {}, '{"stream": true, "input":"x"}'),
        ('{"input":"x","stream":false}', {"stream": False}, '{"input":"x","stream":false}'),
        ('{"input":"x"}', {"stream": False}, '{"input":"x"}'),
        ('{"background":true, "input":"x","stream":true}', {}, '{"input":"x","stream":true}'),
        ('{"background":false,"stream":null}', {}, '{"stream":true}'),
        ('{"temperature": 1.0,"n":12345678901234567890123}', {"stream": False}, None),
        ('{"store":false, "unknown" :[1 ,2]}', {"stream": False}, None),
        (
            '{"previous_response_id":"ours"}',
            {"previous_id": "theirs"},
            '{"previous_response_id":"theirs","stream":true}',
        ),
        ('{"previous_response_id":"ours"}', {}, '{"previous_response_id":"ours","stream":true}'),
        ('{"model":"m"}', {"model": "d"}, '{"model":"m","stream":true}'),
        ('{"model":""}', {"model": "d"}, '{"model":"d","stream":true}'),
        ('{"model":null}', {"model": "d"}, '{"model":"d","stream":true}'),
        ("{}", {"model": "d"}, '{"stream":true,"model":"d"}'),
        ("{}", {"metadata_id": "r"}, '{"stream":true,"metadata":{"response_id":"r"}}'),
        ('{"metadata":null}', {"metadata_id": "r"}, '{"metadata":{"response_id":"r"},"stream":true}'),
        ('{"metadata":null}', {}, '{"metadata":null,"stream":true}'),
        ('{"metadata":{"a":"b"}}', {"metadata_id": "r"}, '{"metadata":{"a":"b","response_id":"r"},"stream":true}'),
        ('{"metadata":{"response_id":"c"}}', {"metadata_id": "r"}, '{"metadata":{"response_id":"c"},"stream":true}'),
    ],
)
def test_the_body_for_the_agent(raw: str, change: JsonObject, expected: str | None) -> None:
    assert sent(raw, **change) == (raw if expected is None else expected)
