"""The request matrix, and who may read, follow, cancel and delete what: the tables of the contract, row by row."""

from itertools import product

import pytest

from respool.proxy.protocol import rules
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.rules import Plan, Refusal
from respool.store.status import Status

IN_FLIGHT = [Status.QUEUED, Status.IN_PROGRESS]
ENDED = [Status.COMPLETED, Status.FAILED, Status.INCOMPLETE, Status.CANCELLED]


def said(error: WireError | None) -> tuple[int, str, str | None, str, str] | None:
    """Status, code, param, type and message."""
    return None if error is None else (error.http_status, error.code, error.param, error.kind, error.message)


def bad(param: str, message: str) -> tuple[int, str, str | None, str, str]:
    return 400, "invalid_request_error", param, "invalid_request_error", message


@pytest.mark.parametrize(
    ("store", "background", "stream", "answer", "survives"),
    [
        (True, False, False, "json", False),
        (True, False, True, "sse", False),
        (True, True, False, "snapshot", True),
        (True, True, True, "sse", True),
        (False, False, False, "json", False),
        (False, False, True, "sse", False),
    ],
)
def test_a_combination_that_runs(store: bool, background: bool, stream: bool, answer: str, survives: bool) -> None:
    plan = rules.plan(store=store, background=background, stream=stream)
    assert plan == Plan(store, background, stream, answer)
    assert plan.survives is survives


@pytest.mark.parametrize("stream", [False, True])
def test_background_without_store_is_refused(stream: bool) -> None:
    refusal = rules.plan(store=False, background=True, stream=stream)
    assert isinstance(refusal, Refusal)
    assert said(refusal.error()) == (
        400,
        "unsupported_parameter",
        "background",
        "invalid_request_error",
        "background=true requires store=true",
    )


@pytest.mark.parametrize("status", list(Status))
def test_only_a_foreground_response_in_flight_is_hidden(status: Status) -> None:
    assert rules.is_hidden(status, background=False) is (status in IN_FLIGHT)
    assert not rules.is_hidden(status, background=True)


@pytest.mark.parametrize(("status", "stream"), list(product(Status, [False, True])))
def test_a_foreground_response_is_not_replayed(status: Status, stream: bool) -> None:
    assert said(rules.refuse_replay(status, background=False, stream=stream, replay_any=False)) == bad(
        "stream", "This response cannot be streamed because it was not created with background=true."
    )


@pytest.mark.parametrize("status", IN_FLIGHT)
def test_what_was_not_created_with_stream_is_not_followed(status: Status) -> None:
    assert said(rules.refuse_replay(status, background=True, stream=False, replay_any=False)) == bad(
        "stream", "This response cannot be streamed because it was not created with stream=true."
    )


@pytest.mark.parametrize("status", ENDED)
def test_what_was_not_created_with_stream_is_not_replayed(status: Status) -> None:
    assert said(rules.refuse_replay(status, background=True, stream=False, replay_any=False)) == bad(
        "stream",
        "This response cannot be streamed because it was not created with stream=true or the stream TTL has expired.",
    )


@pytest.mark.parametrize("status", list(Status))
def test_what_was_created_with_background_and_stream_is_replayed_whatever_became_of_it(status: Status) -> None:
    assert rules.refuse_replay(status, background=True, stream=True, replay_any=False) is None


@pytest.mark.parametrize(("status", "background", "stream"), list(product(Status, [False, True], [False, True])))
def test_replay_any_lifts_how_it_was_created(status: Status, background: bool, stream: bool) -> None:
    assert rules.refuse_replay(status, background=background, stream=stream, replay_any=True) is None


@pytest.mark.parametrize("status", list(Status))
def test_a_foreground_response_is_not_cancelled(status: Status) -> None:
    assert said(rules.refuse_cancel(status, background=False)) == bad(
        "response_id", "Cannot cancel a synchronous response."
    )


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (Status.COMPLETED, "Cannot cancel a completed response."),
        (Status.FAILED, "Cannot cancel a failed response."),
        (Status.INCOMPLETE, "Cannot cancel a response in terminal state."),
    ],
)
def test_what_has_ended_is_not_cancelled(status: Status, message: str) -> None:
    assert said(rules.refuse_cancel(status, background=True)) == bad("response_id", message)


@pytest.mark.parametrize("status", [*IN_FLIGHT, Status.CANCELLED])
def test_what_is_in_flight_is_cancelled_and_what_is_cancelled_is_so_again(status: Status) -> None:
    assert rules.refuse_cancel(status, background=True) is None


def test_the_sentence_for_a_delete_in_flight() -> None:
    assert rules.DELETE_IN_FLIGHT == "Cannot delete an in-flight response."
