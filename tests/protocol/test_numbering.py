"""The number of an event: in its place, and every other byte as it came."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respool.proxy.protocol.events import BadEvent
from respool.proxy.protocol.jsons import JsonObject, loads
from respool.proxy.protocol.numbering import renumber, renumber_unparsed
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
    assert renumber_unparsed(DELTA, text, 5) == renumber(DELTA, text, 5)


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


def test_of_a_number_that_an_agent_repeats_the_one_that_counts_is_ours() -> None:
    for data in (
        b'{"sequence_number":1,"type":"response.x","sequence_number":2,"delta":"y"}',
        b'{"type":"response.x","sequence_number":1,"delta":"y","sequence_number":2}',
        b'{"sequence_number":1,"type":"response.x","delta":"y","seq\\u0075ence_number":2}',
    ):
        assert loads(renumber(b"response.x", data, 7))["sequence_number"] == 7
