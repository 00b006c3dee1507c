"""The wire error: what is said to whom, with which status and code, and whose fault it is.

Sources: CONTRACT section 7; the sentences are those of the Responses API and of Azure's agent server, which other tools
match, so they are kept to the letter.
"""

from collections.abc import Mapping
from typing import Literal

from respool.proxy.protocol.jsons import Json, JsonObject

Source = Literal["user", "upstream", "platform"]

INVALID = "invalid_request_error"
NO_RETRY = {"x-should-retry": "false"}


class WireError(Exception):
    """An error answer: an HTTP status and the error object of the Responses API.

    `source` says whose fault it is, `headers` go out with it, `details` belong to failures of the schema.
    """

    def __init__(
        self,
        http_status: int,
        message: str,
        *,
        code: str = INVALID,
        kind: str = INVALID,
        param: str | None = None,
        source: Source = "user",
        details: list[JsonObject] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.message = message
        self.code = code
        self.kind = kind
        self.param = param
        self.source = source
        self.details = details
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> JsonObject:
        """`{"error": {...}, "additionalInfo": {"request_id"}}`."""
        error: JsonObject = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        if self.details is not None:
            error["details"] = self.details
        return {"error": error, "additionalInfo": {"request_id": request_id}}


def invalid(message: str, param: str | None = None, *, code: str = INVALID, details: Json = None) -> WireError:
    """400: the request is at fault."""
    return WireError(400, message, code=code, param=param, details=details)


def unauthorized() -> WireError:
    """401: no key, or a wrong one; the words do not tell which."""
    message = "A valid API key is required, as authorization: Bearer KEY or as api-key: KEY."
    return WireError(401, message, code="invalid_api_key", headers={"www-authenticate": 'Bearer realm="respool"'})


def access_unknown() -> WireError:
    """503: nobody can say now who may pass, so nobody does. Nothing was sent to the agent."""
    message = "Access cannot be checked right now."
    return WireError(503, message, code="access_unknown", kind="server_error", source="platform")


def not_found(response_id: str, param: str = "response_id") -> WireError:
    """404, the same for unknown, deleted, hidden and somebody else's."""
    return WireError(404, f"Response with id '{response_id}' not found.", param=param)


def malformed_id(response_id: str) -> WireError:
    """400 for an id in the path that no response can have."""
    return invalid("Malformed identifier.", f"responseId{{{response_id}}}", code="invalid_parameters")


def too_large(limit: int) -> WireError:
    """413: the body of the request."""
    return WireError(413, f"The request body is larger than {limit} bytes.", code="request_too_large")


def id_conflict() -> WireError:
    """409, the only one: clients repeat a 409 of their own accord, so this one forbids it."""
    message = "An active execution or retained replay stream with this response ID already exists."
    return WireError(409, message, code="response_id_conflict", kind="conflict", param="response_id", headers=NO_RETRY)


def key_of_another_request() -> WireError:
    """422: an idempotency key that came with another body before."""
    message = "This Idempotency-Key was used with another request before."
    return WireError(422, message, code="idempotency_key_reused", param="Idempotency-Key", headers=NO_RETRY)


def agent_failed(code: str, message: str) -> WireError:
    """500, in the agent's own words: it failed before its first usable event."""
    return WireError(500, message, code=code, kind="server_error", source="upstream", headers=NO_RETRY)


def server_error() -> WireError:
    """500 for what is our own fault; not to be repeated, the agent may have been called."""
    message = "internal server error"
    return WireError(500, message, code="server_error", kind="server_error", source="platform", headers=NO_RETRY)


def shutting_down() -> WireError:
    """503 while draining; the agent has not been called, so a retry elsewhere is welcome."""
    return WireError(
        503, "Server is shutting down.", code="service_unavailable", kind="server_error", source="platform"
    )


def too_slow(*, sent: bool) -> WireError:
    """408: the request did not arrive in time; with its head the agent may have been called (`sent`)."""
    message = "The request did not arrive in time."
    return WireError(408, message, code="request_timeout", headers=NO_RETRY if sent else {})


def crowded() -> WireError:
    """503: more connections than there may be. A retry may find room, on a connection of its own."""
    words, headers = "There are too many connections.", {"connection": "close"}
    return WireError(503, words, code="service_unavailable", kind="server_error", source="platform", headers=headers)


def storage_error(*, sent: bool = False) -> WireError:
    """503: the log cannot be read or written; not to be repeated once the agent may have been called (`sent`)."""
    message = "The response log is not available right now."
    headers = NO_RETRY if sent else {}
    return WireError(503, message, code="storage_error", kind="server_error", source="platform", headers=headers)


def upstream_unreachable(*, sent: bool) -> WireError:
    """502: no connection to the agent, or one that broke before it answered (`sent`)."""
    message = "The agent closed the connection before it answered." if sent else "The agent cannot be reached."
    code = "upstream_disconnected" if sent else "upstream_unreachable"
    headers = NO_RETRY if sent else {}
    return WireError(502, message, code=code, kind="server_error", source="upstream", headers=headers)


def upstream_timeout() -> WireError:
    """504: the agent has the request and does not answer."""
    return WireError(
        504,
        "The agent did not answer in time.",
        code="upstream_timeout",
        kind="server_error",
        source="upstream",
        headers=NO_RETRY,
    )
