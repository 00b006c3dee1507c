"""The one reading loop: from a cursor, in batches, to the end. Live is a resume from -1."""

import asyncio
from collections.abc import AsyncGenerator

from respool.proxy.alarm import Alarm
from respool.proxy.ear import Ear, Heard
from respool.store.base import Key, Page, Store

PAGE_BYTES = 256 * 1024
SILENCE = Page((), ended=False)


async def follow(
    store: Store, key: Key, after: int, keep_alive_seconds: float, page: Page | None = None
) -> AsyncGenerator[Page, None]:
    """Pages of events with numbers greater than `after`, up to the end; SILENCE whenever nothing came for a while.

    `page` is the first one, if it has been read already. `keep_alive_seconds` of 0 never yields SILENCE.
    Raises NotFound when the response is deleted or withdrawn. Close it if it is not read to its end.
    """
    ear: Ear[None] = Ear()
    alarm = Alarm(keep_alive_seconds, lambda: ear.tell(None)) if keep_alive_seconds else None
    has_waited = True
    try:
        with store.reading(key):
            while True:
                page = page or await store.read(key, after, PAGE_BYTES)
                if page.chunks:
                    if not has_waited:
                        # History can be read and written without ever suspending: others must get their turn.
                        await asyncio.sleep(0)
                    has_waited = False
                    after = page.chunks[-1].last
                    yield page
                ended, was_empty = page.ended, not page.chunks
                del page  # the next one may be large too
                if ended:
                    return
                if was_empty:
                    has_waited = True
                    if await _is_silent(store, key, after, ear, alarm):
                        yield SILENCE
                page = None
    finally:
        if alarm is not None:
            alarm.stop()


async def _is_silent(store: Store, key: Key, after: int, ear: Ear[None], alarm: Alarm | None) -> bool:
    """Wait for the next append, or until the alarm rings."""
    if alarm is None:
        await store.wait(key, after)
        return False
    alarm.touch()
    alarm.paused = False
    try:
        await ear.listen(lambda: store.wait(key, after))
    except Heard:
        return True
    finally:
        alarm.paused = True
    return False
