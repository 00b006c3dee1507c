"""Input items through the client's own paging, over turns that continue each other."""

from typing import Any

import pytest

from tests.e2e.caller import Caller, completed

pytestmark = pytest.mark.agent


def words(item: Any) -> tuple[str, str]:
    """Who says what in an item."""
    return item.role, "".join(part.text for part in item.content)


async def test_a_string_is_one_user_message(caller: Caller) -> None:
    answered = await caller.create("burst 3")
    [item] = await caller.input_items(answered.id)
    assert (item.type, item.content[0].type) == ("message", "input_text")
    assert words(item) == ("user", "burst 3")
    assert item.id
    assert [again.id for again in await caller.input_items(answered.id)] == [item.id]


async def test_the_turns_before_come_before_the_request_newest_first(caller: Caller) -> None:
    first = await caller.create("burst 1")
    second = await caller.create("burst 2", background=True, previous_response_id=first.id)
    await completed(caller, second.id)
    third = await caller.create("burst 3", previous_response_id=second.id)
    assert third.previous_response_id == second.id
    told = [
        ("user", "burst 1"),
        ("assistant", "tok0 "),
        ("user", "burst 2"),
        ("assistant", "tok0 tok1 "),
        ("user", "burst 3"),
    ]
    assert [words(item) for item in await caller.input_items(third.id)] == told[::-1]
    assert [words(item) for item in await caller.input_items(third.id, order="asc", limit=2)] == told
    assert [words(item) for item in await caller.input_items(second.id, order="asc")] == told[:3]


async def test_the_client_turns_the_pages_of_a_long_input(caller: Caller) -> None:
    messages: Any = [{"role": "user", "content": f"message {i}"} for i in range(44)]
    messages.append({"role": "user", "content": "burst 1"})
    answered = await caller.create(messages)
    items = await caller.input_items(answered.id)
    assert [words(item)[1] for item in items] == ["burst 1", *(f"message {i}" for i in reversed(range(44)))]
    assert len({item.id for item in items}) == len(items)
    assert [item.id for item in await caller.input_items(answered.id, limit=7)] == [item.id for item in items]


@pytest.mark.parametrize("agent", ["core"], indirect=True)
async def test_the_chain_stops_at_a_turn_that_is_gone(caller: Caller) -> None:
    first = await caller.create("burst 1")
    second = await caller.create("burst 2", previous_response_id=first.id)
    third = await caller.create("burst 3", previous_response_id=second.id)
    await caller.delete(first.id)
    told = [("user", "burst 2"), ("assistant", "tok0 tok1 "), ("user", "burst 3")]
    assert [words(item) for item in await caller.input_items(third.id, order="asc")] == told
