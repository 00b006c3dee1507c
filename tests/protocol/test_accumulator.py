"""The fold: real streams, each kind of event, any prefix."""

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respool.proxy.protocol.accumulator import Accumulator
from respool.proxy.protocol.jsons import Json, JsonObject, dumps
from tests.protocol import recorded

TERMINAL = {"response.completed", "response.failed", "response.incomplete"}
ENDED = [name for name in recorded.STREAMS if any(event["type"] in TERMINAL for event in recorded.events(name))]

# Streams whose terminal output is not what their events have said, and why.
OTHER_OUTPUT = {
    "core/official_sample": "its message has no output_item.done, so its status stays in_progress",
    "responses_2.4.0b1/bg_stream_cancel_stream": "a cancelled response is emptied",
    "responses_2.4.0b1/bg_stream_nocancel_stream": "a cancelled response is emptied",
    "responses_2.4.0b1/failmid": "a failed response is emptied",
    "responses_2.4.0b1/noterm": "a failed response is emptied",
}

MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
FINAL = {"type": "message", "id": "other", "status": "completed", "secret": 1}


def fold(*events: JsonObject, envelope: JsonObject | None = None) -> Accumulator:
    accumulator = Accumulator({"id": "resp_abc"} if envelope is None else envelope)
    for event in events:
        accumulator.add(event)
    return accumulator


def output(*events: JsonObject) -> Json:
    return fold(*events).snapshot()["output"]


def ev(kind: str, **fields: Json) -> JsonObject:
    return {"type": f"response.{kind}", **fields}


def item(kind: str, **fields: Json) -> JsonObject:
    """The event that adds an item of some type at index 0."""
    return ev("output_item.added", output_index=0, item={"type": kind, "id": "i", "status": "in_progress", **fields})


def text_of(snapshot: JsonObject) -> str:
    return "".join(part["text"] for item in snapshot["output"] for part in item["content"])


# Real streams.


@pytest.mark.parametrize("name", ENDED)
def test_the_fold_of_a_whole_stream_is_its_terminal_response(name: str) -> None:
    events = recorded.events(name)
    accumulator = Accumulator({})
    for _, data in recorded.messages(name):
        accumulator.add(data)
    status = events[-1]["type"].removeprefix("response.")
    assert accumulator.snapshot() == {"status": status, **events[-1]["response"]}


@pytest.mark.parametrize("name", ENDED)
def test_the_fold_without_the_terminal_event_has_its_output(name: str) -> None:
    events = recorded.events(name)
    assert events[-1]["type"] in TERMINAL
    same = output(*events[:-1]) == events[-1]["response"]["output"]
    assert same is (name not in OTHER_OUTPUT)


@pytest.mark.parametrize("name", [name for name in ENDED if name not in OTHER_OUTPUT])
def test_the_deltas_alone_give_the_same_text(name: str) -> None:
    events = recorded.events(name)
    texts = [part["text"] for item in events[-1]["response"]["output"] for part in item.get("content", [])]
    deltas = fold(*[event for event in events if event["type"] == "response.output_text.delta"]).snapshot()
    assert text_of(deltas) == "".join(texts)


def test_a_stream_without_items_becomes_one_message() -> None:
    snapshot = fold(*recorded.events("core/readme_sample"), envelope={"id": "caresp_0AB_1", "model": "m"}).snapshot()
    part = {"type": "output_text", "text": "I am mock agent with no intelligence in stream mode.", "annotations": []}
    message = {"type": "message", "id": "msg_0AB_1", "role": "assistant", "status": "in_progress", "content": [part]}
    assert snapshot == {"id": "caresp_0AB_1", "model": "m", "status": "in_progress", "output": [message]}


# The response itself.


def test_a_snapshot_before_the_first_event_is_the_envelope() -> None:
    assert fold(envelope={"id": "r", "model": "m"}).snapshot() == {
        "id": "r",
        "model": "m",
        "status": "in_progress",
        "output": [],
    }
    assert fold(envelope={"id": "r", "status": "queued"}).snapshot()["status"] == "queued"


def test_nulls_do_not_erase_what_is_known() -> None:
    created = ev("created", response={"id": "r", "model": None, "usage": None, "status": "in_progress", "output": []})
    later = ev("in_progress", response={"id": None, "x": 1})
    snapshot = fold(created, later, envelope={"model": "m", "store": True}).snapshot()
    assert snapshot == {
        "id": "r",
        "model": "m",
        "store": True,
        "usage": None,
        "x": 1,
        "status": "in_progress",
        "output": [],
    }


@pytest.mark.parametrize(
    ("kind", "response", "status"),
    [
        ("created", {}, "in_progress"),
        ("created", {"status": "queued"}, "queued"),
        ("created", {"status": "completed"}, "in_progress"),
        ("created", None, "in_progress"),
        ("queued", {}, "queued"),
        ("in_progress", {"status": "queued"}, "in_progress"),
        ("completed", {}, "completed"),
        ("completed", {"status": "in_progress"}, "completed"),
        ("completed", None, "completed"),
        ("failed", {"status": "failed"}, "failed"),
        ("failed", {"status": "cancelled"}, "cancelled"),
        ("incomplete", {"status": "completed"}, "incomplete"),
    ],
)
def test_the_status_is_the_word_of_the_event(kind: str, response: Json, status: str) -> None:
    assert fold(ev(kind, response=response)).snapshot()["status"] == status


def test_a_lifecycle_event_with_output_replaces_the_items() -> None:
    before = [item("message"), ev("output_text.delta", output_index=1, delta="lost")]
    reset = ev("in_progress", response={"output": [{"type": "message", "id": "m", "content": []}]})
    more = ev("output_text.delta", output_index=0, delta="more")
    part = {"type": "output_text", "text": "more", "annotations": []}
    assert output(*before, reset, more) == [{"type": "message", "id": "m", "content": [part]}]
    assert len(output(*before, ev("in_progress", response={"output": []}))) == 2


def test_the_terminal_response_is_laid_over_the_envelope() -> None:
    created = ev("created", response={"id": "r", "dropped": 1})
    end = ev("completed", response={"id": "r", "metadata": None, "usage": {"total_tokens": 3}, "output": []})
    assert fold(created, end, envelope={"id": "x", "model": "m", "metadata": {"a": "b"}}).snapshot() == {
        "id": "r",
        "model": "m",
        "metadata": None,
        "usage": {"total_tokens": 3},
        "status": "completed",
        "output": [],
    }


@pytest.mark.parametrize(
    ("response", "expected"),
    [({}, [MESSAGE]), ({"output": None}, [MESSAGE]), (None, [MESSAGE]), ({"output": []}, []), ({"output": [1]}, [1])],
)
def test_the_terminal_output_is_the_last_word_if_there_is_one(response: Json, expected: Json) -> None:
    added = ev("output_item.added", output_index=0, item=MESSAGE)
    assert output(added, ev("completed", response=response)) == expected


def test_nothing_changes_after_the_terminal_event() -> None:
    late = [item("message"), ev("in_progress", response={"x": 1}), {"type": "error", "message": "m"}]
    accumulator = fold(ev("completed", response={}), *late)
    assert accumulator.snapshot() == {"id": "resp_abc", "status": "completed", "output": []}


@pytest.mark.parametrize("event", [{"type": "error", "code": "c", "message": "m"}, {"error": "m"}, {"type": None}])
def test_an_error_changes_nothing(event: JsonObject) -> None:
    assert fold(event).snapshot() == fold().snapshot()


# Each kind of event, by what it leaves of an item.

ROWS: dict[str, tuple[list[JsonObject], JsonObject]] = {
    "output_item.done": (
        [
            item("message", content=None),
            ev("output_text.delta", output_index=0, delta="x"),
            ev("output_item.done", output_index=0, item=FINAL),
            ev("output_text.delta", output_index=0, delta="late"),
            ev("content_part.done", output_index=0, content_index=0, part={"type": "output_text", "text": "late"}),
        ],
        FINAL,
    ),
    "output_item.added twice": (
        [item("message"), ev("output_text.delta", output_index=0, delta="x"), item("message")],
        {"type": "message"},
    ),
    "content_part.added": (
        [
            item("message", content=None),
            ev(
                "content_part.added", output_index=0, content_index=0, part={"type": "output_text", "text": "a", "x": 1}
            ),
            ev("output_text.delta", output_index=0, content_index=0, delta="b"),
        ],
        {"type": "message", "content": [{"type": "output_text", "text": "ab", "x": 1}]},
    ),
    "content_part.done": (
        [
            item("message"),
            ev("output_text.delta", output_index=0, content_index=0, delta="x"),
            ev("content_part.done", output_index=0, content_index=0, part={"type": "output_text", "text": "ab"}),
            ev("output_text.delta", output_index=0, content_index=0, delta="late"),
            ev("output_text.done", output_index=0, content_index=0, text="late"),
        ],
        {"type": "message", "content": [{"type": "output_text", "text": "ab"}]},
    ),
    "content parts with a gap": (
        [
            item("message"),
            ev("output_text.delta", output_index=0, content_index=5, delta="b"),
            ev("refusal.delta", output_index=0, content_index=2, delta="a"),
            ev("output_text.delta", output_index=0, content_index=5, delta="c"),
        ],
        {
            "type": "message",
            "content": [
                {"type": "refusal", "refusal": "a"},
                {"type": "output_text", "text": "bc", "annotations": []},
            ],
        },
    ),
    "output_text.delta": (
        [
            item("message", content=[{"type": "output_text", "text": "a", "logprobs": [1]}]),
            ev("output_text.delta", output_index=0, content_index=0, delta="b", logprobs=[2, 3]),
            ev("output_text.delta", output_index=0, content_index=0, delta="c", logprobs=[4]),
        ],
        {"type": "message", "content": [{"type": "output_text", "text": "abc", "logprobs": [1, 2, 3, 4]}]},
    ),
    "output_text.done": (
        [
            item("message"),
            ev("output_text.delta", output_index=0, content_index=0, delta="x", logprobs=[1]),
            ev("output_text.done", output_index=0, content_index=0, text="ab", logprobs=[2]),
            ev("output_text.delta", output_index=0, content_index=0, delta="late"),
        ],
        {
            "type": "message",
            "content": [{"type": "output_text", "text": "ab", "annotations": [], "logprobs": [2]}],
        },
    ),
    "output_text.annotation.added": (
        [
            item("message"),
            ev(
                "output_text.annotation.added", output_index=0, content_index=0, annotation_index=0, annotation={"a": 1}
            ),
            ev("output_text.annotation.added", output_index=0, content_index=0, annotation={"b": 1}),
            ev(
                "output_text.annotation.added", output_index=0, content_index=0, annotation_index=0, annotation={"c": 1}
            ),
        ],
        {"type": "message", "content": [{"type": "output_text", "text": "", "annotations": [{"c": 1}, {"b": 1}]}]},
    ),
    "refusal.delta": (
        [
            item("message", content=[{"type": "refusal", "refusal": ""}]),
            ev("refusal.delta", output_index=0, content_index=0, delta="a"),
            ev("refusal.delta", output_index=0, content_index=0, delta="b"),
        ],
        {"type": "message", "content": [{"type": "refusal", "refusal": "ab"}]},
    ),
    "refusal.done": (
        [item("message"), ev("refusal.done", output_index=0, content_index=0, refusal="ab")],
        {"type": "message", "content": [{"type": "refusal", "refusal": "ab"}]},
    ),
    "reasoning_text": (
        [
            item("reasoning", content=None),
            ev("reasoning_text.delta", output_index=0, content_index=0, delta="a"),
            ev("reasoning_text.delta", output_index=0, content_index=0, delta="b"),
            ev("reasoning_text.delta", output_index=0, content_index=1, delta="c"),
            ev("reasoning_text.done", output_index=0, content_index=1, text="d"),
        ],
        {
            "type": "reasoning",
            "content": [{"type": "reasoning_text", "text": "ab"}, {"type": "reasoning_text", "text": "d"}],
        },
    ),
    "reasoning_summary": (
        [
            item("reasoning", summary=[]),
            ev(
                "reasoning_summary_part.added",
                output_index=0,
                summary_index=0,
                part={"type": "summary_text", "text": ""},
            ),
            ev("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="a"),
            ev("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="b"),
            ev("reasoning_summary_text.delta", output_index=0, summary_index=1, delta="x"),
            ev("reasoning_summary_text.done", output_index=0, summary_index=1, text="c"),
            ev(
                "reasoning_summary_part.done",
                output_index=0,
                summary_index=2,
                part={"type": "summary_text", "text": "d"},
            ),
        ],
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": text} for text in ("ab", "c", "d")]},
    ),
    **{
        f"{event}": (
            [
                item(kind, **{key: start}),
                ev(f"{event}.delta", output_index=0, delta='{"a'),
                ev(f"{event}.delta", output_index=0, delta='":1}'),
            ],
            {"type": kind, key: '{"a":1}'},
        )
        for event, kind, key, start in [
            ("function_call_arguments", "function_call", "arguments", ""),
            ("mcp_call_arguments", "mcp_call", "arguments", ""),
            ("custom_tool_call_input", "custom_tool_call", "input", ""),
            ("code_interpreter_call_code", "code_interpreter_call", "code", None),
        ]
    },
    **{
        f"{event}.done": (
            [
                item(kind),
                ev(f"{event}.delta", output_index=0, delta="x"),
                ev(f"{event}.done", output_index=0, **{key: "whole"}),
                ev(f"{event}.delta", output_index=0, delta="late"),
            ],
            {"type": kind, key: "whole"},
        )
        for event, kind, key in [
            ("function_call_arguments", "function_call", "arguments"),
            ("mcp_call_arguments", "mcp_call", "arguments"),
            ("custom_tool_call_input", "custom_tool_call", "input"),
            ("code_interpreter_call_code", "code_interpreter_call", "code"),
        ]
    },
    **{
        f"{kind}.{word}": (
            [item(kind), ev(f"{kind}.{word}", output_index=0, item_id="i")],
            {"type": kind, "status": word},
        )
        for kind, words in {
            "code_interpreter_call": ("in_progress", "interpreting", "completed"),
            "file_search_call": ("in_progress", "searching", "completed"),
            "web_search_call": ("in_progress", "searching", "completed"),
            "image_generation_call": ("in_progress", "generating", "completed"),
            "mcp_call": ("in_progress", "completed", "failed"),
        }.items()
        for word in words
    },
    "shell_call_command": (
        [
            item("shell_call", action={"commands": [], "timeout_ms": 5}),
            ev("shell_call_command.added", output_index=0, command_index=0, command=""),
            ev("shell_call_command.delta", output_index=0, command_index=0, delta="l"),
            ev("shell_call_command.delta", output_index=0, command_index=0, delta="s"),
            ev("shell_call_command.added", output_index=0, command_index=1, command="p"),
            ev("shell_call_command.done", output_index=0, command_index=1, command="pwd"),
        ],
        {"type": "shell_call", "action": {"commands": ["ls", "pwd"], "timeout_ms": 5}},
    ),
    "shell_call_output_content": (
        [
            item("shell_call_output", output=[]),
            ev("shell_call_output_content.delta", output_index=0, command_index=0, delta={"stdout": "x"}),
            ev("shell_call_output_content.done", output_index=0, command_index=1, output=[{"stdout": "c"}]),
            ev("shell_call_output_content.done", output_index=0, command_index=0, output=[{"n": 1}, {"n": 2}]),
        ],
        {"type": "shell_call_output", "output": [{"n": 1}, {"n": 2}, {"stdout": "c"}]},
    ),
    **{
        f"{kind}, which has no place in the object": (
            [item("x"), ev(kind, output_index=0, item_id="i", delta="d", partial_image_b64="QQ==", text="t")],
            {"type": "x"},
        )
        for kind in [
            "image_generation_call.partial_image",
            "mcp_list_tools.in_progress",
            "mcp_list_tools.completed",
            "mcp_list_tools.failed",
            "compaction.compacting",
            "audio.delta",
            "audio.done",
            "audio.transcript.delta",
            "audio.transcript.done",
            "trace.completed",
        ]
    },
    "keepalive": ([item("x"), {"type": "keepalive", "sequence_number": 3}], {"type": "x"}),
}


@pytest.mark.parametrize("row", ROWS)
def test_each_kind_of_event_leaves_its_mark(row: str) -> None:
    events, expected = ROWS[row]
    assert output(*events) == [{"id": "i", "status": "in_progress", **expected}]


@pytest.mark.parametrize("row", ROWS)
def test_a_snapshot_is_not_changed_by_later_events_nor_changes_them(row: str) -> None:
    events, _ = ROWS[row]
    accumulator = fold()
    taken = []
    for event in events:
        accumulator.add(event)
        snapshot = accumulator.snapshot()
        taken.append((snapshot, deepcopy(snapshot)))
    assert all(snapshot == copy for snapshot, copy in taken)
    assert accumulator.snapshot() == fold(*events).snapshot()


def test_events_are_not_changed() -> None:
    events = [event for row, _ in ROWS.values() for event in row]
    before = deepcopy(events)
    fold(*events).close_items("failed")
    assert events == before


def test_items_stand_in_the_order_of_their_indices_without_gaps() -> None:
    events = [ev("output_item.done", output_index=index, item={"n": index}) for index in (7, 0, 3)]
    assert output(*events) == [{"n": 0}, {"n": 3}, {"n": 7}]


# Streams that name no items.


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            ev("refusal.delta", delta="no"),
            {
                "type": "message",
                "id": "msg_abc",
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": "no"}],
            },
        ),
        (
            ev("output_text.done", text="all", item_id="mine", output_index=4),
            {
                "type": "message",
                "id": "mine",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "all", "annotations": []}],
            },
        ),
        (
            ev("reasoning_text.delta", delta="hm"),
            {"type": "reasoning", "id": "rs_abc", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        ),
        (
            ev("reasoning_summary_text.delta", delta="hm"),
            {"type": "reasoning", "id": "rs_abc", "summary": [{"type": "summary_text", "text": "hm"}]},
        ),
        (
            ev("content_part.added", part={"type": "reasoning_text", "text": ""}),
            {"type": "reasoning", "id": "rs_abc", "summary": [], "content": [{"type": "reasoning_text", "text": ""}]},
        ),
        (
            ev("function_call_arguments.delta", delta="{}"),
            {"type": "function_call", "id": "fc_abc", "call_id": "", "name": "", "arguments": "{}"},
        ),
    ],
)
def test_text_without_an_item_makes_one_that_fits(event: JsonObject, expected: JsonObject) -> None:
    assert output(event) == [{**expected, "status": "in_progress"}]


def test_a_finished_item_takes_the_place_of_the_one_made_for_its_deltas() -> None:
    message = {"type": "message", "id": "real", "content": [{"type": "output_text", "text": "ab"}]}
    deltas = [ev("output_text.delta", delta="a"), ev("output_text.delta", delta="b"), ev("output_text.done", text="ab")]
    assert output(*deltas, ev("output_item.done", item=message)) == [message]


def test_what_names_no_item_and_does_not_fit_the_last_one_begins_another() -> None:
    call, result = {"type": "function_call", "id": "c"}, {"type": "function_call_output", "id": "o"}
    items = output(
        ev("reasoning_summary_text.delta", delta="hm"),
        ev("output_text.delta", delta="a"),
        ev("output_text.done", text="a"),
        ev("output_text.delta", delta="b"),
        ev("output_item.done", item=call),
        ev("output_item.done", item=result),
        ev("output_text.delta", delta="c", item_id="one"),
        ev("output_text.delta", delta="d", item_id="two"),
        ev("output_text.delta", delta="e", item_id="one"),
    )
    assert [item["id"] for item in items] == ["rs_abc", "msg_abc_1", "msg_abc_2", "c", "o", "one", "two"]
    assert [item["content"][0]["text"] for item in items if item["type"] == "message"] == ["a", "b", "ce", "d"]


def test_parts_that_name_no_item_do_not_replace_the_text_of_the_last_one() -> None:
    def said(text: str) -> list[JsonObject]:
        part = {"type": "output_text", "text": text}
        opening, done = ev("content_part.added", part={**part, "text": ""}), ev("output_text.done", text=text)
        return [opening, ev("output_text.delta", delta=text), done, ev("content_part.done", part=part)]

    assert [item["content"][0]["text"] for item in output(*said("a"), *said("b"))] == ["a", "b"]


# An end that the agent did not write.


@pytest.mark.parametrize(
    ("status", "word"),
    [("completed", "completed"), ("failed", "incomplete"), ("cancelled", "incomplete"), ("incomplete", "incomplete")],
)
def test_items_under_way_are_closed_as_the_response_ends(status: str, word: str) -> None:
    accumulator = fold(
        item("message"),
        ev("web_search_call.searching", output_index=1),
        ev("output_item.added", output_index=1, item={"type": "web_search_call", "status": "searching"}),
        ev("output_item.done", output_index=2, item={"type": "message", "status": "in_progress"}),
        ev("output_item.done", output_index=3, item={"type": "message", "status": "completed"}),
        ev("output_item.added", output_index=4, item={"type": "reasoning"}),
        ev("output_item.added", output_index=5, item={"type": "mcp_call", "status": "failed"}),
    )
    before = accumulator.snapshot()
    copy = deepcopy(before)
    accumulator.close_items(status)
    statuses = [item.get("status") for item in accumulator.snapshot()["output"]]
    assert statuses == [word, word, word, "completed", None, "failed"]
    assert before == copy


# Anything at all.

words = st.text(max_size=4)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), words, st.booleans()), max_size=40))
def test_any_interleaving_of_deltas_has_at_any_moment_the_text_so_far(steps: list[tuple[int, int, str, bool]]) -> None:
    accumulator, texts = fold(), dict[tuple[int, int], str]()
    for output_index, content_index, delta, polled in steps:
        place = {"output_index": output_index, "content_index": content_index}
        accumulator.add(dumps(ev("output_text.delta", **place, delta=delta)))
        texts[output_index, content_index] = texts.get((output_index, content_index), "") + delta
        if polled:
            assert text_of(accumulator.snapshot()) == "".join(texts[place] for place in sorted(texts))
    assert text_of(accumulator.snapshot()) == "".join(texts[place] for place in sorted(texts))


@given(st.sampled_from([name for name in recorded.STREAMS if "burst" not in name]), st.data())
def test_polls_do_not_change_what_a_stream_folds_into(name: str, data: st.DataObject) -> None:
    events = recorded.events(name)
    end = data.draw(st.integers(0, len(events)))
    polled = fold()
    for event in events[:end]:
        polled.add(event)
        polled.snapshot()
    assert polled.snapshot() == fold(*events[:end]).snapshot()


KINDS = sorted({event["type"] for row, _ in ROWS.values() for event in row} | {"error", "response.created", *TERMINAL})
KEYS = ["item", "part", "output_index", "content_index", "summary_index", "item_id", "delta", "text", "logprobs"]
MORE_KEYS = ["annotation", "annotation_index", "command", "command_index", "output", "response", "error", "code"]
small = st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | st.text(max_size=2)
values = st.recursive(
    small,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "id", "text", "content", "summary", "action", "output", "status"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
loose_events = st.fixed_dictionaries({"type": st.sampled_from(KINDS) | small}).flatmap(
    lambda start: st.dictionaries(st.sampled_from([*KEYS, *MORE_KEYS]), values, max_size=6).map(
        lambda rest: start | rest
    )
)


@given(st.lists(loose_events, max_size=12))
def test_no_event_is_so_odd_that_folding_it_raises(events: list[JsonObject]) -> None:
    accumulator = fold(*events)
    snapshot = accumulator.snapshot()
    accumulator.close_items("failed")
    assert isinstance(snapshot["output"], list)
    assert dumps(snapshot)


@pytest.mark.parametrize("data", [b"", b"[DONE]", b"[1]", b"null", b'"x"', b'{"type":', b"\xff", b"[" * 100_000])
def test_what_is_no_event_changes_nothing(data: bytes) -> None:
    accumulator = fold(envelope={})
    accumulator.add(data)
    assert accumulator.snapshot() == {"status": "in_progress", "output": []}


def test_a_lone_surrogate_in_a_delta_survives_the_fold() -> None:
    accumulator = fold()
    accumulator.add(b'{"type":"response.output_text.delta","delta":"\\ud83d"}')
    accumulator.add(b'{"type":"response.output_text.delta","delta":"\\ude00!"}')
    assert b"\\ud83d\\ude00!" in dumps(accumulator.snapshot())
