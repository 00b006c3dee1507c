"""The envelope: laid over every response object and every item, and what it does not name as it came."""

import json

import pytest

from respool.proxy.protocol.envelope import Envelope, stamp_item, stamp_response
from respool.proxy.protocol.jsons import Json, JsonObject, loads

FIELDS: JsonObject = {
    "id": "resp_ours",
    "object": "response",
    "created_at": 1700000000,
    "background": True,
    "store": True,
    "model": "asked",
    "metadata": {"a": "b"},
    "previous_response_id": "resp_previous",
    "conversation": {"id": "conv"},
    "agent_reference": {"type": "agent_reference", "name": "ref"},
    "agent_session_id": "session",
}
ENVELOPE = Envelope(FIELDS)


def stamped(response: Json, envelope: Envelope = ENVELOPE, **put: Json) -> JsonObject:
    event = {"type": "response.completed", "response": response, "more": [1, "}"]}
    data = stamp_response(json.dumps(event).encode(), event, envelope, put).data
    parsed = loads(data)
    assert {**parsed, "response": None} == {**event, "response": None}
    return dict(parsed["response"])


def test_the_envelope_is_laid_over_a_response() -> None:
    theirs: JsonObject = {
        "id": "theirs",
        "object": "x",
        "created_at": 1.5,
        "background": False,
        "store": None,
        "previous_response_id": "of theirs",
        "status": "completed",
        "output": [],
    }
    assert stamped(theirs) == {**FIELDS, "status": "completed", "output": []}


def test_what_the_agent_says_of_the_request_is_kept() -> None:
    theirs: JsonObject = {
        "model": "used",
        "metadata": {},
        "conversation": None,
        "agent_reference": None,
        "agent_session_id": "own",
        "output": [],
    }
    assert stamped(theirs) == {**FIELDS, **theirs}


def test_what_the_request_had_not_is_left_to_the_agent() -> None:
    envelope = Envelope({key: FIELDS[key] for key in ("id", "object", "created_at", "background", "store")})
    theirs: JsonObject = {"previous_response_id": "own", "usage": None, "acme": 1.0, "output": []}
    assert stamped(theirs, envelope) == {**envelope.fields, **theirs}


@pytest.mark.parametrize("response", [None, "x", [], 5])
def test_a_lifecycle_event_without_a_response_gets_one(response: Json) -> None:
    assert stamped(response, status="completed") == {**FIELDS, "status": "completed", "output": []}


def test_put_is_stronger_than_everything() -> None:
    response = stamped({"status": "completed", "output": [], "error": {}}, status="failed", error=None)
    assert (response["status"], response["error"]) == ("failed", None)


def test_the_response_id_of_azure_is_the_same_id() -> None:
    assert stamped({"response_id": "theirs", "output": []})["response_id"] == "resp_ours"
    assert "response_id" not in stamped({"output": []})


def test_the_items_of_an_output_are_stamped() -> None:
    own = {"type": "agent_reference", "name": "own"}
    items: list[Json] = [
        {"id": "a"},
        {"id": "b", "response_id": "theirs", "agent_reference": None},
        {"id": "c", "agent_reference": own},
        "no item",
    ]
    ours = {"response_id": "resp_ours", "agent_reference": FIELDS["agent_reference"]}
    assert stamped({"output": items})["output"] == [
        {"id": "a", **ours},
        {"id": "b", **ours},
        {"id": "c", **ours, "agent_reference": own},
        "no item",
    ]


def test_what_is_not_stamped_keeps_its_bytes() -> None:
    data = b'{"response": {"id": "x", "n": 1.0, "u": {"t" :12345678901234567890123}, "output":[ {"a":1e400} ]}}'
    envelope = Envelope({"id": "resp_ours"})
    assert stamp_response(data, loads(data), envelope, {}).data == (
        b'{"response": {"id": "resp_ours", "n": 1.0, "u": {"t" :12345678901234567890123}, '
        b'"output":[ {"a":1e400,"response_id":"resp_ours"} ]}}'
    )


def test_the_metadata_that_we_gave_the_agent_is_not_shown() -> None:
    hiding = Envelope(FIELDS, "response_id")
    assert stamped({"metadata": {"a": "b", "response_id": "x"}, "output": []}, hiding)["metadata"] == {"a": "b"}
    assert stamped({"metadata": {"response_id": "x"}, "output": []}, hiding)["metadata"] == {}
    assert stamped({"metadata": {"response_id": "x"}, "output": []})["metadata"] == {"response_id": "x"}


def test_metadata_without_the_hidden_key_keeps_its_bytes() -> None:
    data = b'{"response":{"id":"i","metadata":{ "n": 1.0 },"output":[]}}'
    assert stamp_response(data, loads(data), Envelope({"id": "i"}, "response_id"), {}).data == data


def test_keys_that_are_written_with_escapes_are_found() -> None:
    data = b'{"\\u0072esponse":{"i\\u0064":"x","output":[]}}'
    assert loads(stamp_response(data, loads(data), Envelope({"id": "i"}), {}).data) == {
        "response": {"id": "i", "output": []}
    }


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"id": "a"}, {"id": "a", "response_id": "resp_ours", "agent_reference": FIELDS["agent_reference"]}),
        ({"agent_reference": {"name": "own"}}, {"agent_reference": {"name": "own"}, "response_id": "resp_ours"}),
        ("no item", "no item"),
        (None, None),
    ],
)
def test_the_item_of_an_event_is_stamped(item: Json, expected: Json) -> None:
    event = {"type": "response.output_item.added", "item": item, "output_index": 0}
    assert loads(stamp_item(json.dumps(event).encode(), event, ENVELOPE)) == {**event, "item": expected}


def test_an_item_of_a_request_without_a_reference_gets_none() -> None:
    event = {"item": {"id": "a"}}
    data = stamp_item(json.dumps(event).encode(), event, Envelope({"id": "resp_ours"}))
    assert loads(data) == {"item": {"id": "a", "response_id": "resp_ours"}}
