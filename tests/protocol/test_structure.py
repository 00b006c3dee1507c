"""Items and parts that an agent leaves out: bare and half bare streams, and the whole ones that leave."""

import pytest

from respool.proxy.protocol.failure import NO_END, Failure
from respool.proxy.protocol.jsons import Json, JsonObject
from respool.proxy.protocol.repair import Sequencer
from respool.proxy.protocol.sse import Message
from respool.store.status import Status
from tests.protocol import recorded
from tests.protocol.outgoing import ENVELOPE, OURS, REFERENCE, Told, nameless, names, said, tell
from tests.protocol.strict import read_strictly

STAMPS = {"response_id": OURS, "agent_reference": REFERENCE}
PART = {"type": "output_text", "text": "", "annotations": []}

DELTA = nameless("output_text.delta", delta="Hi")
TEXT_DONE = nameless("output_text.done", text="Hi")
BEGIN = ["created", "in_progress"]
OPEN = ["output_item.added", "content_part.added"]
CLOSE = ["content_part.done", "output_item.done"]
CREATED = said("created", response={"id": "theirs", "status": "in_progress", "output": []})
COMPLETED = said("completed", response={"id": "theirs", "status": "completed"})


def message(text: str, item_id: str = "msg_ours", status: str = "completed") -> JsonObject:
    content = [{**PART, "text": text}]
    return {"type": "message", "id": item_id, "role": "assistant", "content": content, "status": status, **STAMPS}


def check(told: Told) -> None:
    """What the strict client takes, and where every delta stands in what is open."""
    read_strictly(told.events)
    assert [event["sequence_number"] for event in told.events] == list(range(len(told.events)))
    items: dict[int, str] = {}
    parts: set[tuple[int, int]] = set()
    for event in told.events:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            items[event["output_index"]] = event["item"]["id"]
        elif kind == "content_part.added":
            parts.add((event["output_index"], event["content_index"]))
        elif kind == "content_part.done":
            parts.remove((event["output_index"], event["content_index"]))
        elif kind == "output_item.done":
            assert items.pop(event["output_index"]) == event["item"]["id"]
            assert not [part for part in parts if part[0] == event["output_index"]]
        elif kind.startswith("output_text."):
            assert items[event["output_index"]] == event["item_id"]
            assert (event["output_index"], event["content_index"]) in parts


def test_the_stream_of_the_readme_becomes_a_whole_one() -> None:
    told = tell(recorded.messages("core/readme_sample"))
    check(told)
    assert told.names == [*BEGIN, *OPEN, *["output_text.delta"] * 10, "output_text.done", *CLOSE, "completed"]
    text = "I am mock agent with no intelligence in stream mode."
    assert told.final["output"] == [message(text)] == [event["item"] for event in told.of("output_item.done")]
    assert [event["part"]["text"] for event in told.of("content_part.done")] == [text]
    assert {event["item_id"] for event in told.of("output_text.delta")} == {"msg_ours"}


def test_a_bare_stream_may_end_without_saying_its_text_is_over() -> None:
    told = tell([DELTA, DELTA, (b"", b"[DONE]")])
    check(told)
    assert told.names == [*BEGIN, *OPEN, "output_text.delta", "output_text.delta", *CLOSE, "completed"]
    assert told.final["output"] == [message("HiHi")] == [event["item"] for event in told.of("output_item.done")]


def test_a_finished_item_ends_the_one_that_was_made_for_its_deltas() -> None:
    item = {"type": "message", "id": "theirs", "role": "assistant", "content": [{**PART, "text": "Hi", "acme": 1}]}
    told = tell([DELTA, TEXT_DONE, nameless("output_item.done", item=item), (b"", b"[DONE]")])
    check(told)
    assert told.names == [*BEGIN, *OPEN, "output_text.delta", "output_text.done", *CLOSE, "completed"]
    assert told.final["output"] == [{**item, "id": "msg_ours", **STAMPS}]


def test_deltas_that_name_their_item_give_it_the_name() -> None:
    item = {"type": "message", "id": "m1", "role": "assistant", "content": [{**PART, "text": "Hi"}]}
    deltas = [nameless("output_text.delta", item_id="m1", delta=text) for text in ("H", "i")]
    told = tell([*deltas, nameless("output_item.done", item=item)])
    check(told)
    assert told.names == [*BEGIN, *OPEN, "output_text.delta", "output_text.delta", *CLOSE, "completed"]
    assert told.final["output"] == [{**item, **STAMPS}]


def test_one_text_after_the_other_makes_one_item_after_the_other() -> None:
    told = tell([DELTA, TEXT_DONE, DELTA, nameless("output_text.delta", item_id="m", delta="Ho")])
    check(told)
    assert [item["id"] for item in told.final["output"]] == ["msg_ours", "msg_ours_1", "m"]
    assert [item["content"][0]["text"] for item in told.final["output"]] == ["Hi", "Hi", "Ho"]
    assert told.names == [
        *BEGIN,
        *(*OPEN, "output_text.delta", "output_text.done", *CLOSE),
        *(*OPEN, "output_text.delta", *CLOSE),
        *(*OPEN, "output_text.delta", *CLOSE),
        "completed",
    ]


def test_the_parts_of_one_item_stand_side_by_side() -> None:
    at = [nameless("output_text.delta", item_id="m", content_index=part, delta=str(part)) for part in (0, 0, 3)]
    told = tell([*at, nameless("refusal.delta", item_id="m", content_index=4, delta="No")])
    check(told)
    assert told.final["output"][0]["content"] == [
        {**PART, "text": "00"},
        {**PART, "text": "3"},
        {"type": "refusal", "refusal": "No"},
    ]
    assert [event["content_index"] for event in told.of("content_part.done")] == [0, 1, 2]


def test_reasoning_is_followed_by_the_answer() -> None:
    told = tell(
        [
            nameless("reasoning_summary_text.delta", delta="Because"),
            nameless("reasoning_summary_text.done", text="Because."),
            nameless("reasoning_text.delta", delta="Hm"),
            DELTA,
        ]
    )
    check(told)
    assert told.names == [
        *BEGIN,
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done"),
        *("content_part.added", "reasoning_text.delta", *CLOSE),
        *(*OPEN, "output_text.delta", *CLOSE),
        "completed",
    ]
    reasoning, answer = told.final["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Because."}]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    assert answer == message("Hi", "msg_ours_1")


def test_annotations_stand_in_the_text_they_belong_to() -> None:
    told = tell([DELTA, nameless("output_text.annotation.added", annotation={"type": "url_citation"})])
    check(told)
    assert told.final["output"][0]["content"] == [{**PART, "text": "Hi", "annotations": [{"type": "url_citation"}]}]


def test_deltas_between_created_and_completed_get_an_item() -> None:
    told = tell([CREATED, DELTA, TEXT_DONE, COMPLETED])
    check(told)
    assert told.names == [*BEGIN, *OPEN, "output_text.delta", "output_text.done", *CLOSE, "completed"]
    assert told.final["output"] == [message("Hi")]


def test_an_item_of_the_agents_follows_one_that_was_made() -> None:
    call = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}"}
    told = tell(
        [
            CREATED,
            DELTA,
            said("output_item.added", output_index=1, item=call),
            said("output_item.done", output_index=1, item=call),
            COMPLETED,
        ]
    )
    check(told)
    assert told.names == [
        *(*BEGIN, *OPEN, "output_text.delta", *CLOSE, "output_item.added", "output_item.done", "completed")
    ]


@pytest.mark.parametrize(
    ("messages", "clean", "stop", "failure"),
    [
        ([DELTA], False, None, NO_END),
        ([CREATED, DELTA], True, None, NO_END),
        ([DELTA, said("error", code="c", message="m")], True, None, Failure("c", "m")),
        ([DELTA], True, (Status.CANCELLED, None), None),
    ],
)
def test_what_was_made_is_closed_incomplete_when_the_run_fails(
    messages: list[Message], clean: bool, stop: tuple[Status, Failure | None] | None, failure: Failure | None
) -> None:
    told = tell(messages, clean=clean, stop=stop)
    check(told)
    assert told.names[-1] == "failed"
    assert told.final["error"] == (failure and failure.wire())
    assert told.final["output"] == [message("Hi", status="incomplete")]
    assert [event["item"]["status"] for event in told.of("output_item.done")] == ["incomplete"]


def test_what_was_made_is_closed_as_the_agent_ends() -> None:
    told = tell([CREATED, DELTA, said("incomplete", response={"output": None})])
    check(told)
    assert told.final["output"] == [message("Hi", status="incomplete")]


# Half bare: items, but not all that belongs to them.

ITEM = {"type": "message", "id": "m", "role": "assistant", "status": "in_progress", "content": []}
WHOLE = {**ITEM, "status": "completed", "content": [{**PART, "text": "Hi"}]}
AT = {"item_id": "m", "output_index": 0, "content_index": 0}


def test_a_part_that_is_missing_is_put_into_the_agents_item() -> None:
    told = tell(
        [
            CREATED,
            said("output_item.added", output_index=0, item=ITEM),
            said("output_text.delta", **AT, delta="H"),
            said("output_text.delta", **AT, delta="i"),
            said("output_item.done", output_index=0, item=WHOLE),
            COMPLETED,
        ]
    )
    check(told)
    assert told.names == [*BEGIN, *OPEN, "output_text.delta", "output_text.delta", *CLOSE, "completed"]
    assert told.of("content_part.done")[0]["part"] == {**PART, "text": "Hi"}


def test_an_item_that_brings_its_parts_along_needs_none() -> None:
    told = tell(recorded.messages("core/official_sample"))
    read_strictly(told.events)
    assert "content_part.added" not in told.names
    assert told.final["output"][0]["content"][0]["text"] == "I am mock agent with no intelligence in stream mode."


def test_an_item_without_an_index_gets_one_and_so_does_what_is_in_it() -> None:
    told = tell(
        [
            CREATED,
            said("output_item.added", item=ITEM),
            said("content_part.added", part=PART),
            said("output_text.delta", delta="Hi"),
            said("output_text.done", text="Hi"),
            said("content_part.done", part={**PART, "text": "Hi"}),
            said("output_item.done", item=WHOLE),
            said("output_item.added", item={**ITEM, "id": "n"}),
            said("output_item.done", item={**WHOLE, "id": "n"}),
            COMPLETED,
        ]
    )
    check(told)
    assert [event["output_index"] for event in told.events if "output_index" in event] == [0] * 6 + [1] * 2
    assert told.final["output"] == [{**WHOLE, **STAMPS}, {**WHOLE, "id": "n", **STAMPS}]


def test_an_item_that_ends_without_a_beginning_gets_one() -> None:
    call = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}"}
    told = tell([nameless("output_item.done", item=call), nameless("output_item.done", item=WHOLE)])
    check(told)
    assert told.names == [*BEGIN, *["output_item.added", "output_item.done"] * 2, "completed"]
    assert told.final["output"] == [{**call, **STAMPS}, {**WHOLE, **STAMPS}]


def test_an_end_without_an_index_is_that_of_the_item_with_its_id() -> None:
    told = tell(
        [CREATED, said("output_item.added", output_index=0, item=ITEM), said("output_item.done", item=WHOLE), COMPLETED]
    )
    check(told)
    assert told.names == [*BEGIN, "output_item.added", "output_item.done", "completed"]
    assert told.of("output_item.done")[0]["output_index"] == 0


@pytest.mark.parametrize("kind", ["function_call_arguments", "mcp_call_arguments", "code_interpreter_call_code"])
def test_no_call_is_made_up(kind: str) -> None:
    """Its name and its call_id could not be."""
    told = tell([CREATED, said(f"{kind}.delta", delta="{}", output_index=0, item_id="c")])
    assert told.names[:3] == [*BEGIN, f"{kind}.delta"]


@pytest.mark.parametrize("item", [None, "x", [], 5])
def test_an_item_that_is_none_passes(item: Json) -> None:
    messages = [said("output_item.added", output_index=0, item=item), said("output_item.done", item=item)]
    assert names(Sequencer(ENVELOPE).take([CREATED, *messages])) == [*BEGIN, "output_item.added", "output_item.done"]


# In order.


def test_frames_do_not_depend_on_how_events_are_batched() -> None:
    messages = [DELTA, TEXT_DONE, nameless("reasoning_text.delta", delta="Hm"), DELTA]
    single = Sequencer(ENVELOPE)
    assert Sequencer(ENVELOPE).take(messages) == [frame for one in messages for frame in single.take([one])]


def test_a_made_item_that_was_not_written_is_not_closed() -> None:
    sequencer = Sequencer(ENVELOPE)
    written = sequencer.take([CREATED])
    mark = sequencer.mark()
    sequencer.take([DELTA])
    sequencer.rewind(mark)
    told = tell([], sequencer=sequencer, before=written, stop=(Status.CANCELLED, None))
    assert told.names == [*BEGIN, "failed"]
