"""One event: its name, its data, and the events that we make ourselves.

An event is `bytes` of one line of JSON, and its name the `type` in it. Source: CONTRACT section 3.
"""

from respool.proxy.protocol import splice
from respool.proxy.protocol.jsons import JsonObject, dumps, loads
from respool.store.status import Status

CREATED = b"response.created"
QUEUED = b"response.queued"
IN_PROGRESS = b"response.in_progress"
COMPLETED = b"response.completed"
FAILED = b"response.failed"
INCOMPLETE = b"response.incomplete"
ERROR = b"error"
ITEM_ADDED = b"response.output_item.added"
ITEM_DONE = b"response.output_item.done"
PART_ADDED = b"response.content_part.added"
PART_DONE = b"response.content_part.done"

TERMINAL = frozenset({COMPLETED, FAILED, INCOMPLETE})
LIFECYCLE = frozenset({CREATED, QUEUED, IN_PROGRESS}) | TERMINAL
STRUCTURE = frozenset({ITEM_ADDED, ITEM_DONE, PART_ADDED, PART_DONE})

_STATUS_OF = {
    CREATED: Status.IN_PROGRESS,
    QUEUED: Status.QUEUED,
    IN_PROGRESS: Status.IN_PROGRESS,
    COMPLETED: Status.COMPLETED,
    FAILED: Status.FAILED,
    INCOMPLETE: Status.INCOMPLETE,
}
_NAME_OF = {Status.CANCELLED: FAILED, **{status: name for name, status in _STATUS_OF.items() if name != CREATED}}


class BadEvent(ValueError):
    """The agent sent an event that is not a JSON object."""

    def __str__(self) -> str:
        return self.__doc__ or ""


def parse(data: bytes) -> JsonObject:
    """The JSON object of an event. Raises BadEvent."""
    try:
        value = loads(data)
    except ValueError as error:
        raise BadEvent from error
    if not isinstance(value, dict):
        raise BadEvent
    return value


def _member(text: bytes, key: str) -> splice.Span:
    """Where the value of the last member `key` stands, which is the one that parsers take."""
    return next(m.value for m in reversed(splice.members(text)) if m.key == key)


def response_of(data: bytes) -> bytes:
    """The `response` of a lifecycle event, as it stands in the text."""
    at = _member(data, "response")
    return data[at.start : at.end]


def rename(data: bytes, name: bytes) -> bytes:
    """The same event under another name."""
    return splice.edit(data, put={"type": dumps(name.decode())})


def lifecycle(name: bytes, response: JsonObject, seq: int) -> bytes:
    """A lifecycle event of our own making."""
    return dumps({"type": name.decode(), "sequence_number": seq, "response": response})


def error_event(code: str, message: str, param: str | None, seq: int) -> bytes:
    """The flat error event."""
    return dumps({"type": "error", "code": code, "message": message, "param": param, "sequence_number": seq})


def status_of(name: bytes) -> Status:
    """The status that a lifecycle event stands for (`response.failed` also stands for cancelled)."""
    return _STATUS_OF[name]


def name_of(status: Status) -> bytes:
    """The event that tells of a status. A cancel is told by `response.failed`: there is no event of its own."""
    return _NAME_OF[status]
