"""Requests and items as a person reads them."""

import pytest

from respool.proxy.protocol.aloud import first_words, opening, passage, passages
from respool.proxy.protocol.jsons import JsonObject, dumps


def of_user(content: object) -> JsonObject:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("Hello  there\n you", "Hello there you"),
        ([of_user("old"), {"role": "assistant", "content": "x"}, of_user("new")], "new"),
        ([of_user([{"type": "input_image"}, {"type": "input_text", "text": "see"}])], "[input_image] see"),
        ([{"type": "function_call_output", "call_id": "c", "output": "42"}], "→ 42"),
        ([], ""),
        (5, ""),
    ],
)
def test_the_first_words_are_those_of_the_last_thing_a_user_said(given: object, words: str) -> None:
    assert first_words(dumps({"input": given}), 40) == words


@pytest.mark.parametrize("body", [b'{"model":"m"}', b"[]", b"no json"])
def test_a_request_without_an_input_says_nothing(body: bytes) -> None:
    assert first_words(body, 40) == ""


def test_an_opening_is_cut_with_an_ellipsis() -> None:
    assert opening("one two three", 7) == "one tw…"
    assert opening("x" * 100_000, 10) == "xxxxxxxxx…"


def test_every_kind_of_item_says_something() -> None:
    said = [
        passage(item)
        for item in (
            {"type": "function_call", "name": "look", "arguments": '{"a":1}', "call_id": "c"},
            {"type": "mcp_call", "name": "find", "server_label": "s", "arguments": "{}", "output": "found"},
            {"type": "code_interpreter_call", "code": "1+1", "outputs": [{"logs": "2"}], "container_id": "c"},
            {"type": "web_search_call", "action": {"query": "q"}, "status": "searching"},
            {"type": "reasoning", "summary": [{"text": "hm"}], "content": [{"type": "reasoning_text", "text": "so"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"type": "image_generation_call", "result": "QUJD"},
            {"type": "image_generation_call", "result": "x" * 100_000},
            {"type": "brand_new", "id": "x", "wheels": 4},
        )
    ]
    assert [(each.heading, each.text) for each in said] == [
        ("function_call look", '{"a":1}'),
        ("mcp_call find", "{}\n→ found"),
        ("code_interpreter_call", '1+1\n→ [{"logs":"2"}]'),
        ("web_search_call", '{"query":"q"}'),
        ("reasoning", "hm\nso"),
        ("message assistant", "no"),
        ("image_generation_call", "→ QUJD"),
        ("image_generation_call", f"→ {'x' * 2_000}… (100,000 characters)"),
        ("brand_new", '{"wheels":4}'),
    ]
    assert said[3].status == "searching"


def test_a_plain_input_is_one_message_and_what_is_no_item_is_left_out() -> None:
    assert [(each.heading, each.text) for each in passages("hi")] == [("message user", "hi")]
    assert list(passages([1, None])) == []
    assert list(passages(None)) == []
