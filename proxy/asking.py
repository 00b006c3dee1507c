"""Who asks, and under which id their request is known: what every route of ours takes from the headers.

Source: CONTRACT section 6.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from respool.proxy.protocol.errors import invalid
from respool.proxy.reply import Header, Scope
from respool.store.base import Claim, Head
from respool.store.log import FURTHEST

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_CLAIM = re.compile(r"[\x20-\x7e]{1,255}")
# What int() takes, in any number of digits.
_INTEGER = re.compile(r"\s*([+-]?)(\d(?:_?\d)*+)\s*")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,256}")


@dataclass(frozen=True, slots=True)
class Asking:
    """One request: raw headers, raw query, the owner that it speaks for ("" for none), and its request id."""

    headers: tuple[Header, ...]
    query: bytes
    owner: str
    request_id: str

    def header(self, name: str) -> str | None:
        """The first header of that name (lower case)."""
        return first(self.headers, name)

    @property
    def last_event_id(self) -> str | None:
        """The `id` of the last event that an `EventSource` got, which it sends when it reconnects; None for none."""
        return self.header("last-event-id") or None

    def cursor(self, starting_after: str | None = None) -> int:
        """The number behind which reading goes on: the greater of `starting_after` and `Last-Event-ID`.

        Whoever reconnects by itself does it with its old query. Raises WireError.
        """
        return max(_number(starting_after, "starting_after"), _number(self.last_event_id, "Last-Event-ID"))

    def has_had_all(self, head: Head, after: int) -> bool:
        """Whether this is a client that comes back by itself behind the end: an `EventSource` would do so for ever."""
        return self.last_event_id is not None and head.status.ended and after >= head.last_seq

    def claim(self, body: bytes) -> Claim | None:
        """What the `Idempotency-Key` of a create with that body claims, None without one. Raises WireError."""
        text = self.header("idempotency-key")
        if text is None:
            return None
        if not _CLAIM.fullmatch(text):
            message = "Idempotency-Key must be 1 to 255 characters of ASCII without control characters"
            raise invalid(message, "Idempotency-Key")
        return Claim(text, hashlib.sha256(body).digest())

    @property
    def wants_ids(self) -> bool:
        """Whether the frames of a stream get `id` lines: only for clients that are known to understand them.

        The OpenAI client, which asks for application/json, breaks on an `id` line in front of a comment.
        """
        return self.last_event_id is not None or any(
            kind.partition(b";")[0].strip().lower() == b"text/event-stream"
            for name, value in self.headers
            if name.lower() == b"accept"
            for kind in value.split(b",")
        )


def _number(text: str | None, name: str) -> int:
    """A cursor; absent and negative mean everything, and beyond any number is beyond the end."""
    if text is None:
        return -1
    match = _INTEGER.fullmatch(text)
    if match is None:
        raise invalid(f"{name} must be an integer", name)
    digits = match[2].replace("_", "").lstrip("0")
    # The interpreter reads no more than some thousand digits.
    number = int(digits or "0") if len(digits) < len(str(FURTHEST)) else FURTHEST
    return -1 if match[1] == "-" and number else number


def asking(scope: Scope, owner_headers: Iterable[str], request_id: str) -> Asking:
    """Read the scope of a request. Raises WireError."""
    headers = tuple(scope["headers"])
    return Asking(headers, scope["query_string"], owner_of(headers, owner_headers), request_id)


def first(headers: Iterable[Header], name: str) -> str | None:
    """The first header of that name (lower case), decoded."""
    raw = name.encode()
    return next((value.decode("latin-1") for key, value in headers if key.lower() == raw), None)


def owner_of(headers: Iterable[Header], names: Iterable[str]) -> str:
    """The owner: the first of `names` that is present, even if empty, together with its name; "" if none is.

    Raises WireError if it names two: nobody can tell which one the platform wrote and which one its user.
    """
    headers = tuple(headers)
    for name in names:
        raw = name.encode()
        values = {value for key, value in headers if key.lower() == raw}
        if len(values) > 1:
            raise invalid(f"{name} is given twice, with different values", name, code="invalid_request")
        if values:
            return f"{name}={values.pop().decode('latin-1')}"
    return ""


def request_id_of(headers: Iterable[Header]) -> str:
    """Of traceparent, of the request, or new."""
    headers = tuple(headers)
    trace = _TRACEPARENT.fullmatch((first(headers, "traceparent") or "").strip())
    if trace is not None:
        return trace[1]
    given = first(headers, "x-request-id") or ""
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
