"""Named points at durable boundaries, where a test may kill the process; nothing in production.

Nothing of an operator's can trip one: no setting and no variable is read here, and no module of respool calls `arm`. A
test starts `respool` through an entry of its own, which arms it first.

A checkpoint has no point: it is SQLite's own, inside of a COMMIT. Tests count its writes to the database file.
"""

from collections.abc import Callable
from enum import Enum


class Point(Enum):
    """Where a process can die, and what the next one must and must not make of it."""

    CREATE = "A create is half written: there must be no response afterwards, and the agent must not have been called."
    CREATED = "A create is durable, its agent not called: it must get an end, and the agent must not be called for it."
    CALLED = "The agent has answered, nothing of it is durable: it must get an end, and the agent no second call."
    COMMIT = "A transaction is about to commit: nothing of it may be there afterwards, and nobody may have seen of it."
    COMMITTED = "A transaction is durable, nobody was shown or told: all of it must be kept, and no number used again."
    END = "An end is half written: neither status, object nor last event may be there, but one end as `owner_lost`."
    ENDED = "An end is durable, nobody was shown or told: it must stay as it is, and no second one come behind it."
    CANCEL = "A wish to cancel is durable, the relay has not heard of it: the end must be `cancelled`, not `failed`."
    ADOPT = "A start has adopted orphans and not ended them all: the next one must end the rest, and none twice."


_hook: Callable[[Point], None] | None = None


def reach(point: Point) -> None:
    """Pass `point`: nothing happens, unless a test has armed this process."""
    if _hook is not None:
        _hook(point)


def arm(hook: Callable[[Point], None]) -> None:
    """Call `hook` at every point that is passed from now on, in the thread that passes it. For tests alone."""
    global _hook
    _hook = hook
