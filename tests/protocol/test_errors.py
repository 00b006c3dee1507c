"""The errors of the wire: status, code, type, param, sentence, whose fault, and whether a client may try again."""

import pytest

from respool.proxy.protocol import errors
from respool.proxy.protocol.errors import WireError, invalid

SERVER = "server_error"
INVALID = "invalid_request_error"


@pytest.mark.parametrize(
    ("error", "status", "code", "kind", "param", "message", "source"),
    [
        (invalid("No.", "limit"), 400, INVALID, INVALID, "limit", "No.", "user"),
        (invalid("No.", code="invalid_mode"), 400, "invalid_mode", INVALID, None, "No.", "user"),
        (
            errors.not_found("resp_1"),
            *(404, INVALID, INVALID, "response_id", "Response with id 'resp_1' not found.", "user"),
        ),
        (
            errors.not_found("resp_1", "previous_response_id"),
            *(404, INVALID, INVALID, "previous_response_id", "Response with id 'resp_1' not found.", "user"),
        ),
        (
            errors.malformed_id("x y"),
            *(400, "invalid_parameters", INVALID, "responseId{x y}", "Malformed identifier.", "user"),
        ),
        (
            errors.too_large(5),
            *(413, "request_too_large", INVALID, None, "The request body is larger than 5 bytes.", "user"),
        ),
        (
            errors.id_conflict(),
            *(409, "response_id_conflict", "conflict", "response_id"),
            "An active execution or retained replay stream with this response ID already exists.",
            "user",
        ),
        (errors.agent_failed("quota", "No more."), 500, "quota", SERVER, None, "No more.", "upstream"),
        (errors.server_error(), 500, SERVER, SERVER, None, "internal server error", "platform"),
        (
            errors.shutting_down(),
            *(503, "service_unavailable", SERVER, None, "Server is shutting down.", "platform"),
        ),
        (
            errors.storage_error(),
            *(503, "storage_error", SERVER, None, "The response log is not available right now.", "platform"),
        ),
        (
            errors.upstream_unreachable(sent=False),
            *(502, "upstream_unreachable", SERVER, None, "The agent cannot be reached.", "upstream"),
        ),
        (
            errors.upstream_unreachable(sent=True),
            *(502, "upstream_disconnected", SERVER, None),
            "The agent closed the connection before it answered.",
            "upstream",
        ),
        (
            errors.upstream_timeout(),
            *(504, "upstream_timeout", SERVER, None, "The agent did not answer in time.", "upstream"),
        ),
    ],
)
def test_an_error_on_the_wire(
    error: WireError, status: int, code: str, kind: str, param: str | None, message: str, source: str
) -> None:
    assert (error.http_status, error.source, str(error)) == (status, source, message)
    assert error.body("req") == {
        "error": {"message": message, "type": kind, "param": param, "code": code},
        "additionalInfo": {"request_id": "req"},
    }


@pytest.mark.parametrize(
    ("error", "may_retry"),
    [
        (errors.id_conflict(), False),
        (errors.agent_failed("c", "m"), False),
        (errors.server_error(), False),
        (errors.storage_error(sent=True), False),
        (errors.storage_error(), True),
        (errors.upstream_unreachable(sent=True), False),
        (errors.upstream_timeout(), False),
        (errors.upstream_unreachable(sent=False), True),
        (errors.shutting_down(), True),
    ],
)
def test_a_client_is_told_not_to_repeat_what_may_have_reached_the_agent(error: WireError, may_retry: bool) -> None:
    assert error.headers == ({} if may_retry else {"x-should-retry": "false"})


def test_the_headers_of_one_error_are_its_own() -> None:
    errors.server_error().headers["x-should-retry"] = "true"
    assert errors.server_error().headers == {"x-should-retry": "false"}


def test_a_failure_of_the_schema_lists_its_details() -> None:
    details = [{"code": "invalid_value", "message": "m", "param": "$.stream", "type": INVALID}]
    assert invalid("m", details=details).body("r")["error"]["details"] == details
