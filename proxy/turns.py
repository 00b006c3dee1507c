"""Who has much to do takes turns with the others who have, so that what is live waits for one of them at most.

A turn is a turn of the event loop. Between two of them it looks at all sockets and hands on what is live. One page that
is read, one slice that is sent, or one request that begins takes one to five tenths of a millisecond.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

TakeTurn = Callable[[], Awaitable[None]]
"""Waits until others have had their turn."""


async def next_turn() -> None:
    """The turn of whoever has no line to stand in: the next of the loop."""
    await asyncio.sleep(0)


class Turns:
    """One line: in each turn of the loop goes one who waits in it, and who came first goes first."""

    def __init__(self) -> None:
        self._is_taken = False
        self._line: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for a turn of one's own; at once if nobody has taken this one."""
        if not self._is_taken:
            self._use()
            return
        place = asyncio.get_running_loop().create_future()
        self._line.append(place)
        await place

    def _use(self) -> None:
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._is_taken = False
        while self._line and not self._is_taken:
            place = self._line.popleft()
            # One that was cancelled does not come.
            if not place.done():
                place.set_result(None)
                self._use()
