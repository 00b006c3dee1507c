"""The life of a response, read from its events: on what respool recorded of real agents, and by hand."""

import pytest

from respool.proxy.protocol.jsons import dumps
from respool.proxy.protocol.sse import encode
from respool.proxy.protocol.timeline import Timeline, is_end


def told(*events: tuple[int, str, dict[str, object]]) -> Timeline:
    """A timeline of (arrival, type, fields)."""
    line = Timeline()
    for seq, (at_ms, kind, fields) in enumerate(events):
        line.add(seq, at_ms, encode(kind.encode(), dumps({"type": kind, **fields})))
    return line


MESSAGE = {"type": "message", "id": "msg_1"}


def test_an_item_lives_from_its_first_event_to_its_end() -> None:
    line = told(
        (10, "response.created", {}),
        (20, "response.output_item.added", {"output_index": 0, "item": MESSAGE}),
        (30, "response.output_text.delta", {"output_index": 0, "delta": "Hé"}),
        (90, "response.output_text.delta", {"output_index": 0, "delta": "llo"}),
        (95, "response.output_item.done", {"output_index": 0, "item": MESSAGE}),
        (96, "response.completed", {}),
    )
    span = line.items[0]
    assert (span.type, span.id, span.begun_ms, span.ended_ms) == ("message", "msg_1", 20, 95)
    assert (span.first_seq, span.last_seq, span.deltas, span.characters) == (1, 4, 2, 5)
    assert [(step.type, step.seq, step.at_ms) for step in line.steps] == [
        ("response.created", 0, 10),
        ("response.completed", 5, 96),
    ]
    assert line.first_output_ms == 30
    assert line.silence is not None
    assert (line.silence.from_ms, line.silence.until_ms, line.silence.after_seq) == (30, 90, 2)
    assert (line.events, line.first_ms, line.last_ms) == (6, 10, 96)


def test_a_response_without_deltas_speaks_first_with_its_first_whole_item() -> None:
    line = told(
        (1, "response.created", {}),
        (5, "response.output_item.added", {"output_index": 0, "item": MESSAGE}),
        (9, "response.output_item.done", {"output_index": 0, "item": MESSAGE}),
    )
    assert line.first_output_ms == 9


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"output_index":-1}', b'{"output_index":"0","delta":5}'])
def test_an_event_that_is_broken_counts_and_breaks_nothing(data: bytes) -> None:
    line = Timeline()
    line.add(0, 1, encode(b"response.output_text.delta", data))
    assert (line.events, line.items, line.types["response.output_text.delta"]) == (1, {}, 1)


def test_an_end_is_known_by_its_type() -> None:
    assert is_end(encode(b"response.failed", b"{}"))
    assert not is_end(encode(b"response.created", b"{}"))
    assert not is_end(encode(b"error", b"{}"))
