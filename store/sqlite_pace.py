"""Whether the disk is so quick that the event loop may wait for it, which then costs less than a thread does."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SLOW_SECONDS = 0.01
_LEAST_REST_SECONDS = 1.0
_MOST_REST_SECONDS = 60.0

# What each quick one leaves of the rest that the next slow one will cause.
_FORGETS = 0.99


class Pace:
    """How long one kind of work takes. After a slow one it is left to a thread for a while, each time for longer."""

    def __init__(self) -> None:
        self._rest_until = 0.0
        self._rest = _LEAST_REST_SECONDS

    @property
    def are_quick(self) -> bool:
        """Whether the next one may be done on the loop."""
        return time.monotonic() >= self._rest_until

    @contextmanager
    def timed(self) -> Iterator[None]:
        """One of them, done on the loop."""
        began, waits = time.monotonic(), _waits()
        try:
            yield
        finally:
            ended = time.monotonic()
            # One that never waited was held up by a lack of processor, of which a thread would have no more.
            if ended - began > _SLOW_SECONDS and waits != _waits():
                self._rest_until = ended + self._rest
                self._rest = min(2 * self._rest, _MOST_REST_SECONDS)
            else:
                self._rest = max(self._rest * _FORGETS, _LEAST_REST_SECONDS)


def _waits() -> float:
    """A number that grows whenever this thread waits for anything but the processor."""
    if sys.platform == "linux":
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return time.monotonic()
