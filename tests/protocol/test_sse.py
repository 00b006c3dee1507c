"""Server-sent events: whatever the cuts, the same events; limits; and the frame that goes out again."""

import re
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respool.proxy.protocol.jsons import loads
from respool.proxy.protocol.sse import FRAMING_BYTES, Decoder, EventTooLarge, Message, encode, split
from tests.protocol import recorded

MIB = 2**20
LARGE = 2**24

CASES: dict[str, tuple[bytes, list[Message]]] = {
    "a usual event": (b"event: a\ndata: {}\n\n", [(b"a", b"{}")]),
    "two usual events": (b"event: a\ndata: 1\n\nevent: b\ndata: 2\n\n", [(b"a", b"1"), (b"b", b"2")]),
    "no event line": (b'data: {"type":"a"}\n\ndata: 2\n\n', [(b"", b'{"type":"a"}'), (b"", b"2")]),
    "with and without event lines": (b"data: 1\n\nevent: b\ndata: 2\n\n", [(b"", b"1"), (b"b", b"2")]),
    "no space after the colon": (b"event:a\ndata:{}\n\n", [(b"a", b"{}")]),
    "only one space is taken off": (b"event:  a\ndata:  {}\n\n", [(b" a", b" {}")]),
    "several data lines": (b"event: a\ndata: [1,\ndata:2]\n\n", [(b"a", b"[1,\n2]")]),
    "data before the name": (b"data: 1\nevent: a\n\n", [(b"a", b"1")]),
    "the last name counts": (b"event: a\nevent: b\ndata: 1\n\n", [(b"b", b"1")]),
    "a name is forgotten after its event": (b"event: a\n\ndata: 1\n\n", [(b"", b"1")]),
    "id and retry": (b"id: 7\nevent: a\nretry: 3\ndata: 1\nid\n\nretry: 3000\n\n", [(b"a", b"1")]),
    "an id amid a usual event": (b"event: a\nid: 7\ndata: 1\n\n", [(b"a", b"1")]),
    "comments": (b": keep-alive\n\n:\n: x\nevent: a\n:y\ndata: 1\n:z\n\n: data: 2\n\n", [(b"a", b"1")]),
    "an event without data": (b"event: ping\n\nevent: a\ndata: 1\n\n", [(b"a", b"1")]),
    "empty data": (
        b"data\n\ndata:\n\nevent: a\ndata: \n\ndata:\ndata:\n\n",
        [(b"", b"")] * 2 + [(b"a", b""), (b"", b"\n")],
    ),
    "many blank lines": (b"\n\n\nevent: a\ndata: 1\n\n\n\n\ndata: 2\n\n\n", [(b"a", b"1"), (b"", b"2")]),
    "unknown fields": (b"dat: 1\ndata : 1\n data: 1\nevent: a\ndata: 2\nDATA: 3\n\n", [(b"a", b"2")]),
    "a field that ends like a known one": (b"xevent: a\ndata: 1\n\nevent: a\nxdata: 1\n\n", [(b"", b"1")]),
    "a frame within data": (b"data: event: a\ndata: data: 1\n\n", [(b"", b"event: a\ndata: 1")]),
    "a colon in the value": (b'event: a:b\ndata: {"x": ":"}\n\n', [(b"a:b", b'{"x": ":"}')]),
    "done marker": (b"data: 1\n\ndata: [DONE]\n\n", [(b"", b"1"), (b"", b"[DONE]")]),
    "byte order mark": (b"\xef\xbb\xbfevent: a\ndata: 1\n\n", [(b"a", b"1")]),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbfdata: 0\n\ndata: 1\n\n", [(b"", b"1")]),
    "half a byte order mark": (b"\xef\xbbdata: 0\n\ndata: 1\n\n", [(b"", b"1")]),
    "a byte order mark later on": (b"data: \xef\xbb\xbf1\n\n", [(b"", b"\xef\xbb\xbf1")]),
    "line separators of Unicode": (
        "data: a\u2028b\u2029c\u0085d\x0b\x0c\x1c\n\n".encode(),
        [(b"", "a\u2028b\u2029c\u0085d\x0b\x0c\x1c".encode())],
    ),
    "characters of many bytes": ("event: ä\ndata: €😀\n\n".encode(), [("ä".encode(), "€😀".encode())]),
    "bytes that are no UTF-8": (
        b"event: a\ndata: \xff|\xc3|\xe2\x82|\xed\xa0\x80\n\n",
        [(b"a", "\ufffd|\ufffd|\ufffd|\ufffd\ufffd\ufffd".encode())],
    ),
    "a character cut off by the end of the line": (
        b"data: \xe2\x82\ndata: \xac\n\n",
        [(b"", "\ufffd\n\ufffd".encode())],
    ),
    "zero bytes": (b"event: a\ndata: \x00\n\n", [(b"a", b"\x00")]),
    "an unfinished event": (b"event: a\ndata: 1\n\nevent: b\ndata: 2\n", [(b"a", b"1")]),
    "nothing": (b"", []),
}

TOKENS = [b"data", b"event", b"id", b":", b" ", b"x", b"\n", b"\r", b"\r\n", b"\n\n", b"\ndata: ", b"event: e\n"]
BLOCKS = [b"event: e\ndata: {}\n\n", b"data: {}\n\n", b": c\n\n"]
ODD_BYTES = [b"\xef\xbb\xbf", b"\xe2\x80", b"\xa8", b"\xff", b"\x00"]
streams = st.lists(st.sampled_from([*TOKENS, *BLOCKS, *ODD_BYTES]), max_size=24).map(b"".join)


def reference(stream: bytes) -> list[Message]:
    """The standard's algorithm, to the letter, over a stream that is whole."""
    lines = re.split("\r\n|\n|\r", stream.decode("utf-8", "replace").removeprefix("\ufeff"))[:-1]
    found, name, data = [], "", ""
    for line in lines:
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                found.append((name.encode(), data.removesuffix("\n").encode()))
            name, data = "", ""
        elif key == "event":
            name = value
        elif key == "data":
            data += value + "\n"
    return found


def decode(
    pieces: Iterable[bytes], limit: int = LARGE, terminal_limit: int = LARGE
) -> tuple[list[Message], int | None]:
    """Everything that came out, and the limit that was exceeded, if one was."""
    decoder, found = Decoder(limit, terminal_limit), list[Message]()
    for piece in pieces:
        try:
            found += decoder.feed(piece)
        except EventTooLarge as error:
            return found + error.messages, error.limit
    return found, None


def cut(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def pieces_of(stream: bytes, places: Iterable[int]) -> list[bytes]:
    cuts = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(cuts)]


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
@pytest.mark.parametrize("case", CASES)
def test_a_stream_is_understood_however_it_is_cut(case: str, line_end: bytes) -> None:
    stream, expected = CASES[case]
    stream = stream.replace(b"\n", line_end)
    assert decode([stream]) == (expected, None)
    assert decode(cut(stream, 1)) == (expected, None)
    for at in range(len(stream)):
        assert decode([stream[:at], b"", stream[at:]]) == (expected, None)


@pytest.mark.parametrize("case", CASES)
def test_the_reference_of_these_tests_agrees_with_the_table(case: str) -> None:
    stream, expected = CASES[case]
    assert reference(stream) == expected


@given(streams, st.lists(st.integers(0, 200), max_size=8))
def test_any_bytes_give_what_the_standard_says_at_any_cuts(stream: bytes, places: list[int]) -> None:
    assert decode(pieces_of(stream, places)) == (reference(stream), None)


@given(streams, st.lists(st.integers(0, 200), max_size=8), st.integers(0, 12), st.integers(0, 12))
def test_limits_do_not_depend_on_the_cuts(stream: bytes, places: list[int], limit: int, terminal_limit: int) -> None:
    stream += b"event: response.failed\ndata: 12345678\n\n"
    assert decode(pieces_of(stream, places), limit, terminal_limit) == decode([stream], limit, terminal_limit)


@pytest.mark.parametrize("name", recorded.STREAMS)
def test_a_recorded_stream_comes_out_as_it_went_in(name: str) -> None:
    stream = recorded.body(name)
    found, _ = decode(cut(stream, 7))
    assert found == decode([stream])[0] == reference(stream)
    whole = stream[: stream.rfind(b"\n\n") + 2] if found else b""
    assert b"".join(encode(*message) for message in found) == whole.replace(b": keep-alive\n\n", b"")


@pytest.mark.parametrize(
    ("stream", "pending"),
    [
        (b"", False),
        (b"data: 1\n\n", False),
        (b"data: 1\n\n: bye\n", False),
        (b"data: 1\n\n: by", False),
        (b"data: 1\n\n\n", False),
        (b"data: 1\n", True),
        (b"data: 1\n\ndat", True),
        (b"data: 1\r\n\r\nevent: a\r\n", True),
    ],
)
def test_the_end_of_the_stream_tells_whether_an_event_was_lost(stream: bytes, pending: bool) -> None:
    decoder = Decoder(LARGE, LARGE)
    for piece in cut(stream, 1):
        decoder.feed(piece)
    assert decoder.pending is pending


def test_an_event_comes_out_before_the_line_feed_of_a_last_carriage_return() -> None:
    decoder = Decoder(LARGE, LARGE)
    assert decoder.feed(b"data: 1\r\n\r") == [(b"", b"1")]
    assert decoder.feed(b"\ndata: 2\r\r") == [(b"", b"2")]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [65_536, 16 * MIB + 100])
def test_sixteen_mebibytes_pass_and_one_byte_more_does_not(size: int, line_end: bytes) -> None:
    head, tail = b"event: response.output_item.done" + line_end + b"data: ", line_end * 2
    full = b"x" * (16 * MIB)
    assert decode(cut(head + full + tail, size), 16 * MIB) == ([(b"response.output_item.done", full)], None)
    assert decode(cut(head + full + b"x" + tail, size), 16 * MIB) == ([], 16 * MIB)


def test_the_limit_is_on_the_data_and_not_on_its_lines() -> None:
    assert decode([b"event: a\ndata: 12\ndata: 45\n\n"], limit=5) == ([(b"a", b"12\n45")], None)
    assert decode([b"event: a\ndata: 12\ndata: 456\n\n"], limit=5) == ([], 5)


def test_an_event_that_never_ends_is_not_held() -> None:
    pieces = iter([b"data: ", *[b"x" * 1024] * 1000])
    assert decode(pieces, limit=100) == ([], 100)
    assert len(list(pieces)) > 900


def test_comments_without_end_are_not_held() -> None:
    assert decode([b": x\n" * FRAMING_BYTES], limit=100) == ([], 100)


@pytest.mark.parametrize("size", [1000, 10 * FRAMING_BYTES])
def test_an_event_with_too_much_beside_its_data_is_too_large(size: int) -> None:
    stream = b": x\n" * (FRAMING_BYTES // 4) + b"data: 123456\n\n"
    assert decode(cut(stream, size), limit=6) == ([], 6)
    assert decode(cut(stream, size), limit=100) == ([(b"", b"123456")], None)


def test_what_came_before_a_large_event_is_delivered() -> None:
    assert decode([b"data: 1\n\n", b"data: 2\n\ndata: 123456\n\ndata: 3\n\n"], limit=5) == (
        [(b"", b"1"), (b"", b"2")],
        5,
    )
    endless = b"data: 2\n\ndata: " + b"x" * (FRAMING_BYTES + 10)
    assert decode([endless], limit=5) == ([(b"", b"2")], 5)


@pytest.mark.parametrize("large", [b"data: 123456\n\n", b"data: " + b"x" * (FRAMING_BYTES + 10)])
def test_nothing_comes_after_a_large_event(large: bytes) -> None:
    decoder = Decoder(5, 5)
    with pytest.raises(EventTooLarge):
        decoder.feed(large)
    assert decoder.feed(b"\n\ndata: 1\n\n") == []
    assert not decoder.pending


@pytest.mark.parametrize(
    ("head", "is_terminal"),
    [
        (b"event: response.completed\ndata: ", True),
        (b"event:response.failed\ndata: ", True),
        (b": keep-alive\nid: 3\nevent: response.incomplete\ndata: ", True),
        (b'data: {"type":"response.completed"}', True),
        (b'data:{"sequence_number": 3, "type" : "response.failed"}', True),
        (b'event:\ndata: {"type":"response.incomplete"}', True),
        (b"event: response.output_item.done\ndata: ", False),
        (b"event: response.completed.x\ndata: ", False),
        (b'event: x\ndata: {"type":"response.completed"}', False),
        (b'data: {"delta":"\\"type\\":\\"response.completed\\""}', False),
        (b'data: {"a":"' + b"x" * 512 + b'","type":"response.completed"}', False),
    ],
)
@pytest.mark.parametrize("size", [1000, 2 * MIB])
def test_a_terminal_event_has_a_limit_of_its_own(head: bytes, is_terminal: bool, size: int) -> None:
    stream = head + b"x" * MIB + b"\n\n"
    found, limit = decode(cut(stream, size), 10_000, 2 * MIB)
    assert (len(found), limit) == ((1, None) if is_terminal else (0, 10_000))
    assert decode(cut(head + b"x" * 3 * MIB + b"\n\n", size), 10_000, 2 * MIB)[1] == (
        2 * MIB if is_terminal else 10_000
    )


def test_an_encoded_event_is_one_line_of_data() -> None:
    data = b'{"a":\r\n[1,\n2],\r"b":"\\n"}'
    frame = encode(b"a", data)
    assert frame.count(b"\n") == 3
    assert frame.startswith(b"event: a\ndata: {")
    assert frame.endswith(b"}\n\n")
    assert loads(split(frame)[1]) == loads(data)


@given(st.binary().filter(lambda name: not re.search(rb"[\r\n]", name)), st.binary())
def test_a_frame_splits_into_what_it_was_made_of(name: bytes, data: bytes) -> None:
    line = re.sub(rb"[\r\n]", b" ", data)
    assert split(encode(name, data)) == (name, line)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"response.x", b""]), st.sampled_from([b"{}", b"[1]", b"", b" 1"]))))
def test_frames_are_decoded_into_what_they_were_made_of(messages: list[Message]) -> None:
    assert decode([b"".join(encode(*message) for message in messages)]) == (messages, None)
