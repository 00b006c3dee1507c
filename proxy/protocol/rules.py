"""The request matrix and the rules of reading and cancelling, as tables: pure decisions over a few words.

Sources: CONTRACT sections 2, 4 and 5.
"""

from dataclasses import dataclass

from respool.proxy.protocol.errors import WireError, invalid
from respool.store.status import Status


@dataclass(frozen=True, slots=True)
class Plan:
    """How a create is run and answered.

    `store`, `background`, `stream` as asked. `answer`: "json" after the end, "snapshot" at once, "sse" live.
    """

    store: bool
    background: bool
    stream: bool
    answer: str

    @property
    def survives(self) -> bool:
        """Whether the run outlives its client."""
        return self.background


@dataclass(frozen=True, slots=True)
class Refusal:
    """A combination that the API does not have."""

    message: str
    code: str
    param: str

    def error(self) -> WireError:
        """The 400 that says so."""
        return invalid(self.message, self.param, code=self.code)


_NEEDS_STORE = Refusal("background=true requires store=true", "unsupported_parameter", "background")

# (store, background, stream), the eight rows.
MATRIX: dict[tuple[bool, bool, bool], Plan | Refusal] = {
    (True, False, False): Plan(True, False, False, "json"),
    (True, False, True): Plan(True, False, True, "sse"),
    (True, True, False): Plan(True, True, False, "snapshot"),
    (True, True, True): Plan(True, True, True, "sse"),
    (False, False, False): Plan(False, False, False, "json"),
    (False, False, True): Plan(False, False, True, "sse"),
    (False, True, False): _NEEDS_STORE,
    (False, True, True): _NEEDS_STORE,
}

NOT_BACKGROUND = "This response cannot be streamed because it was not created with background=true."
NOT_STREAM = "This response cannot be streamed because it was not created with stream=true."
NOT_STREAM_OR_EXPIRED = (
    "This response cannot be streamed because it was not created with stream=true or the stream TTL has expired."
)

CANCEL_REFUSED: dict[Status, str] = {
    Status.COMPLETED: "Cannot cancel a completed response.",
    Status.FAILED: "Cannot cancel a failed response.",
    Status.INCOMPLETE: "Cannot cancel a response in terminal state.",
}
CANCEL_SYNCHRONOUS = "Cannot cancel a synchronous response."
DELETE_IN_FLIGHT = "Cannot delete an in-flight response."


def plan(*, store: bool, background: bool, stream: bool) -> Plan | Refusal:
    """The row of the matrix."""
    return MATRIX[store, background, stream]


def is_hidden(status: Status, *, background: bool) -> bool:
    """A foreground response in flight is not there yet for anybody but the client that waits for it."""
    return not background and not status.ended


def refuse_replay(status: Status, *, background: bool, stream: bool, replay_any: bool) -> WireError | None:
    """Why `?stream=true` is not answered, or None. `replay_any` lifts what depends on how it was created."""
    if replay_any:
        return None
    if not background:
        return invalid(NOT_BACKGROUND, "stream")
    if not stream:
        return invalid(NOT_STREAM_OR_EXPIRED if status.ended else NOT_STREAM, "stream")
    return None


def refuse_cancel(status: Status, *, background: bool) -> WireError | None:
    """Why a response that can be seen cannot be cancelled, or None; a cancelled one can be, again."""
    if not background:
        return invalid(CANCEL_SYNCHRONOUS, "response_id")
    message = CANCEL_REFUSED.get(status)
    return invalid(message, "response_id") if message else None
