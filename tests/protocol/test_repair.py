"""The stream of one run: what the agent says -> what leaves, and how it ends."""

import pytest

from respool.proxy.protocol import events
from respool.proxy.protocol.envelope import Envelope
from respool.proxy.protocol.failure import NO_END, NO_REASON, Failure, failure_of
from respool.proxy.protocol.jsons import Json, JsonObject, dumps, loads
from respool.proxy.protocol.repair import Sequencer
from respool.proxy.protocol.sse import Message, split
from respool.store.status import Status
from tests.protocol import recorded
from tests.protocol.outgoing import (
    CREATED_AT,
    ENVELOPE,
    FIELDS,
    NOW,
    OURS,
    REFERENCE,
    TERMINAL,
    Told,
    check_order,
    folded,
    nameless,
    names,
    parsed,
    said,
    tell,
)
from tests.protocol.strict import read_strictly

MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
PART = {"type": "output_text", "text": "", "annotations": []}
WHOLE = {**MESSAGE, "status": "completed", "content": [{**PART, "text": "Hi"}]}

CREATED = said("created", response={"id": "theirs", "status": "in_progress", "output": []})
IN_PROGRESS = said("in_progress", response={"id": "theirs", "status": "in_progress", "output": []})
ADDED = said("output_item.added", output_index=0, item=MESSAGE)
ADDED_NEXT = said("output_item.added", output_index=1, item={**MESSAGE, "id": "msg_2"})
PART_ADDED = said("content_part.added", **PLACE, part=PART)
DELTA = said("output_text.delta", **PLACE, delta="Hi")
TEXT_DONE = said("output_text.done", **PLACE, text="Hi")
PART_DONE = said("content_part.done", **PLACE, part={**PART, "text": "Hi"})
ITEM_DONE = said("output_item.done", output_index=0, item=WHOLE)
ANSWER = [ADDED, PART_ADDED, DELTA, TEXT_DONE, PART_DONE, ITEM_DONE]
COMPLETED = said("completed", response={"id": "theirs", "status": "completed", "output": [WHOLE]})
FULL = [CREATED, IN_PROGRESS, *ANSWER, COMPLETED]

ANSWERED = [
    *("output_item.added", "content_part.added", "output_text.delta", "output_text.done"),
    *("content_part.done", "output_item.done"),
]


def check_form(told: Told, envelope: Envelope = ENVELOPE) -> None:
    """The order, and what a good agent leaves in its objects and items."""
    check_order(told, envelope)
    for event in told.events:
        if "response" in event:
            check_response(event["response"], envelope)
        if "item" in event:
            check_item(event["item"], envelope)


def check(told: Told, envelope: Envelope = ENVELOPE) -> None:
    """The form, and that the strict client takes it."""
    check_form(told, envelope)
    read_strictly(told.events)


def check_response(response: JsonObject, envelope: Envelope) -> None:
    assert response.get("response_id", envelope.id) == envelope.id
    assert (response.get("completed_at") is not None) is (response["status"] == "completed")
    error = response["error"]
    assert error is None or (
        set(error) == {"code", "message"} and all(isinstance(word, str) for word in error.values())
    )
    assert (error is not None) is (response["status"] == "failed")
    for item in response["output"]:
        check_item(item, envelope)


def check_item(item: JsonObject, envelope: Envelope) -> None:
    assert item["response_id"] == envelope.id
    assert item.get("agent_reference") is not None or "agent_reference" not in envelope.fields


# Recorded streams, all of them or one of each shape.

SHAPES = sorted({tuple(kind for kind, _ in recorded.messages(name)): name for name in recorded.STREAMS}.values())


@pytest.mark.parametrize("name", recorded.STREAMS)
def test_every_recorded_stream_leaves_well_formed(name: str) -> None:
    check_form(tell(recorded.messages(name)))


@pytest.mark.parametrize("name", SHAPES)
def test_every_recorded_stream_leaves_well_formed_after_a_begin_of_ours(name: str) -> None:
    sequencer = Sequencer(ENVELOPE, waiting=True)
    before = sequencer.begin()
    sequencer.waiting = False
    told = tell(recorded.messages(name), sequencer=sequencer, before=before)
    check(told)
    assert told.names[:3] == ["created", "queued", "in_progress"]
    assert told.names.count("in_progress") == 1


@pytest.mark.parametrize("name", SHAPES)
def test_every_recorded_stream_leaves_well_formed_when_it_is_cut(name: str) -> None:
    messages = recorded.messages(name)
    for cut in {len(messages) // 3, len(messages) // 2, len(messages) - 1} - {-1}:
        told = tell(messages[:cut], clean=False)
        check(told)
        assert told.ending.status is Status.FAILED


@pytest.mark.parametrize("name", SHAPES)
def test_a_recorded_stream_says_the_same_however_its_events_are_batched(name: str) -> None:
    whole, single = Sequencer(ENVELOPE), Sequencer(ENVELOPE)
    one_by_one = [frame for message in recorded.messages(name) for frame in single.take([message])]
    assert whole.take(recorded.messages(name)) == one_by_one


@pytest.mark.parametrize("name", SHAPES)
def test_what_the_agent_said_between_begin_and_end_is_told(name: str) -> None:
    lifecycle = {"created", "queued", "in_progress", *TERMINAL}
    theirs = [event for event in recorded.events(name) if event["type"].removeprefix("response.") not in lifecycle]
    told = [event for event in tell(recorded.messages(name)).events if event["type"] != "response.in_progress"]
    for event in theirs:
        if event["type"] != "error":
            assert any(_has(ours, event) for ours in told)


def _has(ours: JsonObject, theirs: JsonObject) -> bool:
    """Whether one of our events says all that one of theirs does, but for its number and stamps."""
    stamps = ("sequence_number", "item")
    return all(ours.get(key) == value for key, value in theirs.items() if key not in stamps) and all(
        ours["item"].get(key) == value
        for key, value in theirs.get("item", {}).items()
        if key not in ("response_id", "agent_reference")
    )


# Verdicts: the end of a stream without a terminal event.

ERROR = said("error", code="c", message="m")
OVER = (Status.COMPLETED, None)
CUT = (Status.FAILED, NO_END)


@pytest.mark.parametrize(
    ("messages", "clean", "verdict"),
    [
        ([], True, OVER),
        ([], False, CUT),
        ([CREATED, IN_PROGRESS], True, OVER),
        ([CREATED, IN_PROGRESS], False, CUT),
        ([CREATED, IN_PROGRESS, *ANSWER], True, OVER),
        ([CREATED, IN_PROGRESS, *ANSWER], False, CUT),
        ([CREATED, IN_PROGRESS, *ANSWER[:-1]], True, CUT),
        ([CREATED, IN_PROGRESS, *ANSWER[:3]], True, CUT),
        ([CREATED, IN_PROGRESS, *ANSWER, ADDED_NEXT], True, CUT),
        ([CREATED, *ANSWER, ERROR], True, (Status.FAILED, Failure("c", "m"))),
        ([CREATED, ERROR, *ANSWER], True, (Status.FAILED, Failure("c", "m"))),
        ([CREATED, *ANSWER, (b"", b"[DONE]")], False, CUT),
        ([CREATED, DELTA], True, CUT),
        ([CREATED, DELTA, TEXT_DONE], True, OVER),
        # Bare: nothing of a lifecycle, so that there is no end to miss.
        ([DELTA], True, OVER),
        ([DELTA, TEXT_DONE], True, OVER),
        ([DELTA], False, CUT),
        ([DELTA, (b"", b"[DONE]")], True, OVER),
        ([DELTA, (b"", b"[DONE]")], False, OVER),
        ([(b"", b"[DONE]")], True, OVER),
        ([(b"", b"[DONE]")], False, CUT),
        ([DELTA, ERROR, (b"", b"[DONE]")], True, (Status.FAILED, Failure("c", "m"))),
        ([(b"", b'{"error":"broke"}'), (b"", b"[DONE]")], True, (Status.FAILED, Failure("server_error", "broke"))),
    ],
)
def test_a_stream_without_a_terminal_event_is_judged(
    messages: list[Message], clean: bool, verdict: tuple[Status, Failure | None]
) -> None:
    sequencer = Sequencer(ENVELOPE)
    sequencer.take(messages)
    assert not sequencer.finished
    assert sequencer.verdict(clean=clean) == verdict
    told = tell(messages, clean=clean)
    check(told)
    assert told.ending.status is verdict[0]
    assert told.final["error"] == (verdict[1] and verdict[1].wire())


@pytest.mark.parametrize(
    ("name", "status", "texts"),
    [
        ("langgraph/idmix", "completed", 1),
        ("langgraph/empty", "completed", 0),
        ("core/noterm", "failed", 1),
        ("core/readme_sample", "completed", 1),
        ("core/failmid", "failed", 1),
        ("core/exitmid", "failed", 1),
    ],
)
def test_the_verdict_on_a_recorded_stream(name: str, status: str, texts: int) -> None:
    told = tell(recorded.messages(name))
    assert told.names[-1] == status
    assert len(told.final["output"]) == texts
    assert {item["status"] for item in told.final["output"]} <= {"completed", "incomplete"}


def test_partial_output_is_kept_and_marked() -> None:
    told = tell([CREATED, IN_PROGRESS, *ANSWER[:3]], clean=False)
    stamps = {"response_id": OURS, "agent_reference": REFERENCE}
    assert told.final["output"] == [
        {**MESSAGE, "status": "incomplete", "content": [{**PART, "text": "Hi"}], **stamps},
    ]
    assert told.final["error"] == NO_END.wire()


def test_an_end_that_somebody_else_decides() -> None:
    told = tell([CREATED, *ANSWER[:3]], stop=(Status.CANCELLED, None))
    check(told)
    assert told.names[-1] == "failed"
    assert (told.final["status"], told.final["error"], told.ending.status) == ("cancelled", None, Status.CANCELLED)
    assert "completed_at" not in told.final


def test_an_end_before_the_agent_has_spoken_has_all_that_precedes_it() -> None:
    told = tell([], stop=(Status.FAILED, Failure("upstream_timeout", "Late.")))
    check(told)
    assert told.names == ["created", "in_progress", "failed"]
    assert told.final["error"] == {"code": "upstream_timeout", "message": "Late."}


# The agent's own end.


def test_a_whole_stream_passes_with_our_stamps() -> None:
    told = tell(FULL)
    check(told)
    assert told.names == ["created", "in_progress", *ANSWERED, "completed"]
    item = {**WHOLE, "response_id": OURS, "agent_reference": REFERENCE}
    assert told.final == {**FIELDS, "status": "completed", "output": [item], "error": None, "completed_at": NOW}


def test_deltas_keep_their_bytes() -> None:
    odd = b'{"type": "response.output_text.delta", "sequence_number": 4,  "delta":"\\u0041", "n": 1.0, "logprobs":[]}'
    told = tell([CREATED, IN_PROGRESS, ADDED, PART_ADDED, (DELTA[0], odd), *ANSWER[3:], COMPLETED])
    assert split(told.frames[4])[1] == odd


@pytest.mark.parametrize(
    ("kind", "response", "status", "expected"),
    [
        ("completed", {"status": "completed", "completed_at": 5.0}, Status.COMPLETED, {"completed_at": 5}),
        ("completed", {"status": "completed", "completed_at": None}, Status.COMPLETED, {"completed_at": NOW}),
        ("completed", {}, Status.COMPLETED, {"status": "completed", "completed_at": NOW, "error": None}),
        ("completed", None, Status.COMPLETED, {"status": "completed", "output": []}),
        ("failed", {"status": "failed", "completed_at": 5}, Status.FAILED, {"completed_at": None}),
        ("failed", {}, Status.FAILED, {"status": "failed", "error": NO_REASON.wire()}),
        ("failed", {"error": None}, Status.FAILED, {"error": NO_REASON.wire()}),
        (
            "failed",
            {"error": {"code": "x", "message": "y", "type": "t", "param": None}},
            *(Status.FAILED, {"error": {"code": "x", "message": "y"}}),
        ),
        ("failed", {"error": "words"}, Status.FAILED, {"error": {"code": "server_error", "message": "words"}}),
        ("failed", {"status": "cancelled"}, Status.CANCELLED, {"status": "cancelled", "error": None}),
        (
            "incomplete",
            {"incomplete_details": {"reason": "max_output_tokens"}},
            *(Status.INCOMPLETE, {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}),
        ),
    ],
)
def test_the_agents_terminal_event(kind: str, response: Json, status: Status, expected: JsonObject) -> None:
    told = tell([CREATED, said(kind, response=response)])
    check(told)
    assert told.ending.status is status
    assert {key: told.final[key] for key in expected} == expected


def test_a_failure_without_words_takes_those_of_the_error_before_it() -> None:
    told = tell([CREATED, IN_PROGRESS, ADDED, ERROR, said("failed", response={"status": "failed", "output": []})])
    check(told)
    assert told.names[-2:] == ["error", "failed"]
    assert told.final["error"] == {"code": "c", "message": "m"}


def test_an_error_before_anything_else_is_not_told_but_ends_the_run() -> None:
    sequencer = Sequencer(ENVELOPE)
    assert sequencer.take([ERROR]) == []
    assert not sequencer.began
    assert sequencer.error == Failure("c", "m")
    assert sequencer.verdict(clean=True) == (Status.FAILED, Failure("c", "m"))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"type": "error", "code": "c", "message": "m", "param": "p"}, ("c", "m", "p")),
        ({"type": "error", "message": "m"}, ("server_error", "m", None)),
        ({"type": "error", "error": {"code": 500, "message": "m"}}, ("500", "m", None)),
        ({"type": "error", "error": "m"}, ("server_error", "m", None)),
        ({"error": "m"}, ("server_error", "m", None)),
        ({"type": "error"}, (NO_REASON.code, NO_REASON.message, None)),
        ({"type": "error", "code": None, "message": "", "param": ""}, (NO_REASON.code, NO_REASON.message, None)),
    ],
)
def test_an_error_is_told_flat(event: JsonObject, expected: tuple[str, str, str | None]) -> None:
    told = tell([CREATED, IN_PROGRESS, (b"", dumps(event))])
    code, message, param = expected
    assert told.events[2] == {"type": "error", "code": code, "message": message, "param": param, "sequence_number": 2}
    assert told.final["error"] == {"code": code, "message": message}


@pytest.mark.parametrize(
    ("value", "failure"),
    [
        (None, None),
        ({}, None),
        ("", None),
        (5, None),
        ([], None),
        ({"error": None}, None),
        ({"error": {"error": {"code": "c"}}}, Failure("c", NO_REASON.message)),
        ({"code": "server_error", "message": "boom"}, Failure("server_error", "boom")),
    ],
)
def test_what_an_agent_may_call_an_error(value: Json, failure: Failure | None) -> None:
    assert failure_of(value) == failure


@pytest.mark.parametrize("response", [{}, {"output": None}, None])
def test_an_output_that_the_end_leaves_out_is_that_of_the_events(response: Json) -> None:
    told = tell([*FULL[:-1], said("completed", response=response)])
    check(told)
    assert told.final["output"] == [{**WHOLE, "response_id": OURS, "agent_reference": REFERENCE}]


def test_an_empty_output_of_the_agent_is_its_last_word() -> None:
    assert tell([*FULL[:-1], said("failed", response={"output": []})]).final["output"] == []


def test_what_follows_the_end_is_dropped() -> None:
    sequencer = Sequencer(ENVELOPE)
    frames = sequencer.take([*FULL, ERROR, DELTA, said("failed"), (b"", b"nonsense")])
    assert sequencer.take([DELTA, (b"", b"[DONE]")]) == []
    assert names(frames) == ["created", "in_progress", *ANSWERED]
    assert not sequencer.bad
    assert sequencer.close(NOW).status is Status.COMPLETED


def test_closing_what_has_no_end_is_a_mistake_of_ours() -> None:
    with pytest.raises(RuntimeError):
        Sequencer(ENVELOPE).close(NOW)


# The beginning.


def snapshot(**fields: Json) -> JsonObject:
    return {"id": "theirs", "status": "in_progress", "output": [], "created_at": 1, **fields}


CREATED_QUEUED = said("created", response=snapshot(status="queued"))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([COMPLETED], []),
        ([CREATED], ["created"]),
        ([CREATED, IN_PROGRESS], ["created", "in_progress"]),
        ([CREATED, COMPLETED], ["created", "in_progress"]),
        ([CREATED, DELTA], ["created", "in_progress"]),
        ([CREATED, ERROR], ["created", "in_progress", "error"]),
        ([IN_PROGRESS], ["created", "in_progress"]),
        ([IN_PROGRESS, CREATED], ["created", "in_progress"]),
        ([CREATED, CREATED], ["created", "in_progress"]),
        ([CREATED, CREATED, IN_PROGRESS], ["created", "in_progress"]),
        ([CREATED_QUEUED, said("queued", response=snapshot()), IN_PROGRESS], ["created", "queued", "in_progress"]),
        ([said("queued", response=snapshot()), CREATED, IN_PROGRESS], ["created", "queued", "in_progress"]),
        ([said("queued", response=snapshot()), said("queued", response=snapshot())], ["created", "queued"]),
        ([CREATED, IN_PROGRESS, said("queued", response=snapshot())], ["created", "in_progress"]),
        ([CREATED, said("queued", response=snapshot()), DELTA], ["created", "in_progress"]),
        (
            [nameless("created", response=snapshot()), nameless("output_text.delta", delta="x")],
            ["created", "in_progress"],
        ),
    ],
)
def test_a_stream_begins_in_order(messages: list[Message], expected: list[str]) -> None:
    frames = Sequencer(ENVELOPE).take(messages)
    assert names(frames)[: len(expected)] == expected
    check(tell(messages))


def test_a_later_in_progress_that_says_something_new_is_told() -> None:
    news = said("in_progress", response=snapshot(usage={"n": 1}))
    assert names(Sequencer(ENVELOPE).take([CREATED, IN_PROGRESS, news])) == ["created", "in_progress", "in_progress"]


@pytest.mark.parametrize("status", ["queued", "in_progress", "completed", None])
def test_a_response_may_be_created_queued_and_nothing_else(status: str | None) -> None:
    frames = Sequencer(ENVELOPE).take([said("created", response=snapshot(status=status))])
    assert parsed(frames)[0]["response"]["status"] == ("queued" if status == "queued" else "in_progress")


def test_a_begin_of_ours_is_our_own_snapshot() -> None:
    sequencer = Sequencer(ENVELOPE)
    frames = sequencer.begin()
    assert parsed(frames) == [
        {
            "type": "response.created",
            "sequence_number": 0,
            "response": {**FIELDS, "status": "in_progress", "error": None, "output": []},
        }
    ]
    assert sequencer.began
    assert sequencer.begin() == []


@pytest.mark.parametrize("name", SHAPES)
def test_every_recorded_stream_of_a_run_that_waited_says_so_when_the_agent_speaks(name: str) -> None:
    sequencer = Sequencer(ENVELOPE, waiting=True)
    sequencer.waiting = False
    told = tell(recorded.messages(name), sequencer=sequencer)
    check(told)
    assert told.names[:3] == ["created", "queued", "in_progress"]
    assert [told.names.count(name) for name in ("created", "queued", "in_progress")] == [1, 1, 1]


@pytest.mark.parametrize("told_before", [True, False])
def test_a_run_that_ends_while_it_waits_was_never_in_progress(told_before: bool) -> None:
    sequencer = Sequencer(ENVELOPE, waiting=True)
    frames = sequencer.begin() if told_before else []
    frames += sequencer.preface()
    frames.append(sequencer.end(ENVELOPE.snapshot(Status.QUEUED), Status.CANCELLED, None, 1).frame)
    names = [event["type"] for event in parsed(frames)]
    assert names == ["response.created", "response.queued", "response.failed"]


def test_a_queued_begin_is_queued_from_its_first_event() -> None:
    sequencer = Sequencer(ENVELOPE, waiting=True)
    frames = sequencer.begin()
    assert [(event["type"], event["response"]["status"]) for event in parsed(frames)] == [
        ("response.created", "queued"),
        ("response.queued", "queued"),
    ]
    assert sequencer.begin() == []
    told = tell(FULL, sequencer=sequencer, before=frames)
    check(told)
    assert told.names[:4] == ["created", "queued", "in_progress", "output_item.added"]


@pytest.mark.parametrize("later", [{"created_at": 2}, {"status": "queued"}, {"completed_at": None, "error": None}])
def test_the_agents_created_is_merged_into_in_progress(later: JsonObject) -> None:
    sequencer = Sequencer(ENVELOPE)
    begun = sequencer.begin()
    said_first = said("created", response=snapshot(acme="kept"))
    said_then = said("in_progress", response=snapshot(acme="kept", **later))
    told = tell([said_first, said_then, *ANSWER, COMPLETED], sequencer=sequencer, before=begun)
    check(told)
    assert told.names == ["created", "in_progress", *ANSWERED, "completed"]
    assert told.events[1]["response"]["acme"] == "kept"


def test_the_answer_may_follow_a_merged_created_at_once() -> None:
    sequencer = Sequencer(ENVELOPE)
    told = tell([CREATED, *ANSWER, COMPLETED], sequencer=sequencer, before=sequencer.begin())
    check(told)
    assert told.names == ["created", "in_progress", *ANSWERED, "completed"]


# Who is who.


def test_the_agents_id_is_remembered_and_ours_is_told() -> None:
    sequencer = Sequencer(ENVELOPE)
    changing = said("in_progress", response=snapshot(id="another", response_id="another"))
    frames = sequencer.take([said("created", response=snapshot(response_id="theirs")), changing, *ANSWER])
    assert sequencer.agent_id == "theirs"
    assert all(b"theirs" not in frame and b"another" not in frame for frame in frames)
    assert [event["response"]["response_id"] for event in parsed(frames)[:2]] == [OURS, OURS]


def test_an_agent_without_an_id_has_none() -> None:
    sequencer = Sequencer(ENVELOPE)
    sequencer.take([said("created", response={"output": []}), DELTA])
    assert sequencer.agent_id is None


def test_the_previous_response_is_named_as_the_client_knows_it() -> None:
    envelope = Envelope({**FIELDS, "previous_response_id": "resp_before"})
    told = tell([said("created", response=snapshot(previous_response_id="theirs")), COMPLETED], envelope=envelope)
    check(told, envelope)
    assert {event["response"]["previous_response_id"] for event in told.events} == {"resp_before"}


def test_an_id_that_we_put_into_the_metadata_does_not_come_back() -> None:
    envelope = Envelope({**FIELDS, "metadata": {"a": "b"}}, "response_id")
    echo = {"metadata": {"a": "b", "response_id": "caresp_1"}}
    told = tell(
        [
            said("created", response=snapshot(**echo)),
            said("in_progress", response=snapshot()),
            said("completed", response=snapshot(**echo)),
        ],
        envelope=envelope,
    )
    assert [event["response"]["metadata"] for event in told.events] == [{"a": "b"}] * 3


def test_created_at_is_ours_and_never_changes() -> None:
    told = tell([said("created", response=snapshot(created_at=1.5)), said("completed", response=snapshot())])
    assert {event["response"]["created_at"] for event in told.events} == {CREATED_AT}


# Names and types.


@pytest.mark.parametrize("name", [b"message", b"data", b"response.output_text.delta", b""])
def test_the_type_in_the_data_counts_whatever_the_event_line_says(name: bytes) -> None:
    told = tell([(name, data) for _, data in FULL])
    check(told)
    assert told.names == ["created", "in_progress", *ANSWERED, "completed"]


def test_without_a_type_the_event_line_counts() -> None:
    messages = []
    for name, data in FULL:
        event = loads(data)
        del event["type"]
        messages.append((name, dumps(event)))
    told = tell(messages)
    check(told)
    assert told.names == ["created", "in_progress", *ANSWERED, "completed"]


def test_unknown_events_pass() -> None:
    acme = said("acme.thing", acme={"response": 1.0}, sequence_number=9)
    told = tell([CREATED, IN_PROGRESS, acme, (b"ping", b"{}"), (b"", b'{"type":"keepalive"}'), COMPLETED])
    assert told.names == ["created", "in_progress", "acme.thing", "ping", "keepalive", "completed"]
    assert told.events[2]["acme"] == {"response": 1.0}
    assert told.events[3] == {"type": "ping", "sequence_number": 3}


@pytest.mark.parametrize("kind", ["a\nb", "a\r\nb", "a\rb", 'a"b', "a\\b", "\ud800"])
def test_no_type_breaks_the_frame(kind: str) -> None:
    told = tell([CREATED, IN_PROGRESS, (b"", dumps({"type": kind})), COMPLETED])
    assert [frame.count(b"\n") for frame in told.frames] == [3] * 4
    assert b"\r" not in told.frames[2]
    assert [event["sequence_number"] for event in told.events] == [0, 1, 2, 3]


@pytest.mark.parametrize("data", [b"", b" ", b"{}"])
def test_what_says_nothing_is_nothing(data: bytes) -> None:
    sequencer = Sequencer(ENVELOPE)
    assert names(sequencer.take([CREATED, (b"", data), IN_PROGRESS])) == ["created", "in_progress"]
    assert not sequencer.bad


def test_an_empty_ping_ends_nothing() -> None:
    sequencer = Sequencer(ENVELOPE)
    assert len(sequencer.take([CREATED, IN_PROGRESS, (b"ping", b""), *ANSWER])) == 8
    assert not sequencer.bad


def test_several_lines_of_data_are_one() -> None:
    spread = (ADDED[0], b"\n".join(ADDED[1].partition(b",")[::2]).replace(b"\n", b",\n"))
    told = tell([CREATED, IN_PROGRESS, spread, *ANSWER[1:], COMPLETED])
    check(told)
    assert told.frames[2].count(b"\n") == 3


@pytest.mark.parametrize(
    "bad",
    [
        (b"", b"hello"),
        (b"response.output_text.delta", b"hello"),
        (b"response.output_text.delta", b'{"type":"response.output_text.delta","delta":"H'),
        (b"response.output_text.delta", b'{"type":"response.output_text.delta","sequence_number":3,"delta":"H'),
        (b"response.completed", b'{"type":"response.completed","response":{'),
        (b"", b"[1]"),
        (b"", b"null"),
    ],
)
def test_what_is_no_event_ends_the_run_and_keeps_what_came_before(bad: Message) -> None:
    sequencer = Sequencer(ENVELOPE)
    frames = sequencer.take([CREATED, IN_PROGRESS, *ANSWER[:3], bad, DELTA])
    assert sequencer.bad
    assert names(frames) == ["created", "in_progress", *ANSWERED[:3]]


@pytest.mark.parametrize("index", [[], {}, "0", None, -1, 1.5, True])
def test_odd_places_do_no_harm(index: Json) -> None:
    odd = {"output_index": index, "content_index": index}
    messages = [
        said("output_item.added", item=MESSAGE, **odd),
        said("content_part.added", part=PART, **odd),
        said("output_text.delta", delta="Hi", **odd),
        said("content_part.done", part=PART, **odd),
        said("output_item.done", item=WHOLE, **odd),
    ]
    check(tell([CREATED, *messages, COMPLETED]))


# Back and on.


def test_frames_that_were_not_written_are_taken_back() -> None:
    sequencer = Sequencer(ENVELOPE)
    written = sequencer.take([CREATED])
    mark = sequencer.mark()
    sequencer.take([IN_PROGRESS, *ANSWER[:3]])
    sequencer.rewind(mark)
    told = tell([], sequencer=sequencer, before=written, stop=(Status.CANCELLED, None))
    check(told)
    assert told.names == ["created", "in_progress", "failed"]


def test_a_terminal_event_that_was_not_written_gives_way_to_another_end() -> None:
    sequencer = Sequencer(ENVELOPE)
    mark = sequencer.mark()
    sequencer.take(FULL)
    sequencer.rewind(mark)
    frames = sequencer.preface()
    ending = sequencer.end(folded(frames).snapshot(), Status.CANCELLED, None, NOW)
    check(Told([*frames, ending.frame], ending))
    assert sequencer.seq == 3


@pytest.mark.parametrize(
    ("messages", "names_of_end"),
    [([], ["created", "in_progress", "failed"]), (FULL[:2], ["failed"]), (FULL[:5], ["failed"])],
)
def test_the_stream_of_an_orphan_goes_on_where_its_log_ends(messages: list[Message], names_of_end: list[str]) -> None:
    log = Sequencer(ENVELOPE).take(messages)
    sequencer = Sequencer.resumed(ENVELOPE, len(log))
    told = tell([], sequencer=sequencer, before=log, stop=(Status.FAILED, Failure("owner_lost", "Lost.")))
    check(told)
    assert told.names == [*names(log), *names_of_end]


def test_an_orphan_that_had_begun_gets_its_end_and_nothing_before_it() -> None:
    log = Sequencer(ENVELOPE).take([CREATED])
    sequencer = Sequencer.resumed(ENVELOPE, 1)
    told = tell([], sequencer=sequencer, before=log, stop=(Status.FAILED, Failure("owner_lost", "Lost.")))
    assert told.names == ["created", "failed"]
    assert told.final["error"] == {"code": "owner_lost", "message": "Lost."}
    read_strictly(told.events)


def test_terminal_names_are_the_three_of_the_wire() -> None:
    assert {name.decode() for name in events.TERMINAL} == {f"response.{name}" for name in TERMINAL}
