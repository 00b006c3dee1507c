"""Text edited by its value: what an edit in the text would have done, and nothing else changed by a byte."""

import json
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respool.proxy.protocol import splice
from respool.proxy.protocol.jsons import Json, JsonObject, dumps, loads
from respool.proxy.protocol.spelling import edit, spelled_as

SPELLINGS: dict[str, Callable[[Json], str]] = {
    "spaced, escaped": json.dumps,
    "spaced": partial(json.dumps, ensure_ascii=False),
    "compact, escaped": partial(json.dumps, separators=(",", ":")),
    "compact": partial(json.dumps, ensure_ascii=False, separators=(",", ":")),
}

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from(["", "a: b", "é", "\n", "𝄞", '"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "é", "b:"]), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(["a", "type", "é", 'x"']), values, max_size=4)
changes = st.dictionaries(st.sampled_from(["a", "type", "response"]), values, max_size=3)


@given(objects, st.sampled_from(sorted(SPELLINGS)))
def test_what_an_encoder_wrote_is_written_again_as_it_was(value: JsonObject, spelling: str) -> None:
    text = SPELLINGS[spelling](value).encode()
    assert spelled_as(text, value, value) == [text]


@given(objects, changes, st.sampled_from(sorted(SPELLINGS)))
def test_an_edit_by_value_says_what_an_edit_in_the_text_says(value: JsonObject, put: JsonObject, spelling: str) -> None:
    text = SPELLINGS[spelling](value).encode()
    edited = edit(text, value, put)
    assert list(loads(edited).items()) == list({**value, **put}.items())
    assert loads(edited) == loads(splice.edit(text, put={key: dumps(new) for key, new in put.items()}))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1.50}',
        b'{"a":1e5}',
        b'{"a": 1, "a": 2}',
        b'{"a" : 1}',
        b'{"a": 1,"b": 2}',
        b'{ "a": 1}',
        b'{"a": "\\/"}',
        b'{"a": "\\u00E9"}',
        b'{"a":1e400}',
    ],
)
def test_text_of_no_known_encoder_is_edited_in_place(text: bytes) -> None:
    assert spelled_as(text, loads(text)) is None
    assert edit(text, loads(text), {"z": [1]}) == text[:-1] + b',"z":[1]}'


@pytest.mark.parametrize("value", [2**64, "\ud800"])
def test_what_the_writer_of_a_text_cannot_write_is_put_in_all_the_same(value: Json) -> None:
    for text in (b'{"a":"\xc3\xa9"}', b'{"a": "\xc3\xa9"}'):
        assert loads(edit(text, loads(text), {"b": value})) == {"a": "é", "b": value}
