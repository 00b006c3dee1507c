"""The one reading loop: from a cursor, in batches, to the end. Live is a resume from -1."""

from collections.abc import AsyncGenerator, Callable

from respool.proxy.alarm import Alarm
from respool.proxy.ear import Ear, Heard
from respool.proxy.turns import TakeTurn, next_turn
from respool.store.base import Chunk, Key, Page, Store

PAGE_BYTES = 256 * 1024
SILENCE = Page((), ended=False)

Give = Callable[[Chunk, bool], bool]
"""Hands on a chunk at once, and whether it is the last; False if that cannot be done now, and then nothing was done."""


def _nothing(_chunk: Chunk, _is_last: bool) -> bool:
    return False


async def follow(
    store: Store,
    key: Key,
    after: int,
    keep_alive_seconds: float,
    page: Page | None = None,
    give: Give = _nothing,
    take_turn: TakeTurn = next_turn,
) -> AsyncGenerator[Page, None]:
    """Pages of events with numbers greater than `after`, up to the end; SILENCE whenever nothing came for a while.

    `page` is the first one, if it has been read already. `keep_alive_seconds` of 0 never yields SILENCE. Whoever has
    read all there is gets what comes through `give` as long as that takes it, and does not wake for it.
    Raises NotFound when the response is deleted or withdrawn. Close it if it is not read to its end.
    """
    ear: Ear[None] = Ear()
    alarm = Alarm(keep_alive_seconds, lambda: ear.tell(None)) if keep_alive_seconds else None
    place = _Place(after, give, alarm)
    has_waited = True
    try:
        with store.reading(key):
            while True:
                if page is None:
                    if not has_waited:
                        # History can be read and written without ever suspending.
                        await take_turn()
                    page = await store.read(key, place.after, PAGE_BYTES)
                if page.chunks:
                    has_waited = False
                    place.after = page.chunks[-1].last
                    yield page
                ended, was_empty = page.ended, not page.chunks
                del page  # the next one may be large too
                if ended:
                    return
                if was_empty:
                    has_waited = True
                    if await _is_silent(store, key, place, ear, alarm):
                        yield SILENCE
                page = None
    finally:
        if alarm is not None:
            alarm.stop()


class _Place:
    """How far a reader has come; see `Follower`."""

    __slots__ = ("_alarm", "_give", "after")

    def __init__(self, after: int, give: Give, alarm: Alarm | None) -> None:
        self.after = after
        self._give = give
        self._alarm = alarm

    def take(self, chunk: Chunk, is_last: bool) -> bool:
        if chunk.first != self.after + 1:
            # What lies before a cursor is nothing to wake for; one within a chunk has to cut it.
            return chunk.last <= self.after
        if not self._give(chunk, is_last):
            return False
        self.after = chunk.last
        if self._alarm is not None:
            self._alarm.touch()
        return True


async def _is_silent(store: Store, key: Key, place: _Place, ear: Ear[None], alarm: Alarm | None) -> bool:
    """Wait for an append that must be read, or until the alarm rings."""
    if alarm is None:
        await store.follow(key, place)
        return False
    alarm.touch()
    alarm.paused = False
    try:
        await ear.listen(lambda: store.follow(key, place))
    except Heard:
        return True
    finally:
        alarm.paused = True
    return False
