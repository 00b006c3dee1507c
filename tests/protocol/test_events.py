"""One event: numbered and stamped where it must be, and every other byte as it came."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respool.proxy.protocol import events
from respool.proxy.protocol.events import BadEvent, Envelope, renumber
from respool.proxy.protocol.jsons import Json, JsonObject, loads
from respool.store.status import Status
from tests.protocol import recorded

DELTA = b"response.output_text.delta"
NUMBER = re.compile(rb'"sequence_number": ?(\d+)')

LIVELY = [name for name in recorded.STREAMS if "burst" not in name]


@pytest.mark.parametrize("name", LIVELY)
def test_a_recorded_event_changes_in_its_number_alone(name: str) -> None:
    for kind, data in recorded.messages(name):
        parsed = loads(data)
        renumbered = renumber(kind, data, 4711)
        assert loads(renumbered) == {**parsed, "type": kind.decode(), "sequence_number": 4711}
        if "sequence_number" in parsed:
            assert NUMBER.sub(b"N", renumbered) == NUMBER.sub(b"N", data)
            assert renumber(kind, data, parsed["sequence_number"]) is data
        else:
            assert data[1:-1] in renumbered


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # The number stands first, last, in the middle, or not at all; so does the type.
        ('{"sequence_number": 7, "delta": "x", "type": "T"}', '{"sequence_number": 5, "delta": "x", "type": "T"}'),
        ('{"sequence_number":7,"delta":"x","type":"T"}', '{"sequence_number":5,"delta":"x","type":"T"}'),
        ('{"type":"T","sequence_number":7,"delta":"x"}', '{"type":"T","sequence_number":5,"delta":"x"}'),
        ('{ "type" : "T" , "sequence_number" : 7 }', '{ "type" : "T" , "sequence_number" : 5 }'),
        ('{"type":"T","delta":"x","sequence_number":7}', '{"type":"T","delta":"x","sequence_number":5}'),
        ('{"type": "T", "delta": "x", "sequence_number": 7}', '{"type": "T", "delta": "x", "sequence_number": 5}'),
        ('{"delta":"x","sequence_number":7,"type":"T"}', '{"delta":"x","sequence_number":5,"type":"T"}'),
        ('{"delta":"x","sequence_number":7,"a":1,"type":"T"}', '{"delta":"x","sequence_number":5,"a":1,"type":"T"}'),
        ('{"delta":"x","type":"T","sequence_number":7} ', '{"delta":"x","type":"T","sequence_number":5} '),
        ('{"delta":"x","type":"T"}', '{"sequence_number":5,"delta":"x","type":"T"}'),
        ('{"type":"T","delta":"x"}', '{"type":"T","delta":"x","sequence_number":5}'),
        ('{"type":"T"}', '{"type":"T","sequence_number":5}'),
        ('{"delta":"x"}', '{"delta":"x","type":"T","sequence_number":5}'),
        ("{}", '{"type":"T","sequence_number":5}'),
        # The name is right, the type is not.
        ('{"type":"U","sequence_number":7}', '{"type":"T","sequence_number":5}'),
        ('{"sequence_number":5,"a":1,"type":"U"}', '{"sequence_number":5,"a":1,"type":"T"}'),
        ('{"type":null,"sequence_number":5}', '{"type":"T","sequence_number":5}'),
        ('{"type":"TT","sequence_number":5}', '{"type":"T","sequence_number":5}'),
        # The number is none.
        ('{"type":"T","sequence_number":-1}', '{"type":"T","sequence_number":5}'),
        ('{"type":"T","sequence_number":7.5,"a":1}', '{"type":"T","sequence_number":5,"a":1}'),
        ('{"type":"T","sequence_number":"7"}', '{"type":"T","sequence_number":5}'),
        ('{"type":"T","sequence_number":null}', '{"type":"T","sequence_number":5}'),
        ('{"type":"T","sequence_number":7e0}', '{"type":"T","sequence_number":5}'),
        ('{"type":"T","sequence_number":[7]}', '{"type":"T","sequence_number":5}'),
        # What looks like the number or the type, and is not at the top level.
        (
            '{"type":"T","sequence_number":7,"x":{"sequence_number":7,"type":"U"}}',
            '{"type":"T","sequence_number":5,"x":{"sequence_number":7,"type":"U"}}',
        ),
        (
            '{"x":{"sequence_number":7,"type":"T"}}',
            '{"x":{"sequence_number":7,"type":"T"},"type":"T","sequence_number":5}',
        ),
        (
            '{"x":[{"a":1,"sequence_number":7}],"type":"T"}',
            '{"x":[{"a":1,"sequence_number":7}],"type":"T","sequence_number":5}',
        ),
        (
            '{"sequence_number":7,"x":{"type":"T"}}',
            '{"sequence_number":5,"x":{"type":"T"},"type":"T"}',
        ),
        (
            '{"sequence_number":7,"x":1,"a\\"type":"T"}',
            '{"sequence_number":5,"x":1,"a\\"type":"T","type":"T"}',
        ),
        (
            r'{"type":"T","delta":"\"sequence_number\": 7","sequence_number":7}',
            r'{"type":"T","delta":"\"sequence_number\": 7","sequence_number":5}',
        ),
        (
            r'{"type":"T","delta":"{\"type\":\"T\",\"sequence_number\": 7"}',
            r'{"type":"T","delta":"{\"type\":\"T\",\"sequence_number\": 7","sequence_number":5}',
        ),
        (
            r'{"delta":", \"sequence_number\": 7}","type":"T"}',
            r'{"sequence_number":5,"delta":", \"sequence_number\": 7}","type":"T"}',
        ),
        (
            r'{"type":"T","delta":",\"sequence_number\":7}"}',
            r'{"type":"T","delta":",\"sequence_number\":7}","sequence_number":5}',
        ),
        # Repeated: parsers take the last.
        ('{"a":1,"type":"U","type":"T","x":2}', '{"a":1,"type":"T","x":2,"sequence_number":5}'),
    ],
)
def test_the_number_and_the_type_are_set_in_place(data: str, expected: str) -> None:
    renumbered = renumber(DELTA, data.replace('"T"', f'"{DELTA.decode()}"').encode(), 5)
    assert renumbered == expected.replace('"T"', f'"{DELTA.decode()}"').encode()


@pytest.mark.parametrize("data", ['{"sequence_number":5,"a":1,"type":"T"}', '{"type":"T","a":{},"sequence_number":5}'])
def test_what_is_right_already_is_the_very_same(data: str) -> None:
    text = data.replace('"T"', f'"{DELTA.decode()}"').encode()
    assert renumber(DELTA, text, 5) is text


@pytest.mark.parametrize(
    "data",
    [
        '{"sequence_number":7,"a":1,"type":"T"}',
        '{"type": "T", "sequence_number": 7, "a": 1}',
        '{"type":"T","a":1,"sequence_number":7}',
        '{"a":1,"sequence_number":7,"type":"T"}',
        '{"a":1,"type":"T"}',
        '{"type":"T","a":1}',
        '{"type": "T", "a": 1}',
    ],
)
def test_a_delta_in_any_of_the_usual_forms_is_not_parsed(data: str) -> None:
    text = data.replace('"T"', f'"{DELTA.decode()}"').encode()
    assert events.renumber_unparsed(DELTA, text, 5) == renumber(DELTA, text, 5)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "\x01", "é", "a b"])
def test_any_name_becomes_a_type(name: str) -> None:
    assert loads(renumber(name.encode(), b'{"type":"x"}', 0)) == {"type": name, "sequence_number": 0}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"null", b'"x"', b"x", b"{", b'{"a":1', b'{"a":1} x', b'{"a":"b}', b'{"type":"T"'),
        *(b'{"type":"T","sequence_number":7,"a":"b', b'{"sequence_number":7,"a":"b","type":"T"'),
        b'{"type":"T","sequence_number":5,"a":"b',
    ],
)
def test_what_is_no_json_object_is_a_bad_event(data: bytes) -> None:
    with pytest.raises(BadEvent, match="not a JSON object"):
        renumber(b"T", data, 5)


KEYS = st.sampled_from(["type", "sequence_number", "delta", "x"]) | st.text(max_size=4)
TEXTS = st.sampled_from(['"sequence_number": 5', '","sequence_number":5}', "T", "U", '\\"', "}"]) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(st.tuples(KEYS, VALUES), max_size=5).map(dict),
    st.sampled_from([None, (",", ":"), (", ", ": "), (" ,", " :\t")]),
    st.sampled_from(["T", "response.output_text.delta"]),
    st.integers(0, 10**9),
)
def test_any_object_keeps_its_members_and_has_type_and_number(
    given: JsonObject, separators: tuple[str, str] | None, name: str, seq: int
) -> None:
    data = json.dumps(given, separators=separators, indent=None if separators else 1).encode()
    renumbered = renumber(name.encode(), data, seq)
    assert json.loads(renumbered) == {**given, "type": name, "sequence_number": seq}
    again = renumber(name.encode(), renumbered, seq)
    assert again == renumbered


# The envelope.

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
    data = events.stamp_response(json.dumps(event).encode(), event, envelope, put).data
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
    assert events.stamp_response(data, loads(data), envelope, {}).data == (
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
    assert events.stamp_response(data, loads(data), Envelope({"id": "i"}, "response_id"), {}).data == data


def test_keys_that_are_written_with_escapes_are_found() -> None:
    data = b'{"\\u0072esponse":{"i\\u0064":"x","output":[]}}'
    assert loads(events.stamp_response(data, loads(data), Envelope({"id": "i"}), {}).data) == {
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
    assert loads(events.stamp_item(json.dumps(event).encode(), event, ENVELOPE)) == {**event, "item": expected}


def test_an_item_of_a_request_without_a_reference_gets_none() -> None:
    event = {"item": {"id": "a"}}
    data = events.stamp_item(json.dumps(event).encode(), event, Envelope({"id": "resp_ours"}))
    assert loads(data) == {"item": {"id": "a", "response_id": "resp_ours"}}


# Events of our own.


def test_a_lifecycle_event_of_ours() -> None:
    response = ENVELOPE.snapshot(Status.IN_PROGRESS)
    assert response == {**FIELDS, "status": "in_progress", "error": None, "output": []}
    assert loads(events.lifecycle(events.CREATED, response, 0)) == {
        "type": "response.created",
        "sequence_number": 0,
        "response": response,
    }


def test_an_error_event_is_flat() -> None:
    assert loads(events.error_event("c", "m", None, 3)) == {
        "type": "error",
        "code": "c",
        "message": "m",
        "param": None,
        "sequence_number": 3,
    }


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.CANCELLED])
def test_a_status_has_an_event_and_the_event_that_status(status: Status) -> None:
    assert events.name_of(status) == f"response.{status}".encode()
    assert events.status_of(events.name_of(status)) is status


def test_a_cancel_is_told_as_a_failure() -> None:
    assert events.name_of(Status.CANCELLED) == b"response.failed"


def test_the_response_of_an_event_is_cut_out_as_it_stands() -> None:
    assert events.response_of(b'{"a": {"response": 1}, "response" : { "x":1.0 }, "b":2}') == b'{ "x":1.0 }'


@pytest.mark.parametrize("data", [b"", b"[]", b"[DONE]", b"{", b"5"])
def test_only_an_object_is_parsed(data: bytes) -> None:
    with pytest.raises(BadEvent):
        events.parse(data)


def test_of_a_number_that_an_agent_repeats_the_one_that_counts_is_ours() -> None:
    for data in (
        b'{"sequence_number":1,"type":"response.x","sequence_number":2,"delta":"y"}',
        b'{"type":"response.x","sequence_number":1,"delta":"y","sequence_number":2}',
        b'{"sequence_number":1,"type":"response.x","delta":"y","seq\\u0075ence_number":2}',
    ):
        assert loads(renumber(b"response.x", data, 7))["sequence_number"] == 7
