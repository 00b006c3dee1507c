"""A JSON answer turned into a stream: the stream says the same, in whatever way it is read."""

import pytest

from respool.proxy.protocol.accumulator import Accumulator
from respool.proxy.protocol.jsons import Json, JsonObject, loads
from respool.proxy.protocol.unfold import is_response, unfold
from tests.protocol.strict import read_strictly

TEXT = {"type": "output_text", "text": "Hello, Åsa 👋", "annotations": [{"type": "url_citation", "url": "u"}]}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [TEXT]}
REFUSAL = {**MESSAGE, "id": "msg_2", "content": [{"type": "refusal", "refusal": "No."}, TEXT]}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "status": "completed",
    "call_id": "c1",
    "name": "f",
    "arguments": '{"a": 1}',
}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Because."}],
    "content": [{"type": "reasoning_text", "text": "Hm."}],
}
OTHER = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "q"}}
UNKNOWN = {"type": "acme_thing", "acme": [1, None, {"x": 1.5}]}
CUT_OFF = {**MESSAGE, "id": "msg_3", "status": "incomplete"}

OUTPUTS: dict[str, list[JsonObject]] = {
    "nothing": [],
    "a message": [MESSAGE],
    "a refusal and text in one message": [REFUSAL],
    "an empty message": [{**MESSAGE, "content": []}],
    "empty text": [{**MESSAGE, "content": [{"type": "output_text", "text": "", "annotations": []}]}],
    "a part of an unknown type": [{**MESSAGE, "content": [{"type": "acme", "data": "x"}]}],
    "a call": [CALL],
    "a call without arguments": [{**CALL, "arguments": ""}],
    "reasoning": [REASONING],
    "a call of a hosted tool": [OTHER],
    "an item of an unknown type": [UNKNOWN],
    "a message without a status": [{key: value for key, value in MESSAGE.items() if key != "status"}],
    "a message that was cut off": [CUT_OFF],
    "one of each": [REASONING, CALL, OTHER, MESSAGE, REFUSAL, UNKNOWN],
}


def response(output: Json, **fields: Json) -> JsonObject:
    return {"id": "resp_1", "object": "response", "status": "completed", "output": output, "extra": None, **fields}


def events(value: JsonObject) -> list[JsonObject]:
    found = [(name, loads(data)) for name, data in unfold(value)]
    assert all(name.decode() == event["type"] for name, event in found)
    return [event for _, event in found]


def fold(given: list[JsonObject]) -> JsonObject:
    accumulator = Accumulator({})
    for event in given:
        accumulator.add(event)
    return accumulator.snapshot()


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_fold_of_the_stream_is_the_response(name: str) -> None:
    value = response(OUTPUTS[name])
    assert fold(events(value)) == value


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_events_alone_say_the_whole_output(name: str) -> None:
    assert fold(events(response(OUTPUTS[name]))[:-1])["output"] == OUTPUTS[name]


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_deltas_say_all_the_text(name: str) -> None:
    said = [event["delta"] for event in events(response(OUTPUTS[name])) if event["type"].endswith(".delta")]
    parts = [part for item in OUTPUTS[name] if item["type"] == "message" for part in item["content"]]
    texts = [part.get("text", part.get("refusal")) for part in parts]
    calls = [item["arguments"] for item in OUTPUTS[name] if item["type"] == "function_call"]
    assert sorted(said) == sorted(text for text in [*texts, *calls] if text is not None)


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_strict_client_reads_it(name: str) -> None:
    read_strictly(events(response(OUTPUTS[name])))


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"status": "completed"}, "completed"),
        ({"status": "failed", "error": {"code": "c", "message": "m"}}, "failed"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "incomplete"),
        ({"status": "cancelled"}, "failed"),
        ({"status": None}, "completed"),
        ({"status": None, "error": {"code": "c", "message": "m"}}, "failed"),
    ],
)
def test_the_end_is_that_of_the_response(fields: JsonObject, end: str) -> None:
    value = response([MESSAGE], **fields)
    stream = events(value)
    assert stream[-1] == {"type": f"response.{end}", "response": value}
    assert [event["type"] for event in stream[:2]] == ["response.created", "response.in_progress"]
    assert all(event["response"]["status"] == "in_progress" for event in stream[:2])
    assert all(event["response"]["output"] == [] for event in stream[:2])


@pytest.mark.parametrize("output", [None, "text", {}, ["text", None, 5]])
def test_an_output_without_items_has_no_items(output: Json) -> None:
    assert [event["type"] for event in events(response(output))] == [
        *("response.created", "response.in_progress", "response.completed")
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"object": "response"}, True),
        ({"object": "response", "status": "failed", "error": {"code": "c", "message": "m"}}, True),
        ({"output": []}, True),
        ({"output": [MESSAGE], "id": "x"}, True),
        ({"code": "server_error", "message": "boom"}, False),
        ({"error": {"message": "boom"}}, False),
        ({"object": "chat.completion", "choices": []}, False),
        ({"output": "text"}, False),
        ({"output": None}, False),
        ({}, False),
    ],
)
def test_what_is_a_response_object(value: JsonObject, expected: bool) -> None:
    assert is_response(value) is expected
