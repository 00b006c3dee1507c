"""Events of our own, and what is asked of one."""

import pytest

from respool.proxy.protocol import events
from respool.proxy.protocol.events import BadEvent
from respool.proxy.protocol.jsons import loads
from respool.store.status import Status
from tests.protocol.outgoing import ENVELOPE, FIELDS


def test_a_lifecycle_event_of_ours() -> None:
    response = ENVELOPE.snapshot(Status.IN_PROGRESS)
    assert response == {**FIELDS, "status": "in_progress", "error": None, "output": []}
    assert loads(events.lifecycle(events.CREATED, response, 0)) == {
        "type": "response.created",
        "sequence_number": 0,
        "response": response,
    }


def test_an_error_event_is_flat() -> None:
    assert loads(events.error_event("c", "m", None, 3)) == {
        "type": "error",
        "code": "c",
        "message": "m",
        "param": None,
        "sequence_number": 3,
    }


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.CANCELLED])
def test_a_status_has_an_event_and_the_event_that_status(status: Status) -> None:
    assert events.name_of(status) == f"response.{status}".encode()
    assert events.status_of(events.name_of(status)) is status


def test_a_cancel_is_told_as_a_failure() -> None:
    assert events.name_of(Status.CANCELLED) == b"response.failed"


def test_the_response_of_an_event_is_cut_out_as_it_stands() -> None:
    assert events.response_of(b'{"a": {"response": 1}, "response" : { "x":1.0 }, "b":2}') == b'{ "x":1.0 }'


@pytest.mark.parametrize("data", [b"", b"[]", b"[DONE]", b"{", b"5"])
def test_only_an_object_is_parsed(data: bytes) -> None:
    with pytest.raises(BadEvent):
        events.parse(data)
