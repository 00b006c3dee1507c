"""A timer for what usually happens in time: touching it costs an attribute, not a timer."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Rings once `seconds` have passed since the last `touch`, and again after as many more; not while `paused`.

    It begins paused. It is one timer of the loop, which looks when it fires how much is left. Call `stop` in the end.
    """

    __slots__ = ("_due", "_loop", "_ring", "_seconds", "_timer", "paused")

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self._seconds = seconds
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self.paused = True
        self.touch()
        self._timer = self._loop.call_at(self._due, self._fire)

    def touch(self) -> None:
        """Count from now."""
        self._due = self._loop.time() + self._seconds

    def stop(self) -> None:
        """Never ring again."""
        self._timer.cancel()

    def _fire(self) -> None:
        now = self._loop.time()
        if self.paused:
            self._due = now + self._seconds
        elif now >= self._due:
            self._ring()
            self._due = now + self._seconds
        self._timer = self._loop.call_at(self._due, self._fire)
