"""Input items: what becomes of each form of `input`, ids that stay and differ, and pages of a list."""

import pytest

from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.items import Paging, chain, input_items, page, paging
from respool.proxy.protocol.jsons import Json, JsonObject

RESPONSE = "caresp_" + "0123456789abcdef00" + "A" * 32
OTHER = "caresp_" + "0123456789abcdef00" + "B" * 32


def without_ids(found: list[JsonObject]) -> list[JsonObject]:
    return [{key: value for key, value in item.items() if key != "id"} for item in found]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "Hello",
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        ),
        ("", {"type": "message", "role": "user", "content": [{"type": "input_text", "text": ""}]}),
        (
            [{"role": "user", "content": "x"}],
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
        ),
        (
            [{"role": "assistant", "content": "x"}],
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
        ),
        (
            [{"type": "message", "role": "developer", "content": "x"}],
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "x"}]},
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "u"}], "extra": None}],
            {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "u"}], "extra": None},
        ),
        (
            [{"role": "user", "content": "x", "status": "incomplete"}],
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "x"}],
                "status": "incomplete",
            },
        ),
    ],
)
def test_a_message_has_parts_and_a_status(given: Json, expected: JsonObject) -> None:
    found = input_items(RESPONSE, given)
    assert without_ids(found) == [{"status": "completed", **expected}]
    assert found[0]["id"].startswith("msg_0123456789abcdef00")


@pytest.mark.parametrize(
    ("item", "prefix"),
    [
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, "fc"),
        ({"type": "function_call_output", "call_id": "c", "output": "4"}, "fco"),
        ({"type": "reasoning", "summary": []}, "rs"),
        ({"type": "item_reference"}, "ref"),
        ({"type": "mcp_approval_response", "approve": True}, "item"),
    ],
)
def test_other_items_keep_their_fields_and_get_an_id_of_their_kind(item: JsonObject, prefix: str) -> None:
    found = input_items(RESPONSE, [item])
    assert without_ids(found) == [item]
    assert found[0]["id"].startswith(f"{prefix}_")


@pytest.mark.parametrize("bad", ["", None, 5])
def test_only_a_usable_id_is_kept(bad: Json) -> None:
    found = input_items(RESPONSE, [{"role": "user", "content": "x", "id": "mine"}, {"role": "user", "id": bad}])
    assert found[0]["id"] == "mine"
    assert found[1]["id"].startswith("msg_")


@pytest.mark.parametrize("given", [None, [], {}, 5, ["x", None, 1]])
def test_what_holds_no_items_has_none(given: Json) -> None:
    assert input_items(RESPONSE, given) == []


def test_the_given_items_are_not_changed() -> None:
    given: list[JsonObject] = [{"role": "user", "content": "x"}]
    input_items(RESPONSE, given)
    assert given == [{"role": "user", "content": "x"}]


def test_ids_are_the_same_at_every_look_and_differ_between_items_and_responses() -> None:
    given = [{"role": "user", "content": "same"}] * 5
    found = [item["id"] for response in (RESPONSE, OTHER) for item in input_items(response, given)]
    assert found == [item["id"] for response in (RESPONSE, OTHER) for item in input_items(response, given)]
    assert len(set(found)) == 10


def test_a_chain_has_the_oldest_turn_first_and_keeps_ids() -> None:
    turns = [("r1", [{"id": "a"}, {"id": "b"}]), ("r2", [{"id": "c"}])]
    assert chain(turns) == [{"id": "a"}, {"id": "b"}, {"id": "c"}]


def test_no_id_comes_twice_in_a_chain_and_a_second_look_shows_the_same() -> None:
    twice: list[JsonObject] = [{"id": "a", "type": "message", "at": 0}, {"id": "a", "type": "message", "at": 1}]
    bare: list[JsonObject] = [{"type": "reasoning"}, {"id": None}, {"id": ""}]
    turns = [("r1", twice), ("r2", twice), ("r3", bare)]
    found = chain(turns)
    ids = [item["id"] for item in found]
    assert len(set(ids)) == len(ids) == 7
    assert all(ids)
    assert ids[0] == "a"
    assert ids[1].startswith("msg_")
    assert ids[4].startswith("rs_")
    assert chain(turns) == found
    assert chain(turns[:2]) == found[:4]
    assert twice[1]["id"] == "a"


# Pages.


def numbered(count: int) -> list[JsonObject]:
    return [{"id": f"i{at}"} for at in range(count)]


def ids_of(listing: JsonObject) -> list[str]:
    return [item["id"] for item in listing["data"]]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 20, 100])
@pytest.mark.parametrize("count", [0, 1, 20, 21, 100, 250])
def test_pages_one_after_the_other_show_every_item_once(count: int, limit: int, order: str) -> None:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        listing = page(numbered(count), Paging(limit, order, cursor))
        seen += ids_of(listing)
        assert listing["object"] == "list"
        assert listing["has_more"] is (len(seen) < count)
        if not listing["has_more"]:
            break
        assert len(listing["data"]) == limit
        assert (listing["first_id"], listing["last_id"]) == (seen[-limit], seen[-1])
        cursor = listing["last_id"]
    ascending = [f"i{at}" for at in range(count)]
    assert seen == (ascending if order == "asc" else ascending[::-1])


@pytest.mark.parametrize(
    ("which", "expected", "has_more"),
    [
        (Paging(), ["i4", "i3", "i2", "i1", "i0"], False),
        (Paging(order="asc"), ["i0", "i1", "i2", "i3", "i4"], False),
        (Paging(order="asc", after="i1"), ["i2", "i3", "i4"], False),
        (Paging(order="desc", after="i1"), ["i0"], False),
        (Paging(order="asc", before="i1"), ["i0"], False),
        (Paging(order="desc", before="i1"), ["i4", "i3", "i2"], False),
        (Paging(order="asc", after="i0", before="i3"), ["i1", "i2"], False),
        (Paging(1, "asc", "i0", "i3"), ["i1"], True),
        (Paging(2, "asc", "i0", "i3"), ["i1", "i2"], False),
        (Paging(2, "asc", before="i3"), ["i0", "i1"], True),
        (Paging(order="asc", after="i3", before="i1"), [], False),
        (Paging(order="asc", after="i4"), [], False),
        (Paging(order="asc", before="i0"), [], False),
        (Paging(order="asc", after="unknown"), ["i0", "i1", "i2", "i3", "i4"], False),
        (Paging(order="asc", before="unknown"), ["i0", "i1", "i2", "i3", "i4"], False),
        (Paging(2, "desc", "unknown", "unknown"), ["i4", "i3"], True),
        (Paging(order="asc", after="", before=""), ["i0", "i1", "i2", "i3", "i4"], False),
    ],
)
def test_a_page_of_five(which: Paging, expected: list[str], has_more: bool) -> None:
    listing = page(numbered(5), which)
    assert ids_of(listing) == expected
    assert listing["has_more"] is has_more


def test_an_empty_page_has_no_first_and_no_last() -> None:
    assert page([], Paging()) == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("limit", "order", "expected"),
    [
        (None, None, Paging(20, "desc")),
        ("1", "asc", Paging(1, "asc")),
        ("100", "DESC", Paging(100, "desc")),
        ("+5", "Asc", Paging(5, "asc")),
        (" 5 ", "", Paging(5, "desc")),
    ],
)
def test_the_query_of_a_list(limit: str | None, order: str | None, expected: Paging) -> None:
    assert paging(limit, order, None, None) == expected
    cursors = paging(limit, order, "a", "b")
    assert (cursors.after, cursors.before) == ("a", "b")


@pytest.mark.parametrize(
    ("limit", "order", "param", "message"),
    [
        ("x", None, "limit", "limit must be an integer between 1 and 100"),
        ("", None, "limit", "limit must be an integer between 1 and 100"),
        ("1.5", None, "limit", "limit must be an integer between 1 and 100"),
        ("9" * 5000, None, "limit", "limit must be an integer between 1 and 100"),
        ("0", None, "limit", "limit must be between 1 and 100"),
        ("-1", None, "limit", "limit must be between 1 and 100"),
        ("101", None, "limit", "limit must be between 1 and 100"),
        (None, "up", "order", "order must be 'asc' or 'desc'"),
    ],
)
def test_a_query_that_is_refused(limit: str | None, order: str | None, param: str, message: str) -> None:
    with pytest.raises(WireError) as caught:
        paging(limit, order, None, None)
    error = caught.value
    assert (error.http_status, error.code, error.param, error.message) == (
        *(400, "invalid_request_error"),
        param,
        message,
    )
