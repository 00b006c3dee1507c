"""Large events: what leaves is to the byte what would leave if they were handled like small ones."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respool.proxy.protocol import repair, shortened, sse
from respool.proxy.protocol.envelope import Envelope
from respool.proxy.protocol.numbering import renumber
from respool.proxy.protocol.repair import Sequencer
from respool.proxy.protocol.shortened import Shortened
from respool.proxy.protocol.sse import Decoder, Message, encode
from tests.protocol import recorded
from tests.protocol.outgoing import ENVELOPE, FIELDS, nameless, said, tell

MIB = 2**20
LONG = "long " * 40_000
TEXT = json.dumps(LONG).encode()


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event is a large one, and strings are long that are longer than any id or type."""
    monkeypatch.setattr(repair, "LARGE_BYTES", 0)
    monkeypatch.setattr(shortened, "_LONG_BYTES", 80)


_TEXTS = frozenset({"delta", "text", "arguments", "message", "instructions", "before", "after", "theirs", "refusal"})


def grown(value: Any, key: str = "") -> Any:
    """The same with its texts 50 times as long."""
    if isinstance(value, dict):
        return {name: grown(member, name) for name, member in value.items()}
    if isinstance(value, list):
        return [grown(element, key) for element in value]
    return value * 50 if isinstance(value, str) and key in _TEXTS else value


@pytest.fixture
def short_strings_are_long() -> Iterator[None]:
    before, shortened._LONG_BYTES = shortened._LONG_BYTES, 6
    yield
    shortened._LONG_BYTES = before


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=30)
    | st.sampled_from(["~0~", "~0~0:8:", '"~0~'])
    # What an agent could send to be taken for a mark.
    | st.text(alphabet='~0:"\\', max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=12), json_values, max_size=5)


@pytest.mark.usefixtures("short_strings_are_long")
@given(objects, st.booleans(), st.booleans())
def test_the_strings_return_to_their_places(value: dict[str, Any], is_ascii: bool, in_place: bool) -> None:
    data = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    short = Shortened(bytearray(data) if in_place else data)
    json.loads(short.text.decode("utf-8", "surrogatepass"))
    assert short.copied(short.text) == data
    assert short.whole([b"{}", short.text, short.text]) == [b"{}", data, data]


@pytest.mark.usefixtures("short_strings_are_long")
@given(objects, st.integers(0, 10**9))
def test_an_edit_of_the_short_text_is_an_edit_of_the_event(value: dict[str, Any], seq: int) -> None:
    data = json.dumps(value).encode()
    short = Shortened(bytearray(data))
    assert short.whole([encode(b"name", renumber(b"name", short.text, seq))]) == [
        encode(b"name", renumber(b"name", data, seq))
    ]


def test_a_large_event_is_edited_where_it_is() -> None:
    data = bytearray(b'{"type":"t","a":%b,"sequence_number":7,"b":[%b,1]}' % (TEXT, TEXT))
    expected = bytes(data).replace(b":7,", b":70000,")
    short = Shortened(data)
    assert len(short.text) < 200
    [edited] = short.whole([short.text.replace(b":7,", b":70000,")])
    assert edited is data
    assert edited == expected


@pytest.mark.parametrize("text", [b"[%b,%b]", b"[%b]", b"[]"])
def test_strings_that_are_moved_dropped_or_repeated_are_copied(text: bytes) -> None:
    other = TEXT.replace(b"long", b"tall")
    short = Shortened(bytearray(b"[%b,%b]" % (TEXT, other)))
    marks = json.loads(short.text)
    moved = [json.dumps(mark).encode() for mark in reversed(marks)][: text.count(b"%b")]
    assert short.whole([text % tuple(moved)]) == [text % tuple([other, TEXT][: len(moved)])]


def test_many_long_strings_are_copied_rather_than_moved() -> None:
    data = b"[" + b",".join([TEXT] * 50) + b"]"
    assert Shortened(bytearray(data)).whole([Shortened(data).text]) == [data]


def test_what_looks_like_a_mark_elsewhere_is_none() -> None:
    mark = json.loads(Shortened(b"[%b]" % TEXT).text)[0]
    for apart_from in (b"", json.dumps([mark]).encode()):
        short = Shortened(b'["~0~",%b]' % TEXT if not apart_from else b"[%b]" % TEXT, apart_from)
        assert json.dumps(mark).encode() not in short.text


@pytest.mark.parametrize("bad", [b"\x01", b"\n", rb"\x", rb"\u12g4", b"\\"])
def test_a_string_that_is_none_stays_to_fail_where_it_is_parsed(bad: bytes) -> None:
    data = b'{"a":"%b%b"}' % (b"x" * 200_000, bad)
    assert Shortened(data).text == data


# The same through the sequencer.


def same(messages: list[Message], monkeypatch: pytest.MonkeyPatch, envelope: Envelope = ENVELOPE) -> None:
    messages = [(name, _grown(data)) for name, data in messages]
    expected = tell(messages, envelope=envelope)
    with monkeypatch.context() as patch:
        patch.setattr(repair, "LARGE_BYTES", 0)
        patch.setattr(shortened, "_LONG_BYTES", 80)
        for kind in (bytes, bytearray):
            told = tell([(name, kind(data)) for name, data in messages], envelope=envelope)  # type: ignore[misc]
            assert told.frames == expected.frames
            assert (told.ending.result, told.ending.status) == (expected.ending.result, expected.ending.status)


def _grown(data: bytes) -> bytes:
    try:
        return json.dumps(grown(json.loads(data))).encode()
    except ValueError:
        return data


@pytest.mark.parametrize("name", recorded.STREAMS)
def test_every_recorded_stream_leaves_as_if_its_events_were_small(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    same(recorded.messages(name), monkeypatch)


ITEM = {
    "type": "message",
    "id": "msg_theirs",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello"}],
}
STREAMS: dict[str, list[Message]] = {
    "bare deltas": [said("output_text.delta", delta="Hello"), said("output_text.delta", delta=" there")],
    "bare deltas without names": [nameless("output_text.delta", delta="Hello"), nameless("completed", response={})],
    "an item without a beginning": [said("output_item.done", item=ITEM), said("completed", response={"id": "theirs"})],
    "an item without an index": [
        said("output_item.added", item={**ITEM, "content": []}),
        said("output_text.delta", delta="Hello there"),
        said("output_item.done", item=ITEM),
    ],
    "text elsewhere": [
        said("output_item.added", item={**ITEM, "content": []}, output_index=0),
        said("output_text.delta", delta="Hello", output_index=0, content_index=0),
        said("output_text.done", text="Hello there", output_index=5),
        said("output_text.delta", delta="Hello again"),
    ],
    "an error": [said("created", response={}), said("error", code="their code", message="their message")],
    "an error without a name": [said("created", response={}), (b"", b'{"error":{"message":"their message"}}')],
    "a failure": [said("failed", response={"error": {"code": "their code", "message": "their message"}})],
    "a failure after an error": [said("error", message="their message"), said("failed", response={})],
    "created twice": [
        said("created", response={"instructions": "Be good"}),
        said("created", response={"instructions": "Be good"}),
        said("in_progress", response={"instructions": "Be better"}),
    ],
    "long members around the response": [
        (b"", b'{"type":"response.completed","before":"Hello","response":{"a":"there"},"after":"again"}')
    ],
    "no JSON": [said("created", response={}), (b"response.odd", b'{"a":"Hello"')],
    "no object": [said("created", response={}), (b"response.odd", b'"Hello"')],
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_leaves_as_if_its_events_were_small(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    same(STREAMS[name], monkeypatch)


@pytest.mark.usefixtures("all_large")
def test_an_id_in_the_metadata_is_hidden_in_large_events_too() -> None:
    metadata = {"response_id": "resp_ours", "theirs": "their value" * 20}
    told = tell([said("completed", response={"metadata": metadata})], envelope=Envelope(FIELDS, "response_id"))
    assert told.final["metadata"] == {"theirs": "their value" * 20}


@pytest.mark.usefixtures("all_large")
def test_the_final_object_of_a_large_event_is_no_copy() -> None:
    item = grown(ITEM)
    data = bytearray(said("completed", response={"output": [item]})[1])
    told = tell([(b"response.completed", data)])  # type: ignore[list-item]
    assert told.ending.frame is data
    assert isinstance(told.ending.result, memoryview)
    assert json.loads(bytes(told.ending.result))["output"][0]["content"] == item["content"]


# The same in the decoder.


def decoded(stream: bytes, places: list[int], limit: int = 2**24) -> tuple[list[Message], int | None]:
    decoder, found = Decoder(limit, 2 * limit), []
    cuts = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    try:
        for start, end in pairwise(cuts):
            found += decoder.feed(stream[start:end])
    except sse.EventTooLarge as error:
        return [*found, *error.messages], error.limit
    return found, None


blocks = st.lists(
    st.sampled_from(
        [
            b"event: response.a\ndata: {12345678}\n\n",
            b"data: {12345678}\n\n",
            b"data:{12345678}\r\n\r\n",
            b"event: response.a\rdata: {}\r\r",
            b": a comment\n\n",
            b"data: one\ndata: two\n\n",
            b"\n",
            "data: {\u2028\U0001f600 1234}\n\n".encode(),
            b"data: {\xff\xf0\x9f 1234}\n\n",
            b"event: response.completed\ndata: {1234567890}\n\n",
            b"id: 7\nretry: 8\n\n",
        ]
    ),
    max_size=6,
).map(b"".join)


@given(blocks, st.lists(st.integers(0, 150), max_size=8), st.sampled_from([2**24, 12, 8, 0]))
def test_large_events_are_decoded_as_small_ones(stream: bytes, places: list[int], limit: int) -> None:
    expected = decoded(stream, places, limit)
    before, sse.LARGE_BYTES = sse.LARGE_BYTES, 4
    try:
        found = decoded(stream, places, limit)
    finally:
        sse.LARGE_BYTES = before
    assert found == expected


@pytest.mark.parametrize("text", ["x", "\u00e9", "\u4e16", "\U0001f600"])
def test_a_large_event_of_any_text_is_decoded_without_a_copy(text: str) -> None:
    data = b'{"delta":"%b"}' % (text * 500_000 + "x" * 3 * MIB).encode()
    stream = encode(b"response.output_text.delta", data)
    decoder = Decoder(2**24, 2**28)
    found = [message for at in range(0, len(stream), 100_001) for message in decoder.feed(stream[at : at + 100_001])]
    assert found == [(b"response.output_text.delta", data)]
    assert isinstance(found[0][1], bytearray)


def test_a_large_event_that_is_torn_leaves_nothing_behind() -> None:
    sequencer = Sequencer(ENVELOPE)
    sequencer.take([said("created", response={})])
    assert sequencer.take([(b"response.odd", b'{"a":%b' % (TEXT * 10))]) == []
    assert sequencer.bad
