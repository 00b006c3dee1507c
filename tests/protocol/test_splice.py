"""Edits of JSON text: what a dict would have done, and every other byte as it was."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respool.proxy.protocol import splice
from respool.proxy.protocol.jsons import Json, JsonObject
from respool.proxy.protocol.splice import edit


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        ("{}", {"put": {"a": b"1"}}, '{"a":1}'),
        ("{ }", {"put": {"a": b"1"}}, '{ "a":1}'),
        ('{"a":1}', {"put": {"b": b"2"}}, '{"a":1,"b":2}'),
        ('{"a" : 1 }', {"put": {"b": b"2"}}, '{"a" : 1 ,"b":2}'),
        ('{"b":1,"a":0}', {"put": {"b": b"[2]"}}, '{"b":[2],"a":0}'),
        ('{"a":0,"b":1}', {"put": {"b": b"2", "c": b"3"}}, '{"a":0,"b":2,"c":3}'),
        ('{"a":1}', {"default": {"a": b"2"}}, '{"a":1}'),
        ('{"a":null}', {"default": {"a": b"2"}}, '{"a":null}'),
        ('{"a":1}', {"default": {"b": b"2"}, "put": {"c": b"3"}}, '{"a":1,"b":2,"c":3}'),
        ("{}", {"default": {"a": b"1"}, "put": {"a": b"2"}}, '{"a":2}'),
        ('{"a":1}', {"drop": ("a",)}, "{}"),
        ('{"a":1}', {"drop": ("b",)}, '{"a":1}'),
        ('{"a":1, "b":2, "c":3}', {"drop": ("a",)}, '{"b":2, "c":3}'),
        ('{"a":1, "b":2, "c":3}', {"drop": ("b",)}, '{"a":1, "c":3}'),
        ('{"a":1, "b":2, "c":3}', {"drop": ("c",)}, '{"a":1, "b":2}'),
        ('{"a":1, "b":2, "c":3}', {"drop": ("a", "b")}, '{"c":3}'),
        ('{"a":1, "b":2, "c":3}', {"drop": ("b", "c")}, '{"a":1}'),
        ('{"a":1, "b":2, "c":3}', {"drop": ("a", "c")}, '{"b":2}'),
        ('{"a":1, "b":2}', {"drop": ("a", "b"), "put": {"c": b"3"}}, '{"c":3}'),
        ('{"a":1, "b":2}', {"drop": ("a",), "put": {"b": b"3"}}, '{"b":3}'),
        ('{"a":{"b":1},"b":[{"b":2}]}', {"put": {"b": b"3"}}, '{"a":{"b":1},"b":3}'),
        ('{"x":"\\"a\\":1,","a":1}', {"put": {"a": b"2"}}, '{"x":"\\"a\\":1,","a":2}'),
        ('{"x":"}]","y":"\\\\","a":"{["}', {"put": {"a": b"2"}}, '{"x":"}]","y":"\\\\","a":2}'),
        ('{"\\u0061":1,"b":2}', {"put": {"a": b"3"}}, '{"\\u0061":3,"b":2}'),
        ('{"b":2,"\\u0061":1}', {"drop": ("a",)}, '{"b":2}'),
        ('{"\\u0061":1}', {"default": {"a": b"3"}}, '{"\\u0061":1}'),
    ],
)
def test_an_edit(text: str, change: dict[str, Json], expected: str) -> None:
    assert edit(text.encode(), **change) == expected.encode()


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        ('{"a":1,"b":2,"a":3}', {"put": {"a": b"4"}}, '{"b":2,"a":4}'),
        ('{"a":1,"a":2,"a":3}', {"put": {"a": b"3"}}, '{"a":3}'),
        ('{"a":1,"b":2,"a":3}', {"drop": ("a",)}, '{"b":2}'),
        ('{"a":1,"b":2,"a":3}', {"drop": ("b",)}, '{"a":1,"a":3}'),
        ('{"a":1,"a":3}', {"default": {"a": b"4"}}, '{"a":1,"a":3}'),
        ('{"a":1,"\\u0061":3}', {"put": {"a": b"4"}}, '{"\\u0061":4}'),
    ],
)
def test_of_a_repeated_key_the_last_one_counts(text: str, change: dict[str, Json], expected: str) -> None:
    assert edit(text.encode(), **change) == expected.encode()


@pytest.mark.parametrize("number", ["1.0", "1e400", "-0", "12345678901234567890123", "0.1000", "1E+2", "-1.50e-07"])
def test_numbers_keep_their_format(number: str) -> None:
    text = f'{{"stream": false, "n": {number}, "l": [{number}]}}'
    assert edit(text.encode(), put={"stream": b"true"}) == text.replace("false", "true").encode()


def test_nothing_to_change_gives_back_the_very_same_bytes() -> None:
    text = b'{ "a" : [1, 2] }'
    assert edit(text, put={"a": b"[1, 2]"}, default={"a": b"0"}, drop=("b",)) is text


keys = st.sampled_from(["a", "b", "type", "input"]) | st.text(max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(keys, values, max_size=5)
plain_keys = st.sampled_from(["a", "b", "c", "type", "input"])
SPACINGS: list[Callable[[Json], str]] = [
    json.dumps,
    lambda value: json.dumps(value, separators=(",", ":")),
    lambda value: json.dumps(value, separators=(" ,\t", " :\r\n ")),
    lambda value: json.dumps(value, indent=2),
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode(),
]
spacings = st.sampled_from(SPACINGS)


@settings(max_examples=50)
@given(
    objects,
    spacings,
    st.dictionaries(plain_keys, values, max_size=3),
    st.dictionaries(plain_keys, values, max_size=3),
    st.sets(plain_keys, max_size=2),
)
def test_an_edit_does_what_a_dict_does(
    given: JsonObject, spaced: Callable[[Json], str], put: JsonObject, default: JsonObject, drop: set[str]
) -> None:
    drop -= {*put, *default}
    text = spaced(given)
    expected = {key: value for key, value in {**default, **json.loads(text), **put}.items() if key not in drop}
    edited = edit(
        text.encode(),
        put={key: json.dumps(value).encode() for key, value in put.items()},
        default={key: json.dumps(value).encode() for key, value in default.items()},
        drop=drop,
    )
    assert json.loads(edited) == expected
    survivors = [key for key in json.loads(text) if key not in drop]
    assert list(json.loads(edited))[: len(survivors)] == survivors


@settings(max_examples=50)
@given(objects, spacings, values)
def test_what_is_not_touched_keeps_its_bytes(given: JsonObject, spaced: Callable[[Json], str], value: Json) -> None:
    given["mine"] = 0
    text, new = spaced(given).encode(), json.dumps(value).encode()
    at = splice.members(text)[list(given).index("mine")].value
    assert edit(text, put={"mine": new}) == text[: at.start] + new + text[at.end :]


@settings(max_examples=50)
@given(objects, spacings)
def test_members_are_the_keys_and_values_in_order(given: JsonObject, spaced: Callable[[Json], str]) -> None:
    text = spaced(given).encode()
    found = [(member.key, json.loads(text[slice(*member.value)])) for member in splice.members(text)]
    assert found == list(json.loads(text).items())


@settings(max_examples=50)
@given(st.lists(values, max_size=4), spacings)
def test_elements_are_the_values_in_order(given: list[Json], spaced: Callable[[Json], str]) -> None:
    text = spaced(given).encode()
    assert [json.loads(text[start:end]) for start, end in splice.elements(text)] == json.loads(text)


@settings(max_examples=50)
@given(objects, spacings, st.data())
def test_a_torn_object_is_a_value_error(given: JsonObject, spaced: Callable[[Json], str], data: st.DataObject) -> None:
    text = spaced(given).encode()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(ValueError, match="JSON"):
        edit(text[:cut], put={"a": b"1"})


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "[]", "1", '"{}"', "null", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":[1}', '{"a":"}'),
        *(
            '{"a" 1}',
            '{"a":1 2}',
            "{a:1}",
            '{"a":}',
            '{"a":1}}',
            '{"a":1} x',
            '{"a":1}{"a":2}',
            '{"a":"b}c"',
            '{"a":tr',
        ),
    ],
)
def test_what_is_no_whole_object_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="JSON"):
        edit(text.encode(), put={"a": b"1"})


@pytest.mark.parametrize("text", ["", "{}", "[", "[1", "[1,", '["]', "[{]", '["a]'])
def test_what_is_no_whole_array_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="JSON"):
        splice.elements(text.encode())


def test_values_are_replaced_where_they_stand() -> None:
    text = b'[1, {"a":2}, 3]'
    one, two, three = splice.elements(text)
    assert splice.replace(text, {three: b"[]", one: b'"x"'}) == b'["x", {"a":2}, []]'
    assert splice.replace(text, {two: text[two.start : two.end]}) == text
