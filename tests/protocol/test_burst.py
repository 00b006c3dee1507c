"""Many events that look alike, taken as a whole: what leaves is what would have left one by one."""

import pytest

from respool.proxy.protocol.repair import Sequencer
from respool.proxy.protocol.sse import Message
from tests.protocol.outgoing import ENVELOPE
from tests.protocol.test_repair import ADDED, CREATED, IN_PROGRESS, PART_ADDED

_FORMS = [
    b'{"delta": "%b", "sequence_number": %d, "type": "response.output_text.delta"}',
    b'{"type":"response.output_text.delta","delta":"%b","sequence_number":%d}',
    b'{"type":"response.output_text.delta","sequence_number":%d,"delta":"%b"}',
    b'{"sequence_number": %d, "delta": "%b", "type": "response.output_text.delta"}',
]
_TEXTS = ["x", "\\n", "}", '\\"sequence_number\\": 5', ", ", "é"]
# What does not look like the other events of a burst, each in another way; the number is the one that it should have.
_ODD = [
    b'{"delta": "x"}',
    b'{"delta": "x", "sequence_number": %d, "type": "response.output_text.delta"}',
    b'{"delta": "x", "sequence_number": %d, "type": "response.output_text.delta"}x',
    b'{"type":"response.output_text.delta","delta":\n"x","sequence_number":%d}',
    b'{"type":"response.output_text.delta","delta":\r"x","sequence_number":%d}',
    b'{"type":"response.output_text.delta","sequence_number":%d,"delta":"x","sequence_number":4}',
    b'{"sequence_number":4,"delta": "x", "sequence_number": %d, "type": "response.output_text.delta"}',
    b'{"delta":\n"x", "sequence_number": %d, "type": "response.output_text.delta"}',
    b'{"delta": "x", "sequence_number": %d, "type": "response.other"}',
    b'{"sequence_number": %d, "delta": "x", "type": "response.other"}',
    b'{"type":"response.other","delta":"x","sequence_number":%d}',
    b'{"delta": "x", "sequence_number": 0%d, "type": "response.output_text.delta"}',
    b'{"type":"response.output_text.delta","sequence_number":%d,"delta":"x"}x',
    b'x{"type":"response.output_text.delta","sequence_number":%d,"delta":"x"}',
    b"{",
]


def _delta(form: bytes, number: int, text: str) -> Message:
    values = (number, text.encode()) if form.index(b"%d") < form.index(b"%b") else (text.encode(), number)
    return b"response.output_text.delta", form % values


def _taken_in_a_burst_and_one_by_one(messages: list[Message]) -> tuple[list[bytes], list[bytes]]:
    whole, single = Sequencer(ENVELOPE), Sequencer(ENVELOPE)
    for sequencer in (whole, single):
        sequencer.take([CREATED, IN_PROGRESS, ADDED, PART_ADDED])
    one_by_one: list[bytes] = []
    for message in messages:
        if not single.bad:
            one_by_one += single.take([message])
    burst = [*whole.take(messages[:1]), *whole.take(messages[1:])]
    assert (whole.seq, whole.bad) == (single.seq, single.bad)
    return burst, one_by_one


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("first", [0, 3, 4])
@pytest.mark.parametrize("skipped", [1, 5, 11, 99])
def test_a_burst_leaves_as_its_events_would_one_by_one(form: bytes, first: int, skipped: int) -> None:
    messages = [_delta(form, first + place + (place >= skipped), _TEXTS[place % len(_TEXTS)]) for place in range(12)]
    burst, one_by_one = _taken_in_a_burst_and_one_by_one(messages)
    assert burst == one_by_one


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("place", [1, 5, 11])
@pytest.mark.parametrize("odd", _ODD)
@pytest.mark.parametrize("named", [b"", b"response.output_text.delta", b"response.refusal.delta"])
def test_one_that_differs_leaves_in_a_burst_as_it_would_alone(
    form: bytes, place: int, odd: bytes, named: bytes
) -> None:
    messages = [_delta(form, 4 + number, "x") for number in range(12)]
    messages[place] = (named, odd % (4 + place) if b"%d" in odd else odd)
    burst, one_by_one = _taken_in_a_burst_and_one_by_one(messages)
    assert burst == one_by_one
