"""Cases without end for what reads bytes of strangers: each is made of choices, and fails where a promise breaks.

By chance in `test_fuzz.py`, by coverage in `by_coverage.py`.
"""

import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from respool.proxy.protocol import body as bodies
from respool.proxy.protocol import numbering
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.jsons import JsonObject, dumps, loads
from respool.proxy.protocol.sse import encode, split
from tests.protocol.outgoing import check_order, said, tell
from tests.protocol.test_repair import ANSWER, CREATED, FULL, IN_PROGRESS, PLACE, WHOLE
from tests.protocol.test_sse import BLOCKS, ODD_BYTES, TOKENS, decode, pieces_of, reference

Thing = TypeVar("Thing")


class Choice(Protocol):
    """Where the decisions come from."""

    def below(self, limit: int) -> int:
        """A number from 0, smaller than `limit`."""


class Chance:
    """Decisions by chance."""

    def __init__(self, seed: int) -> None:
        self.below = random.Random(seed).randrange


def one_of(choice: Choice, things: Sequence[Thing]) -> Thing:
    return things[choice.below(len(things))]


# --- the decoder

_SSE = [*TOKENS, *BLOCKS, *ODD_BYTES]
_SSE += [b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\xc2\x85", b"\x0b", b"\x0c", b"\x1c", b"\x1e", b"\xf0\x9f", b"\xc3\xa9"]
_SSE += [
    b"retry: 10\n",
    b"id: 1\n",
    b"id\n",
    b":\n",
    b"data\n",
    b"event\n",
    b"data:x\r",
    b"event:y\r\n",
    b"data: [DONE]\n\n",
]


def sse(choice: Choice) -> None:
    """Any bytes at any cuts give the events that the standard's algorithm gives."""
    stream = b"".join(one_of(choice, _SSE) for _ in range(choice.below(20)))
    places = [choice.below(len(stream) + 1) for _ in range(choice.below(6))]
    assert decode(pieces_of(stream, places)) == (reference(stream), None), (stream, places)


# --- the body of a create

_KEYS = [*bodies._TYPES, "response_id", "agent_reference", "x", "", "é", "\ud800", 'a"b', "str\\u0065am"]
_TEXTS = ["", "m", "\ud800", "\0", "a\nb", "caresp_" + "a" * 50, "é\u2028", "x" * 513, '"', "\\"]
_RAW = [
    b"1e400",
    b"-0",
    b"1.50",
    b"123456789012345678901234567890",
    b"NaN",
    b"[" * 40 + b"]" * 40,
    b'"\\ud800"',
    b"nul",
]
_NOISE = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"1", b"e"]


def _value(choice: Choice, depth: int = 0) -> bytes:
    match choice.below(9 if depth < 3 else 6):
        case 0:
            return one_of(choice, [b"true", b"false", b"null", b"0", b"1"])
        case 1 | 2:
            return dumps(one_of(choice, _TEXTS))
        case 3:
            return one_of(choice, _RAW)
        case 4 | 5:
            return one_of(choice, [b"{}", b"[]", b'{"id":"c"}', b'{"name":"n","type":"agent_reference"}'])
        case 6:
            return b"[" + b",".join(_value(choice, depth + 1) for _ in range(choice.below(4))) + b"]"
        case _:
            return _object(choice, depth + 1)


def _object(choice: Choice, depth: int = 0) -> bytes:
    space = one_of(choice, [b"", b" ", b"\n\t"])
    members = [
        dumps(one_of(choice, _KEYS)) + space + b":" + space + _value(choice, depth) for _ in range(choice.below(6))
    ]
    return b"{" + space + b",".join(members) + space + b"}"


def body(choice: Choice) -> None:
    """Any body is refused with 400, or the agent gets what the client sent but for what we change."""
    raw = _object(choice)
    for _ in range(choice.below(3) * choice.below(2)):
        at = choice.below(len(raw) + 1)
        raw = raw[:at] + one_of(choice, _NOISE) + raw[at + choice.below(3) :]
    try:
        value = bodies.parse(raw)
        bodies.check(value)
        sent = bodies.for_agent(raw, value, stream=True, previous_id="p", model="m", metadata_id="i")
        dumps(bodies.envelope_fields(value))
    except WireError as error:
        if error.http_status != 400:
            raise
        dumps(error.body("r"))
        return
    changed = {"stream": True, "previous_response_id": "p", "model": value.get("model") or "m"}
    metadata: JsonObject = {"metadata": {"response_id": "i", **(value.get("metadata") or {})}}
    kept = {key: member for key, member in value.items() if key != "background"}
    assert dumps(loads(sent)) == dumps(_in_order(kept, {**changed, **metadata}, loads(sent))), raw


def _in_order(kept: JsonObject, changed: JsonObject, sent: JsonObject) -> JsonObject:
    """Equal as JSON is: the order of keys, which the other tests look at, does not count here."""
    wanted = {**kept, **changed}
    assert set(wanted) == set(sent)
    return {key: {name: wanted[key][name] for name in sent[key]} if key == "metadata" else wanted[key] for key in sent}


# --- a run

_PIECES = [
    *FULL,
    *ANSWER,
    said("failed", response={"id": "x", "status": "failed", "error": {"code": "c", "message": "m"}}),
    said("incomplete", response={"status": "incomplete"}),
    said("completed", response={"status": "failed", "output": None}),
    said("completed", response=None),
    said("completed"),
    said("created", response={"id": 7, "status": "completed", "created_at": "x", "output": "none"}),
    said("queued", response={"status": "queued"}),
    said("in_progress", response={"status": "cancelled", "metadata": 3}),
    said("error", code="c", message="m"),
    said("error", error={"code": 1, "message": None}),
    said("output_text.delta", **{**PLACE, "output_index": -1}, delta="x"),
    said("output_text.delta", **{**PLACE, "output_index": 10**30}, delta=5),
    said("output_text.delta", delta="bare"),
    said("output_text.delta", **{**PLACE, "content_index": "0"}, delta="\ud800\u2028"),
    said("output_item.added", output_index="1", item="none"),
    said("output_item.added", output_index=2, item={"type": "function_call", "id": 4}),
    said("output_item.done", output_index=0, item={**WHOLE, "content": None}),
    said("content_part.added", item_id=None, output_index=None, content_index=None, part=None),
    said("function_call_arguments.delta", item_id="f", output_index=3, delta="{"),
    said("reasoning_summary_text.delta", item_id="r", output_index=0, summary_index=0, delta="r"),
    said("unknown.event", sequence_number=-5, x=[{}]),
    (b"", b"[DONE]"),
    (b"ping", b""),
    (b"", b'{"type":"a\\nevent: response.completed"}'),
    (b"response.output_text.delta", b'{"delta":"x","sequence_number":"7"}'),
    (b"", b'{"sequence_number":1,"type":"response.output_text.delta","sequence_number":2,"delta":"y"}'),
    (b"x", b"no json"),
    (b"x", b"[]"),
    (b"", b'{"type":5}'),
    (b"", b'{"type":"response.completed","response":{"status":"completed","output":[1,null,{"type":null}]}'),
]


def run(choice: Choice) -> None:
    """Whatever an agent says, what leaves is well-formed, and one stream however it arrived."""
    messages = [one_of(choice, _PIECES) for _ in range(choice.below(14))]
    if choice.below(2):
        messages = [CREATED, IN_PROGRESS, *messages]
    told = tell(messages, clean=bool(choice.below(2)))
    check_order(told)
    for frame in told.frames:
        assert decode([frame]) == ([split(frame)], None)


# --- numbers that are spliced in

_DELTAS = [b'"delta":"x"', b'"delta":"\\"sequence_number\\":9"', b'"sequence_number":3', b'"sequence_number": 12 ']
_DELTAS += [
    b'"type":"response.output_text.delta"',
    b'"a":{"sequence_number":4}',
    b'"sequence_number":-1',
    b'"b":[1,{}]',
]


def renumber(choice: Choice) -> None:
    """A delta that is numbered without being parsed is, but for its number, what it was."""
    space = one_of(choice, [b"", b" "])
    data = b"{" + (b"," + space).join(one_of(choice, _DELTAS) for _ in range(1 + choice.below(5))) + b"}"
    number = choice.below(10**6)
    name = b"response.output_text.delta"
    numbered = numbering.renumber_unparsed(name, data, number)
    if numbered is not None:
        assert loads(numbered) == {**loads(data), "sequence_number": number}, data
        assert encode(name, numbered).count(b"\n") == 3


CASES: dict[str, Callable[[Choice], None]] = {"sse": sse, "body": body, "run": run, "renumber": renumber}
