"""The lifecycle of a response: its words, the legal moves between them, and the ends.

Source: CONTRACT section 8. The one part of the store that the protocol room may import.
"""

from enum import StrEnum


class Status(StrEnum):
    """The six words of the Responses API."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True for the four words that never change again."""
        return self in TERMINAL


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.INCOMPLETE, Status.CANCELLED})

MOVES: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.IN_PROGRESS, *TERMINAL}),
    Status.IN_PROGRESS: TERMINAL,
    **{status: frozenset() for status in TERMINAL},
}
